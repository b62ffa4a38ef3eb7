"""Wake-ups, from one process to another."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from redis.asyncio import Redis

from gateway.core.meters import nothing_asked
from gateway.store import keys
from gateway.store.connect import listener
from gateway.store.feeds import Wakes, topic_of_job
from gateway.store.ledger import Ledger, Opening
from tests.store.doors import new_ref, person

pytestmark = pytest.mark.anyio


@pytest.fixture
async def wakes(node: Redis, node_url: str) -> AsyncGenerator[Wakes]:
    async with listener(node_url) as listening, asyncio.TaskGroup() as tasks:
        wakes = Wakes(listening)
        with wakes.bell("any") as bell:
            running = tasks.create_task(wakes.run())
            async with asyncio.timeout(5):
                await bell.wait()  # it listens
        yield wakes
        running.cancel()


async def test_a_shard_is_stirred_by_whatever_happens_in_it(wakes: Wakes, node: Redis) -> None:
    ref, ledger = new_ref(person()), Ledger(node, retention=3600)
    assert wakes.stirred() == set()

    with wakes.bell(topic_of_job(ref.id)) as bell:
        await ledger.open(ref, Opening(ask_after=60.0, pull=True), nothing_asked(0.0))
        async with asyncio.timeout(5):
            await bell.wait()

    assert wakes.stirred() == {keys.shard_of_job(ref.id)}
    assert wakes.stirred() == set(), "it has been told"
