"""The playground: a few static files, held in memory."""

from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src *; media-src * blob: data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class About:
    """What the page tells of the gateway it belongs to. `simulated`: fal is not the real one."""

    simulated: bool
    version: str


def playground_routes(about: About) -> list[Route]:
    """One route a file, the page itself at `/`, and what it is about."""

    async def told(request: Request) -> Response:
        return JSONResponse(asdict(about), headers={"cache-control": "no-cache"})

    routes = [Route("/playground/about.json", told, methods=["GET"])]
    for file in files("gateway.web.static").iterdir():
        kind = _KINDS.get("." + file.name.rpartition(".")[2])
        if kind is None:
            continue
        serve = partial(_file, file.read_bytes(), kind)
        path = "/" if file.name == "playground.html" else f"/playground/{file.name}"
        routes.append(Route(path, serve, methods=["GET"]))
    return routes


async def _file(body: bytes, kind: str, request: Request) -> Response:
    return Response(body, headers={**_HEADERS, "content-type": kind})
