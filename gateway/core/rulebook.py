"""Whether the rules of a plan make sense: each by itself, together, and for its endpoints.

What could never apply, or never pass, is a mistake of whoever wrote it, and is said so at once.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any, Final

from gateway.core.endpoints import check_pattern, overlap
from gateway.core.errors import GatewayError
from gateway.core.rules import DATA, Rule, Step, kind_of, shaped, steps_of
from gateway.core.weburl import check_host_pattern

MAX_RULES: Final = 100
"""Rules of one plan; also its deny patterns, its hosts, and the values of an `enum`."""
MAX_PATH: Final = 256
"""Characters of a path."""
MAX_STEPS: Final = 8
MAX_VALUE: Final = 4096
"""Characters of a forced or default value, as JSON."""
_PATH: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64}|\[\*\])*")
_LARGEST: Final = 10**15
_FORKED: Final = "one takes for a list what the other takes for an object"
_ANY: Final = "any/thing"

Route = tuple[str, ...]


def check_rule(rule: Rule) -> None:
    """Raise `ValueError`, saying why, for a rule that nothing could ever mean."""
    check_pattern(rule.endpoint)
    _check_path(rule.path)
    _check_numbers(rule)
    _check_lists(rule)
    _check_effect(rule)
    for name, text in (("force", rule.force), ("default", rule.default)):
        if text is not None:
            _check_value(name, text)
    for text in rule.enum or ():
        if reason := _refused(rule, replace(rule, enum=None, default=None, force=text)):
            raise ValueError(f"enum: a value that the rule itself refuses: {reason}")
    if reason := _refused(rule, rule):
        raise ValueError(f"sets a value that it refuses itself: {reason}")


def faults(
    endpoints: Sequence[str], deny: Sequence[str], rules: Sequence[Rule]
) -> Iterator[tuple[Route, str]]:
    """Where in a plan, and why, its rules do not go together or with its endpoints.

    Each rule has passed `check_rule`, each pattern `check_pattern`.
    """
    for index, pattern in enumerate(deny):
        if not any(overlap(pattern, allowed) for allowed in endpoints):
            yield ("deny", str(index)), "matches nothing that `endpoints` allows"
    for index, rule in enumerate(rules):
        if not any(overlap(rule.endpoint, allowed) for allowed in endpoints):
            yield ("rules", str(index), "endpoint"), "matches nothing that `endpoints` allows"
    for (first, one), (second, other) in combinations(enumerate(rules), 2):
        if overlap(one.endpoint, other.endpoint) and (reason := _contradiction(one, other)):
            yield ("rules", str(second)), f"contradicts rules[{first}]: {reason}"


def _check_path(path: str) -> None:
    if len(path) > MAX_PATH or _PATH.fullmatch(path) is None:
        raise ValueError(
            "path: must be names with dots between, [*] for each item of a list: "
            f"num_images, image_size.width, loras[*].scale; at most {MAX_PATH} characters"
        )
    if len(steps_of(path)) > MAX_STEPS:
        raise ValueError(f"path: is more than {MAX_STEPS} steps deep")


def _check_numbers(rule: Rule) -> None:
    for name, bound in (("max", rule.max), ("min", rule.min), ("max_length", rule.max_length)):
        if isinstance(bound, bool) or (bound is not None and not abs(bound) <= _LARGEST):
            raise ValueError(f"{name}: must be a number of at most 15 digits")
    if rule.max is not None and rule.min is not None and rule.min > rule.max:
        raise ValueError("min: is more than max")
    if rule.max_length is not None and (rule.max_length < 0 or type(rule.max_length) is not int):
        raise ValueError("max_length: must be a whole number, not below 0")


def _check_lists(rule: Rule) -> None:
    for name, items in (("enum", rule.enum), ("hosts", rule.hosts)):
        if items is not None and not 1 <= len(items) <= MAX_RULES:
            raise ValueError(f"{name}: must have 1 to {MAX_RULES} entries")
    for text in rule.enum or ():
        _check_value("enum", text)
        if kind_of(json.loads(text)) is None:
            raise ValueError("enum: must hold strings, numbers, true, false or null")
    for host in rule.hosts or ():
        if host != DATA:
            try:
                check_host_pattern(host)
            except ValueError as error:
                raise ValueError(f"hosts: must each be {error}, or {DATA}") from None


def _check_effect(rule: Rule) -> None:
    number = rule.max is not None or rule.min is not None
    judged = number or any(x is not None for x in (rule.enum, rule.max_length, rule.hosts))
    written = rule.force is not None or rule.default is not None
    if not (judged or written or rule.forbid):
        raise ValueError("does nothing: give max, min, enum, force, forbid, default, ...")
    if rule.forbid and (judged or written):
        raise ValueError("forbid: leaves nothing for the rest of the rule")
    if rule.force is not None and rule.default is not None:
        raise ValueError("default: is never needed beside force")
    if number and (rule.max_length is not None or rule.hosts is not None):
        raise ValueError("max, min: are of numbers, max_length and hosts of strings")


def _check_value(name: str, text: str) -> None:
    """A JSON text that means the same to everybody."""
    try:
        value = json.loads(text, parse_constant=_none_such)
        again = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ValueError(f"{name}: must be a JSON value") from None
    if len(text) > MAX_VALUE or _depth(value) > MAX_STEPS or len(again) > 2 * MAX_VALUE:
        raise ValueError(
            f"{name}: must have at most {MAX_VALUE} characters, and {MAX_STEPS} levels"
        )


def _none_such(name: str) -> None:
    raise ValueError(name)


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(item) for item in inner), default=0)


def _contradiction(one: Rule, other: Rule) -> str | None:
    """Why no input can ever satisfy both, or why one makes the other pointless."""
    for a, b in permutations((steps_of(one.path), steps_of(other.path))):
        if len(a) < len(b) and b[: len(a)] == a:
            upper, lower = (one, other) if a == steps_of(one.path) else (other, one)
            return _of_parent(upper, lower, b[len(a)])
    if one.path != other.path:
        return _fork(steps_of(one.path), steps_of(other.path))
    for name in ("force", "default"):
        if getattr(one, name) is not None and getattr(other, name) is not None:
            return f"both have a {name} for {one.path}"
    for low, high in permutations((one, other)):
        if low.min is not None and high.max is not None and low.min > high.max:
            return "min is more than max"
    return _refused(one, other) or _refused(other, one)


def _of_parent(upper: Rule, lower: Rule, step: Step) -> str | None:
    if upper.force is not None:
        return f"{upper.path} is forced, with all that is in it"
    if upper.max is not None or upper.min is not None or upper.hosts is not None:
        return f"{upper.path} is a {'string' if upper.hosts else 'number'}, and has nothing in it"
    if upper.max_length is not None and step is not None:
        return f"{upper.path} is a string or a list, and has no fields"
    return _refused(upper, lower) or _refused(lower, upper)


def _fork(one: Sequence[Step], other: Sequence[Step]) -> str | None:
    for a, b in zip(one, other, strict=False):
        if a != b:
            return _FORKED if None in (a, b) else None
    return None


def _refused(judge: Rule, writer: Rule) -> str | None:
    """What the one rule says to the value that the other sets."""
    if writer.force is None and writer.default is None:
        return None
    if None in steps_of(writer.path) and judge.path != writer.path:
        return None  # in which list? there may be none
    bare = replace(judge, endpoint=_ANY, force=None, default=None)
    try:
        shaped(
            (bare, replace(writer, endpoint=_ANY)),
            _ANY,
            json.dumps(_sample(steps_of(writer.path))).encode(),
        )
    except GatewayError as error:
        return str(error)
    return None


def _sample(steps: Sequence[Step]) -> Any:
    """The smallest input in which a path with lists leads somewhere."""
    if not steps or None not in steps:
        return None if not steps else {}
    if steps[0] is None:
        return [_sample(steps[1:])]
    return {steps[0]: _sample(steps[1:])}
