"""The playground's files: what a strict Content-Security-Policy and the browser test rely on."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import gateway

STATIC = Path(gateway.__file__).parent / "web" / "static"
PAGE = (STATIC / "playground.html").read_text("utf-8")
IDS = [
    "token",
    "sign-in",
    "sample",
    "file",
    "record",
    "prompt",
    "strength",
    "seconds",
    "seed",
    "submit",
    "cancel",
    "stage",
    "position",
    "elapsed",
    "logs",
    "error",
    "in-duration",
    "out-duration",
    "out-audio",
    "job-id",
    "bar",
]


class Elements(HTMLParser):
    """Every start tag of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))


ELEMENTS = Elements(PAGE).all


def modules(name: str = "playground.js") -> set[str]:
    """The module and all that it imports, however indirectly."""
    found = {name}
    todo = [name]
    while todo:
        text = (STATIC / todo.pop()).read_text("utf-8")
        new = set(re.findall(r'from "\./([a-z]+\.js)"', text)) - found
        found |= new
        todo.extend(new)
    return found


def test_nothing_on_the_page_needs_unsafe_inline() -> None:
    for tag, attrs in ELEMENTS:
        assert tag != "style"
        assert "style" not in attrs
        assert not [name for name in attrs if name.startswith("on")]
        assert tag != "script" or attrs.get("src")


def test_what_the_page_loads_is_ours_and_there() -> None:
    loaded = [attrs.get("src") or attrs.get("href") for _, attrs in ELEMENTS]
    paths = [url for url in loaded if url and not url.startswith(("#", "data:"))]
    assert sorted(paths) == ["/playground/playground.css", "/playground/playground.js"]
    for path in paths:
        assert (STATIC / path.removeprefix("/playground/")).is_file()


def test_every_module_is_there_and_none_is_of_a_third_party() -> None:
    names = modules()
    assert {"api.js", "wave.js"} < names
    for name in names:
        text = (STATIC / name).read_text("utf-8")
        assert set(re.findall(r'^import .* from "([^"]+)"', text, re.M)) <= {
            f"./{one}" for one in names
        } | ({"@fal-ai/client"} if name == "snippet.js" else set())
        assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|eval|alert)\b", text)
        assert not re.search(r"\b(localStorage|sessionStorage)\b", text)


def test_ids_are_unique_and_the_promised_ones_are_there() -> None:
    ids = [attrs["id"] for _, attrs in ELEMENTS if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert set(IDS) <= set(ids)


@pytest.mark.parametrize("tag", ["input", "textarea"])
def test_every_field_has_a_label(tag: str) -> None:
    labelled = {attrs.get("for") for name, attrs in ELEMENTS if name == "label"}
    fields = [attrs["id"] for name, attrs in ELEMENTS if name == tag]
    assert fields
    assert set(fields) <= labelled


def test_every_id_that_a_module_asks_for_is_on_the_page() -> None:
    ids = {attrs["id"] for _, attrs in ELEMENTS if "id" in attrs}
    for name in modules():
        text = (STATIC / name).read_text("utf-8")
        assert set(re.findall(r'\b(?:by|on)\("([a-z-]+)"', text)) <= ids
