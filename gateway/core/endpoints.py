"""Which endpoints a plan's patterns allow. `*` is one segment, `**` any number of them or none.

The same words as in fal's own proxy, so `fal-ai/flux/**` also covers `fal-ai/flux`.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from operator import and_, or_
from typing import Final

from gateway.core import fal
from gateway.core.target import is_endpoint

_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*|\*\*?")
_MAX_LENGTH: Final = 256
_MAX_PARTS: Final = 12


def check_pattern(pattern: str) -> None:
    """Raise `ValueError`, saying why, unless some endpoint can match `pattern`."""
    parts = pattern.split("/")
    if len(pattern) > _MAX_LENGTH or len(parts) > _MAX_PARTS:
        raise ValueError(f"over {_MAX_LENGTH} characters or {_MAX_PARTS} segments")
    for part in parts:
        if _PART.fullmatch(part) is None:
            raise ValueError(f"{part!r} is neither a plain segment, nor *, nor **")
        if part.lower() == "requests":
            raise ValueError("no endpoint has a segment 'requests'")
    if "**" not in parts and not is_endpoint(pattern.replace("*", "x")):
        raise ValueError("an endpoint has an owner and an alias at least: fal-ai/flux")


def allows(patterns: Iterable[str], endpoint: str) -> bool:
    """Whether one of `patterns` matches `endpoint` as a whole."""
    return _allowed(tuple(patterns), endpoint)


def covers(patterns: Iterable[str], endpoint: str) -> bool:
    """The same for patterns that take away: they must not be got round.

    So they match in whatever case, and also the stream of an endpoint, which queues like any
    other path of its app.
    """
    return _covered(tuple(patterns), endpoint)


def overlap(one: str, other: str) -> bool:
    """Whether some endpoint matches both patterns, in whatever case."""
    return _meet(_parts(one.lower()), _parts(other.lower()))


def allows_app(patterns: Iterable[str], app: str) -> bool:
    """Whether `patterns` allow some endpoint that is `app` or lies below it.

    Queue operations name no more than owner and alias: which of the app's endpoints the job
    was for is known by the job.
    """
    segments = app.split("/")
    return any(_reaches(_parts(pattern), segments) for pattern in patterns)


def literal_apps(patterns: Iterable[str]) -> frozenset[str]:
    """Each `[namespace/]owner/alias` that a pattern spells out and allows by that name.

    `fal-ai/flux` and `fal-ai/flux/**` do. `fal-ai/flux/dev` and `fal-ai/flux/*` do not: who
    may call a part of an app must not get a token for all of it.
    """
    apps = ((pattern, fal.app_of(pattern)) for pattern in patterns)
    return frozenset(
        app for pattern, app in apps if is_endpoint(app) and _matches(_parts(pattern), _parts(app))
    )


def realtime_alias_app(patterns: Iterable[str], alias: str) -> str | None:
    """The one literal app called `alias`; None where there is none, or more than one.

    fal's realtime tokens name apps by alias alone.
    """
    apps = [app for app in literal_apps(patterns) if app.rpartition("/")[2] == alias]
    return apps[0] if len(apps) == 1 else None


@lru_cache(maxsize=4096)
def _allowed(patterns: tuple[str, ...], endpoint: str) -> bool:
    segments = endpoint.split("/")
    return any(_matches(_parts(pattern), segments) for pattern in patterns)


@lru_cache(maxsize=4096)
def _covered(patterns: tuple[str, ...], endpoint: str) -> bool:
    name = endpoint.lower()
    lowered = tuple(pattern.lower() for pattern in patterns)
    return _allowed(lowered, name) or _allowed(lowered, name.removesuffix("/stream"))


@lru_cache(maxsize=4096)
def _parts(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("/"))


def _matches(parts: Sequence[str], segments: Sequence[str]) -> bool:
    for at, part in enumerate(parts):
        if part == "**":
            return _spread(parts[at:], segments[at:])
        if at == len(segments) or part not in ("*", segments[at]):
            return False
    return len(parts) == len(segments)


def _spread(parts: Sequence[str], segments: Sequence[str]) -> bool:
    """`_matches` once `**` has come. A step costs the endpoint's length, whatever the stars.

    `reached[n]`: the pattern so far matches the first n segments.
    """
    reached = [True] + [False] * len(segments)
    for part in parts:
        if part == "**":
            reached = list(accumulate(reached, or_))
        else:
            hits = [part in ("*", segment) for segment in segments]
            reached = [False, *(a and b for a, b in zip(reached, hits, strict=False))]
    return reached[-1]


def _reaches(parts: Sequence[str], segments: Sequence[str]) -> bool:
    """Whether the pattern can still match, once more segments follow these."""
    head = parts[: parts.index("**")] if "**" in parts else parts
    if len(segments) > len(head) and head is parts:
        return False
    return all(part in ("*", name) for part, name in zip(head, segments, strict=False))


def _meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two patterns have a match in common.

    `met[n]`: what stands before in `one`, and the first n parts of `other`, have. Row by row,
    so that a step costs no more than the pattern's length, whatever the stars.
    """
    met = list(accumulate((part == "**" for part in other), and_, initial=True))
    for part in one:
        row = [met[0] and part == "**"]
        for at, against in enumerate(other):
            if "**" in (part, against):
                row.append(met[at + 1] or row[at])
            else:
                row.append(met[at] and ("*" in (part, against) or part == against))
        met = row
    return met[-1]
