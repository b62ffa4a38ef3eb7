"""Alive, ready, and how a gateway leaves."""

import asyncio
import secrets
import signal
import socket
import ssl
import time

import anyio
import httpx
import pytest

from gateway.store.server import own_redis
from tests.chaos.gate import Gate
from tests.clients.fal_python import certified, over_tls
from tests.harness import Files, Gateway, Running, Simulator
from tests.held import beside, comes_true, held
from tests.listening import listen

pytestmark = pytest.mark.anyio


def user() -> str:
    return f"user-{secrets.token_hex(6)}"


def ready(gateway: Gateway) -> int | None:
    """The status of /readyz; None where nobody listens."""
    try:
        return httpx.get(f"{gateway.direct}/readyz", timeout=10).status_code
    except httpx.TransportError:
        return None


async def exit_code(gateway: Gateway, within: float = 30.0) -> int:
    popen = gateway.process.popen
    assert popen is not None
    code: int = await anyio.to_thread.run_sync(lambda: popen.wait(within))
    return code


async def test_readiness_follows_redis_and_liveness_does_not(
    running: Running, sim: Simulator
) -> None:
    with own_redis(running.files.folder("redis")) as url, Gate(url) as gate:
        gateway = running.gateway(sim, redis_url=gate.url)
        async with gateway.http(user()) as client:
            first = ready(gateway)
            gate.shut()
            away, alive = await client.get("/readyz"), await client.get("/healthz")
            gate.open()
            await comes_true(lambda: ready(gateway) == 200)
            taken = await client.post("/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}})
        assert gateway.process.stop() == 0

    assert (first, away.status_code, alive.status_code) == (200, 503, 200)
    assert away.json() == {"status": "redis out of reach"}
    assert taken.status_code == 202


async def test_a_stop_does_not_wait_for_idle_tls_connections(
    running: Running, sim: Simulator, files: Files
) -> None:
    """Their clients keep them for later, and look at them then."""
    seen = certified(files)
    gateway = over_tls(running, sim, files, seen).gateway
    trust = ssl.create_default_context(cafile=seen.ca)
    with (
        socket.create_connection(("127.0.0.1", gateway.port), 10) as line,
        trust.wrap_socket(line, server_hostname="127.0.0.1") as kept,
    ):
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(1000).startswith(b"HTTP/1.1 200")
        code = await asyncio.to_thread(gateway.process.stop, 15)  # the grace is 25

    assert code == 0


async def test_a_stop_turns_readiness_off_first_and_serves_on_meanwhile(
    running: Running, sim: Simulator
) -> None:
    gateway = running.gateway(sim, env={"GATEWAY_DRAIN_DELAY": "2"})
    async with gateway.http(user()) as client:
        gateway.process.signal(signal.SIGTERM)
        began = time.monotonic()
        await comes_true(lambda: ready(gateway) == 503, 1.5)
        taken = await client.post("/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}})
        code = await exit_code(gateway)
        took = time.monotonic() - began

    assert taken.status_code == 202
    assert code == 0
    assert took > 1.9
    assert ready(gateway) is None


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stop_ends_within_its_grace_with_streams_open(
    running: Running, wide_sim: Simulator, workers: int
) -> None:
    """Ours are told to come again, and end; fal's form is cut, which no client takes for an end.
    A second signal changes nothing."""
    env = {"GATEWAY_WORKERS": str(workers), "GATEWAY_DRAIN_GRACE": "3"}
    gateway = running.gateway(wide_sim, env=env)
    async with (
        gateway.http(user()) as client,
        held(client, wide_sim) as job,
        listen(client, f"/v1/jobs/{job.id}/events") as own,
        listen(client, "/v1/events") as every,
        listen(client, f"{job.status}/stream?logs=1") as form,
    ):
        await own.until("job.started")
        await form.until("IN_PROGRESS")
        waiting: list[httpx.Response] = []

        async def wait() -> None:
            waiting.append(await client.get(f"/v1/jobs/{job.id}?wait=60&after=999-0"))

        async with beside(wait):
            await anyio.sleep(0.5)
            gateway.process.signal(signal.SIGTERM)
            began = time.monotonic()
            rest = [await own.rest(), await every.rest()]
            gateway.process.signal(signal.SIGTERM)
        told = time.monotonic() - began
        with pytest.raises(httpx.RemoteProtocolError):
            await form.rest()
        cut = time.monotonic() - began
        code = await exit_code(gateway)
        took = time.monotonic() - began

    assert all(blocks[-1].field("retry") for blocks in rest)
    assert waiting[0].status_code == 200
    assert waiting[0].json()["status"] == "running"
    assert told < 2.5
    assert 2.5 < cut < 6
    assert took < 10
    assert code == 0
    assert "Traceback" not in gateway.log_lines()


async def test_a_job_that_ends_while_its_gateway_drains_is_told_to_the_end(
    running: Running, wide_sim: Simulator
) -> None:
    gateway = running.gateway(wide_sim, env={"GATEWAY_DRAIN_GRACE": "10"})
    async with (
        gateway.http(user()) as client,
        held(client, wide_sim) as job,
        listen(client, f"{job.status}/stream") as form,
    ):
        await form.until("IN_PROGRESS")
        gateway.process.signal(signal.SIGTERM)
        await comes_true(lambda: ready(gateway) is None)
        job.end()
        blocks = await form.rest()
        code = await exit_code(gateway, 5)

    assert blocks[-1].data["status"] == "COMPLETED"
    assert code == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_submit_that_fal_answers_late_is_finished_before_a_stop(
    running: Running, workers: int
) -> None:
    slow = running.simulator(pace=3.0)
    gateway = running.gateway(slow, env={"GATEWAY_WORKERS": str(workers)})
    async with gateway.http(user()) as client:
        answers: list[httpx.Response] = []

        async def submit() -> None:
            body = {"endpoint": "sim/fault/webhook-first", "input": {}}
            answers.append(await client.post("/v1/jobs", json=body))

        async with beside(submit):
            await comes_true(lambda: slow.calls(method="POST"))
            gateway.process.signal(signal.SIGTERM)
            code = await exit_code(gateway)

    assert code == 0
    assert answers[0].status_code == 202
    assert slow.calls(method="POST") == 1
