"""fal's prices, kept for a while."""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.core.errors import PricesUnavailable, Upstream
from gateway.core.prices import Price

FRESH: Final = 3600.0
"""Seconds for which a price counts without another look."""
USABLE: Final = 24 * 3600.0
"""Seconds for which it counts while fal's list cannot be asked."""
ABSENT: Final = 600.0
"""Seconds for which an endpoint without a price is not asked about again."""
PAUSE: Final = 15.0
"""Seconds between two asks about an endpoint while they fail."""
ENDPOINTS: Final = 2000
"""Endpoints whose prices are kept; beyond, those that were asked for longest ago go."""
PATIENCE: Final = 10.0
"""Seconds for an ask: a submit waits for it."""
CURRENCY: Final = "USD"

_log: Final = logging.getLogger("gateway.prices")


@dataclass(slots=True)
class _Entry:
    """What is known of one endpoint. Times are the clock's seconds."""

    price: Price | None = None
    read_at: float = -math.inf
    tried_at: float = -math.inf

    def rests(self, now: float) -> bool:
        """Is there no use in asking again?"""
        lasts = FRESH if self.price is not None else ABSENT
        return now - self.read_at < lasts or now - self.tried_at < PAUSE


class Prices:
    """`ask` asks fal about one endpoint. `now` is Unix seconds, or any clock that goes on."""

    def __init__(self, ask: Callable[[str], Awaitable[Price | None]]) -> None:
        self._ask = ask
        self._entries: dict[str, _Entry] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def of(self, endpoint: str, now: float) -> Price | None:
        """The price; None where fal has none, or none in dollars. Raises `PricesUnavailable`."""
        entry = self._entries.get(endpoint)
        if entry is None or not (entry.rests(now) or self._serves(endpoint, entry, now)):
            async with self._alone(endpoint):
                entry = await self._looked(endpoint, now)
        if now - entry.read_at > USABLE:
            raise PricesUnavailable("fal's prices cannot be asked for at the moment; try again")
        return entry.price

    def _serves(self, endpoint: str, entry: _Entry, now: float) -> bool:
        """Will an old price do while somebody asks for the new one?"""
        return endpoint in self._locks and now - entry.read_at <= USABLE

    @asynccontextmanager
    async def _alone(self, endpoint: str) -> AsyncGenerator[None]:
        """One asks about an endpoint at a time; whoever waited finds what the other got."""
        lock = self._locks.setdefault(endpoint, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and self._locks.get(endpoint) is lock:
                del self._locks[endpoint]

    async def _looked(self, endpoint: str, now: float) -> _Entry:
        entry = self._entries.pop(endpoint, None) or _Entry()
        self._entries[endpoint] = entry  # the newest stand last
        while len(self._entries) > ENDPOINTS:
            del self._entries[next(iter(self._entries))]
        if entry.rests(now):
            return entry
        try:
            async with asyncio.timeout(PATIENCE):
                entry.price = _in_dollars(endpoint, await self._ask(endpoint))
            entry.read_at = now
        except (Upstream, TimeoutError) as error:
            _log.warning("fal's price of %s: %s", endpoint, type(error).__name__)
        entry.tried_at = now  # a caller that went away has tried nothing
        return entry


def _in_dollars(endpoint: str, price: Price | None) -> Price | None:
    if price is None or price.currency == CURRENCY:
        return price
    _log.error("fal's price of %s is in %r: it counts as unknown", endpoint, price.currency[:8])
    return None
