"""Which credential a request carries. Whether it is good, others decide."""

import re
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal
from zlib import crc32

from gateway.core.errors import Unauthenticated

GATEWAY_HEADER: Final = "x-gateway-authorization"
SESSION_COOKIE: Final = "fgw_session"
VISITOR_COOKIE: Final = "fgw_visitor"
KEY_PREFIX: Final = "fgw_"
KEY_FORM: Final = re.compile(r"fgw_(?P<id>[a-z0-9]{8,128})_(?P<secret>[A-Za-z0-9]{20,512})")
"""A key in full, for `fullmatch`. Its id is a principal's name too, and in each token made with it.
"""

ISSUED_FORM: Final = re.compile(r"fgw_(?P<id>[a-z0-9]{12})_[A-Za-z0-9]{30}[A-Za-z0-9]{6}")
"""A key that the gateway made: the last six are a checksum, by which a scanner of secrets can
tell it from other text without asking us."""

MAX_LENGTH: Final = 4096
"""Characters of a credential."""
MAX_JWT: Final = 8192
"""The same of a JWT: others decide what stands in it."""

_KEY_ID: Final = re.compile(r"[a-z0-9]{8,128}")
_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase

_HEADER: Final = re.compile(r"(?:(?P<scheme>[A-Za-z]+) +)?(?P<text>[!-~]+)")
_SCHEMES: Final = frozenset({"bearer", "key"})
"""`Bearer` is everybody's; fal's own clients send `Key`."""

_FAL_KEY: Final = (
    "this looks like a fal key, and the gateway wants a key or token of its own: "
    "remove the fal key from the client (in Node it is read from FAL_KEY by itself)"
)


@dataclass(frozen=True, slots=True)
class Presented:
    """A credential as presented, not yet verified."""

    text: str = field(repr=False)
    kind: Literal["key", "token", "jwt", "session"]


def from_headers(
    headers: Iterable[tuple[bytes, bytes]], cookie_name: str = SESSION_COOKIE
) -> Presented | None:
    """The credential of a request, or None where it carries none.

    `X-Gateway-Authorization`, `Authorization`, cookie: the first present decides, and a bad one
    is not passed over for the next. Names are compared without regard to case.
    Raises `Unauthenticated` for one that is sent twice, or cannot be a credential of ours.
    """
    pairs = [(name.lower(), value) for name, value in headers]
    if (value := _only(pairs, GATEWAY_HEADER.encode())) is not None:
        return _presented(value, {"", *_SCHEMES})
    if (value := _only(pairs, b"authorization")) is not None:
        return _presented(value, _SCHEMES)
    return _from_cookies([value for name, value in pairs if name == b"cookie"], cookie_name)


def new_key() -> tuple[str, str]:
    """The id and the whole text of a new key. 178 random bits, and a checksum of all before it."""
    name = "".join(secrets.choice(string.digits + string.ascii_lowercase) for _ in range(12))
    body = f"{KEY_PREFIX}{name}_" + "".join(secrets.choice(_BASE62) for _ in range(30))
    return name, body + _checksum(body)


def has_checksum(text: str) -> bool:
    """Is it a key that some gateway made, and not only text of that form?"""
    return ISSUED_FORM.fullmatch(text) is not None and _checksum(text[:-6]) == text[-6:]


def key_hash(text: str) -> str:
    """`sha256:<hex>` of a whole key: what the configuration holds in its place."""
    return f"sha256:{sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def key_id(text: str) -> str:
    """The public part of a key. Raises `ValueError`, without the text, where it is not a key."""
    match = KEY_FORM.fullmatch(text)
    if match is None:
        raise ValueError("a key has the form fgw_<8-128 of a-z0-9>_<20-512 of A-Za-z0-9>")
    return match["id"]


def is_key_id(text: str) -> bool:
    """Is it in the form of a key's id?"""
    return _KEY_ID.fullmatch(text) is not None


def _checksum(text: str) -> str:
    """CRC32 in six digits of base 62, as in GitHub's tokens."""
    left, digits = crc32(text.encode()), ""
    for _ in range(6):
        left, digit = divmod(left, 62)
        digits = _BASE62[digit] + digits
    return digits


def _only(pairs: list[tuple[bytes, bytes]], name: bytes) -> str | None:
    values = [value for other, value in pairs if other == name]
    if len(values) > 1:
        raise Unauthenticated("a credential header is sent twice")
    return values[0].decode("latin-1") if values else None


def _presented(value: str, schemes: Iterable[str]) -> Presented:
    longest = MAX_JWT + len("Bearer ") if value.count(".") == 2 else MAX_LENGTH
    match = _HEADER.fullmatch(value.strip(" \t")) if len(value) <= longest else None
    if match is None or (match["scheme"] or "").lower() not in schemes:
        raise Unauthenticated("the credential is not in the form `Bearer <token or key>`")
    text = match["text"]
    if ":" in text:
        raise Unauthenticated(_FAL_KEY)
    if not text.startswith(KEY_PREFIX):
        return Presented(text, "jwt" if text.count(".") == 2 else "token")
    if not KEY_FORM.fullmatch(text):
        raise Unauthenticated("the key is not valid")
    return Presented(text, "key")


def visitor_cookie(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """What a visitor is known by; None where it is missing, too long, or there more than once."""
    cookies = [value for name, value in headers if name.lower() == b"cookie"]
    values = _cookies(cookies, VISITOR_COOKIE)
    return values[0] if len(values) == 1 and len(values[0]) <= MAX_LENGTH else None


def _from_cookies(headers: list[bytes], name: str) -> Presented | None:
    """The session of a browser. Twice the same name means that somebody else set one of them."""
    values = _cookies(headers, name)
    if not values:
        return None
    if len(values) > 1:
        raise Unauthenticated("the session cookie is sent twice")
    if not 0 < len(values[0]) <= MAX_LENGTH:
        raise Unauthenticated("the session is not valid")
    return Presented(values[0], "session")


def _cookies(headers: list[bytes], name: str) -> list[str]:
    pairs = [pair.strip().partition("=") for pair in _joined(headers).split(";")]
    return [value for other, _, value in pairs if other == name]


def _joined(headers: list[bytes]) -> str:
    """HTTP/2 may split one Cookie header into many (RFC 9113, 8.2.3)."""
    return b"; ".join(headers).decode("latin-1")
