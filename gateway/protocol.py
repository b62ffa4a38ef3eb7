"""uvicorn's HTTP over one connection, with bounds on a request's head: in bytes and in time."""

import asyncio
import logging
import secrets
from typing import Any, ClassVar, Final

from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.web.edge import dress
from gateway.web.errors import problem

MAX_HEADERS: Final = 100
MAX_HEAD: Final = 64 * 1024
"""Bytes of a request's address and headers, and of trailers."""
HEAD_TIME: Final = 10.0
"""Seconds from the first byte of a request to the end of its headers."""
SILENT_FOR: Final = 30.0
"""Seconds that a new connection may say nothing."""
LINGER: Final = 0.5
LINGER_BYTES: Final = 2**20
"""What a refused client still sends is dropped for so many seconds and bytes: to close at once
would keep it from reading our answer."""

_SEPARATORS: Final = 4
"""A header's colon, space and end of line."""

_log = logging.getLogger("gateway.access")


class _TooLarge(Exception):
    """Ends the parser's work on a head."""


class BoundedHttp(HttpToolsProtocol):
    """Answers a flood of headers with 431, and closes connections that never get to the point.

    uvicorn's own bounds neither: the parser and its caller keep whatever a stranger sends.
    """

    head_time: ClassVar[float] = HEAD_TIME
    silent_for: ClassVar[float] = SILENT_FOR

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._unparsed = 0
        """Bytes that have come since the last end of a head, or part of a body."""
        self._in_head = False
        self._flooded = False
        self._refused = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._close_if_quiet_for(self.silent_for)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._unset_deadline()

    def data_received(self, data: bytes) -> None:
        self._unparsed += len(data)
        if not self._refused:
            super().data_received(data)
        if self._refused:
            if self._unparsed > LINGER_BYTES:
                self.transport.close()
        elif self._unparsed > MAX_HEAD:
            self._refuse()
        elif self._in_head and self._deadline is None:
            self._deadline = self.loop.call_later(self.head_time, self._late)
        elif self.timeout_keep_alive_task is None and not self._answering:
            self._close_if_quiet_for(self.timeout_keep_alive)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._unset_deadline()
        if len(self.headers) > MAX_HEADERS or self._head_size() > MAX_HEAD:
            self._flooded = True
            raise _TooLarge
        self._in_head, self._unparsed = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """To what the parser refuses, or we have."""
        if self._flooded:
            self._refuse()
        else:
            super().send_400_response(msg)

    def shutdown(self) -> None:
        """Whoever keeps a TLS connection for later does not answer its end, and would hold up
        ours."""
        super().shutdown()
        if not self._answering and not self.transport.get_write_buffer_size():
            self.loop.call_later(LINGER, self.transport.abort)

    def _head_size(self) -> int:
        """Bytes, or a bound of them that is cheap to know."""
        if 0 < self._unparsed <= MAX_HEAD:
            return self._unparsed
        return len(self.url) + sum(
            len(name) + len(value) + _SEPARATORS for name, value in self.headers
        )

    def _refuse(self) -> None:
        """Whoever sends this has nothing more to say. In the midst of an answer, only close."""
        self._refused = True
        self._unset_deadline()
        if self._answering:
            self.transport.close()
            return
        self.transport.write(_too_large())
        self._deadline = self.loop.call_later(LINGER, self.transport.close)

    @property
    def _answering(self) -> bool:
        """uvicorn's `cycle` is None before the first request, whatever its type says."""
        return bool(self.cycle) and not self.cycle.response_complete

    def _close_if_quiet_for(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def _late(self) -> None:
        """The head of a request that waits behind another may not even be read yet."""
        if self._answering:
            self._deadline = self.loop.call_later(self.head_time, self._late)
        else:
            self.transport.close()

    def _unset_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _too_large() -> bytes:
    """A whole answer in the form of all our errors."""
    mark = secrets.token_hex(8)
    answer = problem(
        Request({"type": "http", "gateway.facts": {"request": mark}}),
        431, "headers_too_large", "Request header fields too large",
        f"at most {MAX_HEADERS} headers and {MAX_HEAD // 1024} KiB in all are read",
        headers={"connection": "close"},
    )  # fmt: skip
    dress(answer.headers, mark)
    _log.info("head refused", extra={"request": mark, "status": 431})
    head = b"".join(name + b": " + value + b"\r\n" for name, value in answer.raw_headers)
    return STATUS_LINE[431] + head + b"\r\n" + bytes(answer.body)
