"""Jobs that stay open until a test ends them, how fal was called about them, and clients that
hold on."""

import json
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
from redis.asyncio import Redis

from gateway.core.model import Progress, State
from gateway.store.ledger import Ledger
from tests.harness import Gateway, Simulator


@dataclass
class Held:
    """A job that the simulator holds. `id` is ours, `fal_id` the simulator's."""

    sim: Simulator
    id: str
    endpoint: str
    fal_id: str
    ended: bool = field(default=False)

    @property
    def status(self) -> str:
        """Path of its status in host form."""
        return f"/fal/queue/{self.endpoint}/requests/{self.id}/status"

    def end(self, body: bytes = b'{"held": true}', status: int = 200) -> None:
        self.ended = True
        self.sim.ask("POST", f"end/{self.fal_id}", content=body, params={"status": status})

    def calls(self, ends: str) -> int:
        """How often fal was asked for what ends so: status, status/stream, or the id itself."""
        return self.sim.calls(has=self.fal_id, ends=ends)


@asynccontextmanager
async def held(
    client: httpx.AsyncClient, sim: Simulator, kind: str = "hold", input: Any = None
) -> AsyncGenerator[Held]:
    """A job of the client's, submitted by `/v1/jobs`; ended at the latest when this is left."""
    endpoint = f"sim/fault/{kind}/{secrets.token_hex(6)}"
    answer = await client.post("/v1/jobs", json={"endpoint": endpoint, "input": input or {}})
    assert answer.status_code == 202, answer.text
    fal_id = fal_id_of(sim, endpoint)
    job = Held(sim, answer.json()["id"], endpoint, fal_id)
    try:
        yield job
    finally:
        if not job.ended:
            job.end()


def fal_id_of(sim: Simulator, endpoint: str) -> str:
    """The simulator's id of the one job of that endpoint."""
    [found] = [job for job in sim.ask("GET", "jobs") if job["endpoint"] == endpoint]
    fal_id: str = found["request_id"]
    return fal_id


@asynccontextmanager
async def beside(*works: Callable[[], Coroutine[Any, Any, Any]]) -> AsyncGenerator[None]:
    """All of `works` under way, and awaited in the end."""
    async with anyio.create_task_group() as tasks:
        for work in works:
            tasks.start_soon(work)
        yield


async def comes_true(condition: Callable[[], Any], within: float = 10.0) -> Any:
    """What `condition` gives as soon as it is true, without holding the event loop for long."""
    with anyio.fail_after(within):
        while True:
            if found := await anyio.to_thread.run_sync(condition):
                return found
            await anyio.sleep(0.05)


def status_streams(sim: Simulator) -> int:
    """Status streams that are open at the simulator."""
    open_now: int = sim.ask("GET", "connections")["status_streams"]
    return open_now


async def log_line(redis: Redis, job: Held, text: str) -> None:
    """Write a log line into the ledger, as the due loop would, had fal told one."""
    ledger = Ledger(redis, 3600)
    found = await ledger.read(job.id)
    assert found is not None
    line = json.dumps({"message": text, "timestamp": "2026-01-01T00:00:00Z", "level": "INFO"})
    assert await ledger.progress(found.ref, Progress(State.RUNNING, None, (line.encode(),)))


class Deaf:
    """A client that sends a request and never reads. Its system takes little for it."""

    def __init__(self, gateway: Gateway, user: str, path: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", gateway.port))
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{gateway.port}\r\n"
            f"authorization: Bearer {gateway.token(user)}\r\n\r\n".encode()
        )

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def close(self) -> None:
        self._socket.close()
