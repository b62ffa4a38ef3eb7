"""Redis stopped, gone, and gone at the worst moment: fal is never asked twice, nothing is lost."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from gateway.store.connect import commands
from gateway.store.server import OwnRedis
from tests.chaos.gate import Gate
from tests.flows.desk import Desk, a_desk, eventually
from tests.harness import Files, Gateway, Running, Simulator

pytestmark = pytest.mark.anyio

DOORS = ("/v1/jobs", "/fal/queue")
CONFIG = {
    "plans": {
        "default": {"endpoints": ["**"]},
        "purse": {"endpoints": ["**"], "budgets": [{"usd": 5, "per": "day"}]},
        "queue": {"endpoints": ["**"], "limits": [{"in_flight": 1}], "queue": {"wait": 600}},
    },
    "prices": [{"endpoint": "**", "unit_price": 1}],
}


@pytest.fixture(scope="module")
def server(files: Files) -> Generator[OwnRedis]:
    with OwnRedis(files.folder("redis-away")) as server:
        yield server


@pytest.fixture(scope="module")
def the_gate(server: OwnRedis) -> Generator[Gate]:
    with Gate(server.url) as gate:
        yield gate


@pytest.fixture(scope="module")
def gated(running: Running, slow_sim: Simulator, the_gate: Gate) -> Generator[Gateway]:
    """A gateway that reaches its Redis through the gate."""
    gateway = running.gateway(slow_sim, redis_url=the_gate.url, config=CONFIG)
    yield gateway
    gateway.process.kill()


@pytest.fixture
async def gate(gated: Gateway, the_gate: Gate) -> AsyncGenerator[Gate]:
    """Open, and the gateway ready."""
    await eventually(lambda: ready(gated))
    yield the_gate
    the_gate.open()


@contextmanager
def paused(pid: int | None) -> Generator[None]:
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def submitted(desk: Desk, endpoint: str, door: str) -> httpx.Response:
    if door == "/v1/jobs":
        return await desk.submit(endpoint)
    return await desk.http.post(f"{door}/{endpoint}", json={"prompt": "x"})


async def statuses_of_webhook(desk: Desk, endpoint: str) -> list[Any]:
    """What the gateway answered to the webhook of the one job of `endpoint`, try by try."""
    [job] = [job for job in desk.sim.ask("GET", "jobs") if job["endpoint"] == endpoint]
    return [each["status"] for each in job["tries"]]


async def ready(gateway: Gateway) -> bool:
    async with httpx.AsyncClient(timeout=10) as http:
        return (await http.get(f"{gateway.direct}/readyz")).status_code == 200


async def taken_again(desk: Desk) -> None:
    """The gateway recovers by itself, and takes jobs as before."""
    await eventually(lambda: ready(desk.gateway))
    assert (await desk.ended((await desk.opened("fal-ai/echo")).id))["status"] == "completed"


def open_again(gate: Gate) -> None:
    """A while after it has shut by itself: longer than one more try takes."""
    assert gate.shut_at.wait(20)
    time.sleep(0.4)
    gate.open()


async def test_stopped_redis_means_503_before_fal_is_called(
    gated: Gateway, slow_sim: Simulator, gate: Gate, server: OwnRedis
) -> None:
    """SIGSTOP: it neither answers nor goes away, and every wait for it is bounded."""
    async with a_desk(gated, slow_sim) as desk:
        with paused(server.pid):
            answer, probe = await asyncio.gather(desk.submit("fal-ai/echo/stopped"), ready(gated))

        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert answer.json()["error_type"] == "store_unavailable"
        assert not probe
        assert slow_sim.calls(ends="/fal-ai/echo/stopped") == 0
        await taken_again(desk)


async def test_gone_redis_means_503_before_fal_is_called(
    gated: Gateway, slow_sim: Simulator, gate: Gate
) -> None:
    endpoint = "fal-ai/echo/gone"
    async with a_desk(gated, slow_sim) as desk:
        gate.shut()
        answers = [await submitted(desk, endpoint, door) for door in DOORS]
        probe = await ready(gated)
        gate.open()

        assert [answer.status_code for answer in answers] == [503, 503]
        assert not probe
        assert slow_sim.calls(ends=endpoint) == 0
        await taken_again(desk)


async def test_a_webhook_waits_for_redis(gated: Gateway, slow_sim: Simulator, gate: Gate) -> None:
    """503 while Redis is away; fal's next try gets in."""
    async with a_desk(gated, slow_sim) as desk:
        job = await desk.opened("fal-ai/echo/waits")
        gate.shut()
        told = desk.told(job.fal_id or "")
        gate.open()
        seen = await desk.ended(job.id)
        statuses = await statuses_of_webhook(desk, "fal-ai/echo/waits")

    assert told["tries"][0]["status"] == 503
    assert set(statuses) <= {503, 204}
    assert seen["status"] == "completed"


