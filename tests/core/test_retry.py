import pytest

from gateway.core.retry import ask_after, deliver_after


def test_ask_after() -> None:
    assert [ask_after(n, pull=False) for n in range(7)] == [5, 15, 45, 120, 240, 240, 240]
    assert [ask_after(n, pull=True) for n in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert (ask_after(10**9, pull=False), ask_after(10**9, pull=True)) == (240, 30)


@pytest.mark.parametrize(("random", "factor"), [(0.0, 0.8), (0.5, 1.0), (0.999999, 1.2)])
def test_deliver_after(random: float, factor: float) -> None:
    """Four pauses, so five attempts."""
    pauses = [deliver_after(attempt, random) for attempt in range(4)]

    assert pauses == pytest.approx([5 * factor, 30 * factor, 120 * factor, 600 * factor], rel=1e-5)
    assert deliver_after(4, random) is None
    assert deliver_after(10**9, random) is None
