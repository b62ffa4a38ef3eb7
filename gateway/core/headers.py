"""Which headers pass: from a client up to fal, and from fal back down. Nobody else's do."""

import re
from collections.abc import Callable, Collection, Iterable
from typing import Final

from gateway.core import fal
from gateway.core.errors import BadBody, InvalidTarget
from gateway.core.model import CONTROL_HEADERS

RawHeaders = Iterable[tuple[bytes, bytes]]

_NUMBER: Final = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,20})?")
_HINT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PRINTABLE: Final = re.compile(rb"[!-~](?:[ -~]{0,1022}[!-~])?")

_LIFECYCLE: Final = re.compile(r'\{"expiration_duration_seconds": ?[1-9][0-9]{0,9}\}')
"""Without its `initial_acl`: who may see a file is not for a client to say."""

OFFERED: Final = CONTROL_HEADERS | {
    fal.NO_RETRY,
    fal.DISABLE_FALLBACK,
    fal.LIFECYCLE_PREFERENCE,
}
"""What a plan may let its clients set. The rest of fal's control headers cost money, show data,
or keep it from us; a plan may force them."""
MAX_FORCED: Final = 32
"""Headers that one plan forces."""
_UP: Final = {name.encode(): name for name in OFFERED}
_FORCED: Final = re.compile(r"x-(?:app-)?fal-[a-z0-9]+(?:-[a-z0-9]+){0,8}")
_OURS: Final = frozenset({fal.TARGET_URL, fal.BILLABLE_UNITS, fal.REQUEST_ID})
"""Names between fal and us that are no orders."""
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


def upstream_headers(
    headers: RawHeaders,
    *,
    tenant_hint: str,
    allowed: Collection[str] = CONTROL_HEADERS,
    forced: Iterable[tuple[str, str]] = (),
) -> dict[str, str]:
    """What fal is told of a client's headers: those `allowed`, each value in a fixed form.

    `forced` ones stand in place of the client's, whatever those were. `tenant_hint` goes before
    a runner hint, so that no team can steer to another's runner.
    Raises `BadBody` naming the header for a value out of form, and for a listed name sent twice.
    """
    fixed = dict(forced)
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
        if name is None or name not in allowed or name in fixed or raw in hops:
            continue
        if name in passed:
            raise BadBody(f"{name}: sent twice")
        passed[name] = _checked(name, value.decode("latin-1"), tenant_hint)
    return passed | fixed


def check_forced(name: str, value: str) -> None:
    """Raise `ValueError`, saying why, for a header that an operator may not force."""
    webhook = name.startswith("x-fal-webhook-")
    if len(name) > 64 or _FORCED.fullmatch(name) is None or name in _OURS or webhook:
        raise ValueError("must be a control header of fal's in lower case: x-fal-... or x-app-fal-")
    if not value.isascii() or _PRINTABLE.fullmatch(value.encode()) is None:
        raise ValueError("must be 1 to 1024 printable characters")


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
    fits, form = _FORMS[name]
    if not fits(value):
        raise BadBody(f"{name}: {form}")
    return f"{tenant_hint}-{value}" if name == fal.RUNNER_HINT else value


def _is_seconds(value: str) -> bool:
    return _NUMBER.fullmatch(value) is not None and 1 <= float(value) <= 3600


def _one_of(*words: str) -> tuple[Callable[[str], bool], str]:
    return lambda value: value in words, f"one of {', '.join(words)}"


_SECONDS: Final = (_is_seconds, "seconds, from 1 to 3600")
_FORMS: Final[dict[str, tuple[Callable[[str], object], str]]] = {
    fal.QUEUE_PRIORITY: _one_of("normal", "low"),
    fal.REQUEST_TIMEOUT: _SECONDS,
    fal.START_TIMEOUT: _SECONDS,
    fal.RUNNER_HINT: (_HINT.fullmatch, "at most 64 letters, digits, '.', '_' and '-'"),
    fal.NO_RETRY: _one_of("1", "true", "yes"),
    fal.DISABLE_FALLBACK: _one_of("1", "true"),
    fal.LIFECYCLE_PREFERENCE: (_LIFECYCLE.fullmatch, '{"expiration_duration_seconds": 3600}'),
}
