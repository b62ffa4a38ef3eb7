"""One status stream for a watched job, whoever of its watchers' processes dies or falls asleep."""

import os
import secrets
import signal
from typing import Any, Final

import anyio
import httpx
import pytest
from redis.asyncio import Redis

from gateway.store import keys
from gateway.store.connect import commands
from tests.harness import Running, Simulator
from tests.held import beside, comes_true, fal_id_of, held, status_streams
from tests.listening import listen

pytestmark = pytest.mark.anyio

TAKEN_OVER: Final = 9.0
"""Seconds: a lease lives for 6, is tried for every 2, and the machine may be slow."""


def user() -> str:
    return f"user-{secrets.token_hex(6)}"


async def holder(redis: Redis, job_id: str) -> int | None:
    """The process that holds the job's status stream."""
    name: Any = await redis.get(keys.watch(job_id))
    return None if name is None else int(name.partition(b"-")[0])


async def taken_over(redis: Redis, job_id: str, former: int, within: float = TAKEN_OVER) -> int:
    with anyio.fail_after(within):
        while True:
            now = await holder(redis, job_id)
            if now is not None and now != former:
                return now
            await anyio.sleep(0.05)


async def test_a_holder_that_sleeps_is_replaced_and_what_it_says_on_waking_is_dropped(
    running: Running,
) -> None:
    """The job goes back to its queue, and runs again, while the first holder sleeps. Then the
    second one dies, and the first takes over again for the watchers that it still has."""
    sim = running.simulator(pace=8.0)
    first, second = running.gateway(sim), running.gateway(sim)
    name, endpoint = user(), f"sim/fault/requeue/{secrets.token_hex(6)}"
    async with (
        first.http(name) as here,
        second.http(name) as there,
        commands(first.redis_url) as redis,
    ):
        taken = await here.post(f"/fal/queue/{endpoint}", json={})
        job_id, fal_id = taken.json()["request_id"], fal_id_of(sim, endpoint)
        form = f"/fal/queue/sim/fault/requests/{job_id}/status/stream?logs=1"
        async with listen(here, form) as one:
            await one.until("IN_PROGRESS", 20)
            assert await holder(redis, job_id) == first.process.pid
            async with listen(there, f"/v1/jobs/{job_id}/events") as two:
                first.process.signal(signal.SIGSTOP)
                now = await taken_over(redis, job_id, first.process.pid)
                await two.until("job.log", 20)
                version = (await there.get(f"/v1/jobs/{job_id}")).json()["version"]
                first.process.signal(signal.SIGCONT)
                awake = await here.get(f"/v1/jobs/{job_id}")
                await anyio.sleep(1)
                later = await events_after(redis, job_id, version)
            second.process.kill()
            again = await taken_over(redis, job_id, second.process.pid)
            sim.ask("POST", f"end/{fal_id}")
            blocks = await one.rest()

    assert now == second.process.pid
    assert awake.status_code == 200
    assert set(later) <= {b"job.log"}
    assert again == first.process.pid
    assert blocks[-1].data["status"] == "COMPLETED"
    assert sim.calls(has=fal_id, ends="/status/stream") == 3


async def events_after(redis: Redis, job_id: str, version: str) -> list[bytes]:
    """The types of what has happened to a job since."""
    entries: Any = await redis.xrange(keys.events(job_id), f"({version}")
    return [fields[b"type"] for _, fields in entries]


async def test_a_holder_that_dies_is_replaced_by_a_worker_beside_it(
    running: Running, wide_sim: Simulator
) -> None:
    gateway = running.gateway(wide_sim, env={"GATEWAY_WORKERS": "2"})
    async with (
        gateway.http(user()) as client,
        held(client, wide_sim) as job,
        commands(gateway.redis_url) as redis,
    ):
        path = f"{job.status}/stream"
        ends: list[str] = []

        async def watch() -> None:
            """As a client that comes again when it is cut off."""
            while True:
                try:
                    async with listen(client, path) as ear:
                        ends.append((await ear.rest(40))[-1].data["status"])
                        return
                except httpx.TransportError:
                    await anyio.sleep(0.1)

        async with beside(*[watch] * 12):
            await comes_true(lambda: job.calls("/status/stream"))
            await anyio.sleep(2.5)  # the other worker has tried for the lease as well
            before = job.calls("/status/stream")
            former = await holder(redis, job.id)
            assert former in gateway.workers()
            os.kill(former, signal.SIGKILL)
            now = await taken_over(redis, job.id, former)
            await comes_true(lambda: len(gateway.workers()) == 2)
            open_now = status_streams(wide_sim)
            job.end()

    assert before == 1
    assert now in gateway.workers()
    assert open_now == 1
    assert ends == ["COMPLETED"] * 12
    assert job.calls("/status/stream") == 2
