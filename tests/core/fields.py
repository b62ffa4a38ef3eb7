"""Lists of structured fields (RFC 9651), read as strictly as their grammar says."""

import re
from typing import Final, TypeAlias

Bare: TypeAlias = int | str | bytes
Item: TypeAlias = tuple[str, dict[str, Bare]]
"""A string, with its parameters."""

_STRING: Final = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_INTEGER: Final = r"-?[0-9]{1,15}(?![0-9.])"
_BYTES: Final = r":[A-Za-z0-9+/=]*:"
_PARAMETER: Final = rf"; *([a-z*][a-z0-9_.*-]*)=({_STRING}|{_INTEGER}|{_BYTES})"
_ITEM: Final = re.compile(rf"({_STRING})((?:{_PARAMETER})*)")
_BETWEEN: Final = re.compile(r"[ \t]*,[ \t]*")


def strings(field: str) -> list[Item]:
    """A list of strings with parameters, no other. Raises `ValueError`."""
    items: list[Item] = []
    at = 0
    while True:
        item = _ITEM.match(field, at)
        if item is None:
            raise ValueError(f"no string at {at}: {field!r}")
        found = re.findall(_PARAMETER, item[2])
        items.append((_text(item[1]), {name: _bare(value) for name, value in found}))
        if item.end() == len(field):
            return items
        between = _BETWEEN.match(field, item.end())
        if between is None:
            raise ValueError(f"neither an end nor a comma at {item.end()}: {field!r}")
        at = between.end()


def _bare(value: str) -> Bare:
    if value.startswith('"'):
        return _text(value)
    return value.encode() if value.startswith(":") else int(value)


def _text(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted[1:-1])
