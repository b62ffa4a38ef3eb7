"""Around every request: an id, the headers that all answers carry, one log line, no traceback."""

import asyncio
import logging
import secrets
import time
from itertools import count
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.web.errors import problem

_log = logging.getLogger("gateway.access")

_MASK: Final = 2**32 - 1
_ALWAYS: Final = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


class Edge:
    """The outermost of our own layers. What it logs holds no query, no body and no credential."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._process = secrets.token_hex(4)
        self._count = count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        # No secret, so that a number will do: random bytes are a tenth of a short request.
        facts: dict[str, Any] = {"request": f"{self._process}{next(self._count) & _MASK:08x}"}
        scope["gateway.facts"] = facts
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                dress(headers, facts["request"])
                if cookie := scope.get("gateway.new_cookie"):
                    headers.append("set-cookie", cookie)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            facts["gone"] = True
        except asyncio.CancelledError:  # so the server ends what outlasts the time to drain
            facts["cut"] = True
            if status == 0:
                await _stopped(scope, receive, sending)
        except Exception:  # noqa: BLE001 - the outermost of a request
            _log.exception("unexpected error", extra=dict(facts))
            if status == 0:
                answer = problem(
                    Request(scope), 500, "internal_error", "Internal error",
                    "something went wrong in the gateway; its log tells more",
                )  # fmt: skip
                await answer(scope, receive, sending)
        finally:
            _line(scope, facts, status, time.perf_counter() - begun)


def dress(headers: MutableHeaders, mark: str) -> None:
    """What stands in the head of every answer; `mark` is the request's id."""
    headers["x-request-id"] = mark
    headers.update(_ALWAYS)
    headers.setdefault("cache-control", "no-store, private")


async def _stopped(scope: Scope, receive: Receive, send: Send) -> None:
    """Not 503, which says that nothing was done: clients would submit again."""
    answer = problem(
        Request(scope), 500, "internal_error", "Internal error",
        "the gateway stops before this request has ended; look for what became of it",
    )  # fmt: skip
    await answer(scope, receive, send)


def _line(scope: Scope, facts: dict[str, Any], status: int, seconds: float) -> None:
    """The route stands for the path: a path may hold a ticket, and whatever a stranger sends."""
    route = scope.get("route")
    path = getattr(route, "path", "-")
    said = {"method": scope["method"][:16], "route": path, "status": status}
    _log.info(
        "%s %s %s",
        said["method"],
        path,
        status or "gone",
        extra=facts | {"ms": round(seconds * 1000, 1), **said},
    )
