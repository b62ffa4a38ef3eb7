"""`@fal-ai/client` in Node, with the gateway as its `proxyUrl`."""

import json
from hashlib import sha256
from typing import Any

import httpx
import pytest
from anyio import Path

from tests.clients import programs
from tests.clients.conftest import CLIP_SECONDS
from tests.clients.programs import Node
from tests.clients.servers import Site
from tests.clients.sound import duration
from tests.harness import CANARY, Gateway, Simulator, leaks, wait_for

pytestmark = pytest.mark.anyio
programs.node_needed()

AUDIO = "fal-ai/stable-audio-25/audio-to-audio"
MIB = 2**20


def access(gateway: Gateway, **claims: Any) -> dict[str, Any]:
    """What a script needs to reach the gateway as a user."""
    return {"proxy": f"{gateway.url}/api/fal/proxy", "token": gateway.token(**claims)}


async def fetched(url: str) -> bytes:
    async with httpx.AsyncClient() as http:
        answer = await http.get(url)
    assert answer.status_code == 200
    return answer.content


async def transformed(value: dict[str, Any]) -> float:
    """Seconds of the clip that a result leads to."""
    return duration(await fetched(value["data"]["audio"]["url"]))


@pytest.mark.parametrize("options", [{"pollInterval": 50}, {"mode": "streaming"}], ids=str)
async def test_subscribe_from_a_file_to_a_clip_of_the_wished_length(
    node: Node, stage: Gateway, clip: str, options: dict[str, Any]
) -> None:
    """The main job: upload, queue position, logs, result."""
    told = await node(
        "subscribe",
        **access(stage),
        endpoint=AUDIO,
        clip=clip,
        input={"prompt": "Post rock, guitars, bass", "strength": 0.8, "total_seconds": 5},
        options=options,
    )

    value, updates = told["value"], told["updates"]
    positions = [each["queue_position"] for each in updates if each["status"] == "IN_QUEUE"]
    running = [each for each in updates if each["status"] == "IN_PROGRESS"]
    logs = [line["message"] for line in updates[-1]["logs"]]
    assert value["requestId"] == told["enqueued"] == updates[0]["request_id"]
    assert max(positions) > 0
    assert any(each["logs"] for each in running)
    assert updates[-1]["status"] == "COMPLETED"
    assert logs[0] == "Loading model"
    assert len(logs) == len(set(logs)) >= 6
    assert isinstance(value["data"]["seed"], int)
    assert await transformed(value) == 5.0


async def test_run_answers_at_once(node: Node, gateway: Gateway) -> None:
    told = await node("run", **access(gateway), endpoint="fal-ai/echo", input={"n": 7})

    assert told["value"]["data"]["echo"] == {"n": 7}
    assert told["value"]["requestId"]


async def test_stream_yields_each_event_and_ends_with_the_output(
    node: Node, gateway: Gateway
) -> None:
    told = await node("stream", **access(gateway), endpoint="fal-ai/echo", input={"n": 8})

    assert [each["progress"] for each in told["events"][:-1]] == [0.2, 0.4, 0.6, 0.8, 1]
    assert told["events"][-1] == told["value"] == {"echo": {"n": 8}, "endpoint": "fal-ai/echo"}
    assert told["requestId"]


async def test_the_queue_call_by_call(node: Node, stage: Gateway) -> None:
    told = await node("queue", **access(stage), endpoint="fal-ai/echo/deep", input={"n": 9})

    submitted, streamed = told["submitted"], told["streamed"]
    address = f"https://queue.fal.run/fal-ai/echo/requests/{submitted['request_id']}"
    assert submitted["status"] == "IN_QUEUE"
    assert submitted["response_url"] == address
    assert submitted["status_url"] == f"{address}/status"
    assert submitted["cancel_url"] == f"{address}/cancel"
    words = [each["status"] for each in streamed]
    assert list(dict.fromkeys(words)) == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    lines = [line["message"] for each in streamed for line in each["logs"] or []]
    assert len(lines) == len(set(lines)) >= 6
    assert told["done"] == streamed[-1]
    assert [line["message"] for line in told["status"]["logs"]] == lines
    assert told["plain"]["status"] == "COMPLETED"
    assert told["plain"]["logs"] is None
    assert told["plain"]["metrics"]["inference_time"] > 0
    assert told["result"]["data"]["echo"] == {"n": 9}
    assert told["result"]["requestId"] == submitted["request_id"]


async def test_cancel(node: Node, gateway: Gateway) -> None:
    """fal's answers for a job that a cancel has ended; a second cancel comes too late."""
    told = await node("cancel", **access(gateway), endpoint="sim/fault/hold")

    assert told["done"]["status"] == "COMPLETED"
    assert told["done"]["error_type"] == "client_cancelled"
    assert told["result"]["error"]["status"] == 499
    assert told["result"]["error"]["requestId"] == told["requestId"]
    assert told["again"]["error"]["status"] == 400
    assert told["again"]["error"]["body"] == {"status": "ALREADY_COMPLETED"}


