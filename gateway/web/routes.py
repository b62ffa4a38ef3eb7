"""The whole URL map. Handlers turn HTTP into a flow's arguments, and its answer into HTTP."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gateway.core.errors import MethodNotAllowed
from gateway.web import credentials, events, health, jobs, proxy, webhook
from gateway.web.playground import About, playground_routes

Handler = Callable[[Request], Awaitable[Response]]


class AnyMethod:
    """A handler that judges the method itself, since credential and target come first."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await self._handler(request)
        await response(scope, receive, send)


class ByMethod:
    """The handlers of one path. Of several routes for it, the first would name its own method
    as the only one that is allowed."""

    def __init__(self, **handlers: Handler) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._handlers.get(scope["method"])
        if handler is None:
            raise MethodNotAllowed("Method Not Allowed.", allow=", ".join(self._handlers))
        await AnyMethod(handler)(scope, receive, send)


def routes(*, playground: About | None) -> list[BaseRoute]:
    return [
        Route("/api/fal/proxy", AnyMethod(proxy.proxy)),
        Route("/api/fal/proxy/{rest:path}", AnyMethod(proxy.proxy)),
        Route("/fal/{rest:path}", AnyMethod(proxy.host)),
        Route("/webhooks/fal/{ticket}", webhook.webhook, methods=["POST"]),
        Route("/v1/jobs", ByMethod(GET=jobs.listing, HEAD=jobs.listing, POST=jobs.create)),
        Route("/v1/jobs/{id}", jobs.one, methods=["GET"]),
        Route("/v1/jobs/{id}/result", jobs.result, methods=["GET"]),
        Route("/v1/jobs/{id}/cancel", jobs.cancellation, methods=["POST"]),
        Route("/v1/jobs/{id}/events", events.of_job, methods=["GET"]),
        Route("/v1/events", events.of_all, methods=["GET"]),
        Route("/v1/session", ByMethod(POST=credentials.sign_in, DELETE=credentials.sign_out)),
        Route("/v1/stream-passes", credentials.passes, methods=["POST"]),
        Route("/v1/tokens", credentials.token, methods=["POST"]),
        Route("/healthz", health.alive, methods=["GET"]),
        Route("/readyz", health.ready, methods=["GET"]),
        *(playground_routes(playground) if playground else []),
    ]
