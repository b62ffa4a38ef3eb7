"""What is to be done at a time: open jobs to ask about, deliveries to make, watches to hold."""

import asyncio
import random
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from redis.asyncio import Redis

from gateway.core.model import Delivery, JobRef
from gateway.store import keys
from gateway.store.connect import call, script, translated

CLAIM: Final = 60.0
"""Seconds that a process has for what it took; then it is due again."""
REST: Final = 3.0
"""Seconds for which a process at most leaves a shard alone that nothing stirs. What comes into it
is due later than that, or stirs it, but for what a process has left that died just then."""
LEASE: Final = 6.0
"""Seconds that a watch is held without renewal."""


class Due:
    """Lists per shard, by the clock of Redis, so that every process agrees on what is late."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._claim = script(redis, "claim")
        self._again = script(redis, "again")
        self._attempt = script(redis, "attempt")
        self._later = script(redis, "later")
        self._look_at: dict[str, float] = {}
        self._learn_at = 0.0

    def stir(self, shards: Iterable[str]) -> None:
        """Something happened in these: `late` shall look into them when it is asked next."""
        self._look_at |= dict.fromkeys(shards, 0.0)

    def stir_of(self, job_id: str) -> None:
        """The same for the shard that a job is in."""
        self.stir([keys.shard_of_job(job_id)])

    async def shards(self, known: Collection[str] = ()) -> list[str]:
        """The shards in use, by the word of all processes.

        Those that are `known` here are said again: a Redis that lost the set gets it back.
        """
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                if known:
                    pipe.sadd(keys.SHARDS, *known)
                pipe.smembers(keys.SHARDS)
                *_, shards = await pipe.execute()
        return sorted(shard.decode() for shard in shards)

    async def late(self, ours: Collection[str] = ()) -> tuple[set[str], set[str]]:
        """The shards in which jobs are due, and those in which deliveries are, in one round trip.

        Most have none, and are left alone until something is due there, or they are stirred, or
        for `REST` seconds at most. Those that are `ours` have been in use by this process.
        """
        now = asyncio.get_running_loop().time()
        await self._learn(ours, now)
        shards = [shard for shard, look_at in self._look_at.items() if look_at <= now]
        if not shards:
            return set(), set()
        self._look_at |= dict.fromkeys(shards, now)
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.time()
                for shard in shards:
                    pipe.zrange(keys.due(shard), 0, 0, withscores=True)
                    pipe.zrange(keys.outbox(shard), 0, 0, withscores=True)
                (seconds, micros), *firsts = await pipe.execute()
        clock = seconds * 1000 + micros / 1000
        # When the first one is due, in seconds from now.
        waits = [(first[0][1] - clock) / 1000 if first else REST for first in firsts]
        jobs = dict(zip(shards, waits[::2], strict=True))
        deliveries = dict(zip(shards, waits[1::2], strict=True))
        for shard in shards:
            if self._look_at[shard] == now:  # else it was stirred meanwhile
                rest = random.uniform(REST / 2, REST)  # noqa: S311 - not all at the same time
                self._look_at[shard] = now + min(rest, jobs[shard], deliveries[shard])
        return _late(jobs), _late(deliveries)

    async def _learn(self, ours: Collection[str], now: float) -> None:
        """Know all shards in use, from time to time anew."""
        found = list(ours)
        if self._learn_at <= now:
            found += await self.shards(ours)
            self._learn_at = now + REST
        for shard in found:
            self._look_at.setdefault(shard, now)

    async def jobs(self, shard: str, limit: int) -> list[str]:
        """Ids of jobs that are due, now claimed."""
        ids = await call(self._claim, [keys.due(shard)], limit, int(CLAIM * 1000))
        return [job_id.decode() for job_id in ids]

    async def again(self, job_id: str, after: float) -> bool:
        """Look at a job again in `after` seconds. False if it is gone."""
        due = keys.due(keys.shard_of_job(job_id))
        there = await call(self._again, [keys.job(job_id), due], job_id, int(after * 1000))
        self.stir_of(job_id)
        return bool(there)

    async def watched(self, ref: JobRef) -> bool:
        """Does some process hold this job's status stream?"""
        with translated():
            return bool(await self._redis.exists(keys.watch(ref.id)))

    async def deliveries(self, shard: str, limit: int) -> list[Delivery]:
        """Deliveries that are due, now claimed."""
        ids = await call(self._claim, [keys.outbox(shard)], limit, int(CLAIM * 1000))
        found = []
        for id in (raw.decode() for raw in ids):
            with translated():
                fields: Any = await self._redis.hmget(
                    keys.delivery(shard, id), "job", "url", "attempt"
                )
            job_id, url, attempt = fields
            if job_id is None:
                await self._forget(shard, id)
            else:
                found.append(Delivery(id, job_id.decode(), url.decode(), int(attempt)))
        return found

    async def put_back(self, shard: str, delivery: Delivery, after: float) -> None:
        """A delivery that was claimed and not begun is due again in `after` seconds."""
        await call(self._later, [keys.outbox(shard)], int(after * 1000), delivery.id)
        self.stir([shard])

    async def attempted(
        self, shard: str, delivery: Delivery, again: float | None, note: str
    ) -> None:
        """Write how an attempt went; `again` is seconds until the next, None if there is none."""
        wait = "" if again is None else int(again * 1000)
        await call(
            self._attempt, [keys.outbox(shard), keys.delivery(shard, delivery.id)],
            delivery.id, wait, note[:200], delivery.attempt,
        )  # fmt: skip
        self.stir([shard])

    async def _forget(self, shard: str, id: str) -> None:
        with translated():
            await self._redis.zrem(keys.outbox(shard), id)


def _late(waits: Mapping[str, float]) -> set[str]:
    return {shard for shard, wait in waits.items() if wait <= 0}


class Leases:
    """Who may hold a job's one status stream. `holder` names this process."""

    def __init__(self, redis: Redis, holder: str) -> None:
        self._holder = holder
        self._lease = script(redis, "lease")
        self._release = script(redis, "release")

    async def take(self, ref: JobRef) -> int:
        """Take or renew a job's lease: its number; 0 while another holds it; -1 once it ended."""
        lease = await call(
            self._lease, [keys.watch(ref.id), keys.job(ref.id)], self._holder, int(LEASE * 1000)
        )
        return int(lease)

    async def release(self, ref: JobRef) -> None:
        await call(self._release, [keys.watch(ref.id)], self._holder)
