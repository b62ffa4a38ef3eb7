"""Jobs for tests, and webhooks about them: as fal would write them, or forged."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio import Redis

from gateway.core.model import Job, JobRef
from gateway.core.tokens import Seals
from gateway.sim.keys import SigningKeys
from gateway.sim.webhooks import Signed, headers_of
from gateway.store import keys
from gateway.store.connect import commands
from gateway.store.ledger import Ledger
from tests.harness import SECRET, SIM_USER, Gateway, Simulator, wait_for

SEED: Final = 7
HELD: Final = "sim/fault/hold-queued"
"""Jobs that the simulator never ends by itself, and that take no place at it."""

Headers = Mapping[str, str] | list[tuple[bytes, bytes]]


def envelope(request_id: str, payload: Any = None, **more: Any) -> bytes:
    """What fal's webhook says of a job that went well, or what `more` says instead."""
    body = {
        "error": None,
        "gateway_request_id": request_id,
        "payload": {"made": request_id} if payload is None else payload,
        "request_id": request_id,
        "status": "OK",
    }
    return json.dumps(body | more, sort_keys=True).encode()


def signed(
    body: bytes,
    request_id: str,
    *,
    user: str = SIM_USER,
    age: float = 0.0,
    key: Ed25519PrivateKey | None = None,
) -> dict[str, str]:
    """The headers of a webhook that was signed `age` seconds ago."""
    at = int(time.time() - age)
    return headers_of(Signed(request_id, user, at, key or SigningKeys(SEED).newest), body)


def ticket_url(gateway: Gateway, ref: JobRef, secret: str = SECRET) -> str:
    return f"{gateway.direct}/webhooks/fal/{Seals([secret]).ticket(ref)}"


def database(redis_url: str, number: int) -> str:
    """A database of one's own in the run's Redis: gateways that share one share their due loops,
    and those in front of another fal would ask there for what it does not know."""
    return f"{redis_url}?db={number}"


async def eventually(condition: Callable[[], Awaitable[Any]], within: float = 20.0) -> Any:
    """What `condition` gives as soon as it is true; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"did not come true within {within} s"
        await asyncio.sleep(0.02)
    return found


@dataclass(frozen=True)
class Desk:
    """`http` is a client of alice's; `outside` one without a credential, as fal is."""

    gateway: Gateway
    sim: Simulator
    redis: Redis
    ledger: Ledger
    http: httpx.AsyncClient
    outside: httpx.AsyncClient

    def of(self, http: httpx.AsyncClient) -> "Desk":
        """The same for another caller."""
        return replace(self, http=http)

    async def submit(self, endpoint: str = HELD, **more: Any) -> httpx.Response:
        return await self.http.post(
            "/v1/jobs", json={"endpoint": endpoint, "input": {"prompt": "x"}, **more}
        )

    async def opened(self, endpoint: str = HELD, **more: Any) -> Job:
        """An open job that fal took."""
        answer = await self.submit(endpoint, **more)
        assert answer.status_code == 202, answer.text
        return await self.job(answer.json()["id"])

    async def job(self, job_id: str) -> Job:
        job = await self.ledger.read(job_id)
        assert job is not None
        return job

    async def until(self, job_id: str, holds: Callable[[Job], object], within: float = 20.0) -> Job:
        """The job as soon as `holds` is true of it. Looks at Redis alone: nobody watches."""
        deadline = time.monotonic() + within
        while not holds(job := await self.job(job_id)):
            assert time.monotonic() < deadline, f"{job} stayed as it is"
            await asyncio.sleep(0.02)
        return job

    async def ended(self, job_id: str, within: float = 20.0) -> dict[str, Any]:
        """The job as its owner sees it, once it has ended."""
        deadline = time.monotonic() + within
        version = "0-0"
        while time.monotonic() < deadline:
            wait = max(1, int(deadline - time.monotonic()))
            answer = await self.http.get(
                f"/v1/jobs/{job_id}", params={"wait": str(wait), "after": version}
            )
            job: dict[str, Any] = answer.json()
            version = job["version"]
            if job["ended_at"] is not None:
                return job
        raise AssertionError(f"{job_id} did not end within {within} s")

    async def report(self, job: Job, body: bytes | None = None, **more: Any) -> int:
        """The gateway's answer to fal's word about a job."""
        assert job.fal_id is not None
        body = envelope(job.fal_id) if body is None else body
        return await self.post(job.ref, body, signed(body, job.fal_id, **more))

    async def post(self, ref: JobRef, body: bytes, headers: Headers) -> int:
        url = ticket_url(self.gateway, ref)
        answer = await self.outside.post(url, content=body, headers=headers)
        return answer.status_code

    async def record(self, job_id: str) -> dict[bytes, bytes]:
        """All that Redis holds of a job, and its result."""
        fields: Any = await self.redis.hgetall(keys.job(job_id))
        result: Any = await self.redis.get(keys.result(job_id))
        return {**fields, b"(result)": result or b""}

    async def events(self, job_id: str) -> list[str]:
        """The types of a job's events, but for log lines."""
        entries: Any = await self.redis.xrange(keys.events(job_id))
        types = [fields[b"type"].decode() for _, fields in entries]
        return [type for type in types if type != "job.log"]

    def told(self, fal_id: str, tries: int = 1) -> dict[str, Any]:
        """The simulator's job, once it has tried its webhook so often."""

        def found() -> dict[str, Any] | None:
            job = next(job for job in self.sim.ask("GET", "jobs") if job["request_id"] == fal_id)
            return job if len(job["tries"]) >= tries else None

        told: dict[str, Any] = wait_for(found)
        return told


@asynccontextmanager
async def a_desk(gateway: Gateway, sim: Simulator, user: str = "alice") -> AsyncGenerator[Desk]:
    limits = httpx.Limits(max_connections=None)
    async with (
        commands(gateway.redis_url) as redis,
        gateway.http(user) as http,
        httpx.AsyncClient(timeout=60, limits=limits) as outside,
    ):
        yield Desk(gateway, sim, redis, Ledger(redis, 86_400), http, outside)
