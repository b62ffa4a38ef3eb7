"""What was issued under some name before a time is refused, everywhere, within a second."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from redis.asyncio import Redis

from gateway.core.errors import StoreUnavailable
from gateway.store import keys
from gateway.store.connect import call, script, translated
from gateway.store.outages import Outage

PERIOD: Final = 0.5
"""Seconds between two looks at the version."""
STALE: Final = 5.0
"""Seconds after which a copy is too old to open jobs by."""

_log = logging.getLogger("gateway.store")


class Revocations:
    """This process's copy of the set, and the way to add to it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._revoke = script(redis, "revoke")
        self._before: Mapping[str, float] = {}
        self._version: object = None
        self._read_at: float | None = None

    def revoked(self, names: Iterable[str], issued_at: float) -> bool:
        """Was anything issued at `issued_at` (Unix seconds) under one of `names` taken back?"""
        return any(issued_at < self._before.get(name, 0.0) for name in names)

    def fresh(self) -> bool:
        """Is the copy young enough to open jobs by?"""
        now = asyncio.get_running_loop().time()
        return self._read_at is not None and now - self._read_at <= STALE

    async def revoke(self, names: Iterable[str], before: float, until: float | None = None) -> None:
        """Refuse what was issued under `names` before `before`, in Unix seconds.

        `until` is when all of it has expired, and need not be remembered; None for never.
        """
        await call(
            self._revoke, [keys.REVOKED, keys.REVOKED_VERSION, keys.REVOKED_UNTIL],
            before, "" if until is None else until, *names,
        )  # fmt: skip
        await self.look()

    async def look(self) -> None:
        """Bring the copy up to date. Raises `StoreUnavailable`."""
        asked_at = asyncio.get_running_loop().time()
        with translated():
            version: Any = await self._redis.get(keys.REVOKED_VERSION)
            if version != self._version:
                entries: Any = await self._redis.hgetall(keys.REVOKED)
                self._before = {name.decode(): float(at) for name, at in entries.items()}
                self._version = version
        self._read_at = asked_at

    async def run(self) -> None:
        """Keep the copy up to date until cancelled."""
        outage = Outage(_log, "looks at revocations")
        while True:
            try:
                await self.look()
                outage.over()
            except StoreUnavailable as error:
                outage.begun(error.code)
            await asyncio.sleep(PERIOD)
