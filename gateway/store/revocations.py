"""What was issued under some name before a time is refused, everywhere, within a second."""

import asyncio
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from gateway.store import keys
from gateway.store.connect import call, script
from gateway.store.copies import Copy

WHOLE: Final = 3600.0
"""Seconds after which a change is the reason to read all anew, and so to forget what has gone."""
PIECE: Final = 1_000
"""Entries that are read at once: others wait meanwhile."""


class Revocations(Copy):
    """This process's copy of the set, and the way to add to it."""

    def __init__(self, redis: Redis) -> None:
        super().__init__("revocations")
        self._redis = redis
        self._revoke = script(redis, "revoke")
        self._before: dict[str, float] = {}
        self._version = -1
        self._whole_at = -math.inf

    def revoked(self, names: Iterable[str], issued_at: float) -> bool:
        """Was anything issued at `issued_at` (Unix seconds) under one of `names` taken back?"""
        return any(issued_at < self._before.get(name, 0.0) for name in names)

    @property
    def version(self) -> int:
        """Of the copy: each revocation makes it another."""
        return self._version

    async def revoke(self, names: Iterable[str], before: float, until: float | None = None) -> None:
        """Refuse what was issued under `names` before `before`, in Unix seconds.

        `until` is when all of it has expired, and need not be remembered; None for never.
        """
        await call(
            self._revoke, list(keys.REVOCATIONS),
            before, "" if until is None else until, *names,
        )  # fmt: skip
        await self.look()

    async def _read(self) -> None:
        version = int(await self._redis.get(keys.REVOKED_VERSION) or 0)
        if version != self._version:
            await self._read_changes(version)
            self._version = version  # what came later is read once more, next time

    async def _read_changes(self, version: int) -> None:
        """All of it where they are not known, or after a while."""
        now = asyncio.get_running_loop().time()
        if 0 <= self._version < version and now - self._whole_at < WHOLE:
            names: Any = await self._redis.zrangebyscore(
                keys.REVOKED_CHANGES, f"({self._version}", "+inf"
            )
            if len(names) >= version - self._version:
                await self._read_names(names)
                return
        found: dict[str, float] = {}
        async for name, at in self._redis.hscan_iter(keys.REVOKED, count=PIECE):
            found[name.decode()] = float(at)
        self._before, self._whole_at = found, now

    async def _read_names(self, names: Sequence[bytes]) -> None:
        for start in range(0, len(names), PIECE):
            piece = names[start : start + PIECE]
            times: Any = await self._redis.hmget(keys.REVOKED, list(piece))
            self._before |= {
                name.decode(): float(at)
                for name, at in zip(piece, times, strict=True)
                if at is not None
            }
