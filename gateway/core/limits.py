"""What a plan allows of something, and at what pace: rates, numbers at once, money."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MICRO: Final = 1_000_000
"""Money and units are counted in millionths, as whole numbers: sums stay exact."""
DAY: Final = 86_400
"""Seconds."""


class Of(StrEnum):
    """Whose calls a limit counts together."""

    PRINCIPAL = "principal"
    TEAM = "team"
    ADDRESS = "address"
    """All anonymous visitors who come from one address (of IPv6: one /64)."""


class Measure(StrEnum):
    """What a limit counts."""

    RATE = "rate"
    """Calls that cost: submits, direct runs, uploads. By GCRA: no window has an edge."""
    IN_FLIGHT = "in_flight"
    """Jobs and direct runs that fal has, or is about to get, and that have not ended."""
    JOBS = "jobs"
    """Jobs and direct runs since midnight UTC."""
    STREAMS = "streams"
    """Event streams and held requests that are open."""
    UPLOADS = "uploads"
    """Bytes uploaded through the gateway since midnight UTC."""


class Away(StrEnum):
    """What becomes of a call while Redis, which counts, is away."""

    CLOSED = "closed"
    """It is refused."""
    LOCAL = "local"
    """Each process counts for itself, as long as the call needs no job in the ledger."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` (calls, jobs, streams or bytes), for a rate within `per` seconds."""

    name: str
    """Unique in its plan; refusals and `RateLimit` headers tell it."""
    measure: Measure
    of: Of
    amount: int
    per: float = DAY
    burst: int = 0
    """Calls of a rate that may come at once; 0: as many as `amount`."""
    shadow: bool = False
    """Counts and reports, but does not refuse."""
    away: Away = Away.CLOSED


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands with a limit. `reset` is seconds until all of it is there again;
    0 where no clock gives it back."""

    limit: Limit
    remaining: int
    reset: float


class Unit(StrEnum):
    """What a budget is in."""

    USD = "usd"
    UNITS = "units"
    """fal's billable units, whatever they are of."""


class Period(StrEnum):
    """How long a budget lasts, from midnight UTC: a week from Monday, a month from its first."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `amount` millionths of a dollar, or of a unit, in each period."""

    name: str
    of: Of
    amount: int
    unit: Unit
    per: Period
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """How jobs wait in the gateway for which there is no room at fal yet.

    `length` bounds one principal's, `team_length` all of its team, and `team_bytes` what the inputs
    of these take up. They wait `wait` seconds at most. Within a class of `priority`, 0 first,
    principals take turns by `weight`.
    """

    length: int = 100
    team_length: int = 1000
    team_bytes: int = 256 * 2**20
    wait: float = 3600.0
    weight: int = 1
    priority: int = 5
