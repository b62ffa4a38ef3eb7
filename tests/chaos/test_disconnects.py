"""Clients that go away, at every stage: nothing of theirs is left behind."""

import random
import secrets
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Final

import anyio
import pytest
from anyio.abc import SocketAttribute
from redis.asyncio import Redis

from gateway.store.connect import commands
from gateway.store.server import own_redis
from tests.harness import Gateway, Running, Simulator
from tests.held import Held, comes_true, held
from tests.listening import listen

pytestmark = pytest.mark.anyio

STAY: Final = 10
"""Idle connections to fal that may be there after a burst, and were not before."""
ABORTS: Final = 300
INITIATE: Final = "/fal/rest/storage/upload/initiate?storage_type=fal-cdn-v3"


@dataclass
class Place:
    """A gateway with a Redis of its own, a job that is held, and one with a large result."""

    gateway: Gateway
    sim: Simulator
    redis: Redis
    name: str
    job: Held
    large: str

    def request(self, method: str, path: str, body: str = "", length: int | None = None) -> bytes:
        length = len(body) if length is None else length
        return (
            f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{self.gateway.port}\r\n"
            f"authorization: Bearer {self.gateway.token(self.name)}\r\n"
            f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ).encode()

    def open_at_fal(self) -> dict[str, int]:
        found: dict[str, int] = self.sim.ask("GET", "connections")
        return found

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.gateway.process.pid}/fd").iterdir()))

    async def redis_clients(self) -> int:
        return len(await self.redis.client_list())


@pytest.fixture(scope="module")
def lasting(running: Running) -> Simulator:
    """Its submits and runs take long enough to leave in the middle."""
    return running.simulator(pace=1.0, concurrency="64")


@asynccontextmanager
async def placed(running: Running, sim: Simulator) -> AsyncGenerator[Place]:
    name = f"user-{secrets.token_hex(6)}"
    with own_redis(running.files.folder("redis")) as url:
        gateway = running.gateway(sim, redis_url=url)
        async with commands(url) as redis, gateway.http(name) as client:
            large = await client.post(
                "/v1/jobs", json={"endpoint": "sim/fault/big/20", "input": {}}
            )
            async with held(client, sim) as job:
                ended = await client.get(f"/v1/jobs/{large.json()['id']}?wait=30&after=999-0")
                assert ended.json()["status"] == "completed"
                yield Place(gateway, sim, redis, name, job, large.json()["id"])
        assert gateway.process.stop() == 0


def _stages(at: Place) -> dict[str, tuple[bytes, Callable[[], Any] | None]]:
    """What a client has sent when it goes, and what shows that its request has come so far."""
    job, large = at.job, at.large
    anything = None

    def at_fal(sort: str) -> Callable[[], Any]:
        return lambda: at.open_at_fal().get(sort)

    return {
        "head": (at.request("POST", "/v1/jobs", "{}")[:60], anything),
        "body": (at.request("POST", "/v1/jobs", '{"endpoint": "fal-ai', 2000), anything),
        "large body": (at.request("POST", "/fal/run/a/b", "[" * 9999, 9**7), anything),
        "run": (at.request("POST", "/fal/run/sim/fault/hold", "{}"), at_fal("held")),
        "run stream": (
            at.request("POST", "/fal/run/sim/fault/slow-stream/stream", "{}"),
            at_fal("run_streams"),
        ),
        "status stream": (at.request("GET", f"{job.status}/stream"), at_fal("status_streams")),
        "events": (at.request("GET", f"/v1/jobs/{job.id}/events"), at_fal("status_streams")),
        "all events": (at.request("GET", "/v1/events"), anything),
        "held result": (
            at.request("GET", job.status.removesuffix("/status")),
            at_fal("status_streams"),
        ),
        "long poll": (
            at.request("GET", f"/v1/jobs/{job.id}?wait=60&after=999-0"),
            at_fal("status_streams"),
        ),
        "upload": (at.request("POST", INITIATE, UPLOAD), anything),
        "large result": (at.request("GET", f"/v1/jobs/{large}/result"), anything),
    }


UPLOAD: Final = '{"file_name": "a.wav", "content_type": "audio/wav"}'


async def leave(stream: anyio.abc.SocketStream, *, rudely: bool) -> None:
    """Close the connection: with a reset, or as one does."""
    if rudely:
        raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - this is no database
        raw.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


