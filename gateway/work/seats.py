"""How many may be at work at once: in all, and for one and the same name."""

import time
from collections import Counter
from collections.abc import Callable


class Seats:
    """`total` seats, of which one name takes `each` at most."""

    def __init__(
        self, total: int, each: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._each = total if each is None else each
        self._clock = clock
        self._taken: Counter[str] = Counter()
        self._moved: dict[str, float] = {}
        self.wanted = False
        """Was there more to do than there were seats for? Whoever looks, sets and clears it."""

    @property
    def free(self) -> int:
        return self._total - self._taken.total()

    def take(self, name: str) -> bool:
        """A seat for `name`, until `leave`. False if there is none."""
        if self.free <= 0 or self._taken[name] >= self._each:
            return False
        self._taken[name] += 1
        self._moved[name] = self._clock()
        return True

    def leave(self, name: str) -> None:
        self._taken[name] -= 1
        self._moved[name] = self._clock()
        if not self._taken[name]:
            del self._taken[name], self._moved[name]

    def stood(self, name: str) -> float:
        """Seconds since a seat of `name` was taken or left: the longer, the slower it is."""
        now = self._clock()
        return now - self._moved.get(name, now)
