"""The record of all jobs: every change is one script in one slot."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from redis.asyncio import Redis

from gateway.core.meters import Asked, Verdict
from gateway.core.model import End, Job, JobRef, Principal, Progress, Source, State, Where
from gateway.store import keys
from gateway.store.connect import call, script, translated
from gateway.store.records import end_fields, job_of, ref_fields, source_text

LISTED: Final = 10_000
"""Jobs listed for a principal, and for a team, at most; older ones are found by id alone."""
TIES: Final = 100
"""Jobs of one list that begin in the same millisecond, at most."""
LOG_LINES: Final = 1000
"""Log lines kept for a job at most."""
LOG_BYTES: Final = 256 * 2**10
"""Bytes of log lines kept for a job at most."""
DELIVERY_LIVES: Final = 7 * 86_400
"""Seconds."""
IN_FLIGHT: Final = 25 * 3600
"""Seconds that a job counts as in flight: somewhat longer than it can be open."""
UNKNOWN_IN_FLIGHT: Final = 900
"""The same for one of which nobody knows if fal has it."""

WITHDRAWN_LOOK: Final = 5.0
"""Seconds after which a withdrawn job has ended, or its end got lost on the way."""

PRELUDES: Final = {
    "open": ("emit", "gcra", "slots", "inputs", "queue"),
    "accept": ("emit", "slots", "inputs"),
    "progress": ("emit", "slots"),
    "lost": ("emit", "slots", "inputs"),
    "end": ("emit", "slots", "inputs"),
}
"""The Lua that goes before each script."""


class Ended(StrEnum):
    """What became of an attempt to write an end."""

    ENDED = "ended"
    BEFORE = "before"
    """It had ended; nothing was changed."""
    OTHER = "other"
    """fal's id is not the one that is known."""
    KEPT = "kept"
    """The condition did not hold."""
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Opening:
    """What *open* writes beside the job's `JobRef`. `ask_after` is seconds."""

    ask_after: float
    pull: bool
    webhook: str | None = None
    """Where the client wants to hear of the end."""
    metadata: bytes | None = None
    account: str = ""
    """The fal account that is asked first."""
    plan: str = ""
    price: str = ""
    """Millionths of a dollar a unit, as decimal text."""
    run: bool = False
    """A direct run, no job."""
    source: Source | None = None
    """What it is submitted with."""


Place = tuple[int, str]
"""Where a job stands in a list: when it was created, in ms, and its id."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page. `more` is the place that the next one begins after; None where this is the last.

    A job that is no longer kept is left out, so a page may be short, and not be the last.
    """

    jobs: list[Job]
    more: Place | None


