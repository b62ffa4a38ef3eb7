import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.gcra import SECOND, Pace, pace, take
from gateway.core.limits import Limit, Measure, Of

NOW = 1_800_000_000 * SECOND
AMOUNTS = st.integers(1, 1000)
GAPS = st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=200)


def rate(amount: int, per: float = 1.0, burst: int = 0) -> Limit:
    return Limit("r", Measure.RATE, Of.PRINCIPAL, amount, per=per, burst=burst)


def test_as_many_as_the_burst_come_at_once_and_then_one_by_one() -> None:
    tat, twice = 0, pace(rate(2, burst=3))
    for left in (2, 1, 0):
        taken = take(tat, NOW, twice)
        assert (taken.allowed, taken.remaining, taken.retry) == (True, left, 0)
        tat = taken.tat

    refused = take(tat, NOW, twice)
    assert (refused.allowed, refused.tat, refused.retry) == (False, tat, SECOND // 2)
    assert not take(tat, NOW + refused.retry - 1, twice).allowed
    assert take(tat, NOW + refused.retry, twice).allowed


def test_after_a_pause_all_of_the_burst_is_there_and_no_more() -> None:
    tat, slow = 0, pace(rate(1, per=60.0, burst=5))
    for _ in range(5):
        tat = take(tat, NOW, slow).tat
    later = NOW + 3600 * SECOND
    assert take(tat, later, slow).remaining == 4


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (rate(10), Pace(100_000, SECOND)),
        (rate(10, burst=1), Pace(100_000, 100_000)),
        (rate(3), Pace(333_334, 1_000_002)),  # never faster than said
        (rate(5, per=3600.0), Pace(720 * SECOND, 3600 * SECOND)),
        (rate(10**9), Pace(1, 10**9)),
    ],
)
def test_a_limit_as_a_pace(limit: Limit, expected: Pace) -> None:
    assert pace(limit) == expected


@given(amount=AMOUNTS, burst=st.integers(0, 50), gaps=GAPS)
def test_in_any_window_at_most_the_burst_and_what_the_rate_adds(
    amount: int, burst: int, gaps: list[int]
) -> None:
    limit = rate(amount, burst=burst)
    speed, tat, now = pace(limit), 0, NOW
    came: list[int] = []
    for gap in gaps:
        now += gap
        taken = take(tat, now, speed)
        tat = taken.tat
        if taken.allowed:
            came.append(now)
    most = burst or amount
    for first in range(len(came)):
        for last in range(first, len(came)):
            window = came[last] - came[first]
            assert last - first + 1 <= most + window * amount / SECOND


@given(amount=AMOUNTS, burst=st.integers(1, 50), gaps=GAPS)
def test_who_keeps_to_the_rate_is_never_refused(amount: int, burst: int, gaps: list[int]) -> None:
    speed, tat, now = pace(rate(amount, burst=burst)), 0, NOW
    for gap in gaps:
        now += speed.interval + gap
        taken = take(tat, now, speed)
        assert taken.allowed
        tat = taken.tat


@given(tat=st.integers(0, 10 * SECOND), amount=AMOUNTS, burst=st.integers(1, 50))
def test_who_waits_as_told_is_let_in_and_not_sooner(tat: int, amount: int, burst: int) -> None:
    speed = pace(rate(amount, burst=burst))
    refused = take(NOW + tat, NOW, speed)
    if refused.allowed:
        assert refused.remaining == (NOW + speed.burst - refused.tat) // speed.interval
        return
    assert take(refused.tat, NOW + refused.retry, speed).allowed
    assert not take(refused.tat, NOW + refused.retry - 1, speed).allowed
