"""Runs and streams: rows 22 and 23."""

import json

import pytest

from tests.sim.conftest import Fal

pytestmark = pytest.mark.anyio


def data_of(stream: str) -> list[object]:
    """The data of each event of an event stream."""
    assert stream.endswith("\n\n")
    return [json.loads(event.removeprefix("data: ")) for event in stream.split("\n\n")[:-1]]


async def test_run_answers_with_the_output(fal: Fal) -> None:
    reply = await fal.http.post("/fal.run/fal-ai/flux/dev", json={"prompt": "a dog"})

    assert reply.json() == {"echo": {"prompt": "a dog"}, "endpoint": "fal-ai/flux/dev"}
    assert reply.headers["x-fal-request-id"]
    assert reply.headers["x-fal-billable-units"] == "1"


async def test_stream_ends_with_the_output(fal: Fal) -> None:
    reply = await fal.http.post("/fal.run/fal-ai/flux/dev/stream", json={"prompt": "a dog"})

    events = data_of(reply.text)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["x-fal-request-id"]
    assert len(events) == 6
    assert events[-1] == {"echo": {"prompt": "a dog"}, "endpoint": "fal-ai/flux/dev"}


async def test_slow_stream_has_more_events(fal: Fal) -> None:
    reply = await fal.http.post("/fal.run/sim/fault/slow-stream/stream", json={})

    assert len(data_of(reply.text)) == 11


async def test_refused_input_makes_no_stream(fal: Fal) -> None:
    reply = await fal.http.post("/fal.run/sim/fault/fail-422/stream", json={})

    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/json"


async def test_over_concurrency(fal: Fal) -> None:
    reply = await fal.http.post("/fal.run/sim/fault/overlap-429", json={})

    assert reply.status_code == 429
    assert reply.headers["x-fal-needs-retry"] == "1"
    assert reply.json()["error_type"] == "concurrent_requests_limit"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("fail-422", 422),
        ("fail-503", 503),
        ("timeout-504", 504),
        ("cancelled", 499),
        ("submit-401", 401),
        ("submit-500", 500),
        ("submit-502-html", 502),
        ("took-500", 500),
        ("unreadable-2xx", 200),
        ("redirect", 302),
        ("hold-queued-typo", 404),
    ],
)
async def test_faults_of_runs(fal: Fal, fault: str, status: int) -> None:
    reply = await fal.http.post(f"/fal.run/sim/fault/{fault}", json={})

    assert reply.status_code == status
