"""What direct runs did cost that held nothing in Redis: gathered, and told a few times a second.

So such a run needs no word with Redis of its own. What is gathered when the process is killed is
lost.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from typing import Final

from gateway.core.errors import StoreUnavailable
from gateway.core.limits import DAY
from gateway.core.model import Principal
from gateway.core.usage import Counts, counted
from gateway.store.outages import Outage
from gateway.store.settlements import Batch, Bill, Settlements

PERIOD: Final = 0.25
"""Seconds between two times of telling."""
ROWS: Final = 20_000
"""Sums that wait to be told, each of one principal, endpoint and day."""
AT_ONCE: Final = 200
"""Sums that one script is told: others wait meanwhile."""
TRIED_FOR: Final = 600.0
"""Seconds for which a batch is told again: less than Redis remembers which one was the last."""
PAUSE: Final = 0.1
"""Seconds between two tries at the end."""

_log = logging.getLogger("gateway.bill")


class Tally:
    """`process` names this one, and no other."""

    def __init__(self, settlements: Settlements, process: str) -> None:
        self._settlements = settlements
        self._process = process
        self._sums: dict[tuple[Principal, str, int], Counts] = {}
        """By principal, endpoint and day, since the last time of telling."""
        self._batches = deque[Batch]()
        """What is being told, in the order of numbers."""
        self._tried_since: float | None = None
        """When the first of them was told for the first time."""
        self._number = 0
        self._rows = 0
        self._lost = 0
        self._telling = asyncio.Lock()

    def add(self, principal: Principal, endpoint: str, bill: Bill) -> None:
        """Count a run. While there is no room for one more sum, what needs one is lost."""
        key = (principal, endpoint, int(bill.at // DAY))
        known = self._sums.get(key)
        if known is None and self._rows >= ROWS:
            self._lost += 1
            return
        self._rows += known is None
        self._sums[key] = (known or Counts()) + counted(bill.state, bill.units, bill.cost)

    async def tell(self) -> None:
        """Let Redis have all that was added before. Raises `StoreUnavailable`."""
        async with self._telling:
            await self._tell()  # what an outage has left
            self._batches.extend(self._taken())
            await self._tell()

    async def run(self) -> None:
        """Tell it all the time until cancelled."""
        outage = Outage(_log, "counts of direct runs")
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self.tell()
                outage.over()
                self._say_lost()  # all of it: nothing gets lost while Redis takes it
            except StoreUnavailable as error:
                outage.begun(error.code)

    async def close(self, within: float) -> None:
        """Tell the last of it in so many seconds; what remains is lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._sums or self._batches:
                    with suppress(StoreUnavailable):
                        await self.tell()
                        continue
                    await asyncio.sleep(PAUSE)
        self._lost += sum(batch.runs for batch in (*self._batches, *self._taken()))
        self._say_lost()

    def _taken(self) -> Generator[Batch]:
        """What has been gathered, in pieces that one script may be told."""
        sums, self._sums = self._sums, {}
        lots: dict[tuple[str, int], list[tuple[Principal, str, Counts]]] = {}
        for (who, endpoint, day), counts in sums.items():
            lots.setdefault((who.team, day), []).append((who, endpoint, counts))
        for (team, day), rows in lots.items():
            for start in range(0, len(rows), AT_ONCE):
                self._number += 1
                yield Batch(self._process, self._number, team, day, rows[start : start + AT_ONCE])

    async def _tell(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._batches:
            batch = self._batches[0]
            since = self._tried_since = self._tried_since or clock()
            try:
                await self._settlements.count(batch)
            except StoreUnavailable:
                if clock() - since < TRIED_FOR:
                    raise
                self._lost += batch.runs
            self._batches.popleft()
            self._rows -= len(batch.rows)
            self._tried_since = None

    def _say_lost(self) -> None:
        if self._lost:
            _log.error("%d direct runs are missing in usage: Redis was away", self._lost)
            self._lost = 0
