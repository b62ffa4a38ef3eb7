"""fal's own protocol: with the target in a header, or with the gateway as fal's host."""

from typing import Any, Final

from gateway.core import errors, fal
from gateway.core.fal import TARGET_URL
from gateway.web import proxy
from gateway.web.operation import Answer, Operation, Parameter, Path
from gateway.web.paths import common
from gateway.web.paths.common import ACT_FOR, HELD, JOB_ID, ONE_JOB, SEEN
from gateway.web.shapes import FalCancel, FalStatus, WantedRealtime, WantedUpload

_HOST: Final = "/fal/{rest:path}"
_SEGMENT: Final = {"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$"}
_TARGET: Final = {
    "type": "string",
    "pattern": r"^https://(queue\.|rest\.|rest\.alpha\.)?fal\.(run|ai)/[!-~]{1,8000}$",
    "examples": ["https://queue.fal.run/fal-ai/flux/dev"],
}
_APP: Final = (
    Parameter("owner", "path", "Such as `fal-ai`", _SEGMENT, required=True),
    Parameter("alias", "path", "Such as `flux`; more segments may follow", _SEGMENT, required=True),
)
_LOGS: Final = Parameter(
    "logs", "query", "Whether log lines come along", {"enum": ["0", "1", "true", "false"]}
)
_ID: Final = {fal.REQUEST_ID: "The job's id"}
_OF_FAL: Final = {
    "2XX": Answer("fal's answer", schema={}, media="*/*"),
    "4XX": Answer("fal's refusal, passed on", schema={}, media="*/*"),
    "5XX": Answer("fal's failure, passed on", schema={}, media="*/*"),
}
_INPUT: Final = dict[str, Any]
_QUEUE: Final = "/fal/queue/{owner}/{alias}"
_JOB: Final = "/fal/queue/{owner}/{alias}/requests/{id}"
_RUN: Final = "/fal/run/{owner}/{alias}"
_REST: Final = (*SEEN, *common.WRITTEN, *common.ASKING, errors.MethodNotAllowed, *HELD)
_REFUSES: Final = (*SEEN, errors.EndpointNotAllowed, errors.MethodNotAllowed)


def paths() -> list[Path]:
    return [
        *_proxies(),
        _hosted(_RUN, "POST", _run("Run a model, and wait for its answer")),
        _hosted(f"{_RUN}/stream", "POST", _run("Run a model that answers in a stream")),
        _hosted(_QUEUE, "POST", _submit()),
        *(_hosted(_JOB + tail, "GET", _result()) for tail in ("", "/response")),
        _hosted(f"{_JOB}/status", "GET", _status()),
        _hosted(f"{_JOB}/status/stream", "GET", _stream()),
        _hosted(f"{_JOB}/cancel", "PUT", _cancel()),
        *(_hosted(f"/fal/rest/{name}", "POST", _upload()) for name in
          ("storage/upload/initiate", "storage/upload/initiate-multipart")),
        _hosted("/fal/rest/tokens/", "POST", _realtime()),
    ]  # fmt: skip


def _hosted(url: str, method: str, operation: Operation) -> Path:
    return Path(url, {method: operation}, family=_HOST)


def _proxies() -> list[Path]:
    """As fal's clients call it. Below it any path is the same: some clients add one."""
    url = "/api/fal/proxy"
    rest = Parameter("rest", "path", "Anything; it is not read", required=True)
    return [
        Path(url, _by_method(), family=url),
        Path(url + "/{rest}", _by_method(rest), family=url + "/{rest:path}"),
    ]


def _by_method(*parameters: Parameter) -> dict[str, Operation]:
    reading = _proxy(parameters, body=False)
    return {"GET": reading, "POST": _proxy(parameters, body=True), "PUT": reading}


def _proxy(parameters: tuple[Parameter, ...], *, body: bool) -> Operation:
    about = "One of fal's URLs, as its clients write them; it decides what is done"
    return Operation(
        proxy.proxy,
        "What fal does at the address in `x-fal-target-url`",
        _OF_FAL,
        refuses=(*_REFUSES, *common.SUBMITTING, *ONE_JOB, *_GONE, errors.RealtimeNotAllowed),
        parameters=(
            *parameters,
            Parameter(TARGET_URL, "header", about, _TARGET, required=True),
            ACT_FOR,
        ),
        body=_INPUT if body else None,
        body_needed=False,
        passes_on=True,
    )


_GONE: Final = (errors.StillInProgress, errors.ResultGone, errors.Unavailable)


def _run(about: str) -> Operation:
    return Operation(
        proxy.host,
        about,
        _OF_FAL,
        refuses=(*_REFUSES, *common.SUBMITTING),
        parameters=(*_APP, ACT_FOR),
        body=_INPUT,
        body_needed=False,
        passes_on=True,
    )


def _submit() -> Operation:
    webhook = Parameter("fal_webhook", "query", "Where to report the end, if the plan lets you")
    return Operation(
        proxy.host,
        "Submit a job",
        {200: Answer("The job, in fal's form", FalStatus, headers=_ID)},
        refuses=(*_REFUSES, *common.SUBMITTING),
        parameters=(*_APP, webhook, ACT_FOR),
        body=_INPUT,
        body_needed=False,
        passes_on=True,
    )


def _status() -> Operation:
    return Operation(
        proxy.host,
        "Where a job stands",
        {
            200: Answer("It has ended", FalStatus, headers=_ID),
            202: Answer("It has not ended", FalStatus, headers=_ID),
        },
        refuses=(*_REFUSES, *ONE_JOB),
        parameters=(*_APP, JOB_ID, _LOGS, ACT_FOR),
    )


def _stream() -> Operation:
    return Operation(
        proxy.host,
        "Where a job stands, told again on each change to its end",
        {200: common.EVENTS},
        refuses=(*_REFUSES, *ONE_JOB, *HELD),
        parameters=(*_APP, JOB_ID, _LOGS, ACT_FOR),
    )


def _result() -> Operation:
    return Operation(
        proxy.host,
        "The result, held back up to 20 s for a job that has not ended",
        _OF_FAL,
        refuses=(*_REFUSES, *ONE_JOB, *HELD, *_GONE),
        parameters=(*_APP, JOB_ID, ACT_FOR),
        passes_on=True,
    )


def _cancel() -> Operation:
    return Operation(
        proxy.host,
        "Ask for a job to be cancelled",
        {
            202: Answer("Asked for", FalCancel, headers=_ID),
            400: Answer("It had ended", FalCancel),
        },
        refuses=(*_REFUSES, *ONE_JOB),
        parameters=(*_APP, JOB_ID, ACT_FOR),
    )


def _upload() -> Operation:
    kind = Parameter(
        "storage_type", "query", "Where fal keeps it", {"const": "fal-cdn-v3"}, required=True
    )
    return Operation(
        proxy.host,
        "Where to put a file at fal",
        {200: Answer("Addresses of fal's storage", _INPUT)},
        refuses=_REST,
        parameters=(kind, ACT_FOR),
        body=WantedUpload,
        passes_on=True,
    )


def _realtime() -> Operation:
    return Operation(
        proxy.host,
        "A token for fal's realtime models, if the plan has them",
        {200: Answer("fal's token", schema={})},
        refuses=(*_REST, errors.EndpointNotAllowed, errors.RealtimeNotAllowed),
        parameters=(ACT_FOR,),
        body=WantedRealtime,
        passes_on=True,
    )
