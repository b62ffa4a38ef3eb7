"""fal's Swift, Dart and Java clients: the requests that they write, and what they must find in
the answers. Sources: fal-ai/fal-swift, fal-ai/fal-dart, fal-ai/fal-java."""

import base64
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import anyio
import httpx
import pytest

from tests.harness import Gateway

pytestmark = pytest.mark.anyio

JAVA_PATIENCE: Final = 10.0
"""Seconds between two bytes after which OkHttp hangs up, where its default stands."""

Headers = list[tuple[str, str]]
Body = dict[str, Any]


@dataclass(frozen=True)
class Client:
    name: str
    headers: Headers
    status: str
    """What comes after a request's address to ask for its status."""
    token_seconds: int
    demands: Callable[[Body], bool]
    """Could it read this status?"""


def swift(body: Body) -> bool:
    """Every log entry needs the older `labels`; keys that are missing fail its decoder."""
    needed = {
        "IN_QUEUE": {"queue_position", "response_url"},
        "IN_PROGRESS": {"logs", "response_url"},
        "COMPLETED": {"logs", "response_url"},
    }
    entries = body.get("logs") or []
    labelled = [isinstance(entry["labels"]["level"], str) for entry in entries]
    texts = [isinstance(entry[name], str) for entry in entries for name in ("message", "timestamp")]
    return needed[body["status"]] <= body.keys() and all(labelled) and all(texts)


def dart(body: Body) -> bool:
    """Casts each of them, in every state."""
    queued = body["status"] == "IN_QUEUE"
    return (
        isinstance(body["response_url"], str)
        and isinstance(body["request_id"], str)
        and (not queued or type(body["queue_position"]) is int)
        and (body["logs"] is None or isinstance(body["logs"], list))
    )


SWIFT: Final = Client(
    name="swift",
    headers=[
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("user-agent", "fal.ai/swift-client 0.1.0 - iOS"),
    ],
    status="/status?logs=1",
    token_seconds=300,
    demands=swift,
)
OLD_SWIFT: Final = Client(
    name="old swift",
    headers=SWIFT.headers,
    status="/status",
    token_seconds=300,
    demands=swift,
)
DART: Final = Client(
    name="dart",
    headers=[
        ("accept", "application/json"),
        ("content-type", "application/json; charset=utf-8"),
        ("x-fal-user-agent", "fal.ai/dart-client 0.3.0 - web"),
    ],
    status="/status?logs=0",
    token_seconds=180,
    demands=dart,
)
JAVA: Final[Headers] = [
    ("accept", "application/json"),
    ("accept", "text/event-stream"),
    ("content-type", "application/json; charset=utf-8"),
    ("user-agent", "okhttp/4.12.0"),
]
clients = pytest.mark.parametrize("client", [SWIFT, OLD_SWIFT, DART], ids=lambda each: each.name)


@dataclass(frozen=True)
class Phone:
    """Sends to the proxy what a client does."""

    http: httpx.AsyncClient
    proxy: str
    headers: Headers

    async def send(self, method: str, target: str, body: Body | None = None) -> httpx.Response:
        headers = [*self.headers, ("x-fal-target-url", target)]
        content = None if body is None else json.dumps(body)
        return await self.http.request(method, self.proxy, headers=headers, content=content)

    @asynccontextmanager
    async def stream(self, target: str) -> AsyncGenerator[httpx.Response]:
        headers = [*self.headers, ("x-fal-target-url", target)]
        async with self.http.stream("GET", self.proxy, headers=headers) as answer:
            yield answer


@asynccontextmanager
async def phone(
    gateway: Gateway, headers: Headers, credential: str | None = None, **claims: Any
) -> AsyncGenerator[Phone]:
    """With a key or a token as if it were fal's key."""
    authorization = ("authorization", f"Key {credential or gateway.token('phone', **claims)}")
    async with httpx.AsyncClient(timeout=JAVA_PATIENCE) as http:
        yield Phone(http, f"{gateway.url}/api/fal/proxy", [*headers, authorization])


@clients
async def test_every_status_is_one_that_the_client_can_read(stage: Gateway, client: Client) -> None:
    async with phone(stage, client.headers) as sender:
        submitted = await sender.send("POST", "https://queue.fal.run/fal-ai/echo/x", {"n": 1})
        address = submitted.json()["response_url"]
        answers = [submitted]
        while answers[-1].json()["status"] != "COMPLETED":
            await anyio.sleep(0.03)
            answers.append(await sender.send("GET", address + client.status))
        result = await sender.send("GET", address)

    bodies = [answer.json() for answer in answers]
    assert {body["status"] for body in bodies} == {"IN_QUEUE", "IN_PROGRESS", "COMPLETED"}
    for answer, body in zip(answers, bodies, strict=True):
        assert answer.headers["content-type"] == "application/json"
        assert client.demands(body), body
    assert bool(bodies[-1]["logs"]) is client.status.endswith("logs=1")
    assert result.json()["echo"] == {"n": 1}


