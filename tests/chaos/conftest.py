"""Gateways, simulators and Redis servers that may be stopped and killed."""

from collections.abc import Generator

import pytest

from gateway.store.server import OwnRedis
from tests.harness import Files, Running, Simulator


@pytest.fixture(scope="session")
def slow_sim(running: Running) -> Simulator:
    """Jobs take about a second: time to kill somebody before they end."""
    return running.simulator(keep=True, pace=0.3, concurrency="50")


@pytest.fixture
def mortal_redis(files: Files) -> Generator[OwnRedis]:
    """A Redis of the test's own."""
    with OwnRedis(files.folder("mortal-redis")) as server:
        yield server
