"""A simulator behind a real server on a free port, and a small receiver of its webhooks."""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.sim.app import SimConfig, build

KEY = "key-one:secret-one"
OTHER_KEY = "key-two:secret-two"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@dataclass(slots=True)
class Hook:
    """One webhook as it came in."""

    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """Takes webhooks at `url`, and answers each with the next of `answers`, then 200."""

    url: str
    answers: list[int] = field(default_factory=list)
    heard: list[Hook] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        """The answer to one webhook."""
        self.heard.append(Hook(dict(request.headers), await request.body()))
        status = self.answers.pop(0) if self.answers else 200
        headers = {"location": f"{self.url}/elsewhere"} if 300 <= status < 400 else None
        return Response(status_code=status, headers=headers)

    async def hooks(self, count: int) -> list[Hook]:
        """Wait for that many webhooks."""
        await until(lambda: len(self.heard) >= count)
        return self.heard


@dataclass(frozen=True, slots=True)
class Fal:
    """The running simulator as its callers see it."""

    http: httpx.AsyncClient
    origin: str

    async def submit(self, endpoint: str, input: object = None, **query: str) -> httpx.Response:
        return await self.http.post(f"/queue.fal.run/{endpoint}", json=input or {}, params=query)

    async def job(self, endpoint: str, input: object = None, **query: str) -> str:
        """Submit; the path of its request below the queue host."""
        reply = await self.submit(endpoint, input, **query)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["response_url"]).removeprefix("https:/")

    async def status(self, job: str, logs: bool = False) -> httpx.Response:
        return await self.http.get(f"{job}/status", params={"logs": int(logs)})

    async def ended(self, job: str) -> httpx.Response:
        """Wait for the end; the last status."""
        return await self._reached(job, "COMPLETED")

    async def running(self, job: str) -> httpx.Response:
        return await self._reached(job, "IN_PROGRESS")

    async def result(self, job: str) -> httpx.Response:
        await self.ended(job)
        return await self.http.get(job)

    async def sim(self, path: str) -> Any:
        return (await self.http.get(f"/_sim/{path}")).json()

    async def _reached(self, job: str, wanted: str) -> httpx.Response:
        last: list[httpx.Response] = []

        async def there() -> bool:
            last[:] = [await self.status(job)]
            return bool(last[0].json()["status"] == wanted)

        await eventually(there)
        return last[0]


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Fal]:
    async with simulator(tmp_path_factory.mktemp("sim")) as running:
        yield running


@pytest.fixture
async def fal(running: Fal) -> Fal:
    """A simulator that has forgotten what other tests did."""
    await running.http.post("/_sim/reset")
    return running


@pytest.fixture(scope="module")
async def receivers() -> AsyncGenerator[Callable[[], Receiver]]:
    """Makes receivers, all behind one server, each at an address of its own."""
    sock = listen()
    made: list[Receiver] = []

    def new() -> Receiver:
        made.append(Receiver(f"{url_of(sock)}/hook/{len(made)}"))
        return made[-1]

    async def take(request: Request) -> Response:
        receiver: Receiver = made[request.path_params["number"]]
        return await receiver.take(request)

    route = Route("/hook/{number:int}{rest:path}", take, methods=["GET", "POST"])
    async with serve(Starlette(routes=[route]), sock):
        yield new


@pytest.fixture
def receiver(receivers: Callable[[], Receiver]) -> Receiver:
    return receivers()


@asynccontextmanager
async def simulator(
    data_dir: Path, *, forgets: bool = True, **settings: Any
) -> AsyncGenerator[Fal]:
    """A simulator with `settings`; by default fast, and it knows two keys.

    One that `forgets` leaves no open job behind.
    """
    sock = listen()
    given: dict[str, Any] = {
        "keys": frozenset({KEY, OTHER_KEY}),
        "pace": 0.05,
        "seed": 7,
    } | settings
    config = SimConfig(origin=url_of(sock), data_dir=data_dir, **given)
    headers = {"authorization": f"Key {KEY}"}
    async with (
        serve(build(config), sock) as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as http,
    ):
        yield Fal(http, url)
        if forgets:
            # A server that stops waits for open connections: let go of the held ones.
            await http.post("/_sim/reset")


async def until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `condition` holds, at most ten seconds."""
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - the condition is in the server's hands
            await asyncio.sleep(0.005)


def listen() -> socket.socket:
    # asyncio sets TCP_NODELAY on sockets that say they are TCP: 40 ms a call without.
    sock = socket.socket(proto=socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    return sock


def url_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()
    return f"http://{host}:{port}"


@asynccontextmanager
async def serve(app: Starlette, sock: socket.socket) -> AsyncGenerator[str]:
    """Serve `app` on `sock`, over the network as in production; yield its URL."""
    level = logging.CRITICAL  # cut connections are errors to the server
    config = uvicorn.Config(app, log_level=level, timeout_graceful_shutdown=2, lifespan="on")
    server = uvicorn.Server(config)
    with sock:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(server.serve(sockets=[sock]))
            while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn sets a flag
                await asyncio.sleep(0.001)
            yield url_of(sock)
            server.should_exit = True
