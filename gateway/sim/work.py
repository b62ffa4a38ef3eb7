"""What each endpoint does with its input."""

import json
from typing import Final

import httpx

from gateway.core import fal
from gateway.sim import audio
from gateway.sim.faults import Fault, megabytes
from gateway.sim.model import (
    CANCELLED,
    DEADLINE,
    Call,
    Outcome,
    invalid,
    is_json,
    problem,
    success,
    trouble,
)
from gateway.sim.objects import Objects
from gateway.sim.prices import units_of

_LOST: Final = "Payload is not JSON serializable"


class Work:
    def __init__(self, http: httpx.AsyncClient, objects: Objects) -> None:
        self._http = http
        self._objects = objects

    async def __call__(self, call: Call) -> Outcome:
        """Run `call`: the fault's outcome, the audio model's, or an echo."""
        if call.endpoint == audio.ENDPOINT:
            return await audio.transform(self._http, self._objects, call.body)
        return of_fault(call) or echo(call)


def echo(call: Call) -> Outcome:
    """The input, written back byte for byte."""
    if not is_json(call.body or b"null"):
        return invalid(problem("body", "json_invalid", "JSON decode error"))
    endpoint = json.dumps(call.endpoint).encode()
    body = b'{"echo": %s, "endpoint": %s}' % (call.body or b"null", endpoint)
    units = units_of(call.endpoint)
    return Outcome(200, body, {} if units is None else {fal.BILLABLE_UNITS: units})


def of_fault(call: Call) -> Outcome | None:
    """How a call ends whose fault decides that; None for all others."""
    match call.fault:
        case Fault.FAIL_422:
            return invalid(problem("prompt", "value_error", "The simulator refuses this", "x"))
        case Fault.FAIL_503:
            return trouble(503, "runner_connection_error", "Could not connect to the runner")
        case Fault.TIMEOUT_504:
            return DEADLINE
        case Fault.CANCELLED:
            return CANCELLED
        case Fault.BIG:
            return _big(megabytes(call.endpoint))
        case Fault.ECHO_HEADERS:
            return success({"headers": dict(call.headers)})
        case Fault.PAYLOAD_ERROR | Fault.PAYLOAD_LOST:
            done = echo(call)
            return Outcome(done.status, done.body, done.headers, payload_error=_LOST)
        case _:
            return None


def _big(mebibytes: int) -> Outcome:
    """A JSON object of exactly that size."""
    head, tail = b'{"filler": "', b'"}'
    body = head + b"x" * (mebibytes * 2**20 - len(head) - len(tail)) + tail
    return Outcome(200, body, {fal.BILLABLE_UNITS: "1"})
