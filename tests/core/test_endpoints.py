from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.endpoints import (
    allows,
    allows_app,
    check_pattern,
    covers,
    literal_apps,
    overlap,
    realtime_alias_app,
)


@pytest.mark.parametrize(
    "pattern",
    [
        "**",
        "fal-ai/**",
        "fal-ai/flux",
        "fal-ai/flux/**",
        "fal-ai/*",
        "*/*",
        "fal-ai/*/dev",
        "**/flux/**",
        "fal-ai/veo3.1/fast",
        "workflows/u/flow",
        "workflows/**",
        "comfy/*/*",
        "Some_One/x",
        "*/requests-2",
    ],
)
def test_a_pattern_that_some_endpoint_matches(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "/",
        "*",
        "fal-ai",
        "workflows/u",
        "workflows/*",
        "/fal-ai/flux",
        "fal-ai/flux/",
        "fal-ai//flux",
        "fal-ai/flux*",
        "fal-ai/flux-**",
        "fal-ai/***",
        "fal-ai/../flux",
        "fal-ai/./flux",
        "fal-ai/{flux,veo}",
        "fal-ai/fl?x",
        "fal-ai/[f]lux",
        "!fal-ai/flux",
        " fal-ai/flux",
        "fal-ai/flux\n",
        "fal-ai/flüx",
        "fal-ai%2Fflux",
        "https://fal.run/fal-ai/flux",
        "fal-ai/requests",
        "fal-ai/flux/requests/**",
        "fal-ai/flux/Requests",
        "fal-ai/Requests/**",
        "a/b/c/d/e/f/g/h/i/j/k/l/m",
        "**/" * 12 + "a",
        "fal-ai/" + "x" * 250,
    ],
)
def test_a_pattern_that_is_a_mistake(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "endpoint"),
    [
        ("fal-ai/flux", "fal-ai/flux"),
        ("fal-ai/*", "fal-ai/flux"),
        ("*/flux", "fal-ai/flux"),
        ("**", "fal-ai/flux"),
        ("**", "a/b/c/d"),
        ("fal-ai/**", "fal-ai/flux/dev"),
        ("fal-ai/flux/**", "fal-ai/flux"),
        ("fal-ai/flux/**", "fal-ai/flux/dev"),
        ("fal-ai/flux/**", "fal-ai/flux/dev/image-to-image"),
        ("fal-ai/**/dev", "fal-ai/flux/dev"),
        ("fal-ai/**/dev", "fal-ai/dev"),
        ("fal-ai/**/dev", "fal-ai/dev/x/dev"),
        ("**/dev", "fal-ai/flux/dev"),
        ("**/flux/**", "fal-ai/flux"),
        ("**/**/flux", "fal-ai/flux"),
        ("*/*/*", "workflows/u/flow"),
    ],
)
def test_allowed(pattern: str, endpoint: str) -> None:
    assert allows([pattern], endpoint)
    assert allows(["nobody/nothing", pattern], endpoint)


@pytest.mark.parametrize(
    ("pattern", "endpoint"),
    [
        ("fal-ai/flux", "fal-ai/flux/dev"),
        ("fal-ai/flux", "fal-ai/flux2"),
        ("fal-ai/flux", "fal-ai/Flux"),
        ("fal-ai/flux", "xfal-ai/flux"),
        ("fal-ai/flux", "other/fal-ai/flux"),
        ("fal.ai/flux", "falxai/flux"),
        ("fal-ai/*", "fal-ai/flux/dev"),
        ("fal-ai/flux/*", "fal-ai/flux"),
        ("fal-ai/flux/*", "fal-ai/flux/dev/x"),
        ("fal-ai/flux/**", "fal-ai/flux2"),
        ("fal-ai/flux/**", "fal-ai"),
        ("fal-ai/**", "other/flux"),
        ("fal-ai/**/dev", "fal-ai/flux"),
        ("fal-ai/**/dev", "fal-ai/dev/x"),
        ("*/*", "workflows/u/flow"),
        ("u/flow", "workflows/u/flow"),
    ],
)
def test_not_allowed(pattern: str, endpoint: str) -> None:
    assert not allows([pattern], endpoint)


def test_no_patterns_allow_nothing() -> None:
    assert not allows((), "fal-ai/flux")
    assert not allows_app((), "fal-ai/flux")
    assert literal_apps(()) == frozenset()


@pytest.mark.parametrize(
    ("pattern", "app"),
    [
        ("fal-ai/flux", "fal-ai/flux"),
        ("fal-ai/flux/dev", "fal-ai/flux"),
        ("fal-ai/flux/dev", "fal-ai/flux/dev"),
        ("fal-ai/flux/**", "fal-ai/flux"),
        ("fal-ai/flux/**", "fal-ai/flux/dev"),
        ("fal-ai/*/dev", "fal-ai/flux"),
        ("fal-ai/**/dev", "fal-ai/flux/x/y"),
        ("**", "fal-ai/flux"),
        ("workflows/u/flow", "workflows/u/flow"),
    ],
)
def test_an_app_with_something_allowed_below(pattern: str, app: str) -> None:
    assert allows_app([pattern], app)
    assert allows_app(["nobody/nothing", pattern], app)


