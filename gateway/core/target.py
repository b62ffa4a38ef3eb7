"""What a client wants from fal, recognised byte for byte. A method and a URL in, a target out.

fal's clients write each URL in exactly one form. That form is recognised; everything else is
refused and never mended, since every URL parser mends in its own way. The caller's text goes no
further: whoever calls fal builds the URL from constants and the parts found here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.core import fal, weburl
from gateway.core.errors import InvalidTarget, MethodNotAllowed

MAX_BYTES: Final = 2 * 1024
MAX_SUBMIT_BYTES: Final = 8 * 1024
"""A submit may carry an encoded webhook URL."""


class Op(StrEnum):
    """What may be done with a job in fal's queue."""

    STATUS = "status"
    STREAM = "stream"
    RESULT = "result"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Run:
    """Call an endpoint and wait. `stream`: its events, at the endpoint's path plus `/stream`."""

    endpoint: str
    stream: bool


@dataclass(frozen=True, slots=True)
class Submit:
    """Queue a job. `webhook` is the caller's own URL, decoded; it never goes to fal."""

    endpoint: str
    webhook: str | None


@dataclass(frozen=True, slots=True)
class Queue:
    """An operation on a queued job. `app` is owner/alias or the full endpoint, as written.

    `job_id` alone decides which job is meant.
    """

    app: str
    job_id: str
    op: Op
    logs: bool


@dataclass(frozen=True, slots=True)
class Upload:
    """Ask for the addresses to which a file can be put."""

    multipart: bool


@dataclass(frozen=True, slots=True)
class RealtimeToken:
    """Ask for a token with which a browser talks to fal by itself."""


Target = Run | Submit | Queue | Upload | RealtimeToken

_ENDPOINT: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*){1,11}")
_URL: Final = re.compile(
    rb"https://(?P<host>[a-z.]+)/(?P<path>[A-Za-z0-9._/-]+)(?:\?(?P<query>[!-~]+))?"
)
_PATH: Final = re.compile(rb"(?P<host>run|queue|rest)/(?P<path>[A-Za-z0-9._/-]+)")
_OPERATION: Final = re.compile(
    rb"(?P<app>.+)/requests/(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    rb"(?P<op>/response|/status|/status/stream|/cancel)?"
)
_OPS: Final = {
    None: Op.RESULT,
    b"/response": Op.RESULT,
    b"/status": Op.STATUS,
    b"/status/stream": Op.STREAM,
    b"/cancel": Op.CANCEL,
}
_LOGS: Final = {
    None: False,
    b"logs=0": False,
    b"logs=false": False,
    b"logs=1": True,
    b"logs=true": True,
}
_PLAIN: Final = rb"[A-Za-z0-9._~*+:/?@!$(),-]*"
_WEBHOOK: Final = re.compile(
    fal.WEBHOOK_QUERY.encode() + rb"=(?P<url>" + _PLAIN + rb"(?:%[0-9A-Fa-f]{2}" + _PLAIN + rb")*)"
)
"""Form-urlencoded. What some clients leave as it is may stay, except what separates pairs."""
_NAMESPACES: Final = frozenset(name.encode() for name in fal.NAMESPACES)

_UPLOAD: Final = fal.UPLOAD_PATH[1:].encode()
_MULTIPART: Final = fal.UPLOAD_MULTIPART_PATH[1:].encode()
_TOKENS: Final = fal.TOKENS_PATH[1:].encode()
_CDN: Final = fal.UPLOAD_QUERY.encode()
_REST: Final[dict[tuple[bytes, bytes | None], Target]] = {
    (_UPLOAD, _CDN): Upload(multipart=False),
    (_MULTIPART, _CDN): Upload(multipart=True),
    (_TOKENS, None): RealtimeToken(),
}
_REST_ALPHA: Final[dict[tuple[bytes, bytes | None], Target]] = {
    (_UPLOAD, None): Upload(multipart=False),
    (_TOKENS, None): RealtimeToken(),
}


def parse_url(method: str, url: str | bytes, *, loopback_webhooks: bool = False) -> Target:
    """The target of an `x-fal-target-url`.

    Raises `InvalidTarget`, and for a target that exists with another method `MethodNotAllowed`.
    """
    raw = url.encode(errors="surrogatepass") if isinstance(url, str) else url
    found = _URL.fullmatch(raw) if len(raw) <= MAX_SUBMIT_BYTES else None
    read = _HOSTS.get(found["host"]) if found else None
    if found is None or read is None:
        raise InvalidTarget("not an https URL on one of fal's hosts, as fal's clients write it")
    return _allowed(method, read(found["path"], found["query"], loopback_webhooks), len(raw))


