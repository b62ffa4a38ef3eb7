"""How many streams are open in all processes together, for plans that limit it."""

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis

from gateway.core.errors import StoreUnavailable
from gateway.core.limits import Limit
from gateway.core.meters import METER_LIVES
from gateway.core.model import Principal
from gateway.core.quota import reached
from gateway.store import keys
from gateway.store.connect import call, script, translated
from gateway.store.meters import amounts
from gateway.store.outages import Outage

LEASE: Final = 20.0
"""Seconds that a seat lasts without renewal: how long those of a lost process stay taken."""
RENEWAL: Final = 8.0
"""Seconds between two renewals."""
AGAIN: Final = 5.0
"""Seconds after which who found no seat may look again: nobody knows when one gets free."""
_AT_ONCE: Final = 500
"""Keys that are renewed in one step."""

_log = logging.getLogger("gateway.store")


class StreamSeats:
    """The seats that this process holds, and the way to take one."""

    def __init__(self, redis: Redis, *, lease: float = LEASE, renewal: float = RENEWAL) -> None:
        self._redis = redis
        self._seat = script(redis, "seat")
        self._lease = lease
        self._renewal = renewal
        self._held: dict[str, Principal] = {}

    def __len__(self) -> int:
        return len(self._held)

    async def take(self, principal: Principal, limits: Sequence[Limit]) -> str:
        """A seat within `limits`, of principal and team in one step: its name, for `leave`.

        Raises `LimitReached`, `StoreUnavailable`.
        """
        name = secrets.token_hex(8)
        shard = keys.shard_of_team(principal.team)
        digests = (principal.digest, keys.team_digest(principal.team))
        which = await call(
            self._seat,
            [
                *(keys.streams(shard, digest) for digest in digests),
                *(keys.meter(shard, digest) for digest in digests),
            ],
            name, int(self._lease * 1000), METER_LIVES, amounts(limits),
        )  # fmt: skip
        if which:
            raise reached(limits[which - 1], AGAIN)
        self._held[name] = principal
        return name

    async def leave(self, name: str) -> None:
        """Give a seat back. Where Redis does not hear of it, the seat ends by itself."""
        principal = self._held.pop(name)
        try:
            with translated():
                async with self._redis.pipeline(transaction=False) as pipe:
                    for key in _keys(principal):
                        pipe.zrem(key, name)
                    await pipe.execute()
        except StoreUnavailable:
            _log.warning("a stream's seat was not given back; it ends by itself")

    async def renew(self) -> None:
        """Prolong all seats of this process. Raises `StoreUnavailable`."""
        names: defaultdict[str, list[str]] = defaultdict(list)
        for name, principal in self._held.items():
            for key in _keys(principal):
                names[key].append(name)
        places = list(names.items())
        for start in range(0, len(places), _AT_ONCE):
            await self._prolong(places[start : start + _AT_ONCE])

    async def run(self) -> None:
        """Renew until cancelled."""
        outage = Outage(_log, "renewals of streams' seats")
        while True:
            await asyncio.sleep(self._renewal)
            try:
                await self.renew()
                outage.over()
            except StoreUnavailable as error:
                outage.begun(error.code)

    async def _prolong(self, places: Sequence[tuple[str, Sequence[str]]]) -> None:
        with translated():
            time: Any = await self._redis.time()
            until = (time[0] + self._lease) * 1000
            async with self._redis.pipeline(transaction=False) as pipe:
                for key, names in places:
                    pipe.zadd(key, {name: until for name in names})
                    pipe.pexpire(key, int(self._lease * 1000))
                await pipe.execute()
                # Who has left meanwhile may have been written again by this.
                for key, names in places:
                    if gone := [name for name in names if name not in self._held]:
                        pipe.zrem(key, *gone)
                await pipe.execute()


def _keys(principal: Principal) -> tuple[str, str]:
    shard = keys.shard_of_team(principal.team)
    return (
        keys.streams(shard, principal.digest),
        keys.streams(shard, keys.team_digest(principal.team)),
    )
