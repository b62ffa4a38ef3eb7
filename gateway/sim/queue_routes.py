"""queue.fal.run: submit, status, status stream, result, cancel."""

import asyncio
import itertools
from collections.abc import AsyncGenerator
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.core import fal
from gateway.core.fal import Status
from gateway.sim import answers
from gateway.sim.engine import Full
from gateway.sim.faults import Fault, fault_of
from gateway.sim.model import Call, Job
from gateway.sim.state import Sim, State, account_of, held, must_exist

HANG: Final = 120.0
KEEPALIVE: Final = 15.0
MAX_KEEPALIVE: Final = 5.0
"""fal sends a comment every 15 s; the Java client gives up after 10 s without a byte."""
NOT_FOUND: Final = {"status": "NOT_FOUND"}
_CANCEL_BODIES: Final[dict[Fault | None, object]] = {
    Fault.CANCEL_200_OK: {"status": "OK"},
    Fault.CANCEL_200_SUCCESS: {"success": True},
}


async def submit(request: Request[State]) -> Response:
    sim = request.state["sim"]
    account = account_of(request, paid=True)
    endpoint = request.path_params["endpoint"]
    if "/requests/" in f"/{endpoint}/":
        raise HTTPException(405, headers={"allow": "GET, PUT"})
    must_exist(endpoint)
    fault = fault_of(endpoint)
    body = await request.body()
    if refused := answers.refusal(fault, sim.config.origin):
        return answers.dressed(refused, fault)
    most = request.query_params.get("fal_max_queue_length", "")
    if most.isdecimal() and sim.engine.waiting_on(endpoint) > int(most):
        return JSONResponse({"detail": "Queue is full"}, 429)
    call = Call(
        endpoint,
        account,
        body,
        tuple(request.headers.items()),
        fault,
        request.query_params.get(fal.WEBHOOK_QUERY),
        start_timeout(request),
    )
    try:
        job = sim.engine.submit(call)
    except Full:
        return JSONResponse({"detail": "The simulator is full"}, 503)
    return answers.dressed(await acceptance(request, job), fault)


def start_timeout(request: Request[State]) -> float | None:
    """The caller's start deadline in seconds; what is no number above 0.1 is not one."""
    text = request.headers.get(fal.START_TIMEOUT) or request.headers.get(fal.REQUEST_TIMEOUT, "")
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0.1 < seconds < 1e6 else None


async def acceptance(request: Request[State], job: Job) -> Response:
    """The answer to a submit that made a job, or what its fault makes of that."""
    sim = request.state["sim"]
    headers = {fal.REQUEST_ID: job.id}
    accepted = JSONResponse(status_body(sim, job), headers=headers)
    match job.call.fault:
        case Fault.ACCEPT_THEN_HANG:
            await held(request, HANG)
            return answers.Cut()
        case Fault.CUT_AFTER_BODY:
            return answers.Cut()
        case Fault.CUT_MID_ANSWER:
            return answers.Cut(bytes(accepted.body)[:40])
        case Fault.UNREADABLE_2XX:
            return Response("<html><body>Welcome</body></html>", media_type="text/html")
        case Fault.NO_REQUEST_ID:
            return JSONResponse({"status": "IN_QUEUE", "queue_position": 0})
        case Fault.TOOK_500:
            return answers.internal_error()
        case Fault.TOOK_504_HTML:
            return answers.ingress(504)
        case Fault.WEBHOOK_FIRST:
            with sim.journal.counting("held"):
                await job.told.wait()
                await asyncio.sleep(sim.config.pace)
            return accepted
        case Fault.FAST:
            return JSONResponse(status_body(sim, job) | {"status": "IN_PROGRESS"}, headers=headers)
        case _:
            return accepted


