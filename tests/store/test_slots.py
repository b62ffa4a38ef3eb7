"""Places at an account: never more than its cap, none lost for good, none counted twice."""

import asyncio
from collections.abc import AsyncGenerator
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from gateway.store import keys
from gateway.store.connect import commands
from gateway.store.slots import Slots

pytestmark = pytest.mark.anyio

CAP = 3
LONG = 600.0


@pytest.fixture
def slots(node: Redis) -> Slots:
    return Slots(node)


async def taken(slots: Slots, *ids: str, account: str = "main") -> list[bool]:
    return [await slots.take(account, CAP, id, LONG, direct=False) for id in ids]


async def expire(node: Redis, id: str, account: str = "main") -> None:
    """Let the place of `id` have ended a while ago."""
    await node.zadd(keys.account_slots(account), {id: 1})


async def test_there_are_as_many_places_as_the_cap_says(slots: Slots) -> None:
    assert await taken(slots, "a", "b", "c", "d") == [True, True, True, False]
    assert await slots.running("main") == CAP
    assert await taken(slots, "d", account="second") == [True]

    await slots.free("main", "b")

    assert await taken(slots, "d", "e") == [True, False]


async def test_asking_again_takes_no_second_place(slots: Slots) -> None:
    assert await taken(slots, "a", "a", "a", "b", "c") == [True] * 5
    assert await slots.running("main") == CAP
    assert await taken(slots, "a") == [True]  # though all are taken
    await slots.free("main", "a")
    await slots.free("main", "a")
    assert await slots.running("main") == CAP - 1


async def test_without_a_cap_places_are_only_counted(slots: Slots) -> None:
    found = [await slots.take("main", None, str(n), LONG, direct=True) for n in range(50)]

    assert all(found)
    assert await slots.running("main") == 50


async def test_a_place_counts_for_its_time(slots: Slots, node: Redis) -> None:
    await taken(slots, "a", "b", "c")
    await expire(node, "a")

    assert await slots.running("main") == CAP - 1
    assert await taken(slots, "d", "a") == [True, False]
    await expire(node, "b")
    assert not await slots.renew("main", "b", LONG)
    assert await slots.running("main") == CAP - 1


async def test_a_place_is_renewed_and_never_shortened(slots: Slots, node: Redis) -> None:
    await taken(slots, "a")
    until = await node.zscore(keys.account_slots("main"), "a")
    assert until is not None

    assert await slots.take("main", CAP, "a", 1.0, direct=False)
    assert await slots.renew("main", "a", 1.0)
    assert await node.zscore(keys.account_slots("main"), "a") == until
    assert await slots.renew("main", "a", 2 * LONG)
    later = await node.zscore(keys.account_slots("main"), "a")
    assert later is not None
    assert later - until > LONG * 900
    assert not await slots.renew("main", "unknown", LONG)
    assert await slots.running("main") == 1
    assert abs(await node.pexpiretime(keys.account_slots("main")) - later) < 1


async def test_whoever_waits_in_the_queue_goes_first(slots: Slots) -> None:
    assert await slots.take("main", CAP, "direct-1", LONG, direct=True)
    await slots.say_waiting("main", LONG)

    assert not await slots.take("main", CAP, "direct-2", LONG, direct=True)
    assert await slots.take("main", CAP, "direct-1", LONG, direct=True)  # it has its place
    assert await slots.take("main", CAP, "queued", LONG, direct=False)
    assert await slots.take("second", CAP, "direct-2", LONG, direct=True)
    await slots.say_waiting("main", 0.001)
    async with asyncio.timeout(5):
        while not await slots.take(  # noqa: ASYNC110 - Redis tells nobody
            "main", CAP, "direct-2", LONG, direct=True
        ):
            await asyncio.sleep(0.001)


@pytest.fixture
async def crowd(node: Redis, node_url: str) -> AsyncGenerator[list[Slots]]:
    """Processes, each with connections of its own."""
    clients = [commands(node_url) for _ in range(8)]
    yield [Slots(client) for client in clients]
    for client in clients:
        await client.aclose()


async def test_no_race_exceeds_the_cap(crowd: list[Slots]) -> None:
    """Each takes and gives back as fast as it can; some never do, and their time runs out."""
    most = 0
    held: set[str] = set()
    wins = 0

    async def one(slots: Slots, turns: int) -> None:
        nonlocal most, wins
        for turn in range(turns):
            id = str(uuid4())
            if not await slots.take("main", CAP, id, LONG, direct=bool(turn % 2)):
                continue
            wins += 1
            held.add(id)
            most = max(most, len(held))
            assert await slots.take("main", CAP, id, LONG, direct=False)
            held.discard(id)
            await slots.free("main", id)

    async with asyncio.TaskGroup() as tasks:
        for slots in crowd:
            for _ in range(4):
                tasks.create_task(one(slots, 40))

    assert most <= CAP
    assert wins > CAP
    assert await crowd[0].running("main") == 0
    assert sum(await asyncio.gather(*(
        slots.take("main", CAP, str(uuid4()), LONG, direct=False) for slots in crowd * 5
    ))) == CAP  # fmt: skip
