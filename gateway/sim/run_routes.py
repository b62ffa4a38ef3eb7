"""fal.run: an endpoint's answer at once, or as a stream of events."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.core import fal
from gateway.sim import answers
from gateway.sim.faults import Fault, fault_of
from gateway.sim.model import Call, Outcome
from gateway.sim.queue_routes import HANG
from gateway.sim.state import Sim, State, account_of, held, must_exist

DURATION: Final = 1.0
"""Seconds that a run takes, apart from its work."""
PARTIAL: Final = 5
_HELD: Final = frozenset({Fault.ACCEPT_THEN_HANG, Fault.HOLD, Fault.HOLD_QUEUED})
_OVERLAP: Final = {
    "detail": "Too many concurrent requests",
    "error_type": "concurrent_requests_limit",
}


async def run(request: Request[State]) -> Response:
    sim = request.state["sim"]
    account = account_of(request, paid=True)
    path = request.path_params["endpoint"]
    endpoint = path.removesuffix("/stream")
    must_exist(endpoint)
    fault = fault_of(endpoint)
    body = await request.body()
    call = Call(endpoint, account, body, tuple(request.headers.items()), fault)
    if strange := await strange_answer(request, fault):
        return answers.dressed(strange, fault)
    request_id = str(uuid4())
    outcome = await sim.work(call)
    if path != endpoint and outcome.status < 400:
        return streamed(sim, fault, outcome, request_id)
    await asyncio.sleep(0 if fault is Fault.FAST else DURATION * sim.config.pace)
    if fault is Fault.CUT_MID_ANSWER:
        return answers.Cut(outcome.body[: len(outcome.body) // 2])
    return answers.dressed(answers.of_outcome(outcome, request_id), fault)


async def strange_answer(request: Request[State], fault: Fault | None) -> Response | None:
    """The answer of a fault that shows before anything has run; None for all others."""
    match fault:
        case Fault.CUT_AFTER_BODY:
            return answers.Cut()
        case Fault.UNREADABLE_2XX:
            return Response("<html><body>Welcome</body></html>", media_type="text/html")
        case Fault.TOOK_500:
            return answers.internal_error()
        case Fault.TOOK_504_HTML:
            return answers.ingress(504)
        case Fault.OVERLAP_429:
            headers = {fal.NEEDS_RETRY: "1", fal.ERROR_TYPE: "concurrent_requests_limit"}
            return JSONResponse(_OVERLAP, 429, headers)
        case _ if fault in _HELD:
            await held(request, HANG)
            return answers.Cut()
        case _:
            return answers.refusal(fault, request.state["sim"].config.origin)


def streamed(sim: Sim, fault: Fault | None, outcome: Outcome, request_id: str) -> Response:
    cut = fault is Fault.STREAM_CUT
    events = partial_events(sim, fault, outcome)
    return answers.dressed(answers.stream(events, request_id, cut), fault)


async def partial_events(sim: Sim, fault: Fault | None, outcome: Outcome) -> AsyncGenerator[str]:
    """How far it has come, and at last the output."""
    slow = fault is Fault.SLOW_STREAM
    steps, pause = (2 * PARTIAL, 1.0) if slow else (PARTIAL, DURATION / PARTIAL)
    with sim.journal.counting("run_streams"):
        for step in range(1, steps + 1):
            yield answers.event({"partial": True, "progress": step / steps})
            if fault is Fault.STREAM_CUT and step == 2:
                return
            await asyncio.sleep(pause * sim.config.pace)
        yield answers.event(msgspec.json.decode(outcome.body))


routes: Final = [Route("/{endpoint:path}", run, methods=["POST"])]
