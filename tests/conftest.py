"""Real Redis, real uvicorn, a simulated fal; see `harness`. Nothing is patched."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from gateway.store.connect import commands
from gateway.store.server import own_redis
from tests.harness import Files, Gateway, Running, Simulator, leaks

# How fast a machine is that others use too, tells nothing of us; and whoever changes nothing shall
# see what others saw. With --hypothesis-profile=explore, each run looks elsewhere.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", _UNTIMED)
settings.register_profile("untimed", _UNTIMED, derandomize=True, database=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def redis_url(files: Files) -> Generator[str]:
    """Our own Redis, as the gateway starts it. At the end, nothing that clients received, no log
    and nothing in Redis may hold the fal key."""
    data = files.folder("redis")
    with own_redis(data) as url:
        yield url
    _search(files.root)


def _search(root: Path) -> None:
    looked, found = 0, []
    for path in root.rglob("*"):
        if not path.is_file() or path.stat().st_size == 0:
            continue
        data = path.read_bytes()
        looked += len(data)
        found += [f"{path.relative_to(root)}: {form}" for form in leaks(data)]
    assert found == []
    assert looked > 0
    print(f"\nno fal key in {looked:,} bytes that clients received, logs and Redis")


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis]:
    """A client of the run's Redis. It is shared: look only for what the test made."""
    async with commands(redis_url) as client:
        yield client


@pytest.fixture(scope="session")
def started(files: Files, redis_url: str) -> Generator[Running]:
    """All processes of the run."""
    with Running(files, redis_url) as running:
        yield running


@pytest.fixture(scope="session")
def running(started: Running) -> Running:
    """For processes of a test's own."""
    return started


@pytest.fixture(scope="module", autouse=True)
def _ended_with_the_file(started: Running) -> Generator[None]:
    with started.module():
        yield


@pytest.fixture(scope="session")
def sim(running: Running) -> Simulator:
    """The run's simulator. What gateways in front of it know is in the run's Redis."""
    running.main = running.simulator(keep=True)
    return running.main


@pytest.fixture(scope="session")
def gateway(running: Running, sim: Simulator) -> Gateway:
    """The run's gateway, in front of the run's simulator. Leave it as it was."""
    return running.gateway(sim, keep=True)


@pytest.fixture(scope="session")
def wide_sim(running: Running) -> Simulator:
    """A simulator that runs many jobs at once, for tests that hold some."""
    return running.simulator(keep=True, concurrency="64")


@pytest.fixture(scope="session")
def wide(running: Running, wide_sim: Simulator) -> Gateway:
    """The gateway in front of it. Leave it as it was, with no job held."""
    return running.gateway(wide_sim, keep=True)


@pytest.fixture
async def wide_redis(wide: Gateway) -> AsyncGenerator[Redis]:
    """A client of the Redis of that gateway."""
    async with commands(wide.redis_url) as client:
        yield client
