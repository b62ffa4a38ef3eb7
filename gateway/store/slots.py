"""Places at fal's accounts: how many jobs run there at once, over all processes."""

from typing import Any

from redis.asyncio import Redis

from gateway.store import keys
from gateway.store.connect import call, script, translated


class Slots:
    """A place belongs to an id: a job's, or a direct run's. All times are seconds."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._take = script(redis, "take")
        self._renew = script(redis, "renew")
        self._running = script(redis, "running")
        self._hand = script(redis, "hand")

    async def take(
        self, account: str, cap: int | None, id: str, lives: float, *, direct: bool
    ) -> bool:
        """Is there a place for `id` now? It counts for `lives` at least.

        Asking again for the same id takes no second place. Who comes `direct` gets none while
        somebody waits in the gateway's queue. Without a `cap` there is always one.
        """
        slots = [keys.account_slots(account), keys.account_waits(account)]
        args = (id, cap or 0, int(lives * 1000), int(direct))
        return bool(await call(self._take, slots, *args))

    async def renew(self, account: str, id: str, lives: float) -> bool:
        """Keep a place for `lives` more. False if it does not count any more."""
        slots = [keys.account_slots(account)]
        return bool(await call(self._renew, slots, id, int(lives * 1000)))

    async def hand(self, account: str, id: str, to: str, lives: float) -> None:
        """Give the place of `id` to another id, for which it counts for `lives` at least."""
        await call(self._hand, [keys.account_slots(account)], id, to, int(lives * 1000))

    async def free(self, account: str, id: str) -> None:
        with translated():
            await self._redis.zrem(keys.account_slots(account), id)

    async def say_waiting(self, account: str, seconds: float) -> None:
        """For so long, whoever comes `direct` lets those go first who wait in the queue."""
        with translated():
            await self._redis.set(keys.account_waits(account), 1, px=max(1, int(seconds * 1000)))

    async def running(self, account: str) -> int:
        """How many places are taken."""
        count: Any = await call(self._running, [keys.account_slots(account)])
        return int(count)
