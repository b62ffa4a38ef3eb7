"""What holds for every file of the repository, whoever writes it."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "gateway").rglob("*.py"))
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
REGISTRIES = re.compile(
    r"pypi\.(?:org|io)|files\.python(?:hosted)\.org|registry\.(?:npmjs|yarnpkg)|npmjs\.(?:com|org)"
    r"|(?:deb|security)\.debian\.org|registry-1\.docker|docker\.io/",
)


def tracked() -> list[Path]:
    """The files that git keeps, but for those just deleted."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def length(function: FUNCTION) -> int:
    """Lines of the body, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body and body[-1].end_lineno else 0


def test_no_file_names_a_package_registry() -> None:
    """A lock that names one works only where that one is in reach."""
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked()
        for match in [REGISTRIES.search(path.read_text(errors="replace"))]
        if match
    ]

    assert found == []
    assert REGISTRIES.search("https://" + "pypi" + ".org/simple")


def test_locks_hold_only_pins_with_hashes() -> None:
    locks = [*ROOT.glob("*.lock"), *(ROOT / "deploy").glob("*.lock")]

    for lock in locks:
        entries = re.split(r"\n(?=[a-z0-9])", lock.read_text().strip())
        assert entries
        for entry in entries:
            assert re.match(r"[a-z0-9-]+==[^ ]+ ", entry), f"{lock.name}: {entry[:80]}"
            assert "--hash=sha256:" in entry, f"{lock.name}: {entry[:80]}"
        assert not re.search(r"://|(?<![\w-])/\w|file:", lock.read_text())
    assert {lock.name for lock in locks} >= {"requirements.lock", "requirements-dev.lock"}


def test_a_file_is_what_one_person_can_hold_in_the_head() -> None:
    lines = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in MODULES}

    assert {name: count for name, count in lines.items() if count > 400} == {}
    assert "gateway/__init__.py" in lines


def test_a_function_does_one_thing() -> None:
    functions = [
        (f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", length(node))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, FUNCTION)
    ]

    assert [name for name, lines in functions if lines > 50] == []
    assert functions