def parse_path(
    method: str, path: bytes, query: bytes, *, loopback_webhooks: bool = False
) -> Target:
    """The target of a path below `/fal/`, for clients that take a host: `run/fal-ai/flux/dev`.

    `path` is as received, percent signs and all; `query` is without its question mark.
    Raises as `parse_url` does.
    """
    size = len(path) + len(query)
    found = _PATH.fullmatch(path) if size <= MAX_SUBMIT_BYTES else None
    if found is None:
        raise InvalidTarget("not a path of fal's below run/, queue/ or rest/")
    read = _FOLDERS[found["host"]]
    return _allowed(method, read(found["path"], query or None, loopback_webhooks), size)


def is_endpoint(endpoint: str) -> bool:
    """Whether `endpoint` has the form of an endpoint id: `[namespace/]owner/alias[/path]`.

    At most 12 segments. A segment `requests` marks queue operations, so no endpoint has one.
    """
    return _is_endpoint(endpoint.encode(errors="surrogatepass"))


def _is_endpoint(path: bytes) -> bool:
    if len(path) > MAX_BYTES or _ENDPOINT.fullmatch(path) is None:
        return False
    segments = path.split(b"/")
    return b"requests" not in path.lower().split(b"/") and (
        len(segments) > 2 or segments[0] not in _NAMESPACES
    )


def _endpoint(path: bytes) -> str:
    if not _is_endpoint(path):
        raise InvalidTarget("neither an endpoint id nor an operation on a request's UUID")
    return path.decode()


def _run(path: bytes, query: bytes | None, _loopback: bool) -> Target:
    if query is not None:
        raise InvalidTarget("a run takes no query")
    before, _, last = path.rpartition(b"/")
    if last == b"stream" and _is_endpoint(before):
        return Run(before.decode(), stream=True)
    return Run(_endpoint(path), stream=False)


def _queue(path: bytes, query: bytes | None, loopback: bool) -> Target:
    found = _OPERATION.fullmatch(path)
    if found is None:
        return Submit(_endpoint(path), _webhook(query, loopback))
    op = _OPS[found["op"]]
    if query not in (_LOGS if op in (Op.STATUS, Op.STREAM) else (None,)):
        raise InvalidTarget("a status takes the query logs=0, 1, true or false, the others none")
    return Queue(_endpoint(found["app"]), found["id"].decode(), op, _LOGS[query])


def _rest(path: bytes, query: bytes | None, _loopback: bool) -> Target:
    return _fixed(_REST, path, query)


def _rest_alpha(path: bytes, query: bytes | None, _loopback: bool) -> Target:
    return _fixed(_REST_ALPHA, path, query)


def _fixed(
    targets: dict[tuple[bytes, bytes | None], Target], path: bytes, query: bytes | None
) -> Target:
    target = targets.get((path, query))
    if target is None:
        raise InvalidTarget("not a REST call that passes through here")
    return target


def _webhook(query: bytes | None, loopback: bool) -> str | None:
    if query is None:
        return None
    found = _WEBHOOK.fullmatch(query)
    # Decoding is the one slow step here, so what comes out too long is not even begun.
    if found and len(found["url"]) - 2 * found["url"].count(b"%") <= weburl.MAX_BYTES:
        url = unquote_to_bytes(found["url"].replace(b"+", b" "))
        if weburl.is_web_url(url, loopback_http=loopback):
            return url.decode()
    raise InvalidTarget("a submit takes one query, fal_webhook, with an encoded https URL")


def _allowed(method: str, target: Target, size: int) -> Target:
    if size > MAX_BYTES and not isinstance(target, Submit):
        raise InvalidTarget("longer than such a target can be")
    allow = _method(target)
    if method != allow:
        raise MethodNotAllowed(f"this target takes {allow} only", allow=allow)
    return target


def _method(target: Target) -> str:
    if not isinstance(target, Queue):
        return "POST"
    return "PUT" if target.op is Op.CANCEL else "GET"


_Read = Callable[[bytes, bytes | None, bool], Target]
_HOSTS: Final[dict[bytes, _Read]] = {
    fal.RUN.encode(): _run,
    fal.QUEUE.encode(): _queue,
    fal.REST.encode(): _rest,
    fal.REST_ALPHA.encode(): _rest_alpha,
}
_FOLDERS: Final[dict[bytes, _Read]] = {b"run": _run, b"queue": _queue, b"rest": _rest}
