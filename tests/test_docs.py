"""The documentation says what the code does."""

import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
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
