"""The documentation says what the code does."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS, README = ROOT / "docs", ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
ROWS = re.findall(r"^\| [^|]+ \| ([0-9.]+) \| ([^|]+) \|", (DOCS / "bounds.md").read_text(), re.M)


@pytest.mark.parametrize(("value", "where"), ROWS)
def test_bound_is_the_one_in_the_code(value: str, where: str) -> None:
    found = [
        getattr(import_module(f"gateway.{name.rpartition('.')[0]}"), name.rpartition(".")[2])
        for name in re.findall(r"`([a-z_.]+\.[A-Z_]+)`", where)
    ]

    assert found
    assert float(value) == sum(found)


def test_bounds_are_there() -> None:
    """The table is found at all."""
    assert len(ROWS) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_what_is_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text())
    here = [target.partition("#")[0] for target in targets if not target.startswith("https://")]

    assert [target for target in here if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(
    ("name", "page"),
    [("Team access point", "team"), ("Web app backend", "web-app"), ("Mobile relay", "mobile")],
)
def test_the_readme_leads_to_each_way_to_begin(name: str, page: str) -> None:
    """By its name, with what it promises on the same line."""
    assert re.search(rf"^- \[{name}\]\(docs/{page}\.md\): .+\.$", README.read_text(), re.M)
    assert (DOCS / f"{page}.md").read_text().startswith(f"# {name}\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_shell_takes_an_address_for_a_pattern(page: Path) -> None:
    """zsh, which Macs have, refuses a `?` outside quotes that matches no file."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.M | re.S)
    bare = re.sub(r"""'[^']*'|"[^"]*"|\$\?""", "", "\n".join(blocks))

    assert re.findall(r"\S+/\S*\?\S*", bare) == []
