"""Tickets for uploads: whoever holds one may put one file where fal has made room for it.

They are sealed, not only signed: inside is fal's own address, which would take a file of any size.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256, sha512
from hmac import digest
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from gateway.core.errors import BadAnswer, Unauthenticated
from gateway.core.model import Kind, Principal
from gateway.core.tokens import MIN_SECRET, SKEW

UPLOAD_LIFETIME: Final = 3600
"""Seconds that a ticket lives."""
MAX_TICKET: Final = 8192
"""Characters of a ticket: it stands in a URL."""
MAX_PARTS: Final = 10_000
"""Of one file."""

_PURPOSE: Final = b"fal-gateway.upload"


@dataclass(frozen=True, slots=True)
class UploadTicket:
    """One file of `principal`, to be put at `url`. `expires_at` is Unix seconds.

    `revocable` and `issued_at` are of the credential that it was made with.
    """

    url: str = field(repr=False)
    principal: Principal
    plan: str
    content_type: str
    multipart: bool
    max_bytes: int | None
    expires_at: int
    revocable: tuple[str, ...]
    issued_at: float


class _Text(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    url: str
    team: str
    principal: str
    plan: str
    content_type: str
    multipart: bool
    max_bytes: int | None
    expires_at: int
    revocable: tuple[str, ...]
    issued_at: float


class UploadSeals:
    """The signing secrets, oldest first: the last one seals, all of them open."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets or any(len(secret.encode()) < MIN_SECRET for secret in secrets):
            raise ValueError(f"a signing secret has fewer than {MIN_SECRET} bytes")
        self._ciphers = [_cipher(secret) for secret in reversed(secrets)]

    def issue(self, ticket: UploadTicket) -> str:
        """The text of a ticket. Raises `BadAnswer` where fal's address makes it too long."""
        principal = ticket.principal
        plain = _Text(
            ticket.url, principal.team, str(principal), ticket.plan, ticket.content_type,
            ticket.multipart, ticket.max_bytes, ticket.expires_at, ticket.revocable,
            ticket.issued_at,
        )  # fmt: skip
        text = _written(self._ciphers[0].encrypt(msgspec.json.encode(plain), [_PURPOSE]))
        if len(text) > MAX_TICKET:
            raise BadAnswer("fal's address for the file is too long")
        return text

    def read(self, text: str, now: float) -> UploadTicket:
        """What a ticket of ours says. Raises `Unauthenticated`, and nothing else."""
        plain = self._opened(text)
        if plain is None:
            raise Unauthenticated("the upload address is not valid")
        if not now < plain.expires_at + SKEW:
            raise Unauthenticated("the upload address is expired; ask for a new one")
        kind, _, name = plain.principal.partition(":")
        return UploadTicket(
            plain.url, Principal(plain.team, Kind(kind), name), plain.plan, plain.content_type,
            plain.multipart, plain.max_bytes, plain.expires_at, plain.revocable, plain.issued_at,
        )  # fmt: skip

    def _opened(self, text: str) -> _Text | None:
        if len(text) > MAX_TICKET or not text.isascii():
            return None
        try:
            sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            return None
        if _written(sealed) != text:  # a decoder takes many texts for one
            return None
        for cipher in self._ciphers:
            try:
                return msgspec.json.decode(cipher.decrypt(sealed, [_PURPOSE]), type=_Text)
            except (InvalidTag, ValueError):
                continue
        return None


def digest_of(text: str) -> str:
    """32 hex digits that stand for a ticket in Redis."""
    return sha256(text.encode()).hexdigest()[:32]


def _written(sealed: bytes) -> str:
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _cipher(secret: str) -> AESSIV:
    """AES-SIV needs no nonce, and gives nothing away but that two tickets are the same."""
    return AESSIV(digest(secret.encode(), _PURPOSE, sha512))
