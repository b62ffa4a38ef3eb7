"""What a plan says of a model's input: bounds, forced values, hosts of URLs.

Whether rules make sense together is asked once, by `rulebook`; here they are applied.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from typing import Any, Final

from gateway.core.endpoints import covers
from gateway.core.errors import BadBody, InputForbidden, RuleBroken
from gateway.core.slices import check_json_object
from gateway.core.weburl import host_of, is_host_among

MAX_VALUES: Final = 200_000
"""Commas in a body that is read for rules. Bounds the time and the memory that this can take."""
MAX_ITEMS: Final = 1000
"""Values that one rule with `[*]` looks at."""
DATA: Final = "data:"
"""Among `hosts`: the file may stand in the URL itself."""
_SHOWN: Final = 200

Step = str | None
"""A name in an object; None: each item of a list."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, for the endpoints that the pattern `endpoint` matches, on the value at `path`.

    `image_size.width` is a field in an object, `loras[*].scale` one in each item of a list.
    `enum`, `force` and `default` are JSON texts: in Python, 1 and true would be equal. Equality
    is of all fields; the hash of two is enough, and quicker to take for every call.
    """

    endpoint: str
    path: str
    max: float | None = field(default=None, hash=False)
    min: float | None = field(default=None, hash=False)
    enum: tuple[str, ...] | None = field(default=None, hash=False)
    """Texts of the values allowed. Where other rules lead further down, what else than an
    object or a list may stand there."""
    max_length: int | None = field(default=None, hash=False)
    """Characters of a string, or items of a list."""
    hosts: tuple[str, ...] | None = field(default=None, hash=False)
    """Of https URLs: `files.example.com`, `*.example.com`, and `data:`."""
    forbid: bool = field(default=False, hash=False)
    force: str | None = field(default=None, hash=False)
    """Stands there whatever the client sent."""
    default: str | None = field(default=None, hash=False)
    """Stands there where the client sent nothing, or null."""


def shaped(rules: tuple[Rule, ...], endpoint: str, body: bytes) -> bytes:
    """The input that fal gets: `body` itself, unless a rule forces a value or knows a default.

    Values that the rules set are judged as all others. An empty body is an empty object.
    Raises `RuleBroken` or `InputForbidden` naming the field and the limit, never the value, and
    `BadBody` for what fal could read in another way than we do.
    """
    ruled = _ruled(rules, endpoint) if rules else ()
    if not ruled:
        return body
    fields = _read(body)
    changes = [_set(fields, one, force=True) for one in ruled if one.rule.force is not None]
    changes += [_set(fields, one, force=False) for one in ruled if one.rule.default is not None]
    for one in ruled:
        for holder, key, place in one.places(fields):
            if not isinstance(holder, dict) or key in holder:
                _judge(one, holder[key], place)
    return _written(fields) if any(changes) else body


def steps_of(path: str) -> tuple[Step, ...]:
    """`loras[*].scale` as its steps."""
    names = path.replace("[*]", ".[*]").split(".")
    return tuple(None if name == "[*]" else name for name in names)


_Kind = tuple[str, object]


def kind_of(value: object) -> _Kind | None:
    """A JSON value that is no object and no list, so that equal means equal in JSON."""
    if value is None or isinstance(value, bool | str):
        return type(value).__name__, value
    return ("number", value) if isinstance(value, int | float) else None


_Place = tuple[Any, Any, str]
"""What holds a value, its name or number in it, and how to call it."""


@dataclass(frozen=True, slots=True)
class _Ruled:
    """A rule, prepared. `words` may stand in place of an object or a list on the way, by how
    many steps lead there; `parent` tells the kinds that other rules look into."""

    rule: Rule
    steps: tuple[Step, ...]
    allowed: frozenset[_Kind]
    words: tuple[frozenset[_Kind], ...]
    parent: tuple[type, ...]

    def places(self, fields: dict[str, Any], make: "_Make | None" = None) -> Iterator[_Place]:
        """Where the path leads. Objects on the way are made where `make` says so."""
        for count, place in enumerate(self._below(fields, 0, "", make)):
            if count == MAX_ITEMS:
                raise RuleBroken(f"{self.rule.path}: at most {MAX_ITEMS} items")
            yield place

    def _below(self, node: Any, at: int, place: str, make: "_Make | None") -> Iterator[_Place]:
        step = self.steps[at]
        if not _holds(node, step):
            if kind_of(node) in self.words[at]:
                return
            raise RuleBroken(f"{place}: must be {'a list' if step is None else 'an object'}")
        if step is None and len(node) > MAX_ITEMS:
            raise RuleBroken(f"{place}: at most {MAX_ITEMS} items")
        keys: Sequence[Any] = range(len(node)) if step is None else (step,)
        for key in keys:
            name = f"{place}[{key}]" if step is None else f"{place}.{key}".lstrip(".")
            if at + 1 == len(self.steps):
                yield node, key, name
                continue
            child = node[key] if step is None else node.get(key)
            if make is not None and None not in self.steps[at + 1 :] and make(child):
                child = node[key] = {}
            if child is not None:
                yield from self._below(child, at + 1, name, make)


_Make = Callable[[object], bool]


def _holds(node: object, step: Step) -> bool:
    """Is it of the kind that a step looks into?"""
    return isinstance(node, list if step is None else dict)


@lru_cache(maxsize=1024)
def _ruled(rules: tuple[Rule, ...], endpoint: str) -> tuple[_Ruled, ...]:
    """The rules for an endpoint. Cached by value: `Rule` has nothing that is equal but other."""
    found = [(rule, steps_of(rule.path)) for rule in rules if covers([rule.endpoint], endpoint)]
    return tuple(
        _Ruled(
            rule,
            steps,
            _kinds(rule.enum or ()),
            tuple(
                frozenset().union(*(_kinds(o.enum or ()) for o, way in found if way == steps[:n]))
                for n in range(len(steps))
            ),
            tuple(
                list if way[len(steps)] is None else dict
                for _, way in found
                if len(way) > len(steps) and way[: len(steps)] == steps
            ),
        )
        for rule, steps in found
    )


def _kinds(texts: Sequence[str]) -> frozenset[_Kind]:
    kinds = (kind_of(json.loads(text)) for text in texts)
    return frozenset(kind for kind in kinds if kind is not None)


def _read(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    check_json_object(body)
    if body.count(b",") > MAX_VALUES:
        raise BadBody(f"the body has more than {MAX_VALUES} values")
    try:
        fields: dict[str, Any] = json.loads(body.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise BadBody("the body cannot be read: has it a number of thousands of digits?") from None
    return fields


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values of one name, we would judge one and fal might take the other."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadBody("an object in the body has the same name twice")
    return fields


def _written(fields: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except ValueError:  # 1e999 is a number in JSON, and none when read
        raise BadBody("the body has a number that is too large") from None


def _set(fields: dict[str, Any], one: _Ruled, *, force: bool) -> bool:
    """Write a rule's value where it belongs. Whether anything is another now."""
    text = one.rule.force if force else one.rule.default
    assert text is not None
    changed = False
    for holder, key, _ in one.places(fields, _is_no_object if force else _is_null):
        value = json.loads(text)
        before = holder.get(key) if isinstance(holder, dict) else holder[key]
        present = not isinstance(holder, dict) or key in holder
        same = present and kind_of(before) is not None and _alike(before, value)
        if not same and (force or before is None):
            holder[key] = value
            changed = True
    return changed


