"""What becomes of a job's money once it has ended: one script, once a job.

Of direct runs that held nothing, many are counted at once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from gateway.core import periods
from gateway.core.limits import DAY, Period
from gateway.core.meters import SPEND_LIVES
from gateway.core.model import End, JobRef, Principal, State, Where
from gateway.core.usage import NAMES, Counts
from gateway.store import keys
from gateway.store.connect import call, script, translated

USAGE_LIVES: Final = (periods.KEPT_DAYS + 1) * DAY
"""Seconds: the days for which usage is kept, and the one that is not over."""
ENDPOINTS: Final = 200
"""Endpoints counted apart in one day's usage of a principal or a team; the others are `other`."""
PEOPLE: Final = 100_000
"""Principals of a team, and teams, whose usage can be listed; those seen longest ago go."""
TOLD_LIVES: Final = 3600
"""Seconds for which it is remembered which batch a process told last."""
PRELUDES: Final = {"settle": ("charge",), "tally": ("charge",)}
"""The Lua that goes before each script."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What is charged for a call that ended `at` (Unix seconds) as `state`. Millionths.

    `cost` is None where no price is known.
    """

    state: State
    at: float
    units: int
    cost: int | None
    run: bool = False
    """Of a direct run, which may have no record."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What runs of one team did cost that ended on one day, counted from 1970.

    Its number is larger than that of any batch before it of the process `teller`.
    """

    teller: str
    number: int
    team: str
    day: int
    rows: Sequence[tuple[Principal, str, Counts]]
    """By principal and endpoint."""

    @property
    def runs(self) -> int:
        return sum(counts.jobs for _, _, counts in self.rows)


class Settlements:
    """`retention` is how long a job is kept after its end, in seconds."""

    def __init__(self, redis: Redis, retention: int) -> None:
        self._redis = redis
        self._retention = retention
        self._settle = script(redis, "settle", *PRELUDES["settle"])
        self._tally = script(redis, "tally", *PRELUDES["tally"])
        self._announced: dict[str, str] = {}
        """The day for which this process has said that a team is there."""

    async def settle(self, ref: JobRef, bill: Bill, end: End | None, now: float) -> bool:
        """Be done with a job, adding to its end what was missing; with a run, which has none.

        False if it was settled, or there is nothing of it.
        """
        await self._announce(ref.principal.team, periods.day(bill.at))
        cost = "" if bill.cost is None else str(bill.cost)
        done = await call(
            self._settle, _keys(ref, periods.day(bill.at)),
            ref.id, ref.endpoint, bill.state, str(bill.units), cost,
            str(ref.principal), periods.day(bill.at), self._retention, USAGE_LIVES, SPEND_LIVES,
            ENDPOINTS, PEOPLE, int(bill.run),
            *(periods.name(per, bill.at) for per in Period),
            *(periods.oldest(per, now) for per in Period),
            *_end(end),
        )  # fmt: skip
        return bool(done)

    async def count(self, batch: Batch) -> bool:
        """Count runs that held nothing. False if this batch was counted before.

        Raises `StoreUnavailable`, by which it may be counted all the same: say it again.
        """
        at = float(batch.day * DAY)
        await self._announce(batch.team, periods.day(at))
        done = await call(
            self._tally, _batch_keys(batch, periods.day(at)),
            batch.number, TOLD_LIVES, periods.day(at), USAGE_LIVES, SPEND_LIVES, ENDPOINTS, PEOPLE,
            *(periods.name(per, at) for per in Period),
            *(periods.oldest(per, at) for per in Period),
            *(each for row in batch.rows for each in _row(*row)),
        )  # fmt: skip
        return bool(done)

    async def _announce(self, team: str, day: str) -> None:
        """Let the operator's lists have this team; once a process and day."""
        if self._announced.get(team) == day:
            return
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.zadd(keys.TEAMS, {team: int(day)}, gt=True)
                pipe.zremrangebyrank(keys.TEAMS, 0, -1 - PEOPLE)
                pipe.expire(keys.TEAMS, USAGE_LIVES)
                await pipe.execute()
        if len(self._announced) >= PEOPLE:
            self._announced.clear()
        self._announced[team] = day


def _keys(ref: JobRef, day: str) -> list[str]:
    shard = keys.shard_of_job(ref.id)
    both = (ref.principal.digest, keys.team_digest(ref.principal.team))
    return [
        keys.job(ref.id), keys.result(ref.id), keys.due(shard), keys.people(ref.principal.team),
        *(keys.slots(shard, digest) for digest in both),
        *(keys.spend(shard, digest) for digest in both),
        *(keys.usage(shard, digest, day) for digest in both),
    ]  # fmt: skip


def _batch_keys(batch: Batch, day: str) -> list[str]:
    shard = keys.shard_of_team(batch.team)
    digests = (keys.team_digest(batch.team), *(who.digest for who, _, _ in batch.rows))
    pairs = ((keys.spend(shard, each), keys.usage(shard, each, day)) for each in digests)
    return [
        keys.told(shard, batch.teller), keys.people(batch.team),
        *(key for pair in pairs for key in pair),
    ]  # fmt: skip


def _row(principal: Principal, endpoint: str, counts: Counts) -> list[str]:
    return [str(principal), endpoint, *(str(getattr(counts, name)) for name in NAMES)]


def _end(end: End | None) -> list[str | bytes | float]:
    if end is None:
        return [b"", Where.GONE]
    return [
        end.body or b"", end.where,
        "http", end.http_status, "headers", json.dumps(dict(end.headers)),
        "error", end.error or "", "error_type", end.error_type or "", "units", end.units or "",
    ]  # fmt: skip