@clients
async def test_an_upload_by_the_older_host(gateway: Gateway, client: Client) -> None:
    target = "https://rest.alpha.fal.ai/storage/upload/initiate"
    async with phone(gateway, client.headers) as sender:
        answer = await sender.send(
            "POST", target, {"content_type": "text/plain", "file_name": "note.txt"}
        )
        urls = answer.json()
        put = await sender.http.put(urls["upload_url"], content=b"from a phone")
        found = await sender.http.get(urls["file_url"])

    assert (answer.status_code, put.status_code) == (200, 200)
    assert found.content == b"from a phone"


@clients
async def test_a_realtime_token_by_the_older_host(gateway: Gateway, client: Client) -> None:
    """A bare JSON string, for two minutes at most, whatever was asked for."""
    target = "https://rest.alpha.fal.ai/tokens/"
    asked = {"allowed_apps": ["fast-sdxl"], "token_expiration": client.token_seconds}
    async with phone(gateway, client.headers) as sender:
        refused = await sender.send("POST", target, asked)
    async with phone(gateway, client.headers, plan="realtime") as sender:
        answer = await sender.send("POST", target, asked)

    assert refused.status_code == 403
    payload = answer.json().split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["apps"] == ["fast-sdxl"]
    assert claims["exp"] - time.time() <= 120


@clients
@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "https://queue.fal.run/fal-ai/other", 403),
        ("POST", "https://evil.example/fal-ai/echo", 400),
        ("GET", f"https://queue.fal.run/fal-ai/echo/requests/{'0' * 8}-0000-4000-8000-{'0' * 12}",
         404),
    ],
)  # fmt: skip
async def test_every_error_is_json_with_words(
    gateway: Gateway, client: Client, method: str, target: str, status: int
) -> None:
    """Dart decodes every body as JSON; Swift reads `detail`."""
    async with phone(gateway, client.headers, plan="narrow") as sender:
        answer = await sender.send(method, target, {} if method == "POST" else None)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert isinstance(answer.json()["detail"], str)
    assert isinstance(answer.json()["message"], str)


async def test_javas_subscribe_follows_the_stream_to_its_end(stage: Gateway) -> None:
    async with phone(stage, JAVA) as sender:
        submitted = await sender.send("POST", "https://queue.fal.run/fal-ai/echo", {"n": 2})
        address = submitted.json()["response_url"]
        async with sender.stream(f"{address}/status/stream?logs=1") as answer:
            lines = [line async for line in answer.aiter_lines()]
        result = await sender.send("GET", address)

    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data")]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert {line.partition(":")[0] for line in lines} <= {"data", ""}
    assert [event["status"] for event in events][-1] == "COMPLETED"
    assert all(event["response_url"] == address for event in events)
    assert result.json()["echo"] == {"n": 2}


async def test_silence_is_broken_before_java_hangs_up(gateway: Gateway) -> None:
    """On fal's stream and on our own ones."""
    gaps: dict[str, float] = {}
    async with phone(gateway, JAVA) as sender:
        submitted = await sender.send("POST", "https://queue.fal.run/sim/fault/hold-queued", {})
        job_id, address = submitted.json()["request_id"], submitted.json()["response_url"]

        async def measure(name: str, answer: httpx.Response) -> None:
            """The time between what comes at once and the first comment."""
            heard = time.monotonic()
            async for line in answer.aiter_lines():
                if line.startswith(":"):
                    gaps[name] = time.monotonic() - heard
                    return
                heard = time.monotonic()

        async with (
            sender.stream(f"{address}/status/stream") as fals,
            sender.http.stream(
                "GET", f"{gateway.url}/v1/jobs/{job_id}/events", headers=sender.headers
            ) as ours,
            anyio.create_task_group() as tasks,
        ):
            for name, answer in {"fal": fals, "ours": ours}.items():
                tasks.start_soon(measure, name, answer)
        await sender.send("PUT", f"{address}/cancel")

    assert gaps.keys() == {"fal", "ours"}
    assert max(gaps.values()) < JAVA_PATIENCE - 1
