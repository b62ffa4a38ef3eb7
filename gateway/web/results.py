"""The result of an ended job, replayed: its stored code, headers and bytes."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from gateway.core import fal
from gateway.core.errors import ResultGone
from gateway.core.headers import safe_content_type
from gateway.core.model import Caller, End, Job, State, Where
from gateway.core.prices import COST, usd_text
from gateway.flows.observe import RESULT_PIECE, Stored, result_at_fal, stored_result
from gateway.flows.services import Services
from gateway.web.errors import problem
from gateway.web.seats import seat
from gateway.web.site import services_of
from gateway.web.streaming import Opened, Streamed, sliced


async def result_response(request: Request, caller: Caller, job: Job) -> Response:
    """Raises `ResultGone`, `Unavailable`."""
    services, end = services_of(request), job.end
    assert end is not None
    if end.where is Where.GONE and job.state is State.COMPLETED:
        raise ResultGone("neither the gateway nor fal keeps this result any longer")
    if end.where is Where.GONE:
        return _told(request, job, end)
    headers = result_headers(job, end)
    if end.where is not Where.STORED:
        return _streamed(request, caller, partial(_at_fal, services, job, headers))
    stored = await stored_result(services, job)
    if stored.size <= RESULT_PIECE:
        body = b"".join([piece async for piece in stored.chunks])
        return Response(body, end.http_status, headers)
    return _streamed(request, caller, partial(_stored, stored, end, headers))


def _streamed(
    request: Request, caller: Caller, opened: Callable[[], AbstractAsyncContextManager[Opened]]
) -> Streamed:
    """A reader of something large has one of the caller's seats."""

    @asynccontextmanager
    async def seated() -> AsyncGenerator[Opened]:
        async with seat(request, caller), opened() as answer:
            yield answer

    return Streamed(services_of(request).runs, seated)


@asynccontextmanager
async def _at_fal(services: Services, job: Job, headers: dict[str, str]) -> AsyncGenerator[Opened]:
    assert job.end is not None
    async with result_at_fal(services, job) as chunks:
        yield Opened(job.end.http_status, headers, chunks)


@asynccontextmanager
async def _stored(stored: Stored, end: End, headers: dict[str, str]) -> AsyncGenerator[Opened]:
    async with aclosing(stored.chunks):
        length = {"content-length": str(stored.size)}
        yield Opened(end.http_status, headers | length, sliced(stored.chunks))


def result_headers(job: Job, end: End) -> dict[str, str]:
    """What fal's answer said, with our id."""
    headers = {name: value for name, value in end.headers.items() if name != "content-type"}
    if end.units is not None:
        headers[fal.BILLABLE_UNITS] = end.units
    if job.cost is not None:
        headers[COST] = usd_text(job.cost)
    headers["content-type"] = safe_content_type(end.headers.get("content-type", "application/json"))
    headers[fal.REQUEST_ID] = job.id
    return headers


def _told(request: Request, job: Job, end: End) -> Response:
    """An end without a body of fal's: in our form of errors."""
    code = end.error_type or f"job_{job.state}"
    detail = end.error or f"the job has {job.state}"
    status = 410 if job.state is State.EXPIRED else end.http_status
    headers = {fal.REQUEST_ID: job.id}
    if fal.TIMEOUT_TYPE in end.headers:
        headers[fal.TIMEOUT_TYPE] = end.headers[fal.TIMEOUT_TYPE]
    return problem(request, status, code, f"Job {job.state}", detail, job.id, headers)
