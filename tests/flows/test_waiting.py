"""Waiting for a change, and for a result."""

import secrets
import time

import anyio
import pytest

from tests.harness import Gateway, Simulator
from tests.held import beside, comes_true, held, status_streams

pytestmark = pytest.mark.anyio


def user() -> str:
    return f"user-{secrets.token_hex(6)}"


async def test_a_long_poll_is_answered_on_the_next_change(
    wide: Gateway, wide_sim: Simulator
) -> None:
    async with wide.http(user()) as client, held(client, wide_sim, "hold-queued") as job:
        known = (await client.get(f"/v1/jobs/{job.id}")).json()

        async def end_soon() -> None:
            await anyio.sleep(0.5)
            job.end()

        async with beside(end_soon):
            began = time.monotonic()
            answer = await client.get(f"/v1/jobs/{job.id}?wait=30&after={known['version']}")
            took = time.monotonic() - began

    assert known["status"] == "queued"
    assert answer.json()["version"] != known["version"]
    assert 0.4 < took < 5


async def test_a_long_poll_is_answered_at_once_where_something_has_changed(
    wide: Gateway, wide_sim: Simulator
) -> None:
    async with wide.http(user()) as client, held(client, wide_sim) as job:
        began = time.monotonic()
        answer = await client.get(f"/v1/jobs/{job.id}?wait=30&after=1-0")

    assert answer.json()["version"] != "1-0"
    assert time.monotonic() - began < 2


async def test_a_long_poll_is_answered_at_its_deadline_where_nothing_changes(
    wide: Gateway, wide_sim: Simulator
) -> None:
    async with wide.http(user()) as client, held(client, wide_sim) as job:
        began = time.monotonic()
        answer = await client.get(f"/v1/jobs/{job.id}?wait=2.5&after=999-0")
        took = time.monotonic() - began

    assert answer.status_code == 200
    assert answer.json()["status"] == "running"
    assert 2.4 < took < 4


async def test_long_polls_one_after_the_other_tell_every_change_to_the_end(
    gateway: Gateway,
) -> None:
    async with gateway.http(user()) as client:
        job = (await client.post("/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}})).json()
        states = [job["status"]]
        while not job["ended_at"]:
            path = f"/v1/jobs/{job['id']}?wait=20&after={job['version']}"
            job = (await client.get(path)).json()
            states.append(job["status"])

    assert states[-1] == "completed"
    assert list(dict.fromkeys(states)) in (
        ["queued", "running", "completed"], ["queued", "completed"]
    )  # fmt: skip
    assert job["result"] is not None


@pytest.mark.parametrize("query", ["wait=61", "wait=-1", "wait=x", "wait=1e1", "wait=1&after=7"])
async def test_a_wait_that_is_none_is_refused(gateway: Gateway, query: str) -> None:
    async with gateway.http(user()) as client:
        job = (await client.post("/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}})).json()
        refused = await client.get(f"/v1/jobs/{job['id']}?{query}")
        taken = await client.get(f"/v1/jobs/{job['id']}?wait=60")

    assert refused.status_code == 400
    assert refused.json()["error_type"] == "bad_body"
    assert taken.status_code == 200


async def test_a_result_is_held_until_the_job_ends(wide: Gateway, wide_sim: Simulator) -> None:
    async with wide.http(user()) as client, held(client, wide_sim) as job:

        async def end_soon() -> None:
            await anyio.sleep(1)
            job.end(b'{"loud": true}')

        async with beside(end_soon):
            answer = await client.get(job.status.removesuffix("/status"))

    assert answer.status_code == 200
    assert answer.json() == {"loud": True}
    assert answer.headers["x-fal-request-id"] == job.id


async def test_a_result_of_an_open_job_is_held_for_twenty_seconds_then_in_progress(
    wide: Gateway, wide_sim: Simulator
) -> None:
    async with wide.http(user()) as client, held(client, wide_sim) as job:
        began = time.monotonic()
        answer = await client.get(job.status.removesuffix("/status"))
        took = time.monotonic() - began
        own = await client.get(f"/v1/jobs/{job.id}/result")
        await comes_true(lambda: not status_streams(wide_sim))

    assert answer.status_code == 400
    assert answer.json()["detail"] == "Request is still in progress"
    assert 19 < took < 24
    assert own.status_code == 409
