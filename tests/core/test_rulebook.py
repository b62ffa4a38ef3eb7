"""Mistakes in rules are found when they are written, not when a job is lost by them."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InputForbidden, RuleBroken
from gateway.core.rulebook import check_rule, faults
from gateway.core.rules import Rule, shaped


@pytest.mark.parametrize(
    "rule",
    [
        Rule("**", "num_images", max=4),
        Rule("fal-ai/*/x", "a-b.c_d", min=-1.5, max=-1.5),
        Rule("**", "a.b.c.d.e.f.g.h", forbid=True),
        Rule("**", "l[*][*]", enum=("1", '"a"', "null", "true")),
        Rule("**", "l[*].x", force="3", max=4),
        Rule("**", "x", default="[1]", max_length=1),
        Rule("**", "x", force="null", max=4),
        Rule("**", "x", hosts=("data:", "*.example.com", "127.0.0.1"), max_length=0),
        Rule("**", "x", max=10**15),
        Rule("**", "x", force=json.dumps("y" * 4000)),
    ],
    ids=str,
)
def test_a_rule_that_means_something(rule: Rule) -> None:
    check_rule(rule)
    assert list(faults(["**"], [], [rule])) == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "does nothing"),
        *(
            ({"path": path, "max": 1}, "path: must be names")
            for path in (
                *(
                    "",
                    ".",
                    "a.",
                    ".a",
                    "a..b",
                    "[*]",
                    "[*].a",
                    "a[0]",
                    "a[*",
                    "a[]",
                    "a.[*]",
                    "a b",
                ),
                *("a[*]b", "$", "a\n", "a/b", "\u00e9", "a" * 65, "a[*]." * 2, ".".join("ab" * 90)),
            )
        ),
        ({"path": ".".join("abcdefghi"), "max": 1}, "path: is more than 8 steps"),
        ({"path": "a" + "[*]" * 8, "max": 1}, "path: is more than 8 steps"),
        ({"endpoint": "flux", "max": 1}, "an owner and an alias"),
        ({"endpoint": "a/requests/b", "max": 1}, "requests"),
        *(
            ({name: bad}, f"{name}: must be a number")
            for name in ("max", "min", "max_length")
            for bad in (float("nan"), float("inf"), -float("inf"), 10**16, -(10**400), True, False)
        ),
        ({"max": 1, "min": 1.5}, "min: is more than max"),
        ({"max_length": -1}, "max_length: must be a whole number"),
        ({"max_length": 1.0}, "max_length: must be a whole number"),
        ({"enum": ()}, "enum: must have 1 to 100"),
        ({"enum": ("1",) * 101}, "enum: must have 1 to 100"),
        ({"enum": ("[]",)}, "enum: must hold strings"),
        ({"enum": ("{}",)}, "enum: must hold strings"),
        ({"enum": ("NaN",)}, "enum: must be a JSON value"),
        ({"enum": ("1", "8"), "max": 4}, "enum: a value that the rule itself refuses: x: at most"),
        ({"hosts": ()}, "hosts: must have 1 to 100"),
        *(
            ({"hosts": (host,)}, "hosts: must each be")
            for host in (
                *("", "*", "*.", "*.*.com", "a.*.com", "https://a.com", "a.com/", "a.com:443"),
                *("A.com", "a.com.", "-a.com", "*.127.0.0.1", "*.1", "999.1.1.1", "\u0430.com"),
                *("*.[::1]", "a b", "a@b", "localhost\n"),
            )
        ),
        ({"forbid": True, "force": "1"}, "forbid: leaves nothing"),
        ({"forbid": True, "max": 1}, "forbid: leaves nothing"),
        ({"force": "1", "default": "1"}, "default: is never needed"),
        ({"max": 1, "max_length": 1}, "max, min: are of numbers"),
        ({"min": 1, "hosts": ("a.b",)}, "max, min: are of numbers"),
        *(
            ({name: bad}, f"{name}: must ")
            for name in ("force", "default")
            for bad in (
                *("NaN", "[Infinity]", "1e999", '"\\ud800"', "", "x", "9" * 5000, "[" * 10**5),
                *(json.dumps("x" * 4096), "[" * 9 + "]" * 9),
            )
        ),
        ({"force": "7", "max": 4}, "sets a value that it refuses itself: x: at most 4"),
        ({"default": '"4"', "max": 4}, "sets a value that it refuses itself: x: must be a number"),
        ({"force": "1", "enum": ("true",)}, "sets a value that it refuses itself"),
        ({"default": "null", "enum": ("1",)}, "sets a value that it refuses itself"),
        ({"force": '"abc"', "max_length": 2}, "sets a value that it refuses itself"),
        ({"force": '"http://a.b"', "hosts": ("a.b",)}, "sets a value that it refuses itself"),
        ({"path": "l[*].s", "force": "9", "max": 4}, "sets a value that it refuses itself"),
        ({"path": "l[*]", "default": "9", "max": 4}, "sets a value that it refuses itself"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_rule_that_means_nothing(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        check_rule(made(fields))


def made(fields: dict[str, Any], endpoint: str = "**") -> Rule:
    """A rule on `x`, unless it says otherwise."""
    whole: dict[str, Any] = {"endpoint": endpoint, "path": "x"} | fields
    return Rule(**whole)


def told(*rules: Rule, endpoints: tuple[str, ...] = ("**",)) -> list[str]:
    return [f"{'.'.join(route)}: {text}" for route, text in faults(endpoints, [], rules)]


@pytest.mark.parametrize(
    ("one", "other", "reason"),
    [
        ({"force": "1"}, {"force": "1"}, "both have a force for x"),
        ({"default": "1"}, {"default": "2"}, "both have a default for x"),
        ({"force": "9"}, {"max": 4}, "x: at most 4"),
        ({"default": "9"}, {"enum": ("1",)}, "x: must be one of 1"),
        ({"force": "1"}, {"forbid": True}, "x: this field is not allowed"),
        ({"min": 5}, {"max": 4}, "min is more than max"),
        ({"force": "{}"}, {"path": "x.y", "max": 1}, "x is forced, with all that is in it"),
        ({"force": "[]"}, {"path": "x[*].y", "max": 1}, "x is forced, with all that is in it"),
        ({"max": 1}, {"path": "x.y", "max": 1}, "x is a number, and has nothing in it"),
        ({"hosts": ("a.b",)}, {"path": "x.y", "max": 1}, "x is a string, and has nothing in it"),
        ({"max_length": 1}, {"path": "x.y", "max": 1}, "x is a string or a list"),
        ({"forbid": True}, {"path": "x.y.z", "default": "1"}, "x: this field is not allowed"),
        ({"default": '{"y":5}'}, {"path": "x.y", "max": 1}, "x.y: at most 1"),
        ({"default": "5"}, {"path": "x.y", "max": 1}, "x: must be an object"),
        ({"path": "x.y", "max": 1}, {"path": "x[*]", "max": 1}, "one takes for a list what the"),
        ({"path": "x[*].a", "max": 1}, {"path": "x.y", "max": 1}, "one takes for a list what the"),
    ],
    ids=str,
)
def test_rules_that_contradict_each_other(
    one: dict[str, Any], other: dict[str, Any], reason: str
) -> None:
    first, second = made(one), made(other, "fal-ai/flux/*")

    [fault] = told(first, second)
    assert fault.startswith(f"rules.1: contradicts rules[0]: {reason}")
    [fault] = told(second, first)
    assert fault.startswith(f"rules.1: contradicts rules[0]: {reason}")


def test_what_is_for_different_endpoints_does_not_contradict() -> None:
    one, other = Rule("a/b/**", "x", force="1"), Rule("a/c/**", "x", force="2")

    assert told(one, other) == []
    assert told(one, Rule("A/*/**", "x", force="2")) != []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"max": 4}, {"min": 4}),
        ({"force": "4"}, {"max": 4}),
        ({"path": "x.y", "force": "1"}, {"path": "x.z", "force": "1"}),
        ({"path": "x.y", "max": 1}, {"enum": ('"word"',)}),
        ({"path": "x.y", "default": "1"}, {"enum": ('"word"',)}),
        ({"path": "x[*].y", "max": 1}, {"max_length": 5}),
        ({"path": "x[*].y", "force": "1"}, {"max_length": 0}),
        ({"path": "x.y", "max": 1}, {"forbid": True}),
        ({"path": "xy", "force": "1"}, {"path": "x", "force": "1"}),
    ],
    ids=str,
)
def test_rules_that_go_together(one: dict[str, Any], other: dict[str, Any]) -> None:
    rules = [made(one), made(other)]

    assert told(*rules) == []
    assert told(*reversed(rules)) == []


@pytest.mark.parametrize(
    ("endpoints", "pattern", "meets"),
    [
        (("fal-ai/flux/**",), "fal-ai/flux", True),
        (("fal-ai/flux/**",), "**/dev", True),
        (("fal-ai/*/dev",), "*/flux/dev", True),
        (("fal-ai/flux",), "FAL-AI/Flux", True),
        (("fal-ai/flux",), "fal-ai/flux/**", True),
        (("fal-ai/flux",), "fal-ai/flux/*", False),
        (("fal-ai/flux/**",), "fal-ai/other/**", False),
        (("fal-ai/*",), "fal-ai/flux/dev", False),
        (("a/b/**/c",), "a/**/d", False),
        ((), "**", False),
    ],
)
def test_what_nothing_allowed_can_match_is_named(
    endpoints: tuple[str, ...], pattern: str, meets: bool
) -> None:
    rule = Rule(pattern, "x", max=1)
    expected = [
        (("deny", "0"), "matches nothing that `endpoints` allows"),
        (("rules", "0", "endpoint"), "matches nothing that `endpoints` allows"),
    ]

    assert list(faults(endpoints, [pattern], [rule])) == ([] if meets else expected)


VALUE = st.sampled_from(["1", "9", "true", '"a"', "null", "{}", '{"y":1}', "[]"])
ANY_RULE = st.builds(
    Rule,
    endpoint=st.just("**"),
    path=st.sampled_from(["x", "x.y", "x[*]", "z"]),
    max=st.none() | st.just(4),
    enum=st.none() | st.lists(VALUE, min_size=1, max_size=2).map(tuple),
    forbid=st.booleans(),
    force=st.none() | VALUE,
    default=st.none() | VALUE,
)


@given(st.lists(ANY_RULE, min_size=1, max_size=3))
def test_rules_without_faults_let_something_through(rules: list[Rule]) -> None:
    """What they force and default is never what they refuse."""
    try:
        for rule in rules:
            check_rule(rule)
    except ValueError:
        return
    if list(faults(["**"], [], rules)):
        return

    try:
        shaped(tuple(rules), "a/b", b"{}")
    except (RuleBroken, InputForbidden) as error:
        raise AssertionError(str(error)) from error
