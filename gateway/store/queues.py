"""The gateway's own queue: jobs that wait for room at fal, one queue a team."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

from gateway.core.model import Job, JobRef
from gateway.store import keys
from gateway.store.connect import call, script, translated
from gateway.store.ledger import IN_FLIGHT
from gateway.store.records import job_of

HEADS: Final = 50
"""Jobs at the head of a queue that are looked at at once."""
REMEMBERED: Final = 300
"""Seconds that an empty queue is looked after: whoever joins one has said so a moment before."""
AT_ONCE: Final = 1000
"""Teams that are forgotten in one step, and that a process remembers to have announced."""


@dataclass(frozen=True, slots=True)
class Admission:
    """`word` is 'admitted', with what fal is to get; or 'principal', 'team', 'gone': why not."""

    word: str
    input: bytes = b""


class Queues:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._park = script(redis, "park", "emit", "slots", "inputs", "queue")
        self._admit = script(redis, "admit", "emit", "slots", "inputs")
        self._moved = script(redis, "moved", "emit", "inputs", "queue")
        self._forget = script(redis, "forget")
        self._announced: dict[str, float] = {}

    def __len__(self) -> int:
        """Teams that this process knows to be announced."""
        return len(self._announced)

    async def announce(self, team: str) -> None:
        """Let every process know that jobs of `team` may wait; said again now and then."""
        now = asyncio.get_running_loop().time()
        if now - self._announced.get(team, -REMEMBERED) < REMEMBERED / 4:
            return
        with translated():
            at, _ = await self._redis.time()
            await self._redis.zadd(keys.QUEUES, {team: at})
        if len(self._announced) >= AT_ONCE:
            self._announced.clear()
        self._announced[team] = now

    async def lengths(self) -> dict[str, int]:
        """How many jobs wait, of each team with any. What has been empty for a while goes."""
        with translated():
            said: Any = await self._redis.zrange(keys.QUEUES, 0, -1, withscores=True)
            if not said:
                return {}
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.time()
                for team in (name.decode() for name, _ in said):
                    pipe.zcard(keys.waiting(keys.shard_of_team(team), keys.team_digest(team)))
                (seconds, _), *lengths = await pipe.execute()
        oldest = seconds - REMEMBERED
        found = [(name, at, length) for (name, at), length in zip(said, lengths, strict=True)]
        gone = [name for name, at, length in found if not length and at < oldest][:AT_ONCE]
        if gone:
            await call(self._forget, [keys.QUEUES], oldest, *gone)
        return {name.decode(): length for name, _, length in found if length}

    async def heads(self, team: str, beyond: int = 0) -> list[Job]:
        """The next jobs of the team's queue, `beyond` so many, in their order."""
        shard = keys.shard_of_team(team)
        with translated():
            queue = keys.waiting(shard, keys.team_digest(team))
            ids: Any = await self._redis.zrange(queue, beyond, beyond + HEADS - 1)
            async with self._redis.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.hgetall(keys.job(job_id.decode()))
                found = await pipe.execute()
        return [job for fields in found if (job := job_of(fields)) is not None]

    async def moved(self, ref: JobRef) -> bool:
        """Tell a job's place, by an event, if it waits at another than was told last."""
        return bool(await call(self._moved, [*keys.emitting(ref), *keys.holding(ref)], ref.id))

    async def park(self, ref: JobRef, queue: bytes, input: bytes, attempt: str = "") -> int:
        """Let an opened job wait after all: its place, from 1. 0 where its queue has no room.

        `attempt` is the one by which it was let go before, if it was. It may be said twice.
        """
        due = keys.due(keys.shard_of_job(ref.id))
        place = await call(
            self._park, [*keys.emitting(ref), *keys.holding(ref), due],
            ref.id, queue, input, attempt,
        )  # fmt: skip
        return int(place)

    async def admit(
        self, ref: JobRef, account: str, most: tuple[int, int], ask_after: float, attempt: str
    ) -> Admission:
        """Let a waiting job go to fal. `most` jobs in flight: of its principal, of its team.

        One `attempt` may ask again, where it has not heard the answer.
        """
        due = keys.due(keys.shard_of_job(ref.id))
        word, *input = await call(
            self._admit, [*keys.emitting(ref), *keys.holding(ref), due],
            ref.id, *most, account, int(ask_after * 1000), IN_FLIGHT * 1000, attempt,
        )  # fmt: skip
        return Admission(word.decode(), *input)
