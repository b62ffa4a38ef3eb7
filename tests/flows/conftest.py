"""A gateway of two workers, and a simulator whose signing keys the tests know."""

from collections.abc import AsyncGenerator

import pytest

from gateway.store import keys
from gateway.store.connect import commands
from tests.flows.desk import SEED, Desk, a_desk, database
from tests.harness import Gateway, Running, Simulator


@pytest.fixture(scope="session")
def fal(running: Running) -> Simulator:
    return running.simulator(keep=True, seed=str(SEED), concurrency="50")


@pytest.fixture(scope="session")
def pair(running: Running, fal: Simulator, redis_url: str) -> Gateway:
    """Two workers, which share nothing but Redis."""
    env = {"GATEWAY_WORKERS": "2"}
    return running.gateway(fal, keep=True, env=env, redis_url=database(redis_url, 1))


@pytest.fixture(scope="session")
def puller(running: Running, fal: Simulator, redis_url: str) -> Gateway:
    """Without a public URL: fal cannot reach it."""
    env = {"GATEWAY_PUBLIC_URL": ""}
    return running.gateway(fal, keep=True, env=env, redis_url=database(redis_url, 2))


@pytest.fixture
async def store(redis_url: str) -> str:
    """A database of an office's own, empty of what the admin API makes."""
    url = database(redis_url, 14)
    async with commands(url) as redis:
        await redis.delete(*keys.REGISTRY, keys.AUDIT, *keys.REVOCATIONS)
    return url


@pytest.fixture
async def desk(pair: Gateway, fal: Simulator) -> AsyncGenerator[Desk]:
    async with a_desk(pair, fal) as desk:
        yield desk


@pytest.fixture
async def pulling(puller: Gateway, fal: Simulator) -> AsyncGenerator[Desk]:
    async with a_desk(puller, fal) as desk:
        yield desk