def status_body(sim: Sim, job: Job, logs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A status in the form that satisfies all of fal's clients."""
    url = f"https://{fal.QUEUE}/{fal.app_of(job.call.endpoint)}/requests/{job.id}"
    body: dict[str, Any] = {
        "status": job.status,
        "request_id": job.id,
        "response_url": url,
        "status_url": f"{url}/status",
        "cancel_url": f"{url}/cancel",
        "logs": logs,
    }
    if job.status is Status.IN_QUEUE:
        body["queue_position"] = sim.engine.position(job)
    if job.outcome is not None:
        started, ended = job.started_at or job.created_at, job.ended_at or job.created_at
        body["metrics"] = {"inference_time": round(ended - started, 6)}
        if job.outcome.error is not None:
            body |= {"error": job.outcome.error, "error_type": job.outcome.error_type}
    return body


async def status(request: Request[State]) -> Response:
    job = job_of(request)
    job.reads += 1
    if job.call.fault is Fault.STATUS_502_HTML and job.reads % 2:
        return answers.ingress(502)
    logs = job.logs if wants_logs(request) else None
    code = 200 if job.status is Status.COMPLETED else 202
    return replied(request, job, status_body(request.state["sim"], job, logs), code)


async def status_stream(request: Request[State]) -> Response:
    job = job_of(request)
    cut = job.call.fault is Fault.STREAM_CUT
    events = status_events(request.state["sim"], job, wants_logs(request), 2 if cut else None)
    return answers.dressed(answers.stream(events, job.id, cut), job.call.fault)


async def status_events(sim: Sim, job: Job, logs: bool, most: int | None) -> AsyncGenerator[str]:
    """Events up to COMPLETED, each with the log lines that are new; comments in between."""
    silence = min(MAX_KEEPALIVE, max(0.05, KEEPALIVE * sim.config.pace))
    told, seen = None, 0
    with sim.journal.counting("status_streams"):
        for count in itertools.count(1):
            now = (job.status, sim.engine.position(job), len(job.logs) if logs else 0)
            if now != told:
                told = now
                new, seen = job.logs[seen:], len(job.logs)
                yield answers.event(status_body(sim, job, new if logs else None))
            else:
                yield ": ping\n\n"
            if job.status is Status.COMPLETED or job.dropped or count == most:
                return
            await change(job, now, sim, logs, silence)


async def change(
    job: Job, told: tuple[Status, int, int], sim: Sim, logs: bool, silence: float
) -> None:
    """Wait until there is something to tell, or for `silence` seconds."""
    try:
        async with asyncio.timeout(silence):
            while not job.dropped:
                changed = job.changed
                now = (job.status, sim.engine.position(job), len(job.logs) if logs else 0)
                if now != told:
                    return
                await changed.wait()
    except TimeoutError:
        return


async def result(request: Request[State]) -> Response:
    job = job_of(request)
    fault = job.call.fault
    if job.outcome is None and fault is Fault.PENDING_202:
        return replied(request, job, status_body(request.state["sim"], job), 202)
    if job.outcome is None:
        return replied(request, job, {"detail": fal.IN_PROGRESS_DETAIL}, 400)
    job.reads += 1
    if fault is Fault.RESULT_502_HTML and job.reads <= 2:
        return answers.ingress(502)
    if fault in (Fault.RESULT_404, Fault.PAYLOAD_LOST):
        return replied(request, job, {"detail": "Request result is no longer available"}, 404)
    return answers.dressed(answers.of_outcome(job.outcome, job.id), fault)


async def cancel(request: Request[State]) -> Response:
    job = job_of(request)
    await request.body()
    if job.outcome is not None:
        return replied(request, job, {"status": "ALREADY_COMPLETED"}, 400)
    request.state["sim"].engine.cancel(job)
    if (body := _CANCEL_BODIES.get(job.call.fault)) is not None:
        return replied(request, job, body, 200)
    return replied(request, job, {"status": "CANCELLATION_REQUESTED"}, 202)


def replied(request: Request[State], job: Job, body: object, code: int) -> Response:
    response = JSONResponse(body, code, {fal.REQUEST_ID: job.id})
    return answers.dressed(response, job.call.fault)


class Unknown(Exception):
    """No such job, or another account's: fal tells the two apart for nobody."""


async def not_found(request: Request, error: Exception) -> Response:
    return JSONResponse(NOT_FOUND, 404)


def job_of(request: Request[State]) -> Job:
    """The job that a path names, by `owner/alias` or its full endpoint. Raises `Unknown`."""
    account = account_of(request)
    job = request.state["sim"].engine.find(request.path_params["id"])
    if job is None or job.call.account != account:
        raise Unknown
    if request.path_params["app"] not in (job.call.endpoint, fal.app_of(job.call.endpoint)):
        raise Unknown
    return job


def wants_logs(request: Request[State]) -> bool:
    return request.query_params.get("logs") in ("1", "true")


routes: Final = [
    Route("/{app:path}/requests/{id}/status/stream", status_stream, methods=["GET"]),
    Route("/{app:path}/requests/{id}/status", status, methods=["GET"]),
    Route("/{app:path}/requests/{id}/response", result, methods=["GET"]),
    Route("/{app:path}/requests/{id}/cancel", cancel, methods=["PUT"]),
    Route("/{app:path}/requests/{id}", result, methods=["GET"]),
    Route("/{endpoint:path}", submit, methods=["POST"]),
]
