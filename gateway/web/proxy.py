"""fal's own protocol: with the target in a header, or with the gateway as fal's host."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.core import fal
from gateway.core.errors import StillInProgress
from gateway.core.forms import FAL, Addresses, ascii_json, fal_status, fal_status_code
from gateway.core.headers import the_target_header
from gateway.core.model import Caller, Job
from gateway.core.parcels import Parcel
from gateway.core.plans import check_app, check_endpoint, check_submit, check_webhook
from gateway.core.quota import ratelimit_headers
from gateway.core.slices import check_json_object
from gateway.core.target import (
    Op,
    Queue,
    RealtimeToken,
    Run,
    Submit,
    Target,
    Upload,
    parse_path,
    parse_url,
)
from gateway.flows import relay
from gateway.flows.authenticate import check_kept
from gateway.flows.cancel import cancel
from gateway.flows.observe import RESULT_HOLD, ended, job_of, polled, polled_with_logs
from gateway.flows.run import run
from gateway.flows.services import Services
from gateway.flows.submit import Submission, submit
from gateway.upstream.answers import Refusal
from gateway.web.call import caller_of, check_json, client_url, facts, headers_for_fal
from gateway.web.results import result_response
from gateway.web.seats import seat
from gateway.web.site import services_of, site_of
from gateway.web.statuses import status_stream
from gateway.web.streaming import Opened, Streamed, while_here

HOST_FORM: Final = b"/fal/"
NO_LIMITS: Final[Mapping[str, str]] = MappingProxyType({})


async def proxy(request: Request) -> Response:
    """The target stands in `x-fal-target-url`; URLs in answers have fal's form, with our id."""
    caller = await caller_of(request)
    loopback = services_of(request).rules.loopback_webhooks
    header = the_target_header(request.headers.raw)
    target = parse_url(request.method, header, loopback_webhooks=loopback)
    return await _answer(request, caller, target, FAL)


async def host(request: Request) -> Response:
    """The path is fal's, behind /fal/run, /fal/queue or /fal/rest; URLs in answers are ours."""
    caller = await caller_of(request)
    loopback = services_of(request).rules.loopback_webhooks
    path = request.scope["raw_path"].removeprefix(HOST_FORM)
    query = request.scope["query_string"]
    target = parse_path(request.method, path, query, loopback_webhooks=loopback)
    return await _answer(request, caller, target, Addresses(f"{client_url(request)}/fal/queue"))


async def _answer(
    request: Request, caller: Caller, target: Target, addresses: Addresses
) -> Response:
    match target:
        case Submit():
            return await _submit(request, caller, target, addresses)
        case Queue():
            check_app(caller, target.app)
            facts(request).update(op=target.op, job=target.job_id)
            return await _QUEUE[target.op](request, caller, target, addresses)
        case Run():
            return await _run(request, caller, target)
        case Upload() | RealtimeToken():
            return await _rest(request, caller, target)


async def _submit(
    request: Request, caller: Caller, target: Submit, addresses: Addresses
) -> Response:
    services = services_of(request)
    facts(request).update(op="submit", endpoint=target.endpoint)
    check_submit(caller)
    check_endpoint(caller, target.endpoint)
    check_webhook(caller, target.webhook)
    check_json(request)
    headers = headers_for_fal(request, caller)
    async with site_of(request).bodies.read(request, caller.holder, caller.plan.max_body) as body:
        if body:  # fal's JS client sends none where there is no input
            check_json_object(body)
        wish = Submission(target.endpoint, Parcel(body, headers), webhook=target.webhook)
        taken = await submit(services, caller, wish)
    limits = ratelimit_headers(taken.standings)
    job = taken.answer
    if isinstance(job, Refusal):
        return refusal_response(job, limits)
    facts(request)["job"] = job.id
    return _json(200, fal_status(job, addresses), job, limits)


async def _status(
    request: Request, caller: Caller, target: Queue, addresses: Addresses
) -> Response:
    services = services_of(request)
    lines: Sequence[bytes] | None = None
    if target.logs:
        job, lines = await polled_with_logs(services, caller, target.job_id)
    else:
        job = await polled(services, caller, target.job_id)
    return _json(fal_status_code(job), fal_status(job, addresses, lines), job)


