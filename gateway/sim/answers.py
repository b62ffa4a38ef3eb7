"""Answers in fal's form, and some that fal never meant to give."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Final
from uuid import uuid4

from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.core import fal
from gateway.sim.faults import Fault
from gateway.sim.model import Outcome

INGRESS: Final = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
_REASONS: Final = {502: "502 Bad Gateway", 503: "503 Service Temporarily Unavailable"} | {
    504: "504 Gateway Time-out"
}
_HTML: Final[Mapping[Fault, int]] = {
    Fault.SUBMIT_502_HTML: 502,
    Fault.SUBMIT_503_HTML: 503,
    Fault.SUBMIT_504_HTML: 504,
}
_PLAIN: Final[Mapping[Fault, tuple[int, str]]] = {
    Fault.SUBMIT_401: (401, "invalid key credentials"),
    Fault.SUBMIT_403: (403, "Access denied"),
    Fault.SUBMIT_403_LOCKED: (403, "User is locked. Reason: Exhausted balance."),
    Fault.SUBMIT_404: (404, 'Application "fault" not found'),
    Fault.SUBMIT_408: (408, "Request timed out"),
    Fault.SUBMIT_429: (429, "Too many requests"),
}
_PROBLEMS: Final = [{"loc": ["body"], "msg": "Refused at submit", "type": "value_error"}]


def ingress(status: int) -> Response:
    """The error page of the web server before fal: HTML, and no request id."""
    return Response(INGRESS.format(_REASONS[status]), status, media_type="text/html")


def refusal(fault: Fault | None, origin: str) -> Response | None:
    """The answer of a fault that lets no job come to be; None for all others."""
    if fault is None:
        return None
    if fault in _HTML:
        return ingress(_HTML[fault])
    if fault in _PLAIN:
        status, detail = _PLAIN[fault]
        return JSONResponse({"detail": detail}, status)
    match fault:
        case Fault.SUBMIT_422 | Fault.REFUSE_422_SUBMIT:
            return JSONResponse({"detail": _PROBLEMS}, 422)
        case Fault.SUBMIT_500:
            return internal_error()
        case Fault.REDIRECT:
            return Response(status_code=302, headers={"location": f"{origin}/elsewhere.example/"})
        case _:
            return None


def internal_error() -> Response:
    body = {"detail": "Internal server error", "error_type": "internal_error"}
    return JSONResponse(body, 500, {fal.ERROR_TYPE: "internal_error"})


def of_outcome(outcome: Outcome, request_id: str) -> Response:
    headers = {**outcome.headers, fal.REQUEST_ID: request_id}
    return Response(outcome.body, outcome.status, headers, outcome.content_type)


def dressed(response: Response, fault: Fault | None) -> Response:
    """With a cookie of its own, where the fault asks for one."""
    if fault is Fault.SET_COOKIE:
        response.set_cookie("sim", str(uuid4()), path="/")
    return response


def event(data: object) -> str:
    """One event of a stream, unnamed as fal's are."""
    return f"data: {json.dumps(data)}\n\n"


class Cut(Response):
    """Closes the connection: before the first byte, or after `sent` of a longer answer."""

    def __init__(self, sent: bytes | None = None) -> None:
        super().__init__(sent)
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._sent is None:
            # The server refuses such a header after it took the answer for begun: all that is
            # left to it is to close. ASGI has no message for that.
            with suppress(RuntimeError):
                await send(
                    {
                        "type": "http.response.start",
                        "status": 200,
                        "headers": [(b"x-cut", b"\r\n")],
                    }
                )
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % (2 * len(self._sent))),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._sent, "more_body": True})


class CutStream(StreamingResponse):
    """A stream that is cut off without an end after its last event."""

    async def stream_response(self, send: Send) -> None:
        headers = self.raw_headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        async for chunk in self.body_iterator:
            body = chunk.encode() if isinstance(chunk, str) else bytes(chunk)
            await send({"type": "http.response.body", "body": body, "more_body": True})


def stream(events: AsyncIterator[str], request_id: str, cut: bool = False) -> Response:
    """A stream of `events`; `cut` says that they break off."""
    kind = CutStream if cut else StreamingResponse
    headers = {fal.REQUEST_ID: request_id, "cache-control": "no-cache"}
    return kind(events, headers=headers, media_type="text/event-stream")
