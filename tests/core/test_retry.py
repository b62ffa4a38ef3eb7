import pytest

from gateway.core.retry import ask_after, deliver_after


def test_ask_after() -> None:
    assert [ask_after(n, pull=False) for n in range(7)] == [5, 15, 45, 120, 240, 240, 240]
    assert [ask_after(n, pull=True) for n in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert (ask_after(10**9, pull=False), ask_after(10**9, pull=True)) == (240, 30)


@pytest.mark.parametrize(("random", "factor"), [(0.0, 0.8), (0.5, 1.0), (0.999999, 1.2)])
def test_deliver_after(random: float, factor: float) -> None:
    pauses = [deliver_after(attempt, random) for attempt in (0, 1, 2, 3, 4, 10**9)]

    expected = [seconds * factor for seconds in (5, 30, 120, 600, 600, 600)]
    assert pauses == pytest.approx(expected, rel=1e-5)
