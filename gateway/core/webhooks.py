"""Webhooks from fal: is this fal's word, and for our account?

fal signs for all its customers with one set of keys, and does not sign the URL. A signature
alone proves little: the ticket in the URL and the account id must fit too.
Source: https://fal.ai/docs, "Webhooks".
"""

import re
from base64 import urlsafe_b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.core import fal
from gateway.core.envelopes import Envelope
from gateway.core.errors import BadSignature

TOLERANCE: Final = 300
"""Seconds a webhook's timestamp may be away from our clock, either way."""
JWKS_MAX: Final = 65_536
"""Bytes of fal's published key set."""
KEYS_MAX: Final = 32
"""Keys in it. Every bad signature costs one verification with each."""

_ID: Final = re.compile(rb"[A-Za-z0-9._|@:-]{1,128}")
_FORMS: Final = {
    fal.WEBHOOK_REQUEST_ID: _ID,
    fal.WEBHOOK_USER_ID: _ID,
    fal.WEBHOOK_TIMESTAMP: re.compile(rb"[0-9]{10}"),
    fal.WEBHOOK_SIGNATURE: re.compile(rb"[0-9a-f]{128}"),
}
"""What each header must be, to the letter: `int` and `bytes.fromhex` read much more than this."""

_X: Final = re.compile(r"[A-Za-z0-9_-]{43}=?")
_PRIME: Final = 2**255 - 19
_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_LOW_ORDER: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})
"""The y of the eight points whose order divides 8. With such a key one signature fits every
message, and `cryptography` takes it."""


@dataclass(frozen=True, slots=True)
class SignedHeaders:
    """fal's four headers, well formed. Nothing is verified yet."""

    request_id: str
    user_id: str
    timestamp: int
    signature: bytes


class _Jwk(msgspec.Struct, frozen=True):
    kty: str = ""
    crv: str = ""
    x: str = ""


class _JwkSet(msgspec.Struct, frozen=True):
    keys: list[msgspec.Raw]


def parse_jwks(body: bytes) -> tuple[Ed25519PublicKey, ...]:
    """The keys of fal's JWKS that can be used; the others in it are passed over.

    Raises `ValueError` where there is none, or too much of everything.
    """
    if len(body) > JWKS_MAX:
        raise ValueError("the key set is too large")
    try:
        entries = msgspec.json.decode(body, type=_JwkSet).keys
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not a key set") from error
    points = dict.fromkeys(point for entry in entries if (point := _point(entry)))
    if not 0 < len(points) <= KEYS_MAX:
        raise ValueError(f"a key set with {len(points)} usable keys")
    return tuple(map(Ed25519PublicKey.from_public_bytes, points))


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> SignedHeaders:
    """fal's headers of a request. Raises `BadSignature` unless each is there once, and in form."""
    found: dict[str, str] = {}
    for raw_name, value in headers:
        name = raw_name.decode("latin-1").lower()
        if name not in _FORMS:
            continue
        if name in found or not _FORMS[name].fullmatch(value):
            raise BadSignature(f"{name} is sent twice, or not in its form")
        found[name] = value.decode()
    if len(found) < len(_FORMS):
        raise BadSignature("a header of fal's signature is missing")
    return SignedHeaders(
        request_id=found[fal.WEBHOOK_REQUEST_ID],
        user_id=found[fal.WEBHOOK_USER_ID],
        timestamp=int(found[fal.WEBHOOK_TIMESTAMP]),
        signature=bytes.fromhex(found[fal.WEBHOOK_SIGNATURE]),
    )


def message(request_id: str, user_id: str, timestamp: int, body: bytes) -> bytes:
    """What fal signs: four lines, the last one the body's SHA-256 in hex."""
    return f"{request_id}\n{user_id}\n{timestamp}\n{sha256(body).hexdigest()}".encode()


def check_signature(signed: SignedHeaders, body: bytes, keys: Sequence[Ed25519PublicKey]) -> None:
    """Raise `BadSignature` unless one of the keys signed this. `body` is the bytes as received.

    fal rotates its keys: before believing this error, fetch them again, if that was long ago.
    """
    text = message(signed.request_id, signed.user_id, signed.timestamp, body)
    if not any(_signed_by(key, signed.signature, text) for key in keys):
        raise BadSignature("no published key matches")


def check_age(signed: SignedHeaders, now: float) -> None:
    """Raise `BadSignature` unless it was signed just now."""
    fresh = abs(now - signed.timestamp) <= TOLERANCE  # False for NaN too
    if not fresh:
        raise BadSignature("the timestamp is too old or too new")


def check_account(signed: SignedHeaders, account: str | None) -> None:
    """Raise `BadSignature` unless signed for this account. With None any account will do."""
    if account is not None and signed.user_id != account:
        raise BadSignature("signed for another account")


def check_ids(signed: SignedHeaders, envelope: Envelope) -> None:
    """Raise `BadSignature` unless header and body are about one request.

    After a retry inside fal the header may carry the id of the attempt.
    """
    if signed.request_id not in (envelope.request_id, envelope.gateway_request_id):
        raise BadSignature("header and body name different requests")


def _point(entry: bytes) -> bytes | None:
    """The 32 bytes of an entry's public key; None where it is another kind, or unsafe."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, NotBase64):
        jwk = msgspec.json.decode(entry, type=_Jwk)
        if (jwk.kty, jwk.crv) == ("OKP", "Ed25519") and _X.fullmatch(jwk.x):
            point = urlsafe_b64decode(jwk.x[:43] + "=")
            return point if is_safe(point) else None
    return None


def is_safe(point: bytes) -> bool:
    """Is it a public key of Ed25519, by which no signature is good for every message?"""
    y = int.from_bytes(point, "little") % 2**255
    return y < _PRIME and y not in _LOW_ORDER


def _signed_by(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True
