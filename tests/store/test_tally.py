"""Direct runs that hold nothing: told many at a time, each once, whatever gets lost."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.core import periods
from gateway.core.errors import StoreUnavailable
from gateway.core.limits import DAY, Period
from gateway.core.model import Principal, State
from gateway.core.usage import Counts, Row, Span, total
from gateway.store import keys, tally
from gateway.store.connect import commands
from gateway.store.server import OwnRedis
from gateway.store.settlements import Bill, Settlements
from gateway.store.tally import Tally
from gateway.store.usage import Usage
from tests.chaos.gate import Gate
from tests.flows.desk import eventually
from tests.harness import Files
from tests.store.doors import new_ref, person

pytestmark = pytest.mark.anyio

ONE = "fal-ai/one"
BILLS = [
    (ONE, State.COMPLETED, 1_500_000, 37_500),
    (ONE, State.COMPLETED, 10**6, 25_000),
    (ONE, State.FAILED, 0, 0),
    ("fal-ai/two", State.EXPIRED, 0, None),
    ("fal-ai/two", State.COMPLETED, 2**53 + 1, None),
]


def bill(
    state: State = State.COMPLETED, units: int = 10**6, cost: int | None = 25_000, ago: float = 0
) -> Bill:
    return Bill(state, time.time() - ago, units, cost, run=True)


def gathering(redis: Redis, process: str = "") -> Tally:
    return Tally(Settlements(redis, 60), process or secrets.token_hex(8))


async def rows(redis: Redis, team: str, who: Principal | None = None) -> list[Row]:
    today = periods.today(time.time())
    span = Span(periods.today(time.time() - DAY), today)
    if who is None:
        return await Usage(redis).of_team(team, span)
    return await Usage(redis).of_principal(who, span)


async def jobs(redis: Redis, team: str, who: Principal | None = None) -> int:
    return total(await rows(redis, team, who)).jobs


async def hashes(redis: Redis, who: Principal) -> list[dict[bytes, bytes]]:
    """All that is counted of somebody and the team, but for what a reservation leaves behind."""
    shard, found = keys.shard_of_team(who.team), list[dict[bytes, bytes]]()
    for digest in (who.digest, keys.team_digest(who.team)):
        spend: Any = await redis.hgetall(keys.spend(shard, digest))
        usage: Any = await redis.hgetall(keys.usage(shard, digest, periods.day(time.time())))
        found += [spend, usage]
    return found


async def test_many_at_once_are_what_they_are_one_by_one(node: Redis) -> None:
    alice, bob = person("alice"), person("bob")
    gathered, settlements = gathering(node), Settlements(node, 60)
    for endpoint, state, units, cost in BILLS:
        gathered.add(alice, endpoint, bill(state, units, cost))
        await settlements.settle(
            new_ref(bob, endpoint), bill(state, units, cost), None, time.time()
        )
    await gathered.tell()

    assert await hashes(node, alice) == await hashes(node, bob)
    counts = {row.endpoint: row.counts for row in await rows(node, alice.team)}
    assert counts[ONE] == Counts(3, completed=2, failed=1, units=2_500_000, cost=62_500)
    span = Span(*[periods.today(time.time())] * 2)
    assert [name async for name in Usage(node).people(alice.team, span)] == ["user:alice"]
    assert alice.team in [name async for name in Usage(node).teams(span)]


async def test_days_teams_and_principals_apart(node: Redis) -> None:
    alice, other = person("alice"), person("other")
    bob = person("bob", alice.team)
    gathered = gathering(node)
    for who, ago in ((alice, 0), (alice, DAY), (alice, DAY), (bob, 0), (other, 0)):
        gathered.add(who, ONE, bill(ago=ago))
    await gathered.tell()

    assert [row.counts.jobs for row in await rows(node, alice.team, alice)] == [2, 1]
    assert [row.counts.jobs for row in await rows(node, alice.team)] == [2, 2]
    assert (await jobs(node, bob.team, bob), await jobs(node, other.team)) == (1, 1)
    yesterday = periods.name(Period.DAY, time.time() - DAY)
    spend: Any = await node.hgetall(keys.spend(keys.shard_of_team(bob.team), alice.digest))
    assert spend[f"{yesterday}:units".encode()] == b"2000000"


async def test_processes_and_times_of_telling_add_up(node: Redis) -> None:
    """With additions while another part is being told."""
    who = person()
    both = [gathering(node), gathering(node)]
    for _ in range(3):
        for each in both:
            each.add(who, ONE, bill())
        async with asyncio.TaskGroup() as tasks:
            for each in (*both, *both):
                tasks.create_task(each.tell())
                each.add(who, ONE, bill())
    for each in both:
        await each.tell()
        await each.tell()

    assert await jobs(node, who.team) == 18


async def test_a_large_lot_is_told_in_pieces(node: Redis) -> None:
    team = person().team
    gathered = gathering(node, "one")
    for number in range(2 * tally.AT_ONCE + 1):
        gathered.add(person(str(number), team), ONE, bill())
    await gathered.tell()

    assert await jobs(node, team) == 2 * tally.AT_ONCE + 1
    assert await node.get(keys.told(keys.shard_of_team(team), "one")) == b"3"


async def test_what_finds_no_room_is_lost_and_told(
    node: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tally, "ROWS", 10)
    team = person().team
    gathered = gathering(node)
    for number in (*range(15), 0, 1):  # there is always room for those that are known
        gathered.add(person(str(number), team), ONE, bill())
    await gathered.close(5)

    assert await jobs(node, team) == 12
    assert "5 direct runs are missing" in caplog.text
    gathered.add(person("14", team), ONE, bill())  # there is room again
    await gathered.tell()
    assert await jobs(node, team) == 13


# Redis away.


@pytest.fixture(scope="module")
def the_gate(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gate]:
    folder = Files(tmp_path_factory.mktemp("tally")).folder("redis")
    with OwnRedis(folder) as server, Gate(server.url) as gate:
        yield gate


@pytest.fixture
async def away(the_gate: Gate) -> AsyncGenerator[tuple[Redis, Gate]]:
    the_gate.open()
    async with commands(the_gate.url) as redis:
        yield redis, the_gate
    the_gate.open()


async def test_nothing_is_lost_while_redis_is_away(away: tuple[Redis, Gate]) -> None:
    redis, gate = away
    who, other = person(), person()
    gathered = gathering(redis)
    for team in (who, other):
        gathered.add(team, ONE, bill())
    await gathered.tell()
    gate.shut()
    for _ in range(3):
        gathered.add(who, ONE, bill())
        gathered.add(other, ONE, bill())
        with pytest.raises(StoreUnavailable):
            await gathered.tell()
    gate.open()
    await gathered.tell()

    assert (await jobs(redis, who.team), await jobs(redis, other.team)) == (4, 4)


@pytest.mark.parametrize("times", [1, 3])
async def test_counted_once_when_the_answer_gets_lost(away: tuple[Redis, Gate], times: int) -> None:
    """redis-py itself says it again, then the next time of telling does."""
    redis, gate = away
    who = person()
    gathered = gathering(redis)
    gathered.add(who, ONE, bill())
    await gathered.tell()  # the script is loaded
    for _ in range(times):
        gathered.add(who, ONE, bill())
        gate.lose_answer("tally")
        with pytest.raises(StoreUnavailable):
            await gathered.tell()
        gate.open()
    gathered.add(who, ONE, bill())
    await gathered.tell()

    assert await jobs(redis, who.team) == times + 2


async def test_given_up_after_a_while(
    away: tuple[Redis, Gate], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    redis, gate = away
    who = person()
    gathered = gathering(redis)
    gathered.add(who, ONE, bill())
    gathered.add(who, ONE, bill())
    gate.shut()
    with pytest.raises(StoreUnavailable):
        await gathered.tell()
    monkeypatch.setattr(tally, "TRIED_FOR", 0.0)
    await gathered.tell()
    gate.open()
    gathered.add(who, ONE, bill())
    await gathered.close(5)

    assert "2 direct runs are missing" in caplog.text
    assert await jobs(redis, who.team) == 1


async def test_the_end_waits_for_redis_so_long_and_no_longer(
    away: tuple[Redis, Gate], caplog: pytest.LogCaptureFixture
) -> None:
    redis, gate = away
    who = person()
    gathered = gathering(redis)
    gathered.add(who, ONE, bill())
    gate.shut()
    asyncio.get_running_loop().call_later(0.3, gate.open)
    await gathered.close(10)
    assert await jobs(redis, who.team) == 1
    assert caplog.records == []

    gathered.add(who, ONE, bill())
    gate.shut()
    await gathered.close(0.3)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "1 direct runs are missing" in caplog.text


async def test_told_all_the_time(node: Redis) -> None:
    who = person()
    gathered = gathering(node)
    task = asyncio.ensure_future(gathered.run())
    gathered.add(who, ONE, bill())
    assert await eventually(lambda: jobs(node, who.team))
    task.cancel()
