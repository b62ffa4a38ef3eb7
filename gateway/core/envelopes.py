"""The body of a webhook from fal. Its payload is cut out as fal wrote it, never written again."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

import msgspec

from gateway.core import fal
from gateway.core.errors import BadBody

_ID: Final = re.compile(r"[A-Za-z0-9._|@:-]{1,128}")
_TEXT_MAX: Final = 2048
"""Characters kept of a text for people."""
_UNREADABLE: Final = "the payload is not strict JSON"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What fal says about a request. `payload` is raw JSON, None where fal sent none.

    `error` is for people. `payload_error` says why the payload is missing.
    """

    request_id: str
    gateway_request_id: str | None
    ok: bool
    payload: bytes | None = field(default=None, repr=False)
    error: str | None = None
    payload_error: str | None = None


class _Once:
    """A field that may stand in the body only once. JSON readers silently take the last.

    No dataclass: msgspec would read one by itself, and not call our hook each time.
    """

    def __init__(self, value: Any) -> None:
        self.value = value


class _Body(msgspec.Struct, frozen=True):
    request_id: _Once
    status: _Once
    gateway_request_id: _Once = _Once(None)
    error: _Once = _Once(None)
    payload_error: _Once = _Once(None)
    payload: msgspec.Raw = msgspec.Raw(b"null")


def parse_envelope(body: bytes) -> Envelope:
    """The parts of a webhook's body. Raises `BadBody` for anything else.

    Python writes NaN and lone surrogates where JSON has neither, and so may fal: the envelope
    is read all the same, its payload is not, and must be fetched.
    """
    try:
        return _strict(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _lenient(body)


def _strict(body: bytes) -> Envelope:
    seen: list[_Once] = []

    def once(_: type, value: Any) -> _Once:
        seen.append(_Once(value))
        return seen[-1]

    found = msgspec.json.decode(body, type=_Body, dec_hook=once)
    fields = {name: getattr(found, name) for name in found.__struct_fields__ if name != "payload"}
    if any(all(one is not kept for kept in fields.values()) for one in seen):
        raise BadBody("a field of the webhook stands there twice")
    payload = bytes(found.payload)
    return _envelope(
        {name: field.value for name, field in fields.items()},
        None if payload == b"null" else payload,
    )


def _lenient(body: bytes) -> Envelope:
    try:
        pairs = json.loads(body.decode(), object_pairs_hook=tuple, parse_int=str)
    except (ValueError, RecursionError):
        raise BadBody("not the body of a webhook") from None
    if not isinstance(pairs, tuple):
        raise BadBody("not the body of a webhook")
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadBody("a field of the webhook stands there twice")
    if fields.get("payload") is not None and fields.get("payload_error") is None:
        fields["payload_error"] = _UNREADABLE
    return _envelope(fields, None)


def _envelope(fields: dict[str, Any], payload: bytes | None) -> Envelope:
    request_id, attempt = fields.get("request_id"), fields.get("gateway_request_id")
    status = fields.get("status")
    if not _is_id(request_id) or not (attempt is None or _is_id(attempt)):
        raise BadBody("a webhook without the id of its request")
    if status not in (fal.WEBHOOK_OK, fal.WEBHOOK_ERROR):
        raise BadBody("a webhook without a status")
    return Envelope(
        request_id=request_id,
        gateway_request_id=attempt,
        ok=status == fal.WEBHOOK_OK,
        payload=payload,
        error=_text(fields.get("error")),
        payload_error=_text(fields.get("payload_error")),
    )


def _is_id(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _text(value: Any) -> str | None:
    """A text for people, short, and such that it can be encoded again."""
    if value is None:
        return None
    text = value if isinstance(value, str) else "(not a text)"
    return text[:_TEXT_MAX].encode(errors="replace").decode()
