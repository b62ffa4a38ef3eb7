"""A fal of bare sockets, which can misbehave in every way that a server can."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.core import fal
from gateway.upstream.fal import Fal, Timeouts
from gateway.upstream.session import Pools, pools

KEY = "fk_canary_7f3a:9b1c0d5e2b4d6f80"
FAL_ID = "764cabcf-b745-4b3e-ae38-1200304cf45b"
HOSTS = (fal.RUN, fal.QUEUE, fal.REST)


@dataclass(frozen=True)
class Request:
    line: str
    headers: dict[str, str]
    body: bytes
    raw: bytes
    writer: asyncio.StreamWriter
    nth: int
    """Of its connection, from 0."""

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    def cut(self) -> None:
        """Close with a reset, as a crashed process behind a proxy does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Request], Awaitable[None]]


def reply(status: int, body: bytes = b"{}", **headers: str) -> bytes:
    lines = {"content-type": "application/json", "content-length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body


def always(answer: bytes) -> Behaviour:
    async def behave(request: Request) -> None:
        await request.send(answer)

    return behave


async def hang(request: Request) -> None:
    """Say nothing until the client gives up."""
    await request.writer.wait_closed()


@dataclass
class Server:
    """What it got, and how it behaves. `port` is closed when the server is."""

    behave: Behaviour = field(default=always(reply(200)))
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    arrival: asyncio.Condition = field(default_factory=asyncio.Condition)
    port: int = 0
    scheme: str = "http"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    async def got(self, count: int) -> None:
        """Wait until `count` requests have come in."""
        async with asyncio.timeout(5), self.arrival:
            await self.arrival.wait_for(lambda: len(self.requests) >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            nth = 0
            while not writer.is_closing():
                request = await _request(reader, writer, nth)
                async with self.arrival:
                    self.requests.append(request)
                    self.arrival.notify_all()
                await self.behave(request)
                nth += 1
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, nth: int) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {n.lower(): v.strip() for n, _, v in (x.partition(":") for x in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(line, headers, body, head + body, writer, nth)


@asynccontextmanager
async def listening(
    behave: Behaviour | None = None, context: ssl.SSLContext | None = None
) -> AsyncGenerator[Server]:
    server = Server(scheme="https" if context else "http")
    if behave is not None:
        server.behave = behave
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def client(pools: Pools, origin: str, *, key: str = KEY, timeouts: Timeouts | None = None) -> Fal:
    """fal's three hosts become folders of one server, so that its log tells them apart."""
    origins = {host: f"{origin}/{host}" for host in HOSTS}
    return Fal(pools, key, origins, timeouts or Timeouts(submit=5, call=5, run=5, idle=5))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server() -> AsyncGenerator[Server]:
    async with listening() as server:
        yield server


@pytest.fixture
async def out() -> AsyncGenerator[Pools]:
    async with pools() as out:
        yield out


@pytest.fixture
def upstream(out: Pools, server: Server) -> Fal:
    return client(out, server.origin)