class Ledger:
    """`retention` is how long a job is kept after its end, in seconds."""

    def __init__(self, redis: Redis, retention: int) -> None:
        self._redis = redis
        self._retention = retention
        self.shards: set[str] = set()
        """Those that this process has opened jobs in."""
        self._open = script(redis, "open", *PRELUDES["open"])
        self._accept = script(redis, "accept", *PRELUDES["accept"])
        self._progress = script(redis, "progress", *PRELUDES["progress"])
        self._lost = script(redis, "lost", *PRELUDES["lost"])
        self._end = script(redis, "end", *PRELUDES["end"])
        self._move = script(redis, "move")
        self._cancel = script(redis, "cancel")
        self._seen = script(redis, "seen")

    async def open(
        self,
        ref: JobRef,
        opening: Opening,
        asked: Asked,
        *,
        address: str | None = None,
        input: bytes = b"",
        size: int = 0,
    ) -> Verdict:
        """Write a job, or a direct run, before fal is asked, if limits and budgets let it in.

        `input` is what fal is to get, once the job may wait, and `size` its bytes, which are told
        before. See open.lua for the verdict.
        """
        shard, principal = keys.shard_of_job(ref.id), ref.principal.digest
        await self._announce(shard)
        team = keys.team_digest(ref.principal.team)
        visitor = principal if address is None else keys.address_digest(address)
        word, *numbers = await call(
            self._open,
            [
                *keys.emitting(ref), *keys.holding(ref), keys.due(shard),
                keys.jobs(ref.principal), keys.team_jobs(ref.principal.team),
                *(keys.meter(shard, digest) for digest in (principal, team, visitor)),
                *(keys.spend(shard, digest) for digest in (principal, team)),
            ],
            IN_FLIGHT if opening.run else keys.JOB_MAX,
            _ms(opening.ask_after), LISTED, ref.id, _ms(ref.created_at), asked.text, input, size,
            asked.usd, asked.units,
            *ref_fields(ref),
            "pull", int(opening.pull), "webhook", opening.webhook or "",
            "metadata", opening.metadata or b"", "run", int(opening.run),
            "account", opening.account, "plan", opening.plan, "price", opening.price,
            *(() if opening.source is None else ("by", source_text(opening.source))),
        )  # fmt: skip
        return Verdict(word.decode(), tuple(int(number) for number in numbers))

    async def accept(
        self, ref: JobRef, fal_id: str, account: str, progress: Progress, ask_after: float
    ) -> tuple[str, bool, Job | None]:
        """Write fal's id: what became of it (see accept.lua), if it is to be cancelled, and the
        job as it is now, where this was news."""
        what, cancel, *job = await call(
            self._accept,
            [*keys.emitting(ref), *keys.holding(ref), keys.due(keys.shard_of_job(ref.id))],
            fal_id, progress.state, _position(progress), _ms(ask_after), account,
            _ms(IN_FLIGHT),
        )  # fmt: skip
        fields = dict(zip(job[0][::2], job[0][1::2], strict=True)) if job else {}
        return what.decode(), bool(cancel), job_of(fields)

    async def progress(self, ref: JobRef, progress: Progress, lease: int | None = None) -> bool:
        """Write what fal says of an open job. False if it has ended or the lease is an old one."""
        written = await call(
            self._progress,
            [*keys.emitting(ref), *keys.holding(ref), keys.logs(ref.id)],
            "" if lease is None else lease,
            State.COMPLETED if progress.completed else progress.state, _position(progress),
            LOG_LINES, LOG_BYTES, _ms(IN_FLIGHT), *progress.logs,
        )  # fmt: skip
        return bool(written)

    async def move(self, ref: JobRef, account: str) -> bool:
        """Note that another fal account is asked for a job that none has taken yet."""
        return bool(await call(self._move, [keys.job(ref.id)], account))

    async def lost(self, ref: JobRef, ask_after: float) -> bool:
        """Move a job that fal may or may not have to `unknown`. False where its id is known."""
        due = keys.due(keys.shard_of_job(ref.id))
        moved = await call(
            self._lost, [*keys.emitting(ref), *keys.holding(ref), due],
            _ms(ask_after), _ms(UNKNOWN_IN_FLIGHT),
        )  # fmt: skip
        return bool(moved)

    async def end(
        self,
        ref: JobRef,
        end: End,
        *,
        fal_id: str | None = None,
        unaccepted: bool = False,
        waiting: bool = False,
        quiet: float | None = None,
    ) -> Ended:
        """Write how a job ended, with its result, event and delivery.

        `unaccepted`: only while fal's id is not known. `waiting`: only while it waits in the
        gateway's own queue. `quiet`: only if fal has said nothing of it for so many seconds. With
        the first alone fal has refused the job, and whoever submitted it knows: there is no
        delivery.
        """
        shard = keys.shard_of_job(ref.id)
        delivery_id = f"dlv_{ref.id}"
        word = await call(
            self._end,
            [
                *keys.emitting(ref), *keys.holding(ref), keys.due(shard), keys.result(ref.id),
                keys.logs(ref.id), keys.outbox(shard), keys.delivery(shard, delivery_id),
            ],
            end.state, fal_id or "", end.body or b"", self._retention,
            2 if waiting else int(unaccepted),
            _ms(quiet or 0),
            delivery_id, DELIVERY_LIVES, int(end.settled), *end_fields(end),
        )  # fmt: skip
        return Ended(word.decode())

    async def cancel(self, ref: JobRef) -> tuple[str, str | None]:
        """Ask for cancellation: what became of it (see cancel.lua), and fal's id if known."""
        _, principal, team, *_ = keys.holding(ref)
        due = keys.due(keys.shard_of_job(ref.id))
        what, fal_id = await call(
            self._cancel, [keys.job(ref.id), principal, team, due], _ms(WITHDRAWN_LOOK)
        )
        return what.decode(), fal_id.decode() or None

    async def read(self, job_id: str) -> Job | None:
        with translated():
            fields: Any = await self._redis.hgetall(keys.job(job_id))
            job = job_of(fields)
            return await self._placed(job) if job is not None and job.waiting else job

    async def seen(
        self, job_id: str, team: str, who: Principal | None, *, logs: bool = False
    ) -> tuple[Job | None, list[bytes]]:
        """The job, and with `logs` its log lines as JSON, in one round trip.

        None, in the same time, where there is none and where it is not `who`'s; with `who` None,
        not the `team`'s.
        """
        kind, name = ("", "") if who is None else (who.kind, who.name)
        fields, lines = await call(
            self._seen, [keys.job(job_id), keys.logs(job_id)], team, kind, name, int(logs)
        )
        job = job_of(dict(zip(fields[::2], fields[1::2], strict=True)))
        with translated():
            return await self._placed(job) if job is not None and job.waiting else job, lines

    async def _placed(self, job: Job) -> Job:
        """A waiting job with its place in the queue: behind what its team has in fal's."""
        _, _, waiting, _, _, at_fal, *_ = keys.holding(job.ref)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zrank(waiting, job.id)
            pipe.zcard(at_fal)
            rank, ahead = await pipe.execute()
        return job if rank is None else replace(job, position=rank + ahead)

    async def result(self, job_id: str, at_most: int) -> bytes | None:
        """The stored body of a job's result, raw. None if there is none, or it has more bytes."""
        body = await self.result_part(job_id, 0, at_most + 1)
        return body if 0 < len(body) <= at_most else None

    async def result_begun(self, job_id: str, length: int) -> tuple[int, bytes]:
        """How many bytes a stored body has, 0 if there is none, and the first `length` of them."""
        key = keys.result(job_id)
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.strlen(key)
                pipe.getrange(key, 0, length - 1)
                size, begin = await pipe.execute()
        return size, begin

    async def result_part(self, job_id: str, start: int, length: int) -> bytes:
        """Bytes of a stored body; fewer where it ends. A body is written once."""
        with translated():
            part: Any = await self._redis.getrange(keys.result(job_id), start, start + length - 1)
        return part  # type: ignore[no-any-return]  # bytes: nothing is decoded

    async def listed(self, principal: Principal, before: Place | None, limit: int) -> Listing:
        """The newest jobs of `principal` that come after `before`, newest first."""
        return await self._list(keys.jobs(principal), before, limit)

    async def listed_of_team(self, team: str, before: Place | None, limit: int) -> Listing:
        return await self._list(keys.team_jobs(team), before, limit)

    async def _list(self, key: str, before: Place | None, limit: int) -> Listing:
        top, ties = ("+inf", 0) if before is None else (str(before[0]), TIES)
        with translated():
            rows: Any = await self._redis.zrange(
                key, top, "-inf", desc=True, byscore=True, withscores=True,
                offset=0, num=limit + 1 + ties,
            )  # fmt: skip
            places = [(int(score), job_id.decode()) for job_id, score in rows]
            places = [place for place in places if before is None or place < before]
            async with self._redis.pipeline(transaction=False) as pipe:
                for _, job_id in places[:limit]:
                    pipe.hgetall(keys.job(job_id))
                found = await pipe.execute()
        jobs = [job for fields in found if (job := job_of(fields)) is not None]
        return Listing(jobs, places[limit - 1] if len(places) > limit else None)

    async def _announce(self, shard: str) -> None:
        """Let every process's due loop know that this shard is in use; once a process."""
        if shard not in self.shards:
            with translated():
                await self._redis.sadd(keys.SHARDS, shard)
            self.shards.add(shard)


def expired(error_type: str = "job_expired") -> End:
    """The end of a job that fal knows nothing of any more."""
    return End(
        State.EXPIRED, 410, Where.GONE, error="fal no longer knows this job", error_type=error_type
    )


def _position(progress: Progress) -> str:
    return "" if progress.position is None else str(progress.position)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
