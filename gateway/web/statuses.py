"""fal's status stream, as fal sends it: unnamed events and comments, ended by the job's end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from starlette.requests import Request

from gateway.core import fal, sse
from gateway.core.errors import Unauthenticated
from gateway.core.forms import Addresses, ascii_json, fal_status
from gateway.core.model import Caller, Job
from gateway.flows.authenticate import still_good
from gateway.flows.subscribe import statuses
from gateway.web.seats import seat
from gateway.web.site import services_of
from gateway.web.streaming import Opened, Streamed

QUIET: Final = 7.0
"""Seconds of silence before a comment. fal's Java client hangs up after 10 s between bytes, and a
subscription looks up every 2 s."""
SSE_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform, private",
    "x-accel-buffering": "no",
}


def status_stream(
    request: Request, caller: Caller, job: Job, addresses: Addresses, *, logs: bool
) -> Streamed:
    """Current state first. On drain it stays until the job's end or the grace time, then it is
    cut, not ended: fal's JS client takes a clean end for the end of the job."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Opened]:
        async with (
            seat(request, caller),
            aclosing(_chunks(request, caller, job, addresses, logs)) as chunks,
        ):
            yield Opened(200, {**SSE_HEADERS, fal.REQUEST_ID: job.id}, chunks)

    return Streamed(services_of(request).runs, opened)


async def _chunks(
    request: Request, caller: Caller, job: Job, addresses: Addresses, logs: bool
) -> AsyncGenerator[bytes]:
    services = services_of(request)
    clock = asyncio.get_running_loop().time
    sent_at = clock()
    async with aclosing(statuses(services, caller, job)) as states:
        async for news in states:
            if not still_good(services, caller):
                raise Unauthenticated("the credential is not good any more")  # cut, not ended
            if news is not None:
                now, lines = news
                body = fal_status(now, addresses, lines if logs else None)
                yield sse.event(ascii_json(body).decode())
                sent_at = clock()
            elif clock() - sent_at >= QUIET:
                yield sse.comment("waiting")
                sent_at = clock()