@pytest.mark.parametrize(
    ("pattern", "app"),
    [
        ("fal-ai/flux", "fal-ai/veo3"),
        ("fal-ai/flux", "fal-ai/flux/dev"),
        ("fal-ai/flux/dev", "fal-ai/flux/pro"),
        ("fal-ai/flux/**", "fal-ai/flux2"),
        ("fal-ai/*/dev", "fal-ai/flux/pro"),
        ("other/**", "fal-ai/flux"),
        ("workflows/u/flow", "u/flow"),
    ],
)
def test_an_app_with_nothing_allowed_below(pattern: str, app: str) -> None:
    assert not allows_app([pattern], app)


NAMES = st.lists(st.sampled_from("ab"), min_size=1, max_size=4)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=5)


def by_definition(pattern: list[str], names: list[str]) -> bool:
    """The meaning of a pattern, as short as it can be said, however slow."""
    if not pattern:
        return not names
    first, *rest = pattern
    if first == "**":
        return any(by_definition(rest, names[n:]) for n in range(len(names) + 1))
    return bool(names) and first in ("*", names[0]) and by_definition(rest, names[1:])


@given(PATTERNS, NAMES)
def test_a_pattern_matches_what_it_means(pattern: list[str], names: list[str]) -> None:
    assert allows(["/".join(pattern)], "/".join(names)) == by_definition(pattern, names)


SHORT = st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=3)


@given(SHORT, SHORT)
def test_patterns_overlap_when_something_matches_both(one: list[str], other: list[str]) -> None:
    """If anything does, then something no longer than both together."""
    tries = (list(names) for depth in range(7) for names in product("ab", repeat=depth))
    some = any(by_definition(one, names) and by_definition(other, names) for names in tries)

    assert overlap("/".join(one), "/".join(other)) == some


def test_what_takes_away_is_not_got_round() -> None:
    assert covers(["Fal-ai/*/dev"], "fal-ai/FLUX/dev")
    assert covers(["fal-ai/flux/dev"], "fal-ai/flux/dev/stream")
    assert covers(["a/b", "fal-ai/flux/dev/stream"], "fal-ai/flux/dev/stream")
    assert not covers(["fal-ai/flux/dev"], "fal-ai/flux/dev/streams")
    assert not covers(["fal-ai/flux/dev/stream"], "fal-ai/flux/dev")
    assert not covers([], "fal-ai/flux/dev")
    assert overlap("FAL-ai/flux", "fal-ai/Flux/**")


@given(PATTERNS, NAMES)
def test_an_app_is_allowed_when_something_at_or_below_it_is(
    pattern: list[str], names: list[str]
) -> None:
    below = [names + list(more) for depth in range(6) for more in product("ab", repeat=depth)]
    some = any(by_definition(pattern, endpoint) for endpoint in below)

    assert allows_app(["/".join(pattern)], "/".join(names)) == some


def test_apps_that_are_allowed_by_name() -> None:
    patterns = [
        "fal-ai/flux",
        "fal-ai/flux/**",
        "fal-ai/veo3/**",
        "workflows/u/flow",
        "comfy/u/graph/**",
        "fal-ai/sana/fast",
        "fal-ai/lora/*",
        "fal-ai/*",
        "*/wan",
        "workflows/u/**",
        "fal-ai/**/x",
        "**",
    ]

    assert literal_apps(patterns) == {
        "fal-ai/flux",
        "fal-ai/veo3",
        "workflows/u/flow",
        "comfy/u/graph",
    }


@pytest.mark.parametrize(
    ("patterns", "alias", "app"),
    [
        (["fal-ai/flux"], "flux", "fal-ai/flux"),
        (["fal-ai/flux/**", "fal-ai/flux"], "flux", "fal-ai/flux"),
        (["workflows/u/flow"], "flow", "workflows/u/flow"),
        (["**", "fal-ai/flux"], "flux", "fal-ai/flux"),
        (["fal-ai/flux"], "fal-ai", None),
        (["fal-ai/flux"], "fal-ai/flux", None),
        (["fal-ai/flux"], "Flux", None),
        (["fal-ai/flux"], "", None),
        (["fal-ai/flux"], "*", None),
        (["workflows/u/flow"], "u", None),
        (["fal-ai/flux", "other/flux"], "flux", None),
        (["fal-ai/flux", "workflows/u/flux"], "flux", None),
        (["fal-ai/flux/dev"], "flux", None),
        (["fal-ai/*"], "flux", None),
        (["**"], "flux", None),
        (["**"], "**", None),
        (["fal-ai/*"], "*", None),
    ],
)
def test_the_app_of_a_realtime_alias(patterns: list[str], alias: str, app: str | None) -> None:
    assert realtime_alias_app(patterns, alias) == app