@pytest.mark.parametrize("door", DOORS)
async def test_redis_goes_between_fals_acceptance_and_ours(
    gated: Gateway, slow_sim: Simulator, gate: Gate, door: str
) -> None:
    """500 and the job's id, so that nobody submits again; the webhook heals the job."""
    endpoint = f"fal-ai/echo/between{door.replace('/', '-')}"
    async with a_desk(gated, slow_sim) as desk:
        gate.shut_before("accept")
        answer = await submitted(desk, endpoint, door)
        gate.open()
        told = answer.json()
        seen = await desk.ended(told["request_id"])

    assert answer.status_code == 500
    assert told["job_status"] == "unknown"
    assert slow_sim.calls(method="POST", ends=endpoint) == 1
    assert seen["status"] == "completed"
    assert seen["result"]["echo"] == {"prompt": "x"}


@pytest.mark.parametrize("door", DOORS)
async def test_redis_comes_back_in_time_for_fals_id(
    gated: Gateway, slow_sim: Simulator, gate: Gate, door: str
) -> None:
    endpoint = f"fal-ai/echo/back{door.replace('/', '-')}"
    async with a_desk(gated, slow_sim) as desk:
        gate.shut_before("accept")
        answer, _ = await asyncio.gather(
            submitted(desk, endpoint, door), asyncio.to_thread(open_again, gate)
        )
        told = answer.json()
        seen = await desk.ended(told.get("id") or told["request_id"])

    assert answer.status_code in {200, 202}
    assert slow_sim.calls(method="POST", ends=endpoint) == 1
    assert seen["status"] == "completed"


@pytest.mark.parametrize("door", DOORS)
async def test_redis_goes_right_after_fals_id_was_written(
    gated: Gateway, slow_sim: Simulator, gate: Gate, door: str
) -> None:
    """fal has the job: a 503 now would make clients submit it again."""
    endpoint = f"fal-ai/echo/after{door.replace('/', '-')}"
    async with a_desk(gated, slow_sim) as desk:
        await desk.ended((await desk.opened("fal-ai/echo")).id)  # the scripts are loaded
        gate.shut_after("accept")
        answer = await submitted(desk, endpoint, door)
        shut = await asyncio.to_thread(gate.shut_at.wait, 5)
        gate.open()
        told = answer.json()
        seen = await desk.ended(told.get("id") or told["request_id"])

    assert shut
    assert answer.status_code in {200, 202}
    assert slow_sim.calls(method="POST", ends=endpoint) == 1
    assert seen["status"] == "completed"


