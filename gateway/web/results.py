"""The result of an ended job, replayed: its stored code, headers and bytes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.requests import Request
from starlette.responses import Response

from gateway.core import fal
from gateway.core.errors import ResultGone
from gateway.core.headers import safe_content_type
from gateway.core.model import End, Job, State, Where
from gateway.flows.observe import AtFal, Stored, result_of
from gateway.web.errors import problem
from gateway.web.site import services_of
from gateway.web.streaming import PIECE, Opened, Streamed, pieces


async def result_response(request: Request, job: Job) -> Response:
    """Raises `ResultGone`, `Unavailable`."""
    end = job.end
    assert end is not None
    if end.where is Where.GONE and job.state is State.COMPLETED:
        raise ResultGone("neither the gateway nor fal keeps this result any longer")
    if end.where is Where.GONE:
        return _told(request, job, end)
    headers = result_headers(job, end)
    if end.where is Where.STORED:
        async with result_of(services_of(request), job) as stored:
            assert isinstance(stored, Stored)
            return _whole(request, stored.body, end.http_status, headers)

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Opened]:
        async with result_of(services_of(request), job) as found:
            assert isinstance(found, AtFal)
            yield Opened(end.http_status, headers, found.chunks)

    return Streamed(services_of(request).runs, opened)


def _whole(request: Request, body: bytes, status: int, headers: dict[str, str]) -> Response:
    if len(body) <= PIECE:
        return Response(body, status, headers)

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Opened]:
        yield Opened(status, {**headers, "content-length": str(len(body))}, pieces(body))

    return Streamed(services_of(request).runs, opened)


def result_headers(job: Job, end: End) -> dict[str, str]:
    """What fal's answer said, with our id."""
    headers = {name: value for name, value in end.headers.items() if name != "content-type"}
    if end.units is not None:
        headers[fal.BILLABLE_UNITS] = end.units
    headers["content-type"] = safe_content_type(end.headers.get("content-type", "application/json"))
    headers[fal.REQUEST_ID] = job.id
    return headers


def _told(request: Request, job: Job, end: End) -> Response:
    """An end without a body of fal's: in our form of errors."""
    code = end.error_type or f"job_{job.state}"
    detail = end.error or f"the job has {job.state}"
    status = 410 if job.state is State.EXPIRED else end.http_status
    return problem(
        request, status, code, f"Job {job.state}", detail, job.id, {fal.REQUEST_ID: job.id}
    )
