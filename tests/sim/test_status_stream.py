"""The status stream: row 21."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from tests.sim.conftest import Fal, eventually, simulator

pytestmark = pytest.mark.anyio


async def streams(fal: Fal, count: int) -> None:
    """Wait until that many status streams are open."""

    async def open_now() -> bool:
        return bool((await fal.sim("connections"))["status_streams"] == count)

    await eventually(open_now)


async def test_events_up_to_the_end(fal: Fal) -> None:
    job = await fal.job("fal-ai/flux")

    reply = await fal.http.get(f"{job}/status/stream?logs=1")

    lines = [line for line in reply.text.split("\n\n") if line.startswith("data: ")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    statuses = [event["status"] for event in events]
    logs = [entry["message"] for event in events for entry in event["logs"]]
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert statuses[0] == "IN_QUEUE"
    assert statuses[-1] == "COMPLETED"
    assert statuses == sorted(statuses, key=["IN_QUEUE", "IN_PROGRESS", "COMPLETED"].index)
    assert logs == [entry["message"] for entry in (await fal.status(job, True)).json()["logs"]]
    assert len(logs) > 4
    assert len([event for event in events if event["status"] == "IN_PROGRESS"]) > 1


async def test_without_logs(fal: Fal) -> None:
    job = await fal.job("fal-ai/flux")

    reply = await fal.http.get(f"{job}/status/stream")

    events = [json.loads(line[6:]) for line in reply.text.split("\n\n") if line[:5] == "data:"]
    assert {event["logs"] for event in events} == {None}
    assert [event["status"] for event in events].count("IN_PROGRESS") == 1


async def test_comments_keep_it_alive(tmp_path: Path) -> None:
    async with simulator(tmp_path, pace=0.01) as fal:
        job = await fal.job("sim/fault/hold")
        async with fal.http.stream("GET", f"{job}/status/stream") as reply:
            async for line in reply.aiter_lines():
                if line.startswith(":"):
                    break

        await fal.http.post(f"/_sim/end/{job.rsplit('/', 1)[1]}", json={})
        whole = await fal.http.get(f"{job}/status/stream")

    assert whole.text.count("data: ") == 1


async def test_open_streams_are_counted(fal: Fal) -> None:
    """Up while somebody reads, down when he hangs up, down at the end."""
    job = await fal.job("sim/fault/hold")

    async with fal.http.stream("GET", f"{job}/status/stream"):
        await streams(fal, 1)
        async with fal.http.stream("GET", f"{job}/status/stream") as second:
            await streams(fal, 2)
            await fal.http.post(f"/_sim/end/{job.rsplit('/', 1)[1]}", json={})
            assert "COMPLETED" in (await second.aread()).decode()
    await streams(fal, 0)


async def test_stream_of_a_reader_who_left(fal: Fal) -> None:
    job = await fal.job("sim/fault/hold")
    async with fal.http.stream("GET", f"{job}/status/stream"):
        await streams(fal, 1)

    await streams(fal, 0)


async def test_stream_can_be_cut(fal: Fal) -> None:
    job = await fal.job("sim/fault/stream-cut")

    for url in (f"{job}/status/stream", "/fal.run/sim/fault/stream-cut/stream"):
        method = "POST" if "/fal.run/" in url else "GET"
        with pytest.raises(httpx.RemoteProtocolError):
            await fal.http.request(method, url)
    assert (await fal.result(job)).status_code == 200


async def test_reset_lets_streams_go(fal: Fal) -> None:
    job = await fal.job("sim/fault/hold")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fal.http.get(f"{job}/status/stream"))
        await streams(fal, 1)
        await fal.http.post("/_sim/reset")

    assert (await fal.status(job)).status_code == 404
