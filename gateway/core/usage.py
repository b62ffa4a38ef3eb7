"""What was used, by whom, of which endpoint, on which day; and how a caller stands."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Final

from gateway.core import gcra, periods
from gateway.core.errors import BadBody
from gateway.core.limits import DAY, Budget, Limit, Measure
from gateway.core.model import Caller, Kind, Scope, State
from gateway.core.prices import usd_text

DAYS_MAX: Final = periods.KEPT_DAYS
"""Days that one answer covers at most."""
DAYS_USUAL: Final = 30
"""Days that it covers unless asked for others."""
OTHER: Final = "other"
"""What endpoints beyond the first few hundred of a day are counted as."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """`units` and `cost` are millionths. `cost` leaves out what no price was known of."""

    jobs: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    units: int = 0
    cost: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, name) + getattr(other, name) for name in NAMES))

    def json(self) -> Json:
        """Numbers of jobs, and decimal text, which no reader of JSON rounds."""
        counted = {name: getattr(self, name) for name in NAMES[:-2]}
        return counted | {"units": usd_text(self.units), "cost": usd_text(self.cost)}


NAMES: Final = tuple(field.name for field in fields(Counts))


def counted(state: State, units: int, cost: int | None) -> Counts:
    """Of one call that ended as `state`."""
    return Counts(
        jobs=1,
        completed=int(state is State.COMPLETED),
        failed=int(state is State.FAILED),
        cancelled=int(state is State.CANCELLED),
        expired=int(state is State.EXPIRED),
        units=units,
        cost=cost or 0,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """One endpoint on one day, YYYYMMDD."""

    day: str
    endpoint: str
    counts: Counts
    team: str = ""
    principal: str = ""
    """`kind:name`; empty for the whole team."""

    def json(self) -> Json:
        return {"day": written_day(self.day), "endpoint": self.endpoint, **self.counts.json()}


@dataclass(frozen=True, slots=True)
class Span:
    """Days, the first and the last counted."""

    first: date
    last: date

    @property
    def days(self) -> list[str]:
        return periods.days(self.first, self.last)


def span_of(first: str | None, last: str | None, now: float) -> Span:
    """The days from `first` to `last`, `YYYY-MM-DD`; the last thirty unless said.

    Raises `BadBody`.
    """
    end = periods.today(now) if last is None else _date("to", last)
    begin = date.fromordinal(max(1, end.toordinal() - DAYS_USUAL + 1))
    begin = begin if first is None else _date("from", first)
    if begin > end:
        raise BadBody("from must not be after to")
    if (end - begin).days >= DAYS_MAX:
        raise BadBody(f"from and to must be at most {DAYS_MAX} days apart")
    return Span(begin, end)


def rows_of(day: str, told: dict[str, str], team: str = "", principal: str = "") -> list[Row]:
    """One day's rows, of a hash with fields such as `fal-ai/flux jobs`."""
    endpoints = sorted({name.partition(" ")[0] for name in told if " " in name})
    return [
        Row(
            day,
            endpoint,
            Counts(*(int(told.get(f"{endpoint} {name}", 0)) for name in NAMES)),
            team,
            principal,
        )
        for endpoint in endpoints
    ]


def total(rows: Iterable[Row]) -> Counts:
    return sum((row.counts for row in rows), Counts())


CSV_HEAD: Final = ("day", "team", "principal", "endpoint", *NAMES)


def csv_line(values: Sequence[str]) -> bytes:
    """RFC 4180, and harmless to programs that take a field for a formula."""
    out = io.StringIO()
    csv.writer(out).writerow([_harmless(value) for value in values])
    return out.getvalue().encode()


def csv_values(row: Row) -> list[str]:
    counts = row.counts.json()
    told = [written_day(row.day), row.team, row.principal, row.endpoint]
    return told + [str(counts[name]) for name in NAMES]


def _harmless(value: str) -> str:
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value


def written_day(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"


def _date(name: str, text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:
        raise BadBody(f"{name} must be a day, YYYY-MM-DD")
    return found


@dataclass(frozen=True, slots=True)
class Read:
    """What Redis holds of one subject: of its principal, its team or its address."""

    meter: dict[str, str]
    spend: dict[str, str]
    in_flight: int = 0
    streams: int = 0


def sees_team(caller: Caller) -> bool:
    """May the caller know how its whole team stands? Not the app's own users."""
    return caller.principal.kind is Kind.KEY or Scope.READ in caller.scopes


def limit_json(limit: Limit, read: Read, now: float) -> Json:
    """How much of a limit is used; `reset` is seconds until all of it is there again."""
    used, reset = _used(limit, read, now)
    return {
        "name": limit.name,
        "of": limit.of,
        "measure": limit.measure,
        "amount": limit.amount,
        "per": limit.per if limit.measure is Measure.RATE else None,
        "used": used,
        "remaining": max(0, _most(limit) - used),
        "reset": round(reset, 3),
        "shadow": limit.shadow,
    }


def _most(limit: Limit) -> int:
    return limit.burst or limit.amount if limit.measure is Measure.RATE else limit.amount


def _used(limit: Limit, read: Read, now: float) -> tuple[int, float]:
    midnight = (now // DAY + 1) * DAY - now
    match limit.measure:
        case Measure.RATE:
            pace = gcra.pace(limit)
            ahead = int(read.meter.get(gcra.field(limit), 0)) - round(now * gcra.SECOND)
            return max(0, -(-ahead // pace.interval)), max(0, ahead) / gcra.SECOND
        case Measure.IN_FLIGHT:
            return read.in_flight, 0.0
        case Measure.STREAMS:
            return read.streams, 0.0
        case Measure.JOBS:
            return int(read.meter.get(f"j:{periods.day(now)}", 0)), midnight
        case Measure.UPLOADS:
            return int(read.meter.get(f"u:{periods.day(now)}", 0)), midnight


def budget_json(budget: Budget, read: Read, now: float) -> Json:
    spent = int(read.spend.get(periods.field(budget.per, budget.unit, now), 0))
    held = int(read.spend.get(f"held:{budget.unit}", 0))
    return {
        "name": budget.name,
        "of": budget.of,
        "unit": budget.unit,
        "per": budget.per,
        "amount": usd_text(budget.amount),
        "spent": usd_text(spent),
        "reserved": usd_text(held),
        "remaining": usd_text(max(0, budget.amount - spent - held)),
        "resets_at": periods.written(periods.ends_at(budget.per, now)),
        "shadow": budget.shadow,
    }
