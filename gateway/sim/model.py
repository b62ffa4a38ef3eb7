"""What the parts of the simulator hand each other."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from gateway.core import fal
from gateway.sim.faults import Fault

JSON_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an endpoint answered: of a run the answer itself, of a job its end.

    `error` and `error_type` are what the status body tells of an end. fal fills them in for
    trouble of its own only: a model that refuses its input ends without.
    """

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON_TYPE
    error: str | None = None
    error_type: str | None = None
    payload_error: str | None = None
    """Set: the webhook goes without a payload, and says this instead."""


def success(output: object, units: str = "1") -> Outcome:
    return Outcome(200, json.dumps(output).encode(), {fal.BILLABLE_UNITS: units})


def invalid(*problems: Mapping[str, Any]) -> Outcome:
    """An input that the model's schema refuses: nothing is billed."""
    body = json.dumps({"detail": problems}).encode()
    return Outcome(422, body, {fal.BILLABLE_UNITS: "0"})


def problem(
    where: str, kind: str, text: str, given: object = None, **ctx: object
) -> dict[str, object]:
    """One entry of the `detail` of a 422. `where` is the input field."""
    entry: dict[str, object] = {"loc": ["body", where], "msg": text, "type": kind}
    entry |= {"url": f"https://docs.fal.ai/errors#{kind}", "input": given}
    return entry | ({"ctx": ctx} if ctx else {})


def trouble(status: int, error_type: str, text: str) -> Outcome:
    """A failure of the platform, not of the model."""
    body = json.dumps({"detail": text, "error_type": error_type}).encode()
    return Outcome(status, body, {fal.ERROR_TYPE: error_type}, error=text, error_type=error_type)


def is_json(body: bytes) -> bool:
    """Whether `body` is JSON in UTF-8. Python would guess at other encodings, and takes NaN."""
    try:
        json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(name)


CANCELLED: Final = trouble(499, "client_cancelled", "Request was cancelled")
DEADLINE: Final = Outcome(
    504,
    b'{"detail": "Request timed out before it started", "error_type": "request_timeout"}',
    {fal.ERROR_TYPE: "request_timeout", fal.TIMEOUT_TYPE: "user"},
    error="Request timed out before it started",
    error_type="request_timeout",
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request to run an endpoint, queued or not. `account` tells callers apart, and is no key."""

    endpoint: str
    account: str
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    fault: Fault | None
    webhook: str | None = None
    start_timeout: float | None = None
    """Seconds until which it must have started."""


@dataclass(eq=False, slots=True)
class Job:
    """A queued request. `version` counts its changes, and `changed` is set at the next one."""

    call: Call
    strangers: int
    """Requests of other customers that still stand before it."""
    id: str = field(default_factory=lambda: str(uuid4()))
    gateway_id: str = field(default_factory=lambda: str(uuid4()))
    """The id of an attempt, where it shall differ from `id`."""
    status: fal.Status = fal.Status.IN_QUEUE
    logs: list[dict[str, Any]] = field(default_factory=list)
    created_at: float = field(default_factory=time.time)
    started_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None
    cancel_requested: bool = False
    dropped: bool = False
    """Forgotten by a reset: whoever waits for it goes away."""
    reads: int = 0
    """How often it was asked about, for faults that heal."""
    tries: list[dict[str, Any]] = field(default_factory=list)
    """Webhook attempts."""
    told: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after the first webhook attempt, or at the end when there is none."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def touch(self) -> None:
        """Wake everybody who watches."""
        self.changed.set()
        self.changed = asyncio.Event()

    def log(self, message: str) -> None:
        at = datetime.now(UTC).isoformat()
        self.logs.append({"message": message, "timestamp": at, "level": "INFO", "source": "USER"})
        self.touch()
