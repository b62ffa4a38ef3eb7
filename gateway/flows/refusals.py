"""Who was refused lately, and until when: asked before Redis is."""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from gateway.core.errors import LimitReached
from gateway.core.limits import Limit, Measure
from gateway.core.model import Caller
from gateway.core.quota import reached
from gateway.store.keys import subject

MOST: Final = 10_000
"""Refusals that a process remembers."""
LONGEST: Final = 60.0
"""Seconds that a refusal is remembered at most: then Redis is asked if it still holds."""
REMEMBERED: Final = frozenset({Measure.RATE, Measure.JOBS})
"""Of these limits, the clock alone tells when the next call may come."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    until: float
    """When it may come again."""
    kept: float
    """How long this is believed."""


class Refusals:
    """Of at most `most` subjects and limits; the one not used for longest is forgotten first.

    Known by the limit as it stands in the plan: who gets another plan, or whose plan is changed,
    is not held to what the old one said. `clock` gives seconds, and never goes back.
    """

    def __init__(self, *, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._known: OrderedDict[tuple[str, str, Limit], _Refusal] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def remember(self, caller: Caller, error: LimitReached) -> None:
        """Refuse by the same limit until it may be otherwise, where the clock alone decides."""
        limit = error.limit
        if limit is None or limit.measure not in REMEMBERED or limit.shadow:
            return
        place = _place(caller, limit)
        if place is None:
            return
        now = self._clock()
        self._known[place] = _Refusal(now + error.wait, now + min(error.wait, LONGEST))
        self._known.move_to_end(place)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def check(self, caller: Caller, measures: Collection[Measure] = REMEMBERED) -> None:
        """Raises `LimitReached`, with what is left of the wait, for whom Redis would refuse too."""
        if not self._known:
            return
        now = self._clock()
        for limit in caller.plan.limits:
            if limit.measure not in measures:
                continue
            place = _place(caller, limit)
            known = None if place is None else self._known.get(place)
            if place is None or known is None:
                continue
            if now >= known.kept:
                del self._known[place]
                continue
            self._known.move_to_end(place)
            raise reached(limit, known.until - now)


def _place(caller: Caller, limit: Limit) -> tuple[str, str, Limit] | None:
    who = subject(limit.of, caller.principal, caller.address)
    return None if who is None else (who, caller.plan.name, limit)
