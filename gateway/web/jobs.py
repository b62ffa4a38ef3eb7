"""/v1/jobs: jobs in our own form."""

import re
from collections.abc import Mapping
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response

from gateway.core.errors import BadBody, JobNotFound, StillOpen, StoreUnavailable
from gateway.core.forms import INLINE_RESULT, job_json, wants_result
from gateway.core.model import Job, is_job_id
from gateway.core.parcels import Parcel
from gateway.core.plans import may_see
from gateway.core.quota import ratelimit_headers
from gateway.core.slices import is_json, parse_submission
from gateway.flows.cancel import cancel
from gateway.flows.observe import WAIT_MAX, changed, job_of, polled
from gateway.flows.services import Services
from gateway.flows.submit import UNTOLD, Submission, submit
from gateway.store.ledger import Place
from gateway.upstream.answers import Refusal
from gateway.web.call import caller_of, check_json, facts, for_team, headers_for_fal, number_of
from gateway.web.events import place_of
from gateway.web.proxy import refusal_response
from gateway.web.results import result_response
from gateway.web.seats import seat
from gateway.web.site import services_of, site_of
from gateway.web.streaming import while_here

LIST_MAX = 100


async def create(request: Request) -> Response:
    """POST /v1/jobs: 202 with the job."""
    caller = await caller_of(request)
    services = services_of(request)
    check_json(request)
    headers = headers_for_fal(request, caller)
    async with site_of(request).bodies.read(request, caller.holder, caller.plan.max_body) as body:
        wish = parse_submission(body, loopback_webhooks=services.rules.loopback_webhooks)
        taken = await submit(
            services,
            caller,
            Submission(wish.endpoint, Parcel(wish.input, headers), wish.webhook_url, wish.metadata),
        )
    job, limits = taken.answer, ratelimit_headers(taken.standings)
    if isinstance(job, Refusal):
        return refusal_response(job, limits)
    facts(request)["job"] = job.id
    with suppress(StoreUnavailable):  # fal has the job: after a 503 clients would submit it again
        if job.version == UNTOLD:
            job = await services.ledger.read(job.id) or job
        return await _job(services, job, 202, limits)
    return Response(job_json(job), 202, limits, media_type="application/json")


async def listing(request: Request) -> Response:
    """GET /v1/jobs: one's own, newest first, in pages; the team's with `?scope=team`."""
    caller = await caller_of(request)
    ledger = services_of(request).ledger
    limit = int(number_of(request, "limit", 20, LIST_MAX)) or 1
    before = _place(request.query_params.get("before"))
    if for_team(request, caller):
        page = await ledger.listed_of_team(caller.principal.team, before, limit)
    else:
        page = await ledger.listed(caller.principal, before, limit)
    next_page = b"null" if page.more is None else b'"%d-%s"' % (page.more[0], page.more[1].encode())
    body = b",".join(job_json(job) for job in page.jobs if may_see(caller, job))
    return Response(
        b'{"jobs":[' + body + b'],"next":' + next_page + b"}", media_type="application/json"
    )


async def one(request: Request) -> Response:
    """GET /v1/jobs/{id}: the job; with `wait`, on its next change or at the deadline."""
    caller, job_id = await caller_of(request), job_id_of(request)
    services = services_of(request)
    wait = number_of(request, "wait", 0, WAIT_MAX)
    if wait:
        after, leaving = place_of(request, "after"), site_of(request).draining
        async with seat(request, caller), while_here(services.runs, request.receive):
            job = await changed(services, caller, job_id, after, wait, leaving)
    else:
        job = await polled(services, caller, job_id)
    return await _job(services, job, 200)


async def result(request: Request) -> Response:
    """GET /v1/jobs/{id}/result: the raw result with its stored code and headers."""
    caller, job_id = await caller_of(request), job_id_of(request)
    job = await job_of(services_of(request), caller, job_id)
    if not job.state.ended:
        raise StillOpen("the job has not ended; wait for it at /v1/jobs/{id}?wait=30")
    return await result_response(request, caller, job)


async def cancellation(request: Request) -> Response:
    """POST /v1/jobs/{id}/cancel: 202 with the job, 200 where it had ended."""
    caller, job_id = await caller_of(request), job_id_of(request)
    services = services_of(request)
    _, was_open = await cancel(services, caller, job_id)
    job = await job_of(services, caller, job_id)
    return await _job(services, job, 202 if was_open else 200)


def job_id_of(request: Request) -> str:
    """The id in the path. What is not in the form of one is a job that does not exist."""
    job_id: str = request.path_params["id"]
    if not is_job_id(job_id):
        raise JobNotFound("no such job")
    facts(request)["job"] = job_id
    return job_id


def _place(text: str | None) -> Place | None:
    """Where a page begins, as `next` of the one before said."""
    if text is None:
        return None
    at, _, job_id = text.partition("-")
    if not re.fullmatch(r"[0-9]{1,15}", at) or not is_job_id(job_id):
        raise BadBody("before must be the `next` of another page")
    return int(at), job_id


async def _job(
    services: Services, job: Job, status: int, headers: Mapping[str, str] | None = None
) -> Response:
    body = await services.ledger.result(job.id, INLINE_RESULT) if wants_result(job) else None
    inline = body is not None and is_json(body)
    text = job_json(job, body if inline else None)
    return Response(text, status, headers, media_type="application/json")
