"""/v1/uploads: files of plans that bound them, on their way to fal's storage."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.core.errors import BadBody, NotFound
from gateway.flows.uploads import Admitted, admitted, complete, send
from gateway.upstream.cdn import Stored
from gateway.web.bodies import BODY_PAUSE
from gateway.web.call import check_json, facts, placed
from gateway.web.seats import seat
from gateway.web.site import services_of, site_of

UPLOAD_TIME: Final = 3600.0
"""Seconds that a client has to send a file, or a part of one."""
PARTS_LIST: Final = 1024 * 1024
"""Bytes of the list of parts at most."""


async def put(request: Request) -> Response:
    """PUT /v1/uploads/{ticket}: a whole file."""
    return await _put(request, None)


async def put_part(request: Request) -> Response:
    """PUT /v1/uploads/{ticket}/{part}: one part of a file, counted from 1."""
    text: str = request.path_params["part"]
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and text[0] != "0"):
        raise NotFound("the file has no such part")
    return await _put(request, int(text))


async def completion(request: Request) -> Response:
    """POST /v1/uploads/{ticket}/complete: all parts are there."""
    upload = _admitted(request)
    check_json(request)
    async with site_of(request).bodies.read(request, upload.caller.holder, PARTS_LIST) as body:
        return _told(await complete(services_of(request), upload, body))


async def _put(request: Request, part: int | None) -> Response:
    upload = _admitted(request)
    length = _length(request)
    async with seat(request, upload.caller), aclosing(_chunks(request)) as chunks:
        return _told(await send(services_of(request), upload, part, length, chunks))


def _admitted(request: Request) -> Admitted:
    """The ticket is the credential, whatever else the request carries."""
    upload = admitted(services_of(request), request.path_params["ticket"])
    upload = replace(upload, caller=placed(request, upload.caller))
    principal = upload.caller.principal
    facts(request).update(op="upload", caller=f"{principal.team}/{principal}")
    return upload


async def _chunks(request: Request) -> AsyncGenerator[bytes]:
    """The body as it comes: nothing is held but the piece at hand."""
    now = asyncio.get_running_loop().time
    end = now() + UPLOAD_TIME
    async with aclosing(request.stream()) as stream:
        while True:
            try:
                async with asyncio.timeout(min(BODY_PAUSE, max(0.0, end - now()))):
                    chunk = await anext(stream, None)
            except TimeoutError:
                raise BadBody("the file did not arrive in time") from None
            if chunk is None:
                return
            if chunk:
                yield chunk


def _length(request: Request) -> int | None:
    """What is announced; None where the body comes in chunks of its own."""
    text = request.headers.get("content-length")
    if text is None:
        return None if "transfer-encoding" in request.headers else 0
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise BadBody("content-length is not a number")
    return int(text)


def _told(stored: Stored) -> Response:
    return Response(stored.body, stored.status, dict(stored.headers))
