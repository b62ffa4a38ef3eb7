"""The playground: a few static files, held in memory."""

from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.core.errors import NotFound

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


class Files:
    """The page's files, held in memory. The page itself is `playground.html`."""

    def __init__(self, about: About) -> None:
        self._about = asdict(about)
        self._files = {
            file.name: (file.read_bytes(), kind)
            for file in files("gateway.web.static").iterdir()
            if (kind := _KINDS.get("." + file.name.rpartition(".")[2])) is not None
        }

    async def page(self, request: Request) -> Response:
        return self._sent("playground.html")

    async def about(self, request: Request) -> Response:
        """GET /playground/about.json."""
        return JSONResponse(self._about, headers={"cache-control": "no-cache"})

    async def file(self, request: Request) -> Response:
        """GET /playground/{file}."""
        return self._sent(request.path_params["file"])

    def _sent(self, name: str) -> Response:
        if name not in self._files:
            raise NotFound("there is no such file")
        body, kind = self._files[name]
        return Response(body, headers={**_HEADERS, "content-type": kind})
