"""Webhooks as fal sends them: signed, and again until somebody takes them."""

import asyncio
import json
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core import fal
from gateway.sim.access import Access
from gateway.sim.faults import Fault
from gateway.sim.keys import SigningKeys
from gateway.sim.model import Job, Outcome

TRIES: Final = 12
FIRST_DELAY: Final = 0.5
"""Seconds before the second try; doubles with each one, up to `LONGEST_DELAY`."""
LONGEST_DELAY: Final = 60.0
TIMEOUT: Final = 15.0
FASTEST_RETRY: Final = 0.02
"""At no pace at all, all tries would be over in an instant."""
LATE: Final = 5.0
PARALLEL: Final = 20
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_OWN_ID: Final = frozenset({Fault.GATEWAY_ID, Fault.REQUEUE})
"""Jobs whose last attempt has an id of its own."""


@dataclass(frozen=True, slots=True)
class Signed:
    """Who and when a webhook claims to be from. `key` None signs with the published one."""

    request_id: str
    user_id: str
    timestamp: int
    key: Ed25519PrivateKey


def deliverable(url: str) -> bool:
    """Whether fal would call this address; plain http is for this machine alone."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (
        parts.scheme == "https" or (parts.scheme, host in LOOPBACK) == ("http", True)
    )


def body_of(job: Job, outcome: Outcome) -> bytes:
    """The body, in the bytes that Python's `json.dumps` writes: sorted, with spaces."""
    good = outcome.status < 300
    envelope = {
        "error": None if good else f"Invalid status code: {outcome.status}",
        "gateway_request_id": job.gateway_id if job.call.fault in _OWN_ID else job.id,
        "payload": None if outcome.payload_error else json.loads(outcome.body),
        "request_id": job.id,
        "status": "OK" if good else "ERROR",
    }
    if outcome.payload_error:
        envelope["payload_error"] = outcome.payload_error
    return json.dumps(envelope, sort_keys=True).encode()


def headers_of(signed: Signed, body: bytes) -> dict[str, str]:
    timestamp = str(signed.timestamp)
    lines = [signed.request_id, signed.user_id, timestamp, sha256(body).hexdigest()]
    return {
        "content-type": "application/json",
        fal.WEBHOOK_REQUEST_ID: signed.request_id,
        fal.WEBHOOK_USER_ID: signed.user_id,
        fal.WEBHOOK_TIMESTAMP: timestamp,
        fal.WEBHOOK_SIGNATURE: signed.key.sign("\n".join(lines).encode()).hex(),
    }


class Webhooks:
    def __init__(
        self, http: httpx.AsyncClient, keys: SigningKeys, access: Access, pace: float
    ) -> None:
        self._http = http
        self._keys = keys
        self._access = access
        self._pace = pace

    async def report(self, job: Job) -> None:
        """Tell the job's webhook of its end, in the way its fault asks for."""
        fault = job.call.fault
        if job.call.webhook is None or fault is Fault.NO_WEBHOOK:
            job.told.set()
            return
        if fault is Fault.WEBHOOK_LATE:
            await asyncio.sleep(LATE * self._pace)
        if fault is Fault.WEBHOOK_PARALLEL:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(PARALLEL):
                    tasks.create_task(self._deliver(job, job.call.webhook))
            return
        await self._deliver(job, job.call.webhook)
        if fault is Fault.WEBHOOK_TWICE:
            await self._deliver(job, job.call.webhook)

    def signed(self, job: Job) -> Signed:
        """Who an honest webhook about `job` is from, now."""
        about = job.gateway_id if job.call.fault is Fault.GATEWAY_ID else job.id
        user_id = self._access.user(job.call.account)
        return Signed(about, user_id, int(time.time()), self._keys.newest)

    async def attempt(self, job: Job, url: str, body: bytes, headers: dict[str, str]) -> int | None:
        """The receiver's status, None if there was no answer. Never follows a redirect."""
        status, error = None, None
        try:
            async with asyncio.timeout(TIMEOUT):
                reply = await self._http.post(url, content=body, headers=headers)
            status = reply.status_code
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as failure:
            error = type(failure).__name__
        if len(job.tries) < 100:
            job.tries.append({"at": time.time(), "url": url, "status": status, "error": error})
        return status

    async def _deliver(self, job: Job, url: str) -> None:
        """Try until a 2xx; a redirect, or a place where fal never calls, is final."""
        if not deliverable(url):
            job.tries.append({"at": time.time(), "url": url, "status": None, "error": "dropped"})
            job.told.set()
            return
        assert job.outcome is not None
        body = body_of(job, job.outcome)
        for number in range(TRIES):
            if job.dropped:
                return
            status = await self.attempt(job, url, body, headers_of(self.signed(job), body))
            job.told.set()
            if status is not None and status < 400:
                return
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2**number)
            await asyncio.sleep(delay * max(self._pace, FASTEST_RETRY))
