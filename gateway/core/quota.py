"""How callers hear of limits: header fields of the IETF's draft, and words."""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Final

from gateway.core.errors import LimitReached
from gateway.core.limits import DAY, Limit, Measure, Standing

POLICY: Final = "RateLimit-Policy"
STANDING: Final = "RateLimit"
"""Both are lists of strings with parameters, structured fields of RFC 9651, as of version 11 of
draft-ietf-httpapi-ratelimit-headers."""

_LARGEST: Final = 10**15 - 1
"""Of a whole number in a structured field."""
_UNITS: Final = {
    Measure.IN_FLIGHT: "concurrent-requests",
    Measure.STREAMS: "concurrent-requests",
    Measure.UPLOADS: "content-bytes",
}
"""Two of the three registered units; the third one, requests, goes without saying."""
_AT_ONCE: Final = frozenset({Measure.IN_FLIGHT, Measure.STREAMS})
"""What is given back by its end, not by a clock."""


def ratelimit_headers(standings: Iterable[Standing]) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit`; none where nothing is limited.

    A limit in shadow mode is not told: it refuses nobody.
    """
    told = [standing for standing in standings if not standing.limit.shadow]
    if not told:
        return {}
    return {
        POLICY: ", ".join(_policy(standing.limit) for standing in told),
        STANDING: ", ".join(map(_standing, told)),
    }


def reached(limit: Limit, wait: float, standings: Sequence[Standing] = ()) -> LimitReached:
    """The refusal by `limit`, to come again in `wait` seconds. `standings` are with all limits;
    without them, with this one."""
    error = LimitReached(f"the limit {limit.name} is reached: {_words(limit)}")
    error.limit, error.wait = limit, wait
    error.retry_after = max(1, ceil(wait))
    reset = 0.0 if limit.measure in _AT_ONCE else wait
    error.standings = tuple(standings) or (Standing(limit, 0, reset),)
    return error


def _policy(limit: Limit) -> str:
    unit = f';qu="{_UNITS[limit.measure]}"' if limit.measure in _UNITS else ""
    window = "" if limit.measure in _AT_ONCE else f";w={_window(limit)}"
    return f"{_name(limit)};q={_whole(limit.amount)}{unit}{window}"


def _standing(standing: Standing) -> str:
    left = _whole(min(max(standing.remaining, 0), standing.limit.amount))
    reset = f";t={_whole(ceil(standing.reset))}" if standing.reset > 0 else ""
    return f"{_name(standing.limit)};r={left}{reset}"


def _name(limit: Limit) -> str:
    """As a string of a structured field, which is of printable ASCII."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in limit.name)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _whole(number: int) -> int:
    return min(number, _LARGEST)


def _window(limit: Limit) -> int:
    return max(1, ceil(limit.per if limit.measure is Measure.RATE else DAY))


def _words(limit: Limit) -> str:
    """What it allows, and what helps."""
    most = f"at most {limit.amount}"
    match limit.measure:
        case Measure.RATE:
            return f"{most} calls in {limit.per:g} s; come again a little later"
        case Measure.IN_FLIGHT:
            return f"{most} jobs at once; wait for one to end"
        case Measure.JOBS:
            return f"{most} jobs a day; the next day begins at midnight UTC"
        case Measure.STREAMS:
            return f"{most} streams and held requests at once; close one"
        case Measure.UPLOADS:
            return f"{most} bytes of uploads a day; the next day begins at midnight UTC"
