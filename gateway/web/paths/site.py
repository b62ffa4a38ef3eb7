"""Health, the API description, the playground, and where fal reports."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.core import errors
from gateway.web import health, shapes, webhook
from gateway.web.operation import JSON, NOBODY, Answer, Handler, Operation, Parameter, Path
from gateway.web.paths.common import WRITTEN
from gateway.web.playground import About, Files

_TICKET = Parameter("ticket", "path", "Names the job, sealed by the gateway", required=True)
_FILE = Parameter("file", "path", "Its name", required=True)
_SIGNATURE = tuple(
    Parameter(f"X-Fal-Webhook-{name}", "header", about)
    for name, about in (
        ("Request-Id", "fal's id of the request"),
        ("User-Id", "fal's id of the account"),
        ("Timestamp", "When fal signed it, Unix seconds"),
        ("Signature", "fal's Ed25519 signature, in hex"),
    )
)


def paths() -> list[Path]:
    return [
        Path("/webhooks/fal/{ticket}", {"POST": _webhook()}),
        Path("/healthz", {"GET": _alive()}),
        Path("/readyz", {"GET": _ready()}),
    ]


def described(body: bytes) -> Path:
    """Where the description is; it describes itself too."""
    return Path(
        "/openapi.json",
        {
            "GET": Operation(
                _Served(body, JSON, {"cache-control": "no-cache"}),
                "This description",
                {200: Answer("OpenAPI 3.1", dict[str, Any])},
                security=NOBODY,
            )
        },
    )


@dataclass(frozen=True, slots=True)
class _Served:
    """Bytes that never change."""

    body: bytes
    media: str
    headers: dict[str, str]

    async def __call__(self, request: Request) -> Response:
        return Response(self.body, headers=self.headers, media_type=self.media)


def pages(about: About) -> list[Path]:
    """The playground, where it is enabled; else these are 404."""
    files = Files(about)
    return [
        Path("/", {"GET": _page(files.page, "The playground", "text/html")}),
        Path("/playground/about.json", {"GET": _about(files)}),
        Path(
            "/playground/{file}",
            {"GET": _page(files.file, "A file of the playground", "*/*", _FILE)},
        ),
    ]


def _page(handler: Handler, about: str, media: str, *parameters: Parameter) -> Operation:
    return Operation(
        handler,
        about,
        {200: Answer("The file", schema={"type": "string"}, media=media)},
        refuses=(errors.NotFound,),
        parameters=parameters,
        security=NOBODY,
    )


def _about(files: Files) -> Operation:
    return Operation(
        files.about,
        "What the playground tells of its gateway",
        {200: Answer("Version, and whether fal is played by a simulator", shapes.About)},
        refuses=(errors.NotFound,),
        security=NOBODY,
    )


def _webhook() -> Operation:
    return Operation(
        webhook.webhook,
        "fal reports the end of a job; 2xx once it is written",
        {204: Answer("Written")},
        refuses=(*WRITTEN, errors.BadSignature, errors.StoreUnavailable, errors.KeysUnavailable),
        parameters=(_TICKET, *_SIGNATURE),
        body=dict[str, Any],
        security=NOBODY,
    )


def _alive() -> Operation:
    return Operation(
        health.alive,
        "Is the process alive?",
        {200: Answer("It is", shapes.Health)},
        security=NOBODY,
    )


def _ready() -> Operation:
    return Operation(
        health.ready,
        "May it be sent requests?",
        {200: Answer("It may", shapes.Health), 503: Answer("Not now", shapes.Health)},
        security=NOBODY,
    )
