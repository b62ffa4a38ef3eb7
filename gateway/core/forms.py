"""Jobs and events as clients read them: in fal's form, and in our own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.core import fal
from gateway.core.model import Event, EventType, Job, State, Where
from gateway.core.prices import usd_text

INLINE_RESULT: Final = 64 * 2**10
"""Bytes of result that a job's own JSON carries at most."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the URLs of fal-form answers point: `base` stands before `/{app}/requests/{id}`."""

    base: str

    def of(self, job: Job) -> Json:
        address = f"{self.base}/{fal.app_of(job.ref.endpoint)}/requests/{job.id}"
        return {
            "response_url": address,
            "status_url": f"{address}/status",
            "cancel_url": f"{address}/cancel",
        }


FAL: Final = Addresses(f"https://{fal.QUEUE}")
"""As fal writes them, for clients that come through the proxy route."""


def fal_status(job: Job, addresses: Addresses, logs: Sequence[bytes] | None = None) -> Json:
    """A queue status in fal's form, with every key that any of its clients insists on.

    `logs` are entries as raw JSON; None writes null, as fal does unless asked for them.
    """
    body: Json = {
        "status": _fal_word(job),
        "request_id": job.id,
        **addresses.of(job),
        "logs": None if logs is None else [_log_entry(line) for line in logs],
    }
    if body["status"] == fal.Status.IN_QUEUE:
        body["queue_position"] = job.position or 0
    if job.end is not None:
        body["metrics"] = _metrics(job)
        if job.state is not State.COMPLETED:
            body["error"] = job.end.error or f"the job has {job.state}"
            body["error_type"] = job.end.error_type or f"job_{job.state}"
    return body


def fal_status_code(job: Job) -> int:
    """fal answers a status with 202 until the job has ended."""
    return 200 if job.state.ended else 202


def job_json(job: Job, result: bytes | None = None) -> bytes:
    """A job in our own form. `result` is its raw body, set in unread where it is small JSON."""
    end = job.end
    body: Json = {
        "id": job.id,
        "version": job.version,
        "endpoint": job.ref.endpoint,
        "status": job.state,
        "queue_position": job.position if job.state is State.QUEUED else None,
        "cancel_requested": job.cancel_requested,
        "created_at": rfc3339(job.ref.created_at),
        "started_at": rfc3339(job.started_at),
        "ended_at": rfc3339(job.ended_at),
        "error": None,
        "metrics": _metrics(job) if end else None,
        "units": end.units if end else None,
        "cost": None if job.cost is None else usd_text(job.cost),
        "links": {
            name: f"/v1/jobs/{job.id}{tail}"
            for name, tail in (
                ("self", ""),
                ("result", "/result"),
                ("events", "/events"),
                ("cancel", "/cancel"),
            )
        },
    }
    if end is not None and job.state is not State.COMPLETED:
        body["error"] = _error(job.state, end.error_type, end.error, end.http_status)
    raw = {"metadata": job.metadata, "result": result}
    return _with_raw(body, raw)


def wants_result(job: Job) -> bool:
    """Does the job's own JSON carry its result, if that is small enough?"""
    return job.state is State.COMPLETED and job.end is not None and job.end.where is Where.STORED


def event_json(event: Event) -> bytes:
    """An event in our own form; it never carries a result."""
    body: Json = {
        "id": event.job_id,
        "version": event.version,
        "type": event.type,
        "at": rfc3339(event.at),
        "endpoint": event.endpoint,
    }
    status = _STATUS.get(event.type)
    if status is not None:
        body["status"] = status
    if event.type is EventType.QUEUED:
        body["queue_position"] = event.position
    if status is not None and status.ended and status is not State.COMPLETED:
        body["error"] = _error(status, event.error_type, event.error, event.http_status)
    return _with_raw(body, {"log": event.log} if event.log is not None else {})


_STATUS: Final = {
    EventType.CREATED: State.QUEUED,
    EventType.QUEUED: State.QUEUED,
    EventType.STARTED: State.RUNNING,
    EventType.COMPLETED: State.COMPLETED,
    EventType.FAILED: State.FAILED,
    EventType.CANCELLED: State.CANCELLED,
    EventType.EXPIRED: State.EXPIRED,
    EventType.UNKNOWN: State.UNKNOWN,
}


def ascii_json(body: Json) -> bytes:
    """Compact and ASCII: fal's JS client splits UTF-8 at the borders of chunks."""
    return json.dumps(body, separators=(",", ":")).encode()


def rfc3339(seconds: float | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC, to the millisecond."""
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _with_raw(body: Json, raw: dict[str, bytes | None]) -> bytes:
    """`body` with further members whose values are JSON already, or null."""
    members = [ascii_json({name: None})[1:-5] + (value or b"null") for name, value in raw.items()]
    return b",".join([ascii_json(body)[:-1], *members]) + b"}"


def _fal_word(job: Job) -> fal.Status:
    if job.state.ended:
        return fal.Status.COMPLETED
    return fal.Status.IN_PROGRESS if job.state is State.RUNNING else fal.Status.IN_QUEUE


def _error(state: State, type: str | None, message: str | None, status: int | None) -> Json:
    return {
        "type": type or f"job_{state}",
        "message": message or f"the job has {state}",
        "status": status,
    }


def _metrics(job: Job) -> Json:
    if job.started_at is None or job.ended_at is None:
        return {}
    return {"inference_time": max(0.0, round(job.ended_at - job.started_at, 3))}


def _log_entry(line: bytes) -> Json:
    """A log line with what is the same for all, and `labels.level` beside `level`: fal's Swift
    client reads the older one."""
    entry: Json = {"level": "INFO", "source": "USER", **json.loads(line)}
    return {**entry, "labels": {"level": entry["level"]}}