async def test_scripts_that_redis_has_forgotten_are_sent_again(
    gated: Gateway, slow_sim: Simulator, gate: Gate, server: OwnRedis
) -> None:
    """As after a failover: nothing is refused for it, and nothing counted twice."""
    async with a_desk(gated, slow_sim) as desk, commands(server.url) as redis:
        token = gated.token("flora", "flushed", plan="purse")
        desk.http.headers["authorization"] = f"Bearer {token}"
        for _ in range(3):
            await redis.script_flush()
            opened = await desk.submit("fal-ai/echo/flushed")
            assert opened.status_code in {200, 202}, opened.text
            await redis.script_flush()
            await desk.until(opened.json()["id"], lambda job: job.settled)
        told = (await desk.http.get("/v1/me")).json()
        used = (await desk.http.get("/v1/usage")).json()["total"]

    [budget] = told["budgets"]
    assert budget["reserved"] == "0"
    assert (used["jobs"], used["completed"]) == (3, 3)
    assert budget["spent"] == used["cost"] != "0"


async def test_fal_refuses_while_redis_is_away(
    gated: Gateway, slow_sim: Simulator, gate: Gate
) -> None:
    """Its word is passed on all the same: it has not got the job."""
    async with a_desk(gated, slow_sim) as desk:
        gate.shut_before("end")
        refused = await desk.submit("sim/fault/submit-422")
        gate.open()
        await eventually(lambda: ready(gated))
        gate.shut_before("end")
        locked = await desk.submit("sim/fault/submit-403-locked")
        gate.open()

    assert refused.status_code == 422
    assert locked.status_code == 502
    assert locked.json()["request_id"]


async def test_fal_fails_while_redis_is_away(
    gated: Gateway, slow_sim: Simulator, gate: Gate
) -> None:
    """Nobody can tell, and nobody could write it: still 500 and the job's id."""
    async with a_desk(gated, slow_sim) as desk:
        gate.shut_before("lost")
        answer = await desk.submit("sim/fault/took-500")
        gate.open()
        seen = await desk.ended(answer.json()["request_id"])

    assert answer.status_code == 500
    assert answer.json()["job_status"] == "unknown"
    assert seen["status"] == "completed"


async def test_what_nobody_heard_was_opened_holds_nothing(
    gated: Gateway, slow_sim: Simulator, gate: Gate
) -> None:
    """Its caller was told that it was not: neither money nor a place may be held for it."""
    team, endpoint = "unheard", "fal-ai/echo/unheard"
    async with a_desk(gated, slow_sim) as desk:
        await desk.ended((await desk.opened("fal-ai/echo")).id)  # the scripts are loaded
        token = gated.token("una", team, plan="purse")
        desk.http.headers["authorization"] = f"Bearer {token}"
        gate.lose_answer("open")
        answer = await desk.submit(endpoint)
        gate.open()
        await eventually(lambda: ready(gated))
        [job] = (await desk.http.get("/v1/jobs")).json()["jobs"]
        held = (await desk.job(job["id"])).held_usd
        await desk.until(job["id"], lambda job: job.settled)
        told = (await desk.http.get("/v1/me")).json()

    assert answer.status_code == 503
    assert held == 1_000_000
    assert slow_sim.calls(ends=endpoint) == 0
    [budget] = told["budgets"]
    assert (budget["reserved"], budget["spent"]) == ("0", "0")


async def test_who_waits_is_not_told_that_nothing_was_done(
    gated: Gateway, slow_sim: Simulator, gate: Gate
) -> None:
    """After a 503 it would come again, and fal would get both."""
    endpoint = "fal-ai/echo/waits-unheard"
    async with a_desk(gated, slow_sim) as desk:
        token = gated.token("wanda", "unheard", plan="queue")
        desk.http.headers["authorization"] = f"Bearer {token}"
        await desk.opened()
        gate.lose_answer("open", time=2)
        answer, _ = await asyncio.gather(desk.submit(endpoint), asyncio.to_thread(open_again, gate))
        told = answer.json()
        cancelled = await desk.http.post(f"/v1/jobs/{told['id']}/cancel")

    assert (answer.status_code, told["status"]) == (202, "queued")
    assert cancelled.status_code == 202
