"""Days, weeks and months of budgets and of usage, all in UTC."""

from datetime import UTC, date, datetime, timedelta
from typing import Final

from gateway.core.limits import DAY, Period, Unit

KEPT_DAYS: Final = 100
"""Days for which usage is kept."""


def field(per: Period, unit: Unit, now: float) -> str:
    """Where a spender's sum for the period of `now` (Unix seconds) stands: `w:2026-11-16:usd`."""
    return f"{name(per, now)}:{unit}"


def name(per: Period, now: float) -> str:
    """The same without the unit: `w:2026-11-16`."""
    return _name(per, _date(now))


def oldest(per: Period, now: float) -> str:
    """The least name of a sum that is still worth keeping: that of the period before this one's.

    A job may be settled after midnight that ended before it. Names of one kind sort by time.
    """
    return _name(per, _begin(per, _date(now)) - timedelta(days=1))


def ends_at(per: Period, now: float) -> float:
    """When the period of `now` ends and the next begins, in Unix seconds."""
    begin = _begin(per, _date(now))
    match per:
        case Period.DAY:
            following = begin + timedelta(days=1)
        case Period.WEEK:
            following = begin + timedelta(days=7)
        case Period.MONTH:
            following = _begin(per, begin + timedelta(days=31))
    return datetime(following.year, following.month, following.day, tzinfo=UTC).timestamp()


def day(now: float) -> str:
    """YYYYMMDD."""
    return _date(now).strftime("%Y%m%d")


def days(first: date, last: date) -> list[str]:
    """Every day from `first` to `last`, both counted, as YYYYMMDD."""
    span = range((last - first).days + 1)
    return [(first + timedelta(days=offset)).strftime("%Y%m%d") for offset in span]


def today(now: float) -> date:
    return _date(now)


def kept_from(now: float) -> date:
    """The oldest day of which usage is kept."""
    return _date(now - (KEPT_DAYS - 1) * DAY)


def written(at: float) -> str:
    """A time as RFC 3339, for messages."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _date(now: float) -> date:
    return datetime.fromtimestamp(now, UTC).date()


def _begin(per: Period, when: date) -> date:
    match per:
        case Period.DAY:
            return when
        case Period.WEEK:
            return when - timedelta(days=when.weekday())
        case Period.MONTH:
            return when.replace(day=1)


def _name(per: Period, when: date) -> str:
    begin = _begin(per, when).isoformat()
    return f"m:{begin[:7]}" if per is Period.MONTH else f"{per[0]}:{begin}"