async def _stream(
    request: Request, caller: Caller, target: Queue, addresses: Addresses
) -> Response:
    job = await job_of(services_of(request), caller, target.job_id)
    return status_stream(request, caller, job, addresses, logs=target.logs)


async def _result(
    request: Request, caller: Caller, target: Queue, addresses: Addresses
) -> Response:
    services = services_of(request)
    job = await job_of(services, caller, target.job_id)
    if not job.state.ended:
        async with seat(request, caller), while_here(services.runs, request.receive):
            job = await ended(services, caller, target.job_id, RESULT_HOLD)
    if not job.state.ended:
        raise StillInProgress(fal.IN_PROGRESS_DETAIL)
    return await result_response(request, caller, job)


async def _cancel(
    request: Request, caller: Caller, target: Queue, addresses: Addresses
) -> Response:
    job, was_open = await cancel(services_of(request), caller, target.job_id)
    if was_open:
        return _json(202, {"status": "CANCELLATION_REQUESTED"}, job)
    return _json(400, {"status": "ALREADY_COMPLETED"}, job)


_QUEUE: Final = {Op.STATUS: _status, Op.STREAM: _stream, Op.RESULT: _result, Op.CANCEL: _cancel}


async def _run(request: Request, caller: Caller, target: Run) -> Response:
    facts(request).update(op="stream" if target.stream else "run", endpoint=target.endpoint)
    check_submit(caller)
    check_endpoint(caller, target.endpoint)
    check_json(request)
    headers = headers_for_fal(request, caller)
    async with site_of(request).bodies.read(request, caller.holder, caller.plan.max_body) as body:
        if body:
            check_json_object(body)
    opened = partial(_run_opened, request, caller, target, body, headers)
    return Streamed(services_of(request).runs, opened)


@asynccontextmanager
async def _run_opened(
    request: Request, caller: Caller, target: Run, body: bytes, headers: dict[str, str]
) -> AsyncGenerator[Opened]:
    services, site = services_of(request), site_of(request)
    parcel = Parcel(body, headers)
    async with seat(request, caller):
        with site.bodies.holding(caller.holder, body):
            async with run(
                services, caller, target.endpoint, parcel, stream=target.stream
            ) as answer:
                check_kept(services, caller)
                async with aclosing(_kept(services, caller, answer.chunks)) as chunks:
                    yield Opened(answer.status, dict(answer.headers), chunks)


async def _kept(
    services: Services, caller: Caller, chunks: AsyncIterator[bytes]
) -> AsyncGenerator[bytes]:
    """The chunks, until the caller's credential is taken back."""
    async for chunk in chunks:
        check_kept(services, caller)
        yield chunk


async def _rest(request: Request, caller: Caller, target: Upload | RealtimeToken) -> Response:
    facts(request)["op"] = "upload" if isinstance(target, Upload) else "realtime token"
    check_json(request)
    services = services_of(request)
    async with site_of(request).bodies.read(request, caller.holder, 8192) as body:
        if isinstance(target, Upload):
            base = client_url(request)
            relayed = await relay.upload(services, caller, target.multipart, body, base)
        else:
            relayed = await relay.realtime_token(services, caller, body)
    limits = ratelimit_headers(relayed.standings)
    if isinstance(relayed.answer, Refusal):
        return refusal_response(relayed.answer, limits)
    return Response(relayed.answer, headers={"content-type": "application/json", **limits})


def refusal_response(refusal: Refusal, limits: Mapping[str, str] = NO_LIMITS) -> Response:
    """fal's own refusal, passed on."""
    headers = {n: v for n, v in refusal.headers.items() if n != fal.REQUEST_ID}
    return Response(refusal.body, refusal.status, {**headers, **limits})


def _json(
    status: int, body: dict[str, object], job: Job, limits: Mapping[str, str] = NO_LIMITS
) -> Response:
    headers = {fal.REQUEST_ID: job.id, "content-type": "application/json", **limits}
    return Response(ascii_json(body), status, headers)
