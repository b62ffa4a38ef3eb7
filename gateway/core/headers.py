"""Which headers pass: from a client up to fal, and from fal back down. Nobody else's do."""

import re
from collections.abc import Iterable
from typing import Final

from gateway.core import fal
from gateway.core.errors import BadBody, InvalidTarget

RawHeaders = Iterable[tuple[bytes, bytes]]

_NUMBER: Final = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,20})?")
_HINT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PRINTABLE: Final = re.compile(rb"[!-~](?:[ -~]{0,1022}[!-~])?")

_UP: Final = {
    name.encode(): name
    for name in (fal.QUEUE_PRIORITY, fal.REQUEST_TIMEOUT, fal.START_TIMEOUT, fal.RUNNER_HINT)
}
_DOWN: Final = {
    name.encode(): name
    for name in (
        "content-type",
        "retry-after",
        fal.ERROR_TYPE,
        fal.TIMEOUT_TYPE,
        fal.NEEDS_RETRY,
        fal.BILLABLE_UNITS,
    )
}
_ANY_JSON: Final = re.compile(r"application/(?:[a-z0-9.-]+\+)?json")
_JSON: Final = "application/json"
_SSE: Final = "text/event-stream"
_BINARY: Final = "application/octet-stream"


def the_target_header(headers: RawHeaders) -> bytes:
    """The value of `x-fal-target-url`. Raises `InvalidTarget` unless there is exactly one.

    Of two, one part of a system checks the first and another calls the second.
    """
    wanted = fal.TARGET_URL.encode()
    values = [value for name, value in headers if name.lower() == wanted]
    if len(values) != 1:
        raise InvalidTarget(f"exactly one {fal.TARGET_URL} is needed, this has {len(values)}")
    return values[0]


def upstream_headers(headers: RawHeaders, *, tenant_hint: str) -> dict[str, str]:
    """What fal is told of a client's headers: a fixed list, each value in a fixed form.

    `tenant_hint` goes before a runner hint, so that no team can steer to another's runner.
    Raises `BadBody` naming the header for a value out of form, and for a listed name sent twice.
    """
    pairs = [(name.lower(), value) for name, value in headers]
    hops = {
        hop.strip().lower()
        for name, value in pairs
        if name == b"connection"
        for hop in value.split(b",")
    }
    passed: dict[str, str] = {}
    for raw, value in pairs:
        name = _UP.get(raw)
        if name is None or raw in hops:
            continue
        if name in passed:
            raise BadBody(f"{name}: sent twice")
        passed[name] = _checked(name, value.decode("latin-1"), tenant_hint)
    return passed


def client_headers(headers: RawHeaders) -> list[tuple[str, str]]:
    """What a client is told of fal's headers: a fixed list, each once, the first one.

    The request's id is not among them: it is ours, and whoever answers sets it.
    Values that are not printable, or over 1 KiB, are left out.
    """
    passed: dict[str, str] = {}
    for raw, value in headers:
        name = _DOWN.get(raw.lower())
        if name is not None and name not in passed and _PRINTABLE.fullmatch(value):
            text = value.decode()
            passed[name] = safe_content_type(text) if name == "content-type" else text
    return list(passed.items())


def safe_content_type(value: str) -> str:
    """A content type that no browser runs: JSON, an event stream, or else just bytes."""
    kind = value.partition(";")[0].strip(" \t").lower()
    if _ANY_JSON.fullmatch(kind):
        return _JSON
    return _SSE if kind == _SSE else _BINARY


def _checked(name: str, value: str, tenant_hint: str) -> str:
    if name == fal.RUNNER_HINT:
        if _HINT.fullmatch(value) is None:
            raise BadBody(f"{name}: at most 64 letters, digits, '.', '_' and '-'")
        return f"{tenant_hint}-{value}"
    if name == fal.QUEUE_PRIORITY:
        if value not in ("normal", "low"):
            raise BadBody(f"{name}: 'normal' or 'low'")
    elif _NUMBER.fullmatch(value) is None or not 1 <= float(value) <= 3600:
        raise BadBody(f"{name}: seconds, from 1 to 3600")
    return value
