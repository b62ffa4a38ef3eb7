"""Money at the end of a job: once, whatever happens in whatever order."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from gateway.core import periods
from gateway.core.limits import Period, Unit
from gateway.core.meters import asked
from gateway.core.model import End, JobRef, Kind, Plan, Principal, State, Where
from gateway.core.prices import NOTHING, Estimate
from gateway.store import keys, settlements
from gateway.store.due import Due
from gateway.store.ledger import Ledger, Opening
from gateway.store.settlements import Bill, Settlements

pytestmark = pytest.mark.anyio

ALICE = Principal("team-a", Kind.USER, "alice")
BOB = Principal("team-a", Kind.USER, "bob")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
HELD = Estimate(50_000, 2_000_000, "25000")
DONE = End(State.COMPLETED, 200, Where.STORED, body=b"{}", settled=False)
SHARD = keys.shard_of_team("team-a")
TEAM = keys.team_digest("team-a")


def bill(units: int = 1_500_000, cost: int | None = 37_500, at: float = NOW) -> Bill:
    return Bill(State.COMPLETED, at, units, cost)


class Desk:
    def __init__(self, node: Redis) -> None:
        self.node = node
        self.ledger = Ledger(node, retention=3600)
        self.settlements = Settlements(node, 3600)

    async def opened(
        self,
        held: Estimate = HELD,
        principal: Principal = ALICE,
        endpoint: str = "fal-ai/flux/dev",
        run: bool = False,
    ) -> JobRef:
        shard = bytes.fromhex(SHARD)
        ref = JobRef(str(UUID(bytes=shard + uuid4().bytes[1:])), principal, endpoint, NOW)
        opening = Opening(60.0, pull=False, price=held.price, run=run)
        await self.ledger.open(ref, opening, asked(Plan("p"), held, NOW, run=run))
        return ref

    async def settle(self, ref: JobRef, bill: Bill, now: float = NOW) -> bool:
        end = None if bill.run else DONE
        return await self.settlements.settle(ref, bill, end, now)

    async def hash(self, key: str) -> dict[str, str]:
        found: Any = await self.node.hgetall(key)
        return {name.decode(): value.decode() for name, value in found.items()}

    async def spend(self, digest: str = TEAM) -> dict[str, str]:
        return await self.hash(keys.spend(SHARD, digest))

    async def usage(self, digest: str = TEAM, at: float = NOW) -> dict[str, str]:
        return await self.hash(keys.usage(SHARD, digest, periods.day(at)))


@pytest.fixture
def desk(node: Redis) -> Desk:
    return Desk(node)


def spent(usd: int, units: int, at: float = NOW) -> dict[str, str]:
    """What a spender's hash holds when nothing is reserved."""
    sums = {periods.field(per, Unit.UNITS, at): str(units) for per in Period if units}
    sums |= {periods.field(per, Unit.USD, at): str(usd) for per in Period if usd}
    return sums | {"held:usd": "0", "held:units": "0"}


async def test_reservation_becomes_cost(desk: Desk) -> None:
    ref = await desk.opened()
    before = await desk.spend()
    await desk.ledger.end(ref, DONE)

    assert await desk.settle(ref, bill())
    assert before == {"held:usd": "50000", "held:units": "2000000"}
    assert await desk.spend() == spent(37_500, 1_500_000)
    assert await desk.spend(ALICE.digest) == spent(37_500, 1_500_000)
    assert await desk.usage() == {
        "endpoints": "1",
        "fal-ai/flux/dev jobs": "1",
        "fal-ai/flux/dev completed": "1",
        "fal-ai/flux/dev units": "1500000",
        "fal-ai/flux/dev cost": "37500",
    }
    assert await desk.usage(ALICE.digest) == await desk.usage()
    job = await desk.ledger.read(ref.id)
    assert job is not None
    assert (job.settled, job.cost, job.held_usd, job.held_units) == (True, 37_500, 0, 0)


async def test_settled_once(desk: Desk) -> None:
    """By two processes at once, and again later."""
    ref = await desk.opened()
    await desk.ledger.end(ref, DONE)

    done = await asyncio.gather(*(desk.settle(ref, bill()) for _ in range(10)))
    assert sorted(done) == [False] * 9 + [True]
    assert not await desk.settle(ref, bill(units=9_000_000))
    assert await desk.spend() == spent(37_500, 1_500_000)
    assert (await desk.usage())["fal-ai/flux/dev jobs"] == "1"


async def test_settled_after_its_end_only(desk: Desk) -> None:
    ref = await desk.opened()

    assert not await desk.settle(ref, bill())
    assert (await desk.spend())["held:usd"] == "50000"
    await desk.ledger.end(ref, DONE)
    assert await desk.settle(ref, bill())


