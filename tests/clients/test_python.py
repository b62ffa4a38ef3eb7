"""`fal_client` over TLS, with the gateway as its run and queue host."""

from uuid import uuid4

import httpx
import pytest

from tests.clients.fal_python import Python, certified, over_tls
from tests.clients.sound import duration
from tests.harness import KEYS, Files, Gateway, Running, Simulator

pytestmark = pytest.mark.anyio

AUDIO = "fal-ai/stable-audio-25/audio-to-audio"


@pytest.fixture(scope="module")
def python(running: Running, slow_sim: Simulator, files: Files) -> Python:
    """In front of a gateway in pull mode, that was not told where clients reach it."""
    return over_tls(running, slow_sim, files, certified(files))


async def test_the_queue_call_by_call(python: Python) -> None:
    """The URLs in answers are absolute and lead back to where the request came in."""
    heard = await python("queue", endpoint="fal-ai/echo/deep", input={"n": 1})

    address = f"https://{python.host}/fal/queue/fal-ai/echo/requests/{heard['request_id']}"
    assert heard["urls"] == [address, f"{address}/status", f"{address}/cancel"]
    assert heard["first"] == {"is": "Queued", "position": 2}
    words = [event["is"] for event in heard["events"]]
    assert list(dict.fromkeys(words)) == ["Queued", "InProgress", "Completed"]
    assert any(event["logs"] for event in heard["events"] if event["is"] == "InProgress")
    completed = heard["events"][-1]
    assert [line["message"] for line in completed["logs"]][:1] == ["Loading model"]
    assert completed["metrics"]["inference_time"] > 0
    assert completed["error"] is completed["error_type"] is None
    assert heard["plain"]["logs"] is None
    assert heard["result"] == heard["again"] == {"echo": {"n": 1}, "endpoint": "fal-ai/echo/deep"}


@pytest.mark.parametrize("script", ["subscribe", "subscribe_async"])
async def test_subscribe(python: Python, clip_uri: str, script: str) -> None:
    given = {"prompt": "Felt piano", "audio_url": clip_uri, "total_seconds": 3}

    heard = await python(script, endpoint=AUDIO, input=given)

    async with httpx.AsyncClient() as http:
        audio = await http.get(heard["result"]["audio"]["url"])
    words = [update["is"] for update in heard["updates"]]
    assert list(dict.fromkeys(words)) == ["Queued", "InProgress", "Completed"]
    assert any(update.get("logs") for update in heard["updates"])
    assert len(heard["ids"]) == 1
    assert duration(audio.content) == 3.0


async def test_cancel(python: Python) -> None:
    heard = await python("cancel", endpoint="sim/fault/hold")

    assert heard["result"]["status"] == 499
    assert heard["result"]["error_type"] == "client_cancelled"
    assert heard["again"]["status"] == 400
    assert "ALREADY_COMPLETED" in heard["again"]["message"]
    assert heard["status"]["error_type"] == "client_cancelled"


async def test_run_and_stream(python: Python) -> None:
    answer = await python("run", endpoint="fal-ai/echo", input={"n": 2})
    events = await python("stream", endpoint="fal-ai/echo", input={"n": 3})

    assert answer["value"]["echo"] == {"n": 2}
    assert [event["partial"] for event in events[:-1]] == [True] * 5
    assert events[-1]["echo"] == {"n": 3}


async def test_a_failed_job_is_told_with_fals_own_words(python: Python) -> None:
    refused = await python("outcome", endpoint=AUDIO, input={"prompt": "no clip"})
    failed = await python("outcome", endpoint="sim/fault/fail-503", input={})

    assert refused["status"]["is"] == failed["status"]["is"] == "Completed"
    assert refused["result"]["status"] == 422
    assert [each["loc"] for each in refused["result"]["message"]] == [["body", "audio_url"]]
    assert refused["result"]["request_id"] == refused["request_id"]
    assert failed["result"]["status"] == 503
    assert failed["result"]["message"] == "Could not connect to the runner"
    assert failed["result"]["error_type"] == "runner_connection_error"
    assert failed["status"]["error_type"] == "runner_connection_error"
    assert failed["status"]["error"] == "Could not connect to the runner"


async def test_an_unknown_job_and_a_foreign_one_are_told_alike(python: Python) -> None:
    foreign = (await python("queue", endpoint="fal-ai/echo", input={}))["request_id"]
    heard = await python("unknown", endpoint="fal-ai/echo", request_id=str(uuid4()))
    other = await python("unknown", key=KEYS["other"], endpoint="fal-ai/echo", request_id=foreign)

    assert heard == other
    for call in ("status", "result", "cancel"):
        assert heard[call]["status"] == 404
        assert heard[call]["error_type"] == "job_not_found"
        assert heard[call]["message"] == "no such job"


async def test_a_key_that_is_none_of_ours_is_told_so(python: Python) -> None:
    heard = await python("run", key="fgw_stranger_" + "Z" * 24, endpoint="fal-ai/echo", input={})

    assert heard["status"] == 401
    assert heard["error_type"] == "unauthenticated"
    assert "not valid" in heard["message"]


async def test_addresses_follow_a_plain_host_header_unless_one_is_configured(
    python: Python, gateway: Gateway
) -> None:
    headers = {"authorization": f"Key {KEYS['backend']}"}
    path = "/fal/queue/sim/fault/fast"

    async with httpx.AsyncClient(verify=python.trust, headers=headers) as http:
        followed = await http.post(
            f"https://{python.host}{path}", json={}, headers={"host": "gateway.example:8443"}
        )
        refused = await http.post(
            f"https://{python.host}{path}", json={}, headers={"host": "gateway.example/evil"}
        )
        configured = await http.post(
            f"{gateway.direct}{path}", json={}, headers={"host": "gateway.example:8443"}
        )

    assert followed.json()["status_url"].startswith("https://gateway.example:8443/fal/queue/sim/")
    assert refused.status_code == 400
    assert configured.json()["status_url"].startswith(f"{gateway.url}/fal/queue/sim/")
