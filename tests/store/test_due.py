"""What is due: claimed once, put back, done with; and deliveries, attempt by attempt."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from gateway.core.meters import nothing_asked
from gateway.core.model import Delivery, End, JobRef, Kind, Principal, State, Where
from gateway.store import keys
from gateway.store.due import REST, Due
from gateway.store.ledger import Ended, Ledger, Opening, expired

pytestmark = pytest.mark.anyio

ALICE = Principal("team-a", Kind.USER, "alice")
DONE = End(State.COMPLETED, 200, Where.STORED, body=b"{}")


def new_ref(team: str = ALICE.team) -> JobRef:
    shard = bytes.fromhex(keys.shard_of_team(team))
    id = str(UUID(bytes=shard + uuid4().bytes[1:]))
    return JobRef(id, replace(ALICE, team=team), "fal-ai/flux/dev", 1_700_000_000.5)


@pytest.fixture
def ledger(node: Redis) -> Ledger:
    return Ledger(node, retention=3600)


async def test_due_jobs_are_claimed_once(ledger: Ledger, node: Redis) -> None:
    refs = [new_ref() for _ in range(6)]
    for ref in refs:
        await ledger.open(ref, Opening(ask_after=0.0, pull=True), nothing_asked(0.0))
    due, shard = Due(node), keys.shard_of_team("team-a")

    claimed = await asyncio.gather(*(due.jobs(shard, 2) for _ in range(8)))

    taken = [job_id for ids in claimed for job_id in ids]
    assert sorted(taken) == sorted(ref.id for ref in refs)
    assert await due.shards() == [shard]
    assert await due.again(taken[0], 0.0)
    assert await due.jobs(shard, 9) == [taken[0]]
    assert not await due.again(str(uuid4()), 0.0)


async def test_an_end_puts_its_delivery_into_the_outbox(ledger: Ledger, node: Redis) -> None:
    ref = new_ref()
    await ledger.open(
        ref, Opening(60.0, pull=False, webhook="https://example.com/hook"), nothing_asked(0.0)
    )
    await ledger.end(ref, DONE)
    due, shard = Due(node), keys.shard_of_team("team-a")

    (delivery,) = await due.deliveries(shard, 9)
    assert (delivery.job_id, delivery.url, delivery.attempt) == (
        ref.id, "https://example.com/hook", 0
    )  # fmt: skip
    await due.attempted(shard, delivery, 0.0, "timeout")
    (again,) = await due.deliveries(shard, 9)
    assert again.attempt == 1
    await due.attempted(shard, again, None, "delivered")
    assert await node.zcard(keys.outbox(shard)) == 0


async def hooked(ledger: Ledger, due: Due) -> tuple[str, Delivery]:
    """A delivery that was claimed, and its shard."""
    ref = new_ref()
    await ledger.open(
        ref, Opening(60.0, pull=False, webhook="https://example.com/hook"), nothing_asked(0.0)
    )
    await ledger.end(ref, DONE)
    shard = keys.shard_of_team("team-a")
    (delivery,) = await due.deliveries(shard, 9)
    return shard, delivery


async def test_an_attempt_that_is_told_twice_counts_once(ledger: Ledger, node: Redis) -> None:
    """As after a connection that broke when Redis had written it already."""
    due = Due(node)
    shard, first = await hooked(ledger, due)
    for _ in range(2):
        await due.attempted(shard, first, 0.0, "timeout")
    (second,) = await due.deliveries(shard, 9)
    await due.attempted(shard, second, None, "given up")

    await due.attempted(shard, first, 0.0, "timeout")  # by one who lost its claim long ago

    assert second.attempt == 1
    assert await node.hget(keys.delivery(shard, first.id), "attempt") == b"2"
    assert await due.deliveries(shard, 9) == []
    assert await node.zcard(keys.outbox(shard)) == 0


async def test_a_delivery_put_back_has_lost_no_attempt(ledger: Ledger, node: Redis) -> None:
    due = Due(node)
    shard, delivery = await hooked(ledger, due)

    await due.put_back(shard, delivery, 0.0)
    again = await due.deliveries(shard, 9)
    await due.put_back(shard, delivery, 30.0)
    soon = await due.deliveries(shard, 9)
    await due.attempted(shard, delivery, None, "delivered")
    await due.put_back(shard, delivery, 0.0)

    assert again == [delivery]
    assert soon == []
    assert await due.deliveries(shard, 9) == []


async def test_a_delivery_of_which_nothing_is_kept_is_dropped(ledger: Ledger, node: Redis) -> None:
    due = Due(node)
    shard, delivery = await hooked(ledger, due)
    await node.delete(keys.delivery(shard, delivery.id))
    await due.put_back(shard, delivery, 0.0)

    assert await due.deliveries(shard, 9) == []
    assert await node.zcard(keys.outbox(shard)) == 0
    await node.zadd(keys.outbox(shard), {delivery.id: 0})
    await due.attempted(shard, delivery, 0.0, "timeout")
    assert await node.zcard(keys.outbox(shard)) == 0


async def test_a_job_that_fal_refused_makes_no_delivery(ledger: Ledger, node: Redis) -> None:
    """Its submitter was answered so. Of one that fal may have had, the client is told."""
    opening = Opening(60.0, pull=False, webhook="https://example.com/hook")
    refused, silent = new_ref(), new_ref()
    for ref in (refused, silent):
        await ledger.open(ref, opening, nothing_asked(0.0))
    await node.hincrby(keys.job(silent.id), "sign", -3_600_001)

    assert await ledger.end(refused, DONE, unaccepted=True) is Ended.ENDED
    assert await ledger.end(silent, expired(), unaccepted=True, quiet=3600) is Ended.ENDED

    (delivery,) = await Due(node).deliveries(keys.shard_of_team("team-a"), 9)
    assert delivery.job_id == silent.id


async def test_only_what_is_late_is_looked_into(ledger: Ledger, node: Redis) -> None:
    late, early, done = (new_ref(team) for team in ("team-late", "team-early", "team-done"))
    await ledger.open(late, Opening(ask_after=0.0, pull=True), nothing_asked(0.0))
    await ledger.open(early, Opening(ask_after=60.0, pull=True), nothing_asked(0.0))
    hook = Opening(60.0, pull=False, webhook="https://example.com/hook")
    await ledger.open(done, hook, nothing_asked(0.0))
    await ledger.end(done, DONE)
    shards = [keys.shard_of_job(ref.id) for ref in (late, early, done)]

    jobs, deliveries = await Due(node).late([*shards, "fe"])

    assert jobs == {shards[0], shards[2]}  # an end is settled at once
    assert deliveries == {shards[2]}


async def test_a_shard_is_left_alone_until_something_is_due_there(
    ledger: Ledger, node: Redis
) -> None:
    ref, due = new_ref(), Due(node)
    shard = keys.shard_of_job(ref.id)
    await ledger.open(ref, Opening(ask_after=0.4, pull=True), nothing_asked(0.0))
    assert await due.late([shard]) == (set(), set())

    before = await looks(node)
    for _ in range(5):
        assert await due.late([shard]) == (set(), set())
    assert await looks(node) == before

    async with asyncio.timeout(REST / 2):
        await found(due, shard)
    assert await due.late([shard]) == ({shard}, set()), "it is late for as long as nobody takes it"


@pytest.mark.parametrize("told", ["again", "stir"])
async def test_a_change_in_a_shard_is_seen_at_once(ledger: Ledger, node: Redis, told: str) -> None:
    ref, due = new_ref(), Due(node)
    shard = keys.shard_of_job(ref.id)
    await ledger.open(ref, Opening(ask_after=60.0, pull=True), nothing_asked(0.0))
    assert await due.late([shard]) == (set(), set())

    await (due if told == "again" else Due(node)).again(ref.id, 0.0)
    if told == "stir":
        assert await due.late([shard]) == (set(), set()), "nobody has told it"
        due.stir([shard])

    assert await due.late([shard]) == ({shard}, set())


async def test_a_change_during_a_look_leads_to_another(ledger: Ledger, node: Redis) -> None:
    ref, due = new_ref(), Due(node)
    shard = keys.shard_of_job(ref.id)
    await ledger.open(ref, Opening(ask_after=60.0, pull=True), nothing_asked(0.0))
    await due.late([shard])
    due.stir([shard])

    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(due.late([shard]))
        await asyncio.sleep(0)  # the look has begun
        assert not looking.done()
        due.stir([shard])
    before = await looks(node)
    await due.late([shard])

    assert await looks(node) == before + 2


async def test_what_a_lost_process_has_left_is_found(ledger: Ledger, node: Redis) -> None:
    ref, due = new_ref(), Due(node)
    shard = keys.shard_of_job(ref.id)
    assert await due.late() == (set(), set())
    await ledger.open(ref, Opening(ask_after=0.0, pull=True), nothing_asked(0.0))

    async with asyncio.timeout(REST * 2 + 1):  # of a new shard, too
        await found(due, shard)


async def found(due: Due, shard: str) -> None:
    """Asked as often as the loop does, or more, until a job is due in the shard."""
    while True:
        jobs, _ = await due.late()
        if shard in jobs:
            return
        await asyncio.sleep(0.05)


async def looks(node: Redis) -> int:
    """How often anybody has looked at the first entry of a list."""
    told: Any = await node.info("commandstats")
    return int(told.get("cmdstat_zrange", {}).get("calls", 0))