async def test_a_webhook_url_hears_of_the_end_with_our_id(
    node: Node, gateway: Gateway, sim: Simulator, site: Site
) -> None:
    told = await node(
        "submit", **access(gateway), endpoint="fal-ai/echo", input={"n": 10},
        webhookUrl=f"{site.origin}/hook?order=42&x=a%20b",
    )  # fmt: skip
    request_id = told["value"]["request_id"]
    heard = wait_for(lambda: [body for path, body in site.received if path.startswith("/hook?")])

    assert site.received[-1][0] == "/hook?order=42&x=a%20b"
    assert json.loads(heard[0]) == {
        "request_id": request_id,
        "gateway_request_id": request_id,
        "status": "OK",
        "error": None,
        "payload": {"echo": {"n": 10}, "endpoint": "fal-ai/echo"},
    }
    assert request_id not in {job["request_id"] for job in sim.ask("GET", "jobs")}


async def test_a_webhook_url_is_refused_outside_the_plan(
    node: Node, gateway: Gateway, sim: Simulator
) -> None:
    before = sim.calls(has="fal-ai/flux/webhookless")
    refused = await node(
        "submit", **access(gateway, plan="narrow"), endpoint="fal-ai/flux/webhookless",
        input={}, webhookUrl="https://hooks.example/done",
    )  # fmt: skip
    untouched = sim.calls(has="fal-ai/flux/webhookless")
    taken = await node(
        "submit", **access(gateway, plan="narrow"), endpoint="fal-ai/flux/webhookless", input={}
    )

    error = refused["error"]
    assert (error["name"], error["status"]) == ("ApiError", 403)
    assert error["body"]["error_type"] == "webhook_not_allowed"
    assert taken["value"]["request_id"]
    assert (untouched, sim.calls(has="fal-ai/flux/webhookless")) == (before, before + 1)


@pytest.mark.parametrize("size", [3 * MIB + 1, 90 * MIB + 7], ids=["small", "multipart"])
async def test_upload(node: Node, gateway: Gateway, sim: Simulator, size: int) -> None:
    before = sim.calls(ends="/storage/upload/initiate-multipart")

    told = await node("upload", **access(gateway), size=size)
    data = await fetched(told["url"])

    assert len(data) == size
    assert sha256(data).hexdigest() == told["sha256"]
    multipart = sim.calls(ends="/storage/upload/initiate-multipart") - before
    assert multipart == (1 if size > 90 * MIB else 0)


@pytest.mark.parametrize("form", ["data URI", "hosted"])
async def test_a_clip_that_is_somewhere_already(
    node: Node, gateway: Gateway, site: Site, clip: str, clip_uri: str, form: str
) -> None:
    site.files["/clip.wav"] = ("audio/wav", await Path(clip).read_bytes())
    audio_url = clip_uri if form == "data URI" else f"{site.origin}/clip.wav"

    told = await node(
        "subscribe", **access(gateway), endpoint=AUDIO,
        input={"prompt": "Felt piano", "audio_url": audio_url}, options={"pollInterval": 50},
    )  # fmt: skip

    assert await transformed(told["value"]) == CLIP_SECONDS


@pytest.mark.parametrize("options", [{"pollInterval": 50}, {"mode": "streaming"}], ids=str)
async def test_input_that_the_model_refuses_is_a_validation_error(
    node: Node, gateway: Gateway, clip: str, options: dict[str, Any]
) -> None:
    told = await node(
        "subscribe", **access(gateway), endpoint=AUDIO, clip=clip,
        input={"prompt": "Lo-fi", "strength": 3}, options=options,
    )  # fmt: skip

    error = told["error"]
    assert (error["name"], error["status"]) == ("ValidationError", 422)
    assert error["requestId"] == told["enqueued"]
    assert [each["loc"] for each in error["fieldErrors"]] == [["body", "strength"]]
    assert told["updates"][-1]["status"] == "COMPLETED"
    assert told["updates"][-1]["error_type"]


async def test_an_endpoint_outside_the_plan_is_an_api_error_with_words(
    node: Node, gateway: Gateway
) -> None:
    told = await node("run", **access(gateway, plan="narrow"), endpoint="fal-ai/other", input={})

    error = told["error"]
    assert (error["name"], error["api"], error["status"]) == ("ApiError", True, 403)
    assert error["message"] == error["body"]["detail"] == error["body"]["message"]
    assert error["body"]["error_type"] == "endpoint_not_allowed"


async def test_a_fal_key_in_nodes_environment_is_refused_with_the_way_out(
    node: Node, gateway: Gateway
) -> None:
    """Without a token the client sends FAL_KEY from its environment. It is not said again."""
    told = await node(
        "run", env={"FAL_KEY": CANARY}, proxy=f"{gateway.url}/api/fal/proxy",
        endpoint="fal-ai/echo", input={},
    )  # fmt: skip

    error = told["error"]
    assert error["status"] == 401
    assert "fal key" in error["message"]
    assert "token" in error["message"]
    assert leaks(json.dumps(told).encode()) == []
