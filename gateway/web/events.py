"""Event streams in our own form: with ids, so that a subscriber resumes where it was."""

import asyncio
import random
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.core import sse
from gateway.core.errors import BadBody, Forbidden, JobNotFound
from gateway.core.forms import ascii_json, event_json
from gateway.core.model import Caller, Event, is_job_id
from gateway.flows.authenticate import still_good
from gateway.flows.observe import job_of
from gateway.flows.subscribe import Gap, News, job_events, now_of, own_events, team_events
from gateway.web.call import facts, for_team, stream_caller_of
from gateway.web.seats import seat
from gateway.web.site import services_of, site_of
from gateway.web.statuses import QUIET, SSE_HEADERS
from gateway.web.streaming import Opened, Streamed

_PLACE: Final = re.compile(r"(0|[1-9][0-9]{0,15})-0")


async def of_job(request: Request) -> Response:
    """GET /v1/jobs/{id}/events: from the start, or after `Last-Event-ID`, to the job's end."""
    caller = await stream_caller_of(request)
    job_id: str = request.path_params["id"]
    if not is_job_id(job_id):
        raise JobNotFound("no such job")
    facts(request)["job"] = job_id
    services = services_of(request)
    job = await job_of(services, caller, job_id)
    after = last_event_id(request)
    if job.state.ended and after == job.version:
        return Response(status_code=204)  # tells an EventSource not to come again
    start = after or "0-0"
    return _stream(request, caller, start, job_events(services, job, start))


async def of_all(request: Request) -> Response:
    """GET /v1/events: all of one's own, or of the team's, from now on or after `Last-Event-ID`."""
    caller = await stream_caller_of(request)
    services, after = services_of(request), last_event_id(request)
    if caller.jobs is not None:
        raise Forbidden("this credential is for single jobs; subscribe to those")
    team = for_team(request, caller)
    start = after or await now_of(services, caller, team=team)
    events = team_events if team else own_events
    return _stream(request, caller, start, events(services, caller, start))


def last_event_id(request: Request) -> str | None:
    """Where to resume: the header, which browsers set, or the query parameter."""
    text = request.headers.get("last-event-id")
    if text is None:
        return place_of(request, "last_event_id")
    return _place(text, "Last-Event-ID")


def place_of(request: Request, name: str) -> str | None:
    text = request.query_params.get(name)
    return None if text is None else _place(text, name)


def _place(text: str, name: str) -> str | None:
    if text == "":
        return None
    if not _PLACE.fullmatch(text):
        raise BadBody(f"{name} must be an event's id, such as 42-0")
    return text


def _stream(request: Request, caller: Caller, start: str, news: AsyncGenerator[News]) -> Streamed:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Opened]:
        async with (
            seat(request, caller),
            aclosing(news),
            aclosing(_chunks(request, caller, start, news)) as chunks,
        ):
            yield Opened(200, SSE_HEADERS, chunks)

    return Streamed(services_of(request).runs, opened)


async def _chunks(
    request: Request, caller: Caller, start: str, news: AsyncGenerator[News]
) -> AsyncGenerator[bytes]:
    clock = asyncio.get_running_loop().time
    # Its place, before anything has happened: who comes again after an early end resumes there.
    yield f"id: {start}\n".encode() + _retry()
    sent_at = clock()
    async for item in news:
        if _over(request, caller):
            yield _retry()
            return
        if item is not None:
            yield _told(item)
            sent_at = clock()
        elif clock() - sent_at >= QUIET:
            yield sse.comment("waiting")
            sent_at = clock()


def _told(item: Event | Gap) -> bytes:
    if isinstance(item, Gap):
        told = {"type": "gap", "detail": "some events are no longer kept: fetch what you need"}
        return sse.event(ascii_json(told).decode(), id=item.resume, event="gap")
    return sse.event(event_json(item).decode(), id=item.id, event=item.type)


def _over(request: Request, caller: Caller) -> bool:
    """Is the stream to end: the process is draining, or the credential is not good any more?"""
    return site_of(request).draining.is_set() or not still_good(services_of(request), caller)


def _retry() -> bytes:
    """Tells the client when to come again; spread, so that not all come at once."""
    return b"retry: %d\n\n" % random.randint(500, 2500)  # noqa: S311 - jitter
