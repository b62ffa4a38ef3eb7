"""What direct runs used is told exactly, although not each tells it by itself."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from gateway.core import periods
from gateway.core.limits import MICRO, Period, Unit
from gateway.core.usage import Counts, Span, total
from gateway.store import keys
from gateway.store.connect import commands
from gateway.store.server import OwnRedis, own_redis
from gateway.store.usage import Usage
from tests.chaos.gate import Gate
from tests.flows.desk import eventually
from tests.harness import NO_TLS, Files, Gateway, Running, Simulator

pytestmark = pytest.mark.anyio

ALL: Final = {"endpoints": ["**"]}
CONFIG: Final = {
    "plans": {
        "default": ALL,
        "purse": ALL | {"budgets": [{"usd": 1000, "per": "day"}]},
        "shared": ALL | {"budgets": [{"usd": 3, "per": "day", "of": "team"}]},
    },
    "prices": [{"endpoint": "**", "unit_price": 2}],
}
HALF: Final = "sim/units/0.5"
FAILS: Final = "sim/fault/fail-422"


class Team:
    """Its runs, as different users, and what Redis tells of them."""

    def __init__(self, gateway: Gateway, http: httpx.AsyncClient, redis: Redis) -> None:
        self.gateway, self.http, self.redis = gateway, http, redis
        self.name = f"team-{secrets.token_hex(6)}"

    def headers(self, user: str = "alice", plan: str = "default") -> dict[str, str]:
        token = self.gateway.token(user, self.name, plan=plan)
        return {"authorization": f"Bearer {token}"}

    async def run(
        self, user: str = "alice", endpoint: str = HALF, plan: str = "default"
    ) -> httpx.Response:
        headers = self.headers(user, plan)
        return await self.http.post(f"/fal/run/{endpoint}", json={}, headers=headers)

    async def used(self) -> Counts:
        today = periods.today(time.time())
        return total(await Usage(self.redis).of_team(self.name, Span(today, today)))

    async def done(self) -> int:
        return (await self.used()).completed

    async def spent(self) -> int:
        shard, digest = keys.shard_of_team(self.name), keys.team_digest(self.name)
        field = periods.field(Period.DAY, Unit.USD, time.time())
        found: Any = await self.redis.hget(keys.spend(shard, digest), field)
        return int(found or 0)


@asynccontextmanager
async def a_team(gateway: Gateway) -> AsyncGenerator[Team]:
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(
            base_url=gateway.direct, timeout=60, verify=NO_TLS, limits=limits
        ) as http,
        commands(gateway.redis_url) as redis,
    ):
        yield Team(gateway, http, redis)


@pytest.fixture(scope="module")
def the_gate(files: Files) -> Generator[Gate]:
    with OwnRedis(files.folder("counting-redis")) as server, Gate(server.url) as gate:
        yield gate


@pytest.fixture(scope="module")
def two(running: Running, wide_sim: Simulator, the_gate: Gate) -> Gateway:
    """Workers."""
    env = {"GATEWAY_WORKERS": "2"}
    return running.gateway(wide_sim, config=CONFIG, redis_url=the_gate.url, env=env)


@pytest.fixture
async def team(two: Gateway, the_gate: Gate) -> AsyncGenerator[Team]:
    the_gate.open()
    async with a_team(two) as team:
        yield team
    the_gate.open()


async def test_exact_over_two_workers_and_all_plans(team: Team) -> None:
    calls = [
        (f"user-{number % 7}", HALF if number % 5 else FAILS, "purse" if number % 3 else "default")
        for number in range(150)
    ]
    answers = await asyncio.gather(*(team.run(*call) for call in calls))
    await eventually(lambda: _is(team, 120))
    await eventually(lambda: _has(team, len(calls)))

    assert Counter(answer.status_code for answer in answers) == {200: 120, 422: 30}
    assert await team.used() == Counts(
        150, completed=120, failed=30, units=60 * MICRO, cost=120 * MICRO
    )
    assert await team.spent() == 120 * MICRO
    await asyncio.sleep(0.6)  # nothing is told twice
    assert (await team.used()).jobs == 150


async def _has(team: Team, jobs: int) -> bool:
    return (await team.used()).jobs == jobs


async def _is(team: Team, done: int) -> bool:
    return await team.done() == done


async def test_nothing_is_lost_while_redis_is_away_for_two_seconds(
    team: Team, the_gate: Gate
) -> None:
    assert (await team.run()).status_code == 200
    the_gate.shut()
    begun, done = time.monotonic(), 0
    while time.monotonic() - begun < 2:
        answers = await asyncio.gather(*(team.run(f"user-{number}") for number in range(4)))
        done += sum(answer.status_code == 200 for answer in answers)
    the_gate.open()

    await eventually(lambda: _is(team, done + 1))
    assert done > 4
    assert await team.spent() == (done + 1) * MICRO
    await eventually(lambda: _answers(team, 200, "purse"))  # its connections are there again


async def _answers(team: Team, status: int, plan: str) -> bool:
    return (await team.run("bob", plan=plan)).status_code == status


async def test_one_whom_nothing_bounds_counts_for_its_teams_budget(team: Team) -> None:
    for _ in range(3):
        assert (await team.run()).status_code == 200
    await eventually(lambda: _is(team, 3))

    await eventually(lambda: _answers(team, 402, "shared"))


async def test_who_asks_the_same_process_sees_its_own_run_at_once(
    running: Running, wide_sim: Simulator, the_gate: Gate
) -> None:
    gateway = running.gateway(wide_sim, config=CONFIG, redis_url=the_gate.url)
    async with a_team(gateway) as team:
        for number in range(1, 6):
            assert (await team.run()).status_code == 200
            told = await team.http.get("/v1/usage", headers=team.headers())
            assert told.json()["total"]["jobs"] == number
    gateway.process.stop()


async def test_while_redis_is_full_what_it_has_is_read(
    running: Running, wide_sim: Simulator, files: Files
) -> None:
    with own_redis(files.folder("full-redis")) as url:
        gateway = running.gateway(wide_sim, config=CONFIG, redis_url=url)
        async with a_team(gateway) as team, commands(url) as redis:
            assert (await team.run()).status_code == 200
            await eventually(lambda: _is(team, 1))
            await redis.config_set("maxmemory", 1)
            assert (await team.run()).status_code == 200
            full = await team.http.get("/v1/usage", headers=team.headers())
            await redis.config_set("maxmemory", 0)
            await eventually(lambda: _is(team, 2))
        await asyncio.to_thread(gateway.process.stop)

    assert full.status_code == 200, full.text
    assert full.json()["total"]["jobs"] == 1


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_stopped_gateway_has_told_all(
    running: Running, wide_sim: Simulator, the_gate: Gate, workers: str
) -> None:
    """Of runs that ended just before, and of those that end while it drains."""
    env = {"GATEWAY_WORKERS": workers}
    gateway = running.gateway(wide_sim, config=CONFIG, redis_url=the_gate.url, env=env)
    async with a_team(gateway) as team:
        answers = await asyncio.gather(*(team.run(f"user-{number}") for number in range(40)))
        going = [asyncio.ensure_future(team.run(f"user-{number}")) for number in range(40)]
        await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
        code = await asyncio.to_thread(gateway.process.stop)
        rest = await asyncio.gather(*going, return_exceptions=True)

        done = [one for one in (*answers, *rest) if isinstance(one, httpx.Response)]
        assert code == 0
        assert len(done) > 40
        assert await team.done() == sum(one.status_code == 200 for one in done)
        assert "missing in usage" not in gateway.log_lines()
