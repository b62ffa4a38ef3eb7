"""How often somebody may do what is remembered for long afterwards, as this process counts it."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.core import gcra
from gateway.core.limits import Limit, Measure, Of
from gateway.core.quota import reached

SIGN_INS_AT_ONCE: Final = 120
SIGN_INS: Final = Limit(
    "sign-ins", Measure.RATE, Of.PRINCIPAL, amount=10, per=60, burst=SIGN_INS_AT_ONCE
)
"""Sessions that one principal opens. To sign out of one is remembered for a day."""
ACTS_AT_ONCE: Final = 120
ACTS: Final = Limit("admin-acts", Measure.RATE, Of.TEAM, amount=1, per=1, burst=ACTS_AT_ONCE)
"""What the admins of one team do: each act is on record, for longer than it lasts."""
MOST: Final = 10_000
"""Principals, or teams, that a process counts."""


class Pace:
    """One limit on a rate, for each of at most `most` subjects; the one not seen for longest is
    forgotten first. `clock` gives microseconds, and never goes back."""

    def __init__(
        self,
        limit: Limit,
        *,
        most: int = MOST,
        clock: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
    ) -> None:
        self._limit = limit
        self._pace = gcra.pace(limit)
        self._most = most
        self._clock = clock
        self._filled: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._filled)

    def take(self, who: str) -> None:
        """Count one act of theirs, or raise `LimitReached` and count none."""
        taken = gcra.take(self._filled.get(who, 0), self._clock(), self._pace)
        if not taken.allowed:
            raise reached(self._limit, taken.retry / gcra.SECOND)
        self._filled[who] = taken.tat
        self._filled.move_to_end(who)
        if len(self._filled) > self._most:
            self._filled.popitem(last=False)