async def test_due_until_settled(desk: Desk) -> None:
    """A crash between end and settling leaves the job where the due loop finds it."""
    ref = await desk.opened()
    await desk.ledger.end(ref, End(State.CANCELLED, 499, Where.GONE))
    due = Due(desk.node)

    assert await due.jobs(SHARD, 10) == [ref.id]
    await desk.settle(ref, bill(0, 0))
    await due.again(ref.id, 0.0)
    assert await due.jobs(SHARD, 10) == []
    assert await desk.spend() == spent(0, 0)


async def test_kept_until_settled(desk: Desk) -> None:
    """However short jobs are kept: with the job, its reservation would be lost."""
    desk.ledger, desk.settlements = Ledger(desk.node, 60), Settlements(desk.node, 60)
    ref = await desk.opened()
    await desk.ledger.end(ref, DONE)

    assert await desk.node.ttl(keys.job(ref.id)) > 86_400
    await desk.settle(ref, bill())
    assert await desk.node.ttl(keys.job(ref.id)) <= 60


async def test_sums_are_exact(desk: Desk) -> None:
    """Of many jobs, opened, ended and settled in any order, by several hands."""
    dice = random.Random(7)
    charges = [(dice.randrange(10**9), dice.randrange(10**12)) for _ in range(40)]
    refs = [await desk.opened(principal=dice.choice([ALICE, BOB])) for _ in charges]
    steps = [
        step for ref, charge in zip(refs, charges, strict=True) for step in [(ref, charge)] * 3
    ]
    dice.shuffle(steps)
    for ref, (cost, units) in steps:
        await desk.ledger.end(ref, DONE)
        await asyncio.gather(*(desk.settle(ref, bill(units, cost)) for _ in range(2)))

    team, alice, bob = [await desk.spend(d) for d in (TEAM, ALICE.digest, BOB.digest)]
    assert team == spent(sum(c for c, _ in charges), sum(u for _, u in charges))
    assert all(int(team[name]) == int(alice[name]) + int(bob[name]) for name in team)


async def test_job_without_reservation_is_charged(desk: Desk) -> None:
    """One that was made anew from its ticket, or whose plan has no budget."""
    ref = await desk.opened(NOTHING)
    await desk.ledger.end(ref, DONE)
    await desk.settle(ref, bill())

    assert (await desk.spend())[periods.field(Period.DAY, Unit.USD, NOW)] == "37500"
    assert "held:usd" not in await desk.spend()


async def test_lost_reservations_do_not_count_below_none(desk: Desk) -> None:
    ref = await desk.opened()
    await desk.node.delete(keys.spend(SHARD, TEAM))
    await desk.ledger.end(ref, DONE)
    await desk.settle(ref, bill())

    assert await desk.spend() == spent(37_500, 1_500_000)


async def test_unknown_price_costs_nothing_known(desk: Desk) -> None:
    ref = await desk.opened(NOTHING)
    await desk.ledger.end(ref, DONE)
    await desk.settle(ref, bill(cost=None))

    job = await desk.ledger.read(ref.id)
    assert job is not None
    assert job.cost is None
    assert "fal-ai/flux/dev cost" not in await desk.usage()
    assert (await desk.usage())["fal-ai/flux/dev units"] == "1500000"


async def test_ended_by_an_older_version(desk: Desk) -> None:
    """Settled by it: nothing happens. Not settled: it is, without what it does not know."""
    done, open_ = await desk.opened(NOTHING), await desk.opened(NOTHING)
    for ref, settled in ((done, 1), (open_, 0)):
        await desk.ledger.end(ref, DONE)
        await desk.node.hdel(keys.job(ref.id), "whole", "price", "run")
        await desk.node.hset(keys.job(ref.id), "settled", settled)

    job = await desk.ledger.read(open_.id)
    assert job is not None
    assert job.end is not None
    assert (job.settled, job.end.settled, job.price) == (False, False, "")
    assert not await desk.settle(done, bill())
    assert await desk.settle(open_, bill())


async def test_settling_adds_and_never_changes(desk: Desk) -> None:
    """State and body stay."""
    ref = await desk.opened(NOTHING)
    bare = End(State.FAILED, 500, Where.AT_FAL, error="it failed", settled=False)
    await desk.ledger.end(ref, bare)
    told = End(State.FAILED, 422, Where.STORED, body=b'{"detail": []}', units="0")
    other = End(State.FAILED, 400, Where.STORED, body=b"{}")

    assert await desk.settlements.settle(ref, bill(0, 0), told, NOW)
    assert not await desk.settlements.settle(ref, bill(0, 0), other, NOW)
    job = await desk.ledger.read(ref.id)
    assert job is not None
    assert job.end is not None
    assert (job.state, job.end.http_status, job.end.units) == (State.FAILED, 422, "0")
    assert await desk.ledger.result(ref.id, 2**20) == told.body


