"""fal's status stream as its clients expect it, and readers that do not read."""

import secrets
import time
from functools import partial
from typing import Final

import pytest
from redis.asyncio import Redis

from tests.harness import Gateway, Simulator
from tests.held import Deaf, comes_true, held, log_line
from tests.listening import listen

pytestmark = pytest.mark.anyio

CUT_WITHIN: Final = 60.0
"""Seconds: 15 for the client to make room, 20 for the system to give it up, and slack."""


def user() -> str:
    return f"user-{secrets.token_hex(6)}"


async def test_a_status_stream_tells_the_state_now_then_changes_to_the_end(
    wide: Gateway, wide_sim: Simulator
) -> None:
    async with (
        wide.http(user()) as client,
        held(client, wide_sim, "hold-queued") as job,
        listen(client, f"{job.status}/stream?logs=1") as ear,
    ):
        first = await ear.event()
        job.end()
        rest = await ear.rest()

    assert ear.response.headers["content-type"].startswith("text/event-stream")
    assert ear.response.headers["x-fal-request-id"] == job.id
    assert first is not None
    assert first.data["status"] == "IN_QUEUE"
    assert rest[-1].data["status"] == "COMPLETED"
    assert rest[-1].data["request_id"] == job.id
    told = [first, *(block for block in rest if not block.comment)]
    assert all(
        set(line.split(":")[0] for line in block.raw.split("\n")) == {"data"} for block in told
    )
    assert all(block.raw.isascii() for block in told)


async def test_log_lines_come_once_each_and_only_if_asked_for(
    wide: Gateway, wide_sim: Simulator, wide_redis: Redis
) -> None:
    async with wide.http(user()) as client, held(client, wide_sim) as job:
        await log_line(wide_redis, job, "before")
        async with (
            listen(client, f"{job.status}/stream?logs=1") as with_logs,
            listen(client, f"{job.status}/stream") as without,
        ):
            first = await with_logs.event()
            await log_line(wide_redis, job, "between")
            await log_line(wide_redis, job, "guitar \U0001f3b8")
            job.end()
            events = [first, *(block for block in await with_logs.rest() if not block.comment)]
            plain = [block for block in await without.rest() if not block.comment]

    messages = [line["message"] for event in events if event for line in event.data["logs"]]
    mine = [text for text in messages if text in {"before", "between", "guitar \U0001f3b8"}]
    assert mine == ["before", "between", "guitar \U0001f3b8"]
    assert len(messages) == len(set(messages))
    assert all(event is not None and event.raw.isascii() for event in events)
    assert all(block.data["logs"] is None for block in plain)
    assert plain[-1].data["status"] == "COMPLETED"


@pytest.mark.parametrize("form", ["proxy", "host"])
async def test_the_stream_of_an_ended_job_is_its_end(gateway: Gateway, form: str) -> None:
    async with gateway.http(user()) as client:
        submitted = await client.post("/fal/queue/fal-ai/echo", json={})
        job_id = submitted.json()["request_id"]
        await client.get(f"/fal/queue/fal-ai/echo/requests/{job_id}")
        headers, path = {}, f"/fal/queue/fal-ai/echo/requests/{job_id}/status/stream"
        if form == "proxy":
            target = f"https://queue.fal.run/fal-ai/echo/requests/{job_id}/status/stream?logs=1"
            headers, path = {"x-fal-target-url": target}, "/api/fal/proxy"
        async with listen(client, path, headers) as ear:
            blocks = await ear.rest()

    assert [block.data["status"] for block in blocks] == ["COMPLETED"]
    base = "https://queue.fal.run" if form == "proxy" else f"{gateway.url}/fal/queue"
    assert blocks[0].data["response_url"] == f"{base}/fal-ai/echo/requests/{job_id}"


def cut_off(gateway: Gateway, port: int) -> bool:
    """Has the gateway's end of the connection from `port` gone?"""
    own, other = f":{gateway.port:04X}", f":{port:04X}"
    with open("/proc/net/tcp") as lines:
        for line in list(lines)[1:]:
            (
                _,
                local,
                remote,
                state,
                *_,
            ) = line.split()
            if local.endswith(own) and remote.endswith(other) and state in {"01", "04", "05", "08"}:
                return False
    return True


def memory(gateway: Gateway) -> int:
    """Bytes of main memory that the gateway's process holds."""
    with open(f"/proc/{gateway.process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


async def test_a_client_that_does_not_read_is_cut_and_costs_little(
    wide: Gateway, wide_sim: Simulator, wide_redis: Redis
) -> None:
    """Of a stored result, one that comes from fal, and both kinds of stream; others go on."""
    name = user()
    deaf: dict[str, Deaf] = {}
    async with wide.http(name) as client, held(client, wide_sim) as job:
        ids = {}
        for size in (12, 40):
            answer = await client.post(
                "/v1/jobs", json={"endpoint": f"sim/fault/big/{size}", "input": {}}
            )
            ids[size] = answer.json()["id"]
            ended = await client.get(f"/v1/jobs/{ids[size]}?wait=20&after=999-0")
            assert ended.json()["status"] == "completed", ended.text
        before = memory(wide)
        try:
            deaf["stored"] = Deaf(wide, name, f"/v1/jobs/{ids[12]}/result")
            deaf["at fal"] = Deaf(wide, name, f"/v1/jobs/{ids[40]}/result")
            deaf["events"] = Deaf(wide, name, f"/v1/jobs/{job.id}/events")
            deaf["status"] = Deaf(wide, name, f"{job.status}/stream?logs=1")
            began = time.monotonic()
            for count in range(250):
                await log_line(wide_redis, job, f"{count} " + "x" * 950)
            assert not cut_off(wide, deaf["events"].port)
            async with listen(client, f"{job.status}/stream?logs=1") as other:
                first = await other.event()
            result = await client.get(f"/v1/jobs/{ids[12]}/result")
            assert first is not None
            assert len(result.content) == 12 * 2**20
            held_now = memory(wide) - before
            for one in deaf.values():
                await comes_true(partial(cut_off, wide, one.port), CUT_WITHIN)
            took = time.monotonic() - began
        finally:
            for one in deaf.values():
                one.close()
        streams = wide_sim.ask("GET", "connections")["held"]

    assert took > 10.0
    assert held_now < 60 * 2**20
    assert streams == 0