def _alike(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _is_null(value: object) -> bool:
    return value is None


def _is_no_object(value: object) -> bool:
    return not isinstance(value, dict)


def _judge(one: _Ruled, value: object, place: str) -> None:
    """Raise unless a value that is there keeps to the rule."""
    rule = one.rule
    if rule.forbid:
        raise InputForbidden(f"{place}: this field is not allowed")
    judged = rule.enum is not None and not isinstance(value, one.parent)
    if judged and kind_of(value) not in one.allowed:
        raise RuleBroken(f"{place}: must be one of {', '.join(rule.enum or ())}"[:_SHOWN])
    if value is None:
        return
    if rule.max is not None or rule.min is not None:
        _judge_number(rule, value, place)
    if rule.max_length is not None:
        if not isinstance(value, str | list):
            raise RuleBroken(f"{place}: must be a string or a list")
        if len(value) > rule.max_length:
            unit = "characters" if isinstance(value, str) else "items"
            raise RuleBroken(f"{place}: at most {rule.max_length} {unit}")
    if rule.hosts is not None and not _is_hosted(rule.hosts, value):
        allowed = ", ".join(rule.hosts)
        raise RuleBroken(f"{place}: must be a plain https URL of {allowed}"[:_SHOWN])


def _judge_number(rule: Rule, value: object, place: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RuleBroken(f"{place}: must be a number")
    finite = isinstance(value, int) or isfinite(value)
    if rule.max is not None and not (finite and value <= rule.max):
        raise RuleBroken(f"{place}: at most {rule.max}")
    if rule.min is not None and not (finite and value >= rule.min):
        raise RuleBroken(f"{place}: at least {rule.min}")


def _is_hosted(hosts: tuple[str, ...], value: object) -> bool:
    if not isinstance(value, str):
        return False
    if value.startswith(DATA):
        return DATA in hosts
    host = host_of(value)
    return host is not None and is_host_among(hosts, host)
