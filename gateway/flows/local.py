"""Rates and bytes as this process alone can count them, while Redis is away."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.core import gcra
from gateway.core.limits import Limit, Measure, Of, Standing
from gateway.core.model import Caller
from gateway.core.quota import reached
from gateway.store.keys import subject

MOST: Final = 10_000
"""Subjects that a process counts alone."""


class LocalRates:
    """The rates of at most `most` subjects; the one not used for longest is forgotten first.

    `clock` gives microseconds, and never goes back.
    """

    def __init__(
        self,
        *,
        most: int = MOST,
        clock: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self._most = most
        self._clock = clock
        self._filled: OrderedDict[tuple[str, Limit], int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._filled)

    def take(self, caller: Caller) -> tuple[Standing, ...]:
        """Count one call against every rate of the plan, or raise `LimitReached` and count none."""
        now = self._clock()
        taken = [(place, self._tried(place, now)) for place in _places(caller)]
        standings = tuple(_standing(limit, tried, now) for (_, limit), tried in taken)
        refused = [
            (tried.retry, limit)
            for (_, limit), tried in taken
            if not tried.allowed and not limit.shadow
        ]
        if refused:
            wait, limit = max(refused, key=lambda one: one[0])
            raise reached(limit, wait / gcra.SECOND, standings)
        for place, tried in taken:
            self._keep(place, tried.tat)
        return standings

    def _tried(self, place: tuple[str, Limit], now: int) -> gcra.Taken:
        return gcra.take(self._filled.get(place, 0), now, gcra.pace(place[1]))

    def _keep(self, place: tuple[str, Limit], tat: int) -> None:
        self._filled[place] = tat
        self._filled.move_to_end(place)
        if len(self._filled) > self._most:
            self._filled.popitem(last=False)


def _places(caller: Caller) -> list[tuple[str, Limit]]:
    found = [
        (subject(limit.of, caller.principal, caller.address), limit)
        for limit in caller.plan.limits
        if limit.measure is Measure.RATE
    ]
    return [(who, limit) for who, limit in found if who is not None]


def _standing(limit: Limit, taken: gcra.Taken, now: int) -> Standing:
    reset = (taken.tat - now if taken.allowed else taken.retry) / gcra.SECOND
    return Standing(limit, taken.remaining, reset)


class LocalBytes:
    """Bytes uploaded in a day, of at most `most` subjects; the one not used for longest is
    forgotten first."""

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._used: OrderedDict[tuple[str, str], int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used)

    def reserve(self, caller: Caller, size: int, day: str, midnight: float) -> None:
        """Count `size` bytes of `day`, which ends in `midnight` seconds, or raise `LimitReached`
        and count none."""
        for limit in caller.plan.limits:
            who = subject(limit.of, caller.principal, None)
            if limit.measure is not Measure.UPLOADS or limit.shadow or who is None:
                continue
            if self._used.get((who, day), 0) + size > limit.amount:
                raise reached(limit, midnight)
        self._count(caller, size, day)

    def give_back(self, caller: Caller, size: int, day: str) -> None:
        """Of what was counted for `day`, `size` bytes were not sent."""
        self._count(caller, -size, day)

    def _count(self, caller: Caller, by: int, day: str) -> None:
        for of in (Of.PRINCIPAL, Of.TEAM):
            who = subject(of, caller.principal, None)
            assert who is not None
            self._used[who, day] = max(0, self._used.get((who, day), 0) + by)
            self._used.move_to_end((who, day))
        while len(self._used) > self._most:
            self._used.popitem(last=False)
