"""Processes killed between any two steps: what fal took is not lost, and not taken twice."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from gateway.core.model import Job, State
from gateway.store import keys
from gateway.store.server import OwnRedis
from tests.chaos.gate import Gate
from tests.flows.desk import HELD, Desk, a_desk, eventually
from tests.harness import Gateway, Running, Simulator, free_port, wait_for
from tests.kernel import connections

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def started(
    running: Running, sim: Simulator, user: str, redis_url: str, workers: int = 1
) -> AsyncGenerator[Desk]:
    """A gateway of the test's own, dead in the end."""
    env = {"GATEWAY_WORKERS": str(workers)}
    gateway = running.gateway(sim, env=env, redis_url=redis_url)
    try:
        async with a_desk(gateway, sim, user) as desk:
            yield desk
    finally:
        if gateway.process.popen is not None and gateway.process.popen.poll() is None:
            gateway.process.kill()


def own(gateway: Gateway) -> list[int]:
    """The processes that serve."""
    return gateway.workers() or [gateway.process.pid]


async def taken(sim: Simulator, endpoint: str) -> bool:
    """Has fal taken a job of this endpoint?"""
    return any(job["endpoint"] == endpoint for job in sim.ask("GET", "jobs"))


async def the_job(desk: Desk) -> Job:
    """The one job in this Redis, as its worker left it."""
    found: Any = await desk.redis.keys(keys.job("*").replace("{*}", "*"))
    [key] = found
    return await desk.job(key.decode().rpartition(":")[2])


async def sent(desk: Desk, endpoint: str) -> None:
    with suppress(httpx.TransportError):
        await desk.submit(endpoint)


@pytest.mark.parametrize(
    ("workers", "fault"),
    [(1, "accept-then-hang"), (2, "accept-then-hang"), (2, "webhook-late")],
)
async def test_a_worker_dies_between_fals_acceptance_and_ours(
    running: Running, slow_sim: Simulator, mortal_redis: OwnRedis, workers: int, fault: str
) -> None:
    """kill -9. The ledger knows the job, the webhook's ticket heals it, nobody sends it again."""
    endpoint = f"sim/fault/{fault}/{workers}"
    with Gate(mortal_redis.url) as gate:
        async with started(running, slow_sim, "bereft", gate.url, workers) as desk:
            if fault != "accept-then-hang":
                gate.shut_before("accept")  # fal has answered; the write is under way
            client = asyncio.ensure_future(sent(desk, endpoint))
            await eventually(lambda: taken(slow_sim, endpoint))
            if fault != "accept-then-hang":
                assert await asyncio.to_thread(gate.shut_at.wait, 10)
            [holder] = [pid for pid in own(desk.gateway) if connections(pid, slow_sim.port)]
            kill(desk.gateway, holder)
            gate.open()
            job = await the_job(desk)
            await client
            revive(desk.gateway, holder)
            seen = await desk.ended(job.id)
            events = await desk.events(job.id)

    assert (job.state, job.fal_id) == (State.QUEUED, None)
    assert seen["status"] == "completed"
    assert seen["result"]["echo"] == {"prompt": "x"}
    assert events.count("job.completed") == 1
    assert slow_sim.calls(method="POST", ends=endpoint) == 1


def kill(gateway: Gateway, pid: int) -> None:
    if pid == gateway.process.pid:
        gateway.process.kill()
    else:
        os.kill(pid, signal.SIGKILL)


def revive(gateway: Gateway, pid: int) -> None:
    """Start it again, or wait until its parent has."""
    if pid == gateway.process.pid:
        gateway.start()
    wait_for(lambda: pid not in gateway.workers())


@pytest.mark.parametrize("script", ["accept", "end"])
async def test_a_gateway_dies_right_after_a_write(
    running: Running, slow_sim: Simulator, mortal_redis: OwnRedis, script: str
) -> None:
    """accept: as if nothing had happened. end: fal tells it again, and there is one end."""
    endpoint = f"fal-ai/echo/after-{script}"
    with Gate(mortal_redis.url) as gate:
        async with started(running, slow_sim, "bereft", gate.url) as desk:
            await desk.ended((await desk.opened("fal-ai/echo/first")).id)  # scripts are loaded
            gate.shut_after(script)
            client = asyncio.ensure_future(sent(desk, endpoint))
            assert await asyncio.to_thread(gate.shut_at.wait, 10)
            desk.gateway.process.kill()
            await client
            gate.open()
            desk.gateway.start()
            jobs = (await desk.http.get("/v1/jobs")).json()["jobs"]
            [job_id] = [job["id"] for job in jobs if job["endpoint"] == endpoint]
            seen = await desk.ended(job_id)
            events = await desk.events(job_id)

    assert seen["status"] == "completed"
    assert events.count("job.completed") == 1
    assert slow_sim.calls(method="POST", ends=endpoint) == 1


