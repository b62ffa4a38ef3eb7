"""Who may work: some at once, and few of one name."""

from gateway.work.seats import Seats


def test_seats_are_taken_and_left() -> None:
    seats = Seats(2)
    taken = [seats.take("a"), seats.take("a"), seats.take("b")]
    none_free = seats.free
    seats.leave("a")

    assert taken == [True, True, False]
    assert (none_free, seats.free) == (0, 1)
    assert seats.take("b")


def test_one_name_has_its_share_and_no_more() -> None:
    seats = Seats(5, each=2)
    taken = [seats.take("silent") for _ in range(4)]
    left = seats.free

    assert taken == [True, True, False, False]
    assert left == 3
    assert seats.take("other")
    seats.leave("silent")
    assert seats.take("silent")
    assert not seats.take("silent")


def test_a_name_stands_while_none_of_its_seats_changes_hands() -> None:
    now = [100.0]
    seats = Seats(5, each=2, clock=lambda: now[0])
    seats.take("slow")
    seats.take("slow")
    now[0] = 107.0

    assert not seats.take("slow")
    assert (seats.stood("slow"), seats.stood("other")) == (7.0, 0.0)
    seats.leave("slow")
    assert seats.stood("slow") == 0.0
