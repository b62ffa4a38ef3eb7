"""What is kept in Redis for all, and copied into every process, again and again."""

import asyncio
import logging
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Final

from gateway.core.errors import StoreUnavailable
from gateway.store.connect import translated
from gateway.store.outages import Outage

PERIOD: Final = 0.5
"""Seconds between two looks."""
RECENT: Final = 0.75
"""Seconds after which a copy is too old to let those go who wait: somewhat more than a period."""
STALE: Final = 5.0
"""Seconds after which a copy is too old to open jobs by."""
SOON: Final = 1.0
"""Seconds that a request waits for a look at what was made only just now."""

_log = logging.getLogger("gateway.store")


class Copy(ABC):
    """This process's copy of `what`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._looking = asyncio.Lock()
        self._read_at: float | None = None

    @property
    def loaded(self) -> bool:
        """Has there ever been a copy? Until then, what is unknown may be there nevertheless."""
        return self._read_at is not None

    def fresh(self) -> bool:
        """Is the copy young enough to rely on?"""
        return self._younger(STALE)

    async def look(self) -> None:
        """Bring the copy up to date. Raises `StoreUnavailable`."""
        async with self._looking:
            await self._renew()

    async def recent(self) -> None:
        """Bring the copy up to date, unless that was done just now. Raises `StoreUnavailable`."""
        if not self._younger(RECENT):
            async with self._looking:
                if not self._younger(RECENT):
                    await self._renew()

    async def catch_up(self) -> None:
        """Bring the copy up to this moment, if that is done soon: those who ask share a look."""
        asked_at = asyncio.get_running_loop().time()
        with suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(SOON), self._looking:
                if self.fresh() and self._read_at is not None and self._read_at < asked_at:
                    await self._renew()

    async def run(self) -> None:
        """Keep the copy up to date until cancelled."""
        outage = Outage(_log, f"looks at {self._what}")
        while True:
            try:
                await self.look()
                outage.over()
            except StoreUnavailable as error:
                outage.begun(error.code)
            await asyncio.sleep(PERIOD)

    def _younger(self, seconds: float) -> bool:
        now = asyncio.get_running_loop().time()
        return self._read_at is not None and now - self._read_at <= seconds

    async def _renew(self) -> None:
        asked_at = asyncio.get_running_loop().time()
        with translated():
            await self._read()
        self._read_at = asked_at

    @abstractmethod
    async def _read(self) -> None:
        """Read what has changed. What this raises, `translated` knows."""
