"""Streams and held requests of plans that limit them, over two processes."""

import asyncio
import secrets
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from gateway.core.model import Kind, Principal
from gateway.store import keys
from tests.harness import Gateway, Running, Simulator
from tests.listening import listen
from tests.web.wire import submitted

pytestmark = pytest.mark.anyio

CONFIG: Final[dict[str, Any]] = {
    "plans": {
        "default": {"endpoints": ["**"]},
        "two": {"endpoints": ["**"], "limits": [{"streams": 2}]},
        "one": {"endpoints": ["**"], "limits": [{"streams": 1}]},
        "team": {"endpoints": ["**"], "limits": [{"streams": 3, "of": "team"}]},
    }
}


@pytest.fixture(scope="module")
def door(running: Running, sim: Simulator) -> Gateway:
    return running.gateway(sim, env={"GATEWAY_WORKERS": "2"}, config=CONFIG)


def client(door: Gateway, plan: str, user: str | None = None, **claims: Any) -> httpx.AsyncClient:
    token = door.token(user or f"user-{secrets.token_hex(6)}", plan=plan, **claims)
    return httpx.AsyncClient(
        base_url=door.url, headers={"authorization": f"Bearer {token}"}, timeout=30
    )


async def refusal(http: httpx.AsyncClient) -> dict[str, Any] | None:
    """What one more stream is told; None if it may come."""
    async with http.stream("GET", "/v1/events") as answer:
        if answer.status_code == 200:
            return None
        body: dict[str, Any] = await _whole(answer)
        return {**body, "headers": dict(answer.headers)}


async def _whole(answer: httpx.Response) -> Any:
    await answer.aread()
    return answer.json()


async def test_in_all_processes_together_no_more_than_the_plan_says(door: Gateway) -> None:
    async with client(door, "two") as http:
        async with listen(http, "/v1/events"), listen(http, "/v1/events"):
            for _ in range(6):  # whichever process they meet
                refused = await refusal(http)
                assert refused is not None
                assert (refused["status"], refused["limit"]) == (429, "principal-streams")
                assert refused["headers"]["retry-after"] == "5"
                assert refused["headers"]["ratelimit-policy"] == (
                    '"principal-streams";q=2;qu="concurrent-requests"'
                )
                assert refused["headers"]["ratelimit"] == '"principal-streams";r=0'
        await comes_in(http)


async def comes_in(http: httpx.AsyncClient) -> None:
    """The gateway may hear a little later that a client has gone."""
    async with asyncio.timeout(10):
        while True:
            if await refusal(http) is None:
                return
            await asyncio.sleep(0.05)


async def test_who_asks_again_after_an_answer_finds_its_seat_free(door: Gateway) -> None:
    """One long poll after the other, with one seat: each gives it back before it answers."""
    async with client(door, "one") as http:
        job_id = await submitted(http)
        for _ in range(30):
            answer = await http.get(f"/v1/jobs/{job_id}", params={"wait": "0.01"})
            assert answer.status_code == 200, answer.text


async def test_the_seats_of_a_team_are_shared(door: Gateway) -> None:
    team = f"team-{secrets.token_hex(4)}"
    async with (
        client(door, "team", "ann", team=team) as ann,
        client(door, "team", "ben", team=team) as ben,
        client(door, "team", "eve", team=f"{team}-other") as eve,
        listen(ann, "/v1/events"),
        listen(ann, "/v1/events"),
        listen(ben, "/v1/events"),
    ):
        for http in (ann, ben):
            refused = await refusal(http)
            assert refused is not None
            assert refused["limit"] == "team-streams"
        assert await refusal(eve) is None


async def test_seats_of_a_process_that_is_gone_run_out(
    running: Running, sim: Simulator, redis: Redis
) -> None:
    """Nobody renews them; those of others stay."""
    lost = running.gateway(sim, config=CONFIG)
    user = f"user-{secrets.token_hex(6)}"
    async with client(lost, "two", user) as http, listen(http, "/v1/events"):
        lost.process.kill()
    key = keys.streams(keys.shard_of_team("default"), Principal("default", Kind.USER, user).digest)
    held: Any = await redis.zrange(key, 0, -1, withscores=True)
    (ends,) = [until for _, until in held]
    seconds, _ = await redis.time()
    assert 0 < ends / 1000 - seconds <= 21
