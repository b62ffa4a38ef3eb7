"""Files on their way to fal's storage."""

from typing import Any, Final

from gateway.core import errors
from gateway.web import uploads
from gateway.web.operation import NOBODY, Answer, Operation, Parameter, Path
from gateway.web.paths import common
from gateway.web.paths.common import HELD

_TICKET: Final = Parameter(
    "ticket", "path", "From `upload_url`, as fal's `initiate` was answered", required=True
)
_PART: Final = Parameter(
    "part", "path", "From 1", {"type": "integer", "minimum": 1, "maximum": 10_000}, required=True
)
_REFUSES: Final[common.Errors] = (
    errors.Unauthenticated,
    errors.NotFound,
    errors.StoreUnavailable,
    *common.WRITTEN,
    *common.ASKING,
    *HELD,
)
_OF_FAL: Final[dict[str, Answer]] = {
    "2XX": Answer("What fal's storage says", schema={}, media="*/*"),
    "4XX": Answer("The refusal of fal's storage, passed on", schema={}, media="*/*"),
}
_FILE: Final = "application/octet-stream"


def paths() -> list[Path]:
    return [
        Path("/v1/uploads/{ticket}", {"PUT": _file("Send a file", uploads.put)}),
        Path(
            "/v1/uploads/{ticket}/complete",
            {
                "POST": Operation(
                    uploads.completion,
                    "Say that all parts of a file are there",
                    _OF_FAL,
                    refuses=_REFUSES,
                    parameters=(_TICKET,),
                    body=dict[str, Any],
                    security=NOBODY,
                    passes_on=True,
                )
            },
        ),
        Path(
            "/v1/uploads/{ticket}/{part}",
            {"PUT": _file("Send one part of a file", uploads.put_part, _PART)},
        ),
    ]


def _file(about: str, handler: Any, *more: Parameter) -> Operation:
    return Operation(
        handler,
        about,
        _OF_FAL,
        refuses=_REFUSES,
        parameters=(_TICKET, *more),
        body=bytes,
        body_needed=False,
        media=_FILE,
        security=NOBODY,
        passes_on=True,
    )