async def test_a_restart_with_a_job_in_flight(
    running: Running, slow_sim: Simulator, mortal_redis: OwnRedis
) -> None:
    """SIGTERM. The job ends while nobody serves; fal tells it until somebody does."""
    async with started(running, slow_sim, "patient", mortal_redis.url) as desk:
        job = await desk.opened("fal-ai/echo")
        code = desk.gateway.process.stop()
        told = desk.told(job.fal_id or "")
        desk.gateway.start()
        seen = await desk.ended(job.id)

    assert code == 0
    assert told["tries"][0]["status"] is None
    assert seen["status"] == "completed"


async def test_a_stop_lets_a_submit_end(
    running: Running, slow_sim: Simulator, mortal_redis: OwnRedis
) -> None:
    """SIGTERM while fal has not answered yet: the client gets its job, then the process ends."""
    async with started(running, slow_sim, "in-time", mortal_redis.url) as desk:
        client = asyncio.ensure_future(desk.submit("sim/fault/webhook-first/stop"))
        await eventually(lambda: taken(slow_sim, "sim/fault/webhook-first/stop"))
        desk.gateway.process.signal(signal.SIGTERM)
        answer = await client
        code = await asyncio.to_thread(desk.gateway.process.stop)
        job = await desk.job(answer.json()["id"])

    assert code == 0
    assert answer.status_code == 202
    assert job.fal_id is not None


async def test_a_submit_outlives_its_request(
    running: Running, slow_sim: Simulator, mortal_redis: OwnRedis
) -> None:
    """The stop's grace ends before fal answers: the client is cut, fal's id is written."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    env = {"GATEWAY_DRAIN_GRACE": "0", "GATEWAY_PUBLIC_URL": nowhere}
    endpoint = "sim/fault/webhook-first/outlive"
    gateway = running.gateway(slow_sim, env=env, redis_url=mortal_redis.url)
    async with a_desk(gateway, slow_sim, "cut-off") as desk:
        client = asyncio.ensure_future(sent(desk, endpoint))
        await eventually(lambda: taken(slow_sim, endpoint))
        code = await asyncio.to_thread(gateway.process.stop)
        await client
        job = await the_job(desk)

    assert code == 0
    assert job.fal_id is not None


async def test_kill_with_a_redis_of_its_own(running: Running, slow_sim: Simulator) -> None:
    """kill -9 takes its Redis along; the next gateway finds all that was written."""
    gateway = running.gateway(slow_sim, redis_url="")
    async with gateway.http() as http:
        body = {"endpoint": HELD, "input": {"prompt": "x"}}
        held = (await http.post("/v1/jobs", json=body)).json()
        quick = (await http.post("/v1/jobs", json=body | {"endpoint": "fal-ai/echo"})).json()
        gateway.process.kill()
        gateway.start()
        for job in (held, quick):
            while job["status"] not in {"completed", "failed"}:
                if job["id"] == held["id"]:
                    end_all_held(slow_sim)
                job = (
                    await http.get(
                        f"/v1/jobs/{job['id']}", params={"wait": "20", "after": job["version"]}
                    )
                ).json()
            result = await http.get(f"/v1/jobs/{job['id']}/result")
            assert result.status_code == 200
        listed = (await http.get("/v1/jobs")).json()["jobs"]

    assert {job["id"] for job in listed} == {held["id"], quick["id"]}
    assert gateway.process.stop() == 0


def end_all_held(sim: Simulator) -> None:
    for job in sim.ask("GET", "jobs"):
        if job["endpoint"] == HELD and job["http_status"] is None:
            sim.ask("POST", f"end/{job['request_id']}", json={"ended": True})
