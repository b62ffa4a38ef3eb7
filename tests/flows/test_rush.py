"""Hundreds of submits at once, over HTTP, at a gateway of four workers."""

import asyncio
import secrets
from collections import Counter
from typing import Any, Final

import aiohttp
import pytest

from gateway.core import periods
from gateway.core.limits import MICRO, Period, Unit
from gateway.store import keys
from gateway.store.connect import commands
from tests.flows.desk import database, eventually
from tests.harness import Gateway, Running, Simulator

pytestmark = pytest.mark.anyio

CONFIG: Final = {
    "plans": {
        "hundred": {"endpoints": ["**"], "limits": [{"in_flight": 100, "of": "team"}]},
        "wallet": {
            "endpoints": ["**"],
            "budgets": [
                {"usd": 18.5, "per": "day", "of": "team"},
                {"units": 100, "per": "month"},
            ],
        },
        "default": {"endpoints": ["**"]},
    },
    "prices": [{"endpoint": "**", "unit_price": 0.5}],
}
"""37 calls of one unit fit the wallet."""


@pytest.fixture(scope="module")
def four(running: Running, wide_sim: Simulator, redis_url: str) -> Gateway:
    env = {"GATEWAY_WORKERS": "4"}
    url = database(redis_url, 13)
    return running.gateway(wide_sim, env=env, config=CONFIG, redis_url=url)


class Crowd:
    def __init__(self, gateway: Gateway, sim: Simulator, plan: str) -> None:
        self.gateway, self.sim = gateway, sim
        self.team = f"team-{secrets.token_hex(6)}"
        self.endpoint = f"sim/fault/hold/{self.team}"
        self.headers = [
            {"authorization": f"Bearer {gateway.token(f'user-{n}', self.team, plan=plan)}"}
            for n in range(10)
        ]

    async def submit(self, times: int) -> tuple[Counter[int], dict[str, int]]:
        """Codes, and by the ids of jobs who has them."""
        codes, ids = Counter[int](), dict[str, int]()
        body = {"endpoint": self.endpoint, "input": {}}
        connector = aiohttp.TCPConnector(limit=64)
        async with aiohttp.ClientSession(self.gateway.direct, connector=connector) as http:

            async def one(who: int) -> None:
                async with http.post("/v1/jobs", json=body, headers=self.headers[who]) as answer:
                    codes[answer.status] += 1
                    if answer.status == 202:
                        ids[(await answer.json())["id"]] = who

            await asyncio.gather(*(one(n % 10) for n in range(times)))
        return codes, ids

    def end_all(self) -> int:
        """How many fal had. It bills from 0 to 3 units for each."""
        jobs = self.sim.ask("GET", "jobs")
        mine = [job for job in jobs if job["endpoint"] == self.endpoint and not job["ended_at"]]
        for n, job in enumerate(mine):
            params = {"units": str(n % 4)}
            self.sim.ask("POST", f"end/{job['request_id']}", json={}, params=params)
        return len(mine)

    async def numbers(self, of: str) -> dict[str, int]:
        """What the team has in Redis under one key."""
        shard, digest = keys.shard_of_team(self.team), keys.team_digest(self.team)
        async with commands(self.gateway.redis_url) as redis:
            if of == "slots":
                return {"slots": await redis.zcard(keys.slots(shard, digest))}
            fields: Any = await redis.hgetall(keys.spend(shard, digest))
        return {name.decode(): int(value) for name, value in fields.items()}


async def test_a_thousand_submits_find_a_hundred_places(four: Gateway, wide_sim: Simulator) -> None:
    crowd = Crowd(four, wide_sim, "hundred")

    codes, ids = await crowd.submit(1000)

    assert codes == Counter({202: 100, 429: 900})
    assert len(ids) == crowd.end_all() == 100

    async def free() -> bool:
        return (await crowd.numbers("slots"))["slots"] == 0

    assert await eventually(free)
    codes, _ = await crowd.submit(100)  # no place was lost
    assert codes == Counter({202: 100})
    crowd.end_all()


async def test_five_hundred_submits_find_money_for_thirty_seven(
    four: Gateway, wide_sim: Simulator
) -> None:
    crowd = Crowd(four, wide_sim, "wallet")

    codes, ids = await crowd.submit(500)

    assert codes == Counter({202: 37, 402: 463})
    reserved = await crowd.numbers("spend")
    assert (reserved["held:usd"], reserved["held:units"]) == (18_500_000, 37 * MICRO)
    assert len(ids) == crowd.end_all() == 37

    async def settled() -> bool:
        spend = await crowd.numbers("spend")
        return spend["held:usd"] == spend["held:units"] == 0

    assert await eventually(settled, within=40)
    async with aiohttp.ClientSession(four.direct) as http:
        billed = 0
        for id, who in ids.items():
            async with http.get(f"/v1/jobs/{id}", headers=crowd.headers[who]) as answer:
                billed += int((await answer.json())["units"])
    spend = await crowd.numbers("spend")
    now = (await asyncio.to_thread(wide_sim.ask, "GET", "jobs"))[-1]["created_at"]
    for per in Period:
        assert spend[periods.field(per, Unit.UNITS, now)] == billed * MICRO
        assert spend[periods.field(per, Unit.USD, now)] == billed * MICRO // 2