async def test_who_leaves_at_any_stage_leaves_nothing_behind(
    running: Running, lasting: Simulator
) -> None:
    async with placed(running, lasting) as at:
        await warmed(at)
        base, connections = at.descriptors(), await at.redis_clients()
        for number, (stage, (sent, arrived)) in enumerate(_stages(at).items()):
            stream = await anyio.connect_tcp("127.0.0.1", at.gateway.port)
            await stream.send(sent)
            if arrived is not None:
                await comes_true(arrived)
            if stage == "large result":
                await stream.receive(100_000)
            await leave(stream, rudely=bool(number % 2))
            await comes_true(lambda: not any(at.open_at_fal().values()), 6)
        await comes_true(lambda: at.descriptors() <= base + 4, 20)

        assert await at.redis_clients() <= connections
        await probed(at)


async def test_a_submit_runs_to_its_end_although_its_client_has_gone(
    running: Running, lasting: Simulator
) -> None:
    endpoint = f"sim/fault/webhook-first/{secrets.token_hex(6)}"
    async with placed(running, lasting) as at:
        stream = await anyio.connect_tcp("127.0.0.1", at.gateway.port)
        await stream.send(at.request("POST", f"/fal/queue/{endpoint}", "{}"))
        await comes_true(lambda: lasting.calls(method="POST", ends=endpoint))
        await leave(stream, rudely=True)
        async with at.gateway.http(at.name) as client:
            jobs = (await client.get("/v1/jobs")).json()["jobs"]
            [mine] = [job for job in jobs if job["endpoint"] == endpoint]
            ended = await client.get(f"/v1/jobs/{mine['id']}?wait=20&after=999-0")
            await comes_true(lambda: not at.open_at_fal()["held"])

        assert ended.json()["status"] == "completed"
        assert lasting.calls(method="POST", ends=endpoint) == 1
        assert "unexpected error" not in at.gateway.log_lines()


async def test_three_hundred_who_leave_at_random_leave_nothing_behind(
    running: Running, lasting: Simulator
) -> None:
    seed = secrets.randbits(32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    async with placed(running, lasting) as at:
        await warmed(at)
        base, connections = at.descriptors(), await at.redis_clients()
        stages = [sent for sent, _ in _stages(at).values()]
        few = anyio.CapacityLimiter(20)

        async def come_and_go(sent: bytes, cut: int, pause: float, rudely: bool) -> None:
            async with few, await anyio.connect_tcp("127.0.0.1", at.gateway.port) as stream:
                await stream.send(sent[:cut])
                await anyio.sleep(pause)
                await leave(stream, rudely=rudely)

        async with anyio.create_task_group() as tasks:
            for _ in range(ABORTS):
                sent = chance.choice(stages)
                cut = chance.choice([len(sent), chance.randrange(1, len(sent))])
                pause = chance.choice([0, chance.uniform(0, 0.02), chance.uniform(0, 0.3)])
                tasks.start_soon(come_and_go, sent, cut, pause, chance.random() < 0.5)
        await comes_true(lambda: not any(at.open_at_fal().values()))
        await comes_true(lambda: at.descriptors() <= base + STAY)

        assert await at.redis_clients() <= connections
        await probed(at)
        assert "unexpected error" not in at.gateway.log_lines()
        assert "Traceback" not in at.gateway.log_lines()


async def warmed(at: Place) -> None:
    """Fill the pool of Redis connections: what it has opened, it keeps."""
    async with at.gateway.http(at.name) as client, anyio.create_task_group() as tasks:
        for _ in range(90):
            tasks.start_soon(client.get, "/v1/jobs?limit=100")
    await comes_true(lambda: not any(at.open_at_fal().values()))


async def probed(at: Place) -> None:
    """A request of each kind succeeds, and at once."""
    with anyio.fail_after(20):
        async with at.gateway.http(at.name) as client:
            run = await client.post("/fal/run/fal-ai/echo", json={"a": 1})
            assert run.json()["echo"] == {"a": 1}
            async with client.stream("POST", "/fal/run/fal-ai/echo/stream", json={}) as partial:
                assert partial.status_code == 200
                assert [line async for line in partial.aiter_lines()]
            upload = await client.post(INITIATE, content=UPLOAD, headers=JSON)
            assert upload.status_code == 200, upload.text
            taken = await client.post("/fal/queue/sim/fault/fast", json={})
            job_id = taken.json()["request_id"]
            result = await client.get(f"/fal/queue/sim/fault/requests/{job_id}")
            assert result.status_code == 200
            async with listen(client, f"{at.job.status}/stream") as form:
                assert await form.event()
            async with listen(client, f"/v1/jobs/{at.job.id}/events") as own:
                assert await own.event()
            large = await client.get(f"/v1/jobs/{at.large}/result")
            assert len(large.content) == 20 * 2**20


JSON: Final = {"content-type": "application/json"}
