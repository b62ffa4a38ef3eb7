"""Days, weeks and months in UTC, whatever the machine's own time is."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import periods
from gateway.core.limits import Period, Unit

TIMES = st.integers(1_577_836_800_000, 2_208_988_800_000)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("per", "now", "field", "ends"),
    [
        (Period.DAY, "2026-11-22T23:59:59.9", "d:2026-11-22:usd", "2026-11-23"),
        (Period.WEEK, "2026-11-22T23:59:59", "w:2026-11-16:usd", "2026-11-23"),
        (Period.WEEK, "2026-11-23T00:00:00", "w:2026-11-23:usd", "2026-11-30"),
        (Period.WEEK, "2027-01-01T12:00:00", "w:2026-12-28:usd", "2027-01-04"),
        (Period.MONTH, "2026-12-31T23:59:59", "m:2026-12:usd", "2027-01-01"),
        (Period.MONTH, "2028-02-29T00:00:00", "m:2028-02:usd", "2028-03-01"),
        (Period.MONTH, "2026-01-31T00:00:00", "m:2026-01:usd", "2026-02-01"),
    ],
)
def test_periods(per: Period, now: str, field: str, ends: str) -> None:
    assert periods.field(per, Unit.USD, at(now)) == field
    assert periods.ends_at(per, at(now)) == at(ends)


@given(TIMES, st.sampled_from(Period))
def test_a_period_ends_where_the_next_begins(when: int, per: Period) -> None:
    now = when / 1000
    end = periods.ends_at(per, now)

    assert now < end <= now + 31 * 86_400
    assert periods.name(per, end - 0.001) == periods.name(per, now)
    assert periods.name(per, now) < periods.name(per, end)
    assert periods.oldest(per, end) == periods.name(per, now)


def test_days() -> None:
    first = date(2026, 2, 27)

    found = periods.days(first, first + timedelta(days=2))
    assert found == ["20260227", "20260228", "20260301"]
    assert periods.day(at("2026-02-27T23:59:59")) == "20260227"
