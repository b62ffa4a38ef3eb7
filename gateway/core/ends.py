"""How a job ended, from each of the two places where fal tells: a webhook, and its result."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.core import fal
from gateway.core.envelopes import Envelope
from gateway.core.model import End, State, Where
from gateway.core.prices import billed_units

_KEPT: Final = (
    "content-type",
    fal.ERROR_TYPE,
    fal.TIMEOUT_TYPE,
    fal.NEEDS_RETRY,
    fal.BILLABLE_UNITS,
)
"""The headers of a result that a client can use."""
_HEADER_VALUE: Final = re.compile(r"[ -~]{1,256}")
_ERROR_TYPE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""It becomes a header, so that not every text of a model's will do."""
_UNITS: Final = re.compile(r"[0-9][0-9.eE+-]{0,31}")
_HTTP_ERROR: Final = re.compile(re.escape(fal.INVALID_STATUS) + r"([45][0-9]{2})\b")
_CANCELLED: Final = 499
_TEXT_MAX: Final = 2048
"""Characters kept of an error's text."""
_JSON: Final = {"content-type": "application/json"}


WITHDRAWN: Final = End(
    State.CANCELLED,
    _CANCELLED,
    Where.GONE,
    error="cancelled before fal had it",
    error_type=fal.CLIENT_CANCELLED,
)
"""Of a job that waited in the gateway's own queue until it was cancelled."""
CREDENTIAL_REVOKED: Final = End(
    State.FAILED,
    403,
    Where.GONE,
    error="the credential that the job was submitted with was revoked before fal had it",
    error_type="credential_revoked",
)
WAITED_TOO_LONG: Final = End(
    State.FAILED,
    504,
    Where.GONE,
    headers={fal.TIMEOUT_TYPE: "user"},  # it keeps fal's clients from asking again
    error="there was no room for the job within the time that its plan lets it wait",
    error_type="queue_timeout",
)


@dataclass(frozen=True, slots=True)
class _Fault:
    """What an error's body says of itself."""

    detail: str | None = None
    error_type: str | None = None


class _FaultBody(msgspec.Struct, frozen=True):
    detail: msgspec.Raw = msgspec.Raw(b"null")
    error_type: msgspec.Raw = msgspec.Raw(b"null")


class _Complaint(msgspec.Struct, frozen=True):
    """One entry of a validation error's `detail`."""

    loc: tuple[str | int, ...] = ()
    msg: str = ""


def end_of(envelope: Envelope, results_max: int) -> End:
    """The end that a webhook reports, with results of at most `results_max` bytes.

    A webhook carries no HTTP status: that of an error is read out of its text. What remains
    unsure, or is missing, makes an end that is not settled. So do the units, which no webhook
    tells, where there may be any.
    """
    stored = envelope.payload is not None and len(envelope.payload) <= results_max
    where = Where.STORED if stored else Where.AT_FAL
    body = envelope.payload if stored else None
    whole = stored and envelope.payload_error is None
    if envelope.ok:
        return End(State.COMPLETED, 200, where, body, _JSON, settled=False)

    fault = _fault(envelope.payload)
    match = _HTTP_ERROR.match(envelope.error or "")
    cancelled = fault.error_type == fal.CLIENT_CANCELLED
    status = int(match[1]) if match else _CANCELLED if cancelled else 500
    return End(
        state=State.CANCELLED if cancelled or status == _CANCELLED else State.FAILED,
        http_status=status,
        where=where,
        body=body,
        headers=_JSON | ({fal.ERROR_TYPE: fault.error_type} if fault.error_type else {}),
        error=fault.detail or envelope.error,
        error_type=fault.error_type,
        settled=whole and ((status >= 500 and match is not None) or status == _CANCELLED),
    )


def end_of_result(
    status: int, headers: Mapping[str, str], body: bytes | None, too_large: bool = False
) -> End:
    """The end that fal's answer to a fetch of the result shows.

    `body` is None where it was not read: `too_large` to keep, or cut off, and then the end is
    not settled. Names of headers are compared without regard to case.
    """
    kept = _kept(headers)
    fault = _Fault() if 200 <= status < 300 else _fault(body)
    error_type = None if 200 <= status < 300 else kept.get(fal.ERROR_TYPE) or fault.error_type
    stored = body is not None and not too_large
    return End(
        state=_state(status, error_type),
        http_status=status,
        where=Where.STORED if stored else Where.AT_FAL,
        body=body if stored else None,
        headers=kept,
        error=fault.detail,
        error_type=error_type,
        units=kept.get(fal.BILLABLE_UNITS),
        settled=stored or too_large,
    )


def charged(end: End) -> int | None:
    """Millionths of a unit that fal bills for an end that lacks nothing; None: it did not tell.

    What fal could not do is free; of what an app refused, silence means nothing.
    """
    if end.state in {State.CANCELLED, State.EXPIRED} or end.http_status >= 500:
        return 0
    told = billed_units(end.units)
    return 0 if told is None and end.state is State.FAILED else told


def _state(status: int, error_type: str | None) -> State:
    if 200 <= status < 300:
        return State.COMPLETED
    if status == _CANCELLED or error_type == fal.CLIENT_CANCELLED:
        return State.CANCELLED
    return State.FAILED


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers worth keeping, as far as their values are what they should be."""
    given = {name.lower(): value for name, value in headers.items()}
    forms = {fal.ERROR_TYPE: _ERROR_TYPE, fal.BILLABLE_UNITS: _UNITS}
    return {
        name: given[name]
        for name in _KEPT
        if name in given and forms.get(name, _HEADER_VALUE).fullmatch(given[name])
    }


def _fault(body: bytes | None) -> _Fault:
    """Nothing where the body is not an object, and no part of it that is not text."""
    try:
        found = msgspec.json.decode(body or b"{}", type=_FaultBody)
        detail, error_type = _words(found.detail), _text(found.error_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Fault()
    known = error_type and _ERROR_TYPE.fullmatch(error_type)
    return _Fault(detail and detail[:_TEXT_MAX], error_type if known else None)


def _words(raw: msgspec.Raw) -> str | None:
    """A text as it is; of a list of what is wrong with the input, the first, and where."""
    if not bytes(raw).startswith(b"["):
        return _text(raw)
    first = next(iter(msgspec.json.decode(raw, type=list[_Complaint])), _Complaint())
    where = ".".join(str(part) for part in first.loc if part != "body")
    return f"{where}: {first.msg}" if where and first.msg else first.msg or None


def _text(raw: msgspec.Raw) -> str | None:
    value = msgspec.json.decode(raw) if bytes(raw).startswith(b'"') else None
    return value if isinstance(value, str) else None
