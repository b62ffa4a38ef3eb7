"""fal's calls in both of their forms, refusals in their one form, and HTTP as bytes on a socket
for what no client library would send."""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from gateway.core import fal
from tests.harness import NO_TLS

FOLDERS: Final = {fal.RUN: "run", fal.QUEUE: "queue", fal.REST: "rest"}
PROXY_PATH: Final = "/api/fal/proxy"


@dataclass(frozen=True)
class Form:
    """How a client asks for a fal URL: with the target in a header, or in the path."""

    name: str

    def __str__(self) -> str:
        return self.name

    async def ask(
        self, http: httpx.AsyncClient, method: str, host: str, path: str, **more: Any
    ) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        if self.name == "host":
            url = f"/fal/{FOLDERS[host]}/{path}"
        else:
            url, headers[fal.TARGET_URL] = PROXY_PATH, f"https://{host}/{path}"
        return await http.request(method, url, headers=headers, **more)

    def base(self, url: str) -> str:
        """Where the URLs in its answers begin, from a gateway at `url`."""
        return f"{url}/fal/queue" if self.name == "host" else f"https://{fal.QUEUE}"


FORMS: Final = (Form("proxy"), Form("host"))


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a refusal, once it is known to be in the one form that all errors have."""
    assert (answer.status_code, answer.headers.get("x-fal-error-type")) == (status, code), (
        answer.text
    )
    assert answer.headers["content-type"] == "application/json"
    assert "no-store" in answer.headers["cache-control"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    body: dict[str, Any] = answer.json()
    detail = body["detail"]
    assert isinstance(detail, str)
    assert detail
    assert body == {
        "type": f"urn:fal-gateway:error:{code}",
        "title": body["title"],
        "status": status,
        "detail": detail,
        "message": detail,
        "error_type": code,
        "instance": f"urn:fal-gateway:request:{answer.headers['x-request-id']}",
        **({"body": [{"msg": detail, "type": code}]} if status == 422 else {}),
    } | {name: body[name] for name in ("request_id", "job_status", "limit") if name in body}
    assert isinstance(body["title"], str)
    assert not {"Traceback", "nginx", "gateway/"} & set(answer.text.split())
    assert "nginx" not in answer.text.lower()
    return body


def seen_by_a_stranger(answer: httpx.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    """What tells one refusal from another: all but the marks of the single request."""
    body = {name: value for name, value in answer.json().items() if name != "instance"}
    own = {"x-request-id", "date"}
    headers = {name: value for name, value in answer.headers.items() if name not in own}
    return answer.status_code, body, headers


def visitor(url: str, **options: Any) -> httpx.AsyncClient:
    """A client with no credential but what `options` give it."""
    return httpx.AsyncClient(base_url=url, timeout=30, verify=NO_TLS, **options)


async def ended(http: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """The job once it has ended."""
    job: dict[str, Any] = (await http.get(f"/v1/jobs/{job_id}")).json()
    while job["status"] in {"queued", "running", "unknown"}:
        query = {"wait": "20", "after": job["version"]}
        job = (await http.get(f"/v1/jobs/{job_id}", params=query)).json()
    return job


async def submitted(http: httpx.AsyncClient, endpoint: str = "fal-ai/echo", **more: Any) -> str:
    """The id of a new job."""
    answer = await http.post("/v1/jobs", json={"endpoint": endpoint, "input": {}, **more})
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


Pairs = Iterable[tuple[bytes, bytes]]


def written(method: bytes, path: bytes, headers: Pairs = (), body: bytes = b"") -> bytes:
    """A request as bytes. A Host is added where none is given."""
    lines = list(headers)
    if not any(name.lower() == b"host" for name, _ in lines):
        lines.insert(0, (b"Host", b"gateway.example"))
    head = b"".join(name + b": " + value + b"\r\n" for name, value in lines)
    return method + b" " + path + b" HTTP/1.1\r\n" + head + b"\r\n" + body


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def as_response(self) -> httpx.Response:
        return httpx.Response(self.status, headers=self.headers, content=self.body)


class Line:
    """One connection, as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self, *, bare: bool = False) -> Answer:
        """The next answer, whole; a `bare` one is to HEAD, and has no body."""
        async with asyncio.timeout(30):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = [line.partition(":") for line in head[1:] if line]
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = b"" if bare else await self._body(headers)
            return Answer(int(head[0].split()[1]), headers, body)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", ""):
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
            return body
        return await self.reader.readexactly(int(headers.get("content-length", "0")))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def closed(self) -> bool:
        """Whether the other side hangs up, with no more to say."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True

    def close(self) -> None:
        self.writer.close()


async def connected(url: str) -> Line:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=2**20)
    return Line(reader, writer)


async def exchanged(url: str, data: bytes) -> Answer:
    """The answer to one request on a connection of its own."""
    line = await connected(url)
    try:
        with contextlib.suppress(ConnectionError):  # it may have heard enough, and answered
            await line.send(data)
        return await line.answer(bare=data.startswith(b"HEAD "))
    finally:
        line.close()
