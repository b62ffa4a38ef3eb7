"""Which accounts at fal are out of use: known to all processes, probed by one at a time."""

from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from gateway.core.accounts import Out
from gateway.store import keys
from gateway.store.connect import call, script, translated

LONGEST: Final = 600.0
"""Seconds between two probes at most; as long a comeback is remembered."""
CLAIM: Final = 20.0
"""Seconds that a process has for a probe; then it is due again."""
LIFE: Final = 86_400
"""Seconds that the record outlives its last change: each probe is one."""


class _Record(msgspec.Struct):
    """One account's, as the scripts write it: times are milliseconds."""

    since: float
    status: int
    probes: int
    probe_at: float
    back: float | None = None


class Outs:
    """`pause` is how long after a refusal an account is probed first, in seconds."""

    def __init__(self, redis: Redis, pause: float) -> None:
        self._redis = redis
        self._pause = int(pause * 1000)
        self._out = script(redis, "out")
        self._probes = script(redis, "probes")
        self._probed = script(redis, "probed")

    async def known(self) -> dict[str, Out]:
        """The accounts that are out, by name."""
        with translated():
            entries: Any = await self._redis.hgetall(keys.ACCOUNTS_OUT)
        records = {
            name.decode(): msgspec.json.decode(entry, type=_Record)
            for name, entry in entries.items()
        }
        return {
            name: Out(record.since / 1000, record.status, record.probes, record.probe_at / 1000)
            for name, record in records.items()
            if record.back is None
        }

    async def put(self, name: str, status: int) -> bool:
        """Take an account out of use. False if it was out already."""
        longest = int(LONGEST * 1000)
        args = (name, status, self._pause, longest, LIFE)
        return bool(await call(self._out, [keys.ACCOUNTS_OUT], *args))

    async def due(self) -> list[str]:
        """The accounts that this process shall probe now."""
        args = (int(CLAIM * 1000), int(LONGEST * 1000), LIFE)
        names = await call(self._probes, [keys.ACCOUNTS_OUT], *args)
        return [name.decode() for name in names]

    async def probed(self, name: str, good: bool) -> bool:
        """Write how a probe went. True if the account is back by this."""
        args = (name, int(good), int(LONGEST * 1000))
        return bool(await call(self._probed, [keys.ACCOUNTS_OUT], *args))
