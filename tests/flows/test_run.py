"""Direct runs: counted as jobs are, given back whatever becomes of them."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from gateway.core import periods
from gateway.core.limits import MICRO, Period, Unit
from gateway.store import keys
from gateway.store.connect import commands
from gateway.store.server import OwnRedis
from tests.chaos.gate import Gate
from tests.flows.desk import database, eventually
from tests.harness import NO_TLS, Files, Gateway, Running, Simulator

pytestmark = pytest.mark.anyio

ALL: Final = {"endpoints": ["**"]}
CONFIG: Final = {
    "plans": {
        "default": ALL,
        "one": ALL | {"limits": [{"in_flight": 1}]},
        "few": ALL | {"limits": [{"rate": "2/h"}, {"jobs": "100/day", "of": "team"}]},
        "purse": ALL | {"budgets": [{"usd": 2, "per": "day"}], "limits": [{"in_flight": 9}]},
        "local": ALL | {"limits": [{"rate": "3/h", "away": "local"}]},
        "closed": ALL | {"limits": [{"rate": "3/h"}]},
        "both": ALL | {"limits": [{"rate": "3/h", "away": "local"}, {"in_flight": 5}]},
    },
    "prices": [{"endpoint": "**", "unit_price": 1}],
}
QUICK: Final = "sim/fault/fast"
HELD: Final = "sim/fault/hold"


@pytest.fixture(scope="module")
def runner(running: Running, wide_sim: Simulator, redis_url: str) -> Gateway:
    return running.gateway(wide_sim, config=CONFIG, redis_url=database(redis_url, 8))


class Caller:
    """A user of a team of its own, with what that has in Redis."""

    def __init__(
        self, gateway: Gateway, sim: Simulator, http: httpx.AsyncClient, redis: Redis
    ) -> None:
        self.gateway, self.sim, self.http, self.redis = gateway, sim, http, redis
        self.team = f"team-{secrets.token_hex(6)}"
        self.mark = secrets.token_hex(6)
        self.shard, self.digest = keys.shard_of_team(self.team), keys.team_digest(self.team)

    async def run(self, plan: str, endpoint: str = QUICK) -> httpx.Response:
        token = self.gateway.token("alice", self.team, plan=plan)
        headers = {"authorization": f"Bearer {token}"}
        if endpoint in {QUICK, HELD}:
            endpoint = f"{endpoint}/{self.mark}"
        return await self.http.post(f"/fal/run/{endpoint}", json={}, headers=headers)

    @asynccontextmanager
    async def running(self, plan: str) -> AsyncGenerator[Callable[[], Any]]:
        """A run that fal holds, as long as its client stays."""
        task = asyncio.ensure_future(self.run(plan, HELD))
        try:
            await eventually(self._begun)
            yield task.cancel
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _begun(self) -> int:
        return await asyncio.to_thread(self.sim.calls, has=self.mark)

    async def in_flight(self) -> int:
        return int(await self.redis.zcard(keys.slots(self.shard, self.digest)))

    async def spend(self) -> tuple[int, int]:
        """Millionths of a dollar: reserved, and spent this month."""
        fields: Any = await self.redis.hgetall(keys.spend(self.shard, self.digest))
        seconds, _ = await self.redis.time()
        month = periods.field(Period.MONTH, Unit.USD, seconds).encode()
        return int(fields.get(b"held:usd", 0)), int(fields.get(month, 0))

    async def over(self) -> bool:
        return await self.in_flight() == 0 and (await self.spend())[0] == 0


@asynccontextmanager
async def a_caller(gateway: Gateway, sim: Simulator) -> AsyncGenerator[Caller]:
    async with (
        httpx.AsyncClient(base_url=gateway.direct, timeout=60, verify=NO_TLS) as http,
        commands(gateway.redis_url) as redis,
    ):
        yield Caller(gateway, sim, http, redis)


@pytest.fixture
async def alice(runner: Gateway, wide_sim: Simulator) -> AsyncGenerator[Caller]:
    async with a_caller(runner, wide_sim) as caller:
        yield caller


async def test_a_rate_counts_runs(alice: Caller) -> None:
    answers = [await alice.run("few") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert 'principal-rate";r=1' in answers[0].headers["RateLimit"]
    assert int(answers[2].headers["retry-after"]) > 60
    assert alice.sim.calls(has=alice.mark) == 2
    assert (await alice.run("default")).status_code == 200


async def test_a_run_has_its_place_in_flight_while_it_lasts(alice: Caller) -> None:
    async with alice.running("one"):
        assert await alice.in_flight() == 1
        refused = await alice.run("one")

    await eventually(alice.over)
    assert refused.status_code == 429
    assert "principal-in-flight" in refused.json()["detail"]
    assert (await alice.run("one")).status_code == 200
    await eventually(alice.over)


async def test_what_a_run_costs_is_spent(alice: Caller) -> None:
    first = await alice.run("purse", "sim/units/1.5")
    await eventually(alice.over)
    spent = await alice.spend()
    second = await alice.run("purse", "sim/units/1.5")

    assert (first.status_code, first.headers["x-gateway-cost"]) == (200, "1.5")
    assert spent == (0, 1_500_000)
    assert second.status_code == 402  # half a dollar is left, and one is reserved for a call
    assert await alice.spend() == spent


async def test_what_a_run_may_cost_is_held_while_it_lasts(alice: Caller) -> None:
    async with alice.running("purse"):
        held = await alice.spend()
        async with alice.running("purse"):
            assert await eventually(lambda: _is(alice, (2 * MICRO, 0)))
            refused = await alice.run("purse")
        await eventually(lambda: _is(alice, (MICRO, MICRO)))

    await eventually(alice.over)
    assert held == (MICRO, 0)
    assert refused.status_code == 402
    assert await alice.spend() == (0, 2 * MICRO)  # their clients left: nobody knows what fal did


async def _is(caller: Caller, spend: tuple[int, int]) -> bool:
    return await caller.spend() == spend


@pytest.mark.parametrize(
    ("endpoint", "status"),
    [("sim/fault/fail-422", 422), ("sim/fault/fail-503", 503), ("sim/fault/submit-404", 404)],
)
async def test_a_run_that_fails_costs_nothing(alice: Caller, endpoint: str, status: int) -> None:
    answer = await alice.run("purse", endpoint)

    await eventually(alice.over)
    assert answer.status_code == status
    assert await alice.spend() == (0, 0)


async def test_what_a_killed_gateway_held_comes_back(
    running: Running, wide_sim: Simulator, redis_url: str
) -> None:
    """Another process settles it, once the run can have no end any more."""
    url = database(redis_url, 7)
    gateway = running.gateway(wide_sim, config=CONFIG, redis_url=url)
    async with a_caller(gateway, wide_sim) as alice:
        async with alice.running("purse"):
            gateway.process.kill()
        assert await alice.spend() == (MICRO, 0)
        assert await alice.in_flight() == 1
        due: Any = await alice.redis.zrange(keys.due(alice.shard), 0, -1, withscores=True)
        seconds, _ = await alice.redis.time()
        [(id, at)] = due
        await alice.redis.zadd(keys.due(alice.shard), {id: seconds * 1000})  # as if it were time
        await asyncio.to_thread(gateway.start)

        await eventually(alice.over)

        assert at / 1000 - seconds > 3600
        assert await alice.spend() == (0, MICRO)
        assert (await alice.run("purse")).status_code == 200
    gateway.process.stop()


# Redis away.


@pytest.fixture(scope="module")
def the_gate(files: Files) -> Generator[Gate]:
    with OwnRedis(files.folder("run-redis")) as server, Gate(server.url) as gate:
        yield gate


@pytest.fixture
async def without(
    running: Running, wide_sim: Simulator, the_gate: Gate
) -> AsyncGenerator[tuple[Caller, Gate]]:
    """A gateway whose Redis can be put out of reach."""
    gateway = running.gateway(wide_sim, config=CONFIG, redis_url=the_gate.url)
    async with a_caller(gateway, wide_sim) as caller:
        yield caller, the_gate
    the_gate.open()
    gateway.process.stop()


async def test_without_redis_a_process_counts_rates_where_the_plan_lets_it(
    without: tuple[Caller, Gate],
) -> None:
    alice, gate = without
    assert (await alice.run("local")).status_code == 200
    gate.shut()

    local = [(await alice.run("local")).status_code for _ in range(5)]
    free = await alice.run("default")
    closed = [await alice.run(plan) for plan in ("closed", "both", "purse")]
    gate.open()

    assert local == [200, 200, 200, 429, 429]
    assert free.status_code == 200
    assert [answer.status_code for answer in closed] == [503] * 3
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in closed)

    async def again() -> bool:
        return (await alice.run("closed")).status_code == 200

    assert await eventually(again)


async def test_a_run_that_nobody_heard_was_opened_costs_nothing(
    without: tuple[Caller, Gate],
) -> None:
    alice, gate = without
    assert (await alice.run("closed")).status_code == 200  # the scripts are loaded
    await eventually(alice.over)
    _, spent = await alice.spend()
    gate.lose_answer("open")
    answer = await alice.run("purse")
    gate.open()
    held, _ = await alice.spend()

    await eventually(alice.over)

    assert answer.status_code == 503
    assert held == MICRO
    assert await alice.spend() == (0, spent)


async def test_what_a_run_cost_is_kept_while_redis_is_away(without: tuple[Caller, Gate]) -> None:
    """Else the estimate would count, hours later."""
    alice, gate = without
    assert (await alice.run("purse", "sim/units/0.25")).status_code == 200
    await eventually(alice.over)
    gate.shut_before("settle")
    answer = await alice.run("purse", "sim/units/0.5")
    assert await asyncio.to_thread(gate.shut_at.wait, 10)
    await asyncio.sleep(0.4)  # longer than one more try by itself takes
    gate.open()

    await eventually(alice.over)

    assert answer.status_code == 200
    assert await alice.spend() == (0, MICRO * 3 // 4)
