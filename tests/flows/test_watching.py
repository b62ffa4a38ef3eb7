"""A job costs fal one submit, one status stream and one result, however many people watch it."""

import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Final

import anyio
import httpx
import pytest

from gateway.store import keys
from gateway.store.connect import commands
from tests.harness import Gateway, Running, Simulator
from tests.held import Held, comes_true, held, status_streams
from tests.listening import listen

pytestmark = pytest.mark.anyio

CROWD: Final = 50

Watch = Callable[[httpx.AsyncClient, str], Coroutine[Any, Any, None]]


def user() -> str:
    return f"user-{secrets.token_hex(6)}"


async def poll_to_the_end(client: httpx.AsyncClient, path: str) -> None:
    """As fal's clients do, with logs, and then the result."""
    while True:
        answer = await client.get(f"{path}/status?logs=1")
        if answer.json()["status"] == "COMPLETED":
            break
        await anyio.sleep(0.1)
    assert (await client.get(path)).status_code == 200


async def stream_to_the_end(client: httpx.AsyncClient, path: str) -> None:
    async with listen(client, f"{path}/status/stream?logs=1") as ear:
        blocks = await ear.rest(30)
    assert blocks[-1].data["status"] == "COMPLETED"
    assert (await client.get(path)).status_code == 200


def asked(job: Held) -> dict[str, int]:
    """What fal was asked about a job."""
    return {
        "submit": job.sim.calls(method="POST", ends=job.endpoint),
        "status": job.calls("/status"),
        "stream": job.calls("/status/stream"),
        "result": job.sim.calls(method="GET", ends=job.fal_id),
    }


@pytest.mark.parametrize("watch", [poll_to_the_end, stream_to_the_end])
async def test_fal_is_asked_as_often_for_fifty_watchers_as_for_one(
    wide: Gateway, wide_sim: Simulator, watch: Watch
) -> None:
    """All of them watch before the job ends."""
    costs = []
    for crowd in (1, CROWD):
        limits = httpx.Limits(max_connections=CROWD + 2)
        async with wide.http(user()) as plain:
            headers = dict(plain.headers)
        async with (
            httpx.AsyncClient(
                base_url=wide.url, headers=headers, limits=limits, timeout=60
            ) as client,
            held(client, wide_sim) as job,
        ):
            path = job.status.removesuffix("/status")
            async with anyio.create_task_group() as tasks:
                for _ in range(crowd):
                    tasks.start_soon(watch, client, path)
                await comes_true(lambda: job.calls("/status/stream"))
                await anyio.sleep(1)
                job.end()
        await comes_true(lambda: asked(job)["result"])  # its head, for the units
        costs.append(asked(job))

    assert costs[0] == costs[1]
    assert costs[0]["submit"] == 1
    assert costs[0]["stream"] == 1
    assert costs[0]["status"] == 0
    assert costs[0]["result"] == 1


async def test_two_gateways_with_watchers_hold_one_stream(
    running: Running, wide: Gateway, wide_sim: Simulator
) -> None:
    other = running.gateway(wide_sim)
    name = user()
    async with (
        wide.http(name) as here,
        other.http(name) as there,
        held(here, wide_sim) as job,
        listen(here, f"{job.status}/stream?logs=1") as one,
        listen(there, f"{job.status}/stream?logs=1") as two,
        listen(there, f"/v1/jobs/{job.id}/events") as three,
    ):
        await one.until("IN_PROGRESS")
        await two.until("IN_PROGRESS")
        await three.until("job.log")
        await anyio.sleep(3)  # both have tried for the lease again by then
        streams = job.calls("/status/stream")
        job.end()
        ends = [await one.rest(), await two.rest(), await three.rest()]

    assert streams == 1
    assert job.calls("/status/stream") == 1
    assert [block[-1].data["status"] for block in ends] == ["COMPLETED", "COMPLETED", "completed"]


async def test_a_stream_at_fal_ends_when_the_last_stream_of_ours_does(
    wide: Gateway, wide_sim: Simulator
) -> None:
    async with wide.http(user()) as client, held(client, wide_sim) as job:
        async with listen(client, f"{job.status}/stream") as staying:
            async with listen(client, f"/v1/jobs/{job.id}/events"):
                await comes_true(lambda: status_streams(wide_sim))
            await anyio.sleep(3)
            assert status_streams(wide_sim) == 1
            assert job.calls("/status/stream") == 1
            await staying.event()
        await comes_true(lambda: not status_streams(wide_sim), 5)

        assert not (await client.get(f"/v1/jobs/{job.id}")).json()["ended_at"]


async def test_a_poll_counts_as_watching_for_a_while(wide: Gateway, wide_sim: Simulator) -> None:
    """Also one that came before a stream that has left."""
    async with wide.http(user()) as client, held(client, wide_sim) as job:
        async with listen(client, f"{job.status}/stream") as ear:
            await ear.event()
            await comes_true(lambda: status_streams(wide_sim))
            await client.get(job.status)
        await anyio.sleep(10)
        assert status_streams(wide_sim) == 1
        await comes_true(lambda: not status_streams(wide_sim), 9)

    assert job.calls("/status/stream") == 1


async def test_asking_about_an_ended_job_asks_fal_nothing(
    wide: Gateway, wide_sim: Simulator
) -> None:
    async with wide.http(user()) as client:
        async with held(client, wide_sim) as job:
            job.end()
            await client.get(f"/v1/jobs/{job.id}?wait=10&after=999-0")
        await comes_true(lambda: not status_streams(wide_sim))
        before = wide_sim.calls(has=job.fal_id)
        path = job.status.removesuffix("/status")
        for ask in (job.status, f"{job.status}?logs=1", path, f"/v1/jobs/{job.id}?wait=1"):
            assert (await client.get(ask)).status_code == 200
        await stream_to_the_end(client, path)
        assert (await client.get(f"/v1/jobs/{job.id}/events")).status_code == 200

    assert wide_sim.calls(has=job.fal_id) == before


async def test_a_job_that_cannot_be_read_does_no_harm_to_others(
    running: Running, sim: Simulator, redis_url: str
) -> None:
    """One broken task must not end the process's others, nor leave it alive and useless."""
    gateway = running.gateway(sim, redis_url=f"{redis_url}?db=11")
    async with gateway.http() as client, commands(f"{redis_url}?db=11") as redis:
        taken = await client.post("/v1/jobs", json={"endpoint": "sim/fault/hold", "input": {}})
        path = f"/v1/jobs/{taken.json()['id']}"
        assert (await client.get(path)).status_code == 200
        key = keys.job(taken.json()["id"])
        broken: Any = redis.hset(key, mapping={"created": "of a later version", "fal_id": ""})
        await broken
        assert (await client.get(path)).status_code == 500
        await anyio.sleep(3)  # its watch comes across it too
        after = await client.post("/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}})
        ended = await client.get(f"/v1/jobs/{after.json()['id']}?wait=10&after=999-0")
        ready = await client.get("/readyz")

    assert ended.json()["status"] == "completed"
    assert ready.status_code == 200
