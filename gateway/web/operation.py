"""What a route is: its address, who answers each method, what is taken and what is answered.

Routes and API description are both built from these values, so that no route is without one.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.core.errors import GatewayError, MethodNotAllowed

Handler = Callable[[Request], Awaitable[Response]]
Schema = Mapping[str, Any]

JSON: Final = "application/json"
TEXT: Final[Schema] = {"type": "string"}
CALLER: Final = ("credential", "gatewayHeader", "session")
"""Where a caller's credential may stand: names of the description's security schemes."""
NOBODY: Final = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    where: Literal["path", "query", "header"]
    about: str
    schema: Schema = field(default_factory=lambda: TEXT)
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is a type that msgspec can describe; None: there is none. `schema` goes before it."""

    about: str
    body: Any = None
    media: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    """What each tells, by name."""
    schema: Schema | None = None
    other_media: tuple[str, ...] = ()
    """In which it may come too, on demand; as text."""


Answers = Mapping[int, Answer] | Mapping[str, Answer]
"""By status, or by kind of status, such as `2XX`."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a path. `refuses` are the errors it may answer with, beside those that any
    route has; `body` is a type that msgspec can describe, or a schema."""

    handler: Handler
    about: str
    answers: Answers
    refuses: tuple[type[GatewayError], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    body_needed: bool = True
    media: str = JSON
    security: tuple[str, ...] = CALLER
    passes_on: bool = False
    """Whether refusals of fal are passed on as they are."""


@dataclass(frozen=True, slots=True)
class Path:
    """An address, and what each method does there.

    `family` is the route that it belongs to, where one route has many described addresses: then
    the one handler judges method and address itself, since credential and target come first.
    """

    url: str
    operations: Mapping[str, Operation]
    family: str | None = None

    @property
    def route(self) -> str:
        return self.family or self.url


class AnyMethod:
    """A handler as an application of its own, whatever the method."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await self._handler(request)
        await response(scope, receive, send)


class ByMethod:
    """The handlers of one path. Of several routes for it, the first would name its own method
    as the only one that is allowed."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers["HEAD"] = handlers["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._handlers.get(scope["method"])
        if handler is None:
            allow = ", ".join(self._handlers)
            raise MethodNotAllowed(f"this route takes {allow}", allow=allow)
        await AnyMethod(handler)(scope, receive, send)


def routes_of(paths: Iterable[Path]) -> list[Route]:
    """One route a path, or a family of paths, in their order."""
    by_route: dict[str, Path] = {}
    for path in paths:
        by_route.setdefault(path.route, path)
    return [Route(route, _application(path)) for route, path in by_route.items()]


def _application(path: Path) -> AnyMethod | ByMethod:
    handlers = {method: each.handler for method, each in path.operations.items()}
    return ByMethod(handlers) if path.family is None else AnyMethod(next(iter(handlers.values())))
