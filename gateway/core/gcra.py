"""GCRA: how a rate is kept without windows. lua/gcra.lua has the same arithmetic.

Each call fills the rate for one `interval`. The moment until which it is filled, `tat`, may run
ahead of the clock by at most `burst`. Times are whole microseconds, so sums stay exact.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from gateway.core.limits import Limit

SECOND: Final = 1_000_000
"""Microseconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """A rate: the time that one call fills, and how far calls may run ahead."""

    interval: int
    burst: int


def field(limit: Limit) -> str:
    """Where the time until which a rate is filled is kept, of a subject.

    By its pace: how far ahead the calls of one rate are says nothing of another's, whose name may
    be the same in another plan, or in the same plan before it was changed.
    """
    its = pace(limit)
    return f"r:{limit.name}:{its.interval}:{its.burst}"


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one call. `tat` is to be kept; `retry` is 0 for a call that may come."""

    allowed: bool
    tat: int
    retry: int
    """How long to wait."""
    remaining: int
    """Calls that may come at once after this one."""


def pace(limit: Limit) -> Pace:
    """Of a limit on a rate. Rounded to the slower side."""
    interval = ceil(limit.per * SECOND / limit.amount)
    return Pace(interval, interval * (limit.burst or limit.amount))


def take(tat: int, now: int, pace: Pace) -> Taken:
    """One call at `now`, when those before it fill the rate until `tat`; 0 where none did."""
    begin = max(tat, now)
    after = begin + pace.interval
    retry = after - pace.burst - now
    if retry > 0:
        return Taken(False, begin, retry, 0)
    return Taken(True, after, 0, -retry // pace.interval)