async def test_run(desk: Desk) -> None:
    """Its record goes, with its places in flight; told twice, it counts once."""
    ref = await desk.opened(run=True)
    charge = Bill(State.COMPLETED, NOW, 1_000_000, 25_000, run=True)

    assert await desk.settle(ref, charge)
    assert not await desk.settle(ref, charge)
    assert await desk.spend() == spent(25_000, 1_000_000)
    assert await desk.ledger.read(ref.id) is None
    assert await desk.node.zcard(keys.slots(SHARD, TEAM)) == 0
    assert await desk.node.zcard(keys.due(SHARD)) == 0
    assert (await desk.usage())["fal-ai/flux/dev completed"] == "1"


async def test_run_without_record(desk: Desk) -> None:
    """Of a plan that bounds nothing: it is in the usage all the same, once."""
    ref = JobRef(str(UUID(bytes=bytes.fromhex(SHARD) + uuid4().bytes[1:])), BOB, "a/b", NOW)
    charge = Bill(State.FAILED, NOW, 0, 0, run=True)

    assert await desk.settle(ref, charge)
    assert not await desk.settle(ref, charge)
    assert await desk.usage() == {"endpoints": "1", "a/b jobs": "1", "a/b failed": "1"}


async def test_old_periods_go(desk: Desk) -> None:
    """Of each kind the present one and the one before it stay; what is reserved does too."""
    kept = await desk.opened()
    for days in range(0, 60, 5):
        at = NOW + days * 86_400
        ref = await desk.opened()
        await desk.ledger.end(ref, DONE)
        await desk.settle(ref, bill(at=at), now=at)

    names = set(await desk.spend())
    assert len(names) <= 2 + 12
    assert periods.field(Period.MONTH, Unit.USD, NOW + 55 * 86_400) in names
    assert periods.field(Period.MONTH, Unit.USD, NOW + 25 * 86_400) in names
    assert periods.field(Period.MONTH, Unit.USD, NOW) not in names
    assert (await desk.spend())["held:usd"] == str(HELD.usd)
    await desk.ledger.end(kept, DONE)


async def test_endpoints_of_a_day_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlements, "ENDPOINTS", 3)
    for endpoint in ("a/1", "a/2", "a/3", "a/4", "a/5", "a/1"):
        ref = await desk.opened(NOTHING, endpoint=endpoint)
        await desk.ledger.end(ref, DONE)
        await desk.settle(ref, bill())

    usage = await desk.usage()
    assert {name: count for name, count in usage.items() if name.endswith(" jobs")} == {
        "a/1 jobs": "2", "a/2 jobs": "1", "a/3 jobs": "1", "other jobs": "2"
    }  # fmt: skip


async def test_people_and_teams_are_listed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the last day that they were seen; a late word about an older day changes nothing."""
    monkeypatch.setattr(settlements, "PEOPLE", 2)
    carol = Principal("team-a", Kind.KEY, "carol")
    for days, principal in ((0, ALICE), (2, BOB), (3, carol), (1, BOB)):
        ref = await desk.opened(principal=principal)
        await desk.ledger.end(ref, DONE)
        await desk.settle(ref, bill(at=NOW + days * 86_400))

    people: Any = await desk.node.zrange(keys.people("team-a"), 0, -1, withscores=True)
    teams: Any = await desk.node.zrange(keys.TEAMS, 0, -1, withscores=True)
    assert people == [(b"user:bob", 20261124.0), (b"key:carol", 20261125.0)]
    assert teams == [(b"team-a", 20261125.0)]


async def test_a_body_that_is_here_stays(desk: Desk) -> None:
    """Whatever fal says of it by now."""
    ref = await desk.opened(NOTHING)
    await desk.ledger.end(ref, DONE)
    for where, body in ((Where.STORED, b"other"), (Where.AT_FAL, None)):
        end = End(State.COMPLETED, 200, where, body, units="1")
        await desk.settlements.settle(ref, bill(), end, NOW)

    job = await desk.ledger.read(ref.id)
    assert job is not None
    assert job.end is not None
    assert (job.end.where, await desk.ledger.result(ref.id, 100)) == (Where.STORED, b"{}")


async def test_the_period_before_this_one_stays(desk: Desk) -> None:
    """A job may be settled after midnight that ended before it."""
    key = keys.spend(SHARD, TEAM)
    old = [periods.oldest(per, NOW) + ":usd" for per in Period]
    older = {f"d:2026-01-{day:02}:usd": "1" for day in range(1, 20)}
    sums: dict[Any, Any] = dict.fromkeys(old, "7") | older
    await desk.node.hset(key, mapping=sums)
    ref = await desk.opened()
    await desk.ledger.end(ref, DONE)
    await desk.settle(ref, bill())

    names = await desk.spend()
    assert [names.get(name) for name in old] == ["7"] * 3
    assert not older.keys() & names.keys()
