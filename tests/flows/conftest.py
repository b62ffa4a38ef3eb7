"""A gateway of two workers, and a simulator whose signing keys the tests know."""

from collections.abc import AsyncGenerator

import httpx
import pytest
from redis.asyncio import Redis

from gateway.store.ledger import Ledger
from tests.flows.desk import SEED, Desk
from tests.harness import Gateway, Running, Simulator


@pytest.fixture(scope="session")
def fal(running: Running) -> Simulator:
    return running.simulator(seed=str(SEED))


@pytest.fixture(scope="session")
def pair(running: Running, fal: Simulator) -> Gateway:
    """Two workers, which share nothing but Redis."""
    return running.gateway(fal, env={"GATEWAY_WORKERS": "2"})


@pytest.fixture
async def desk(pair: Gateway, fal: Simulator, redis: Redis) -> AsyncGenerator[Desk]:
    limits = httpx.Limits(max_connections=None)
    async with pair.http() as http, httpx.AsyncClient(timeout=60, limits=limits) as outside:
        yield Desk(pair, fal, redis, Ledger(redis, 86_400), http, outside)
