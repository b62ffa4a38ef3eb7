"""Signed text that the gateway hands out and takes back: tokens, sessions, passes, tickets.

The form is itsdangerous': base64url JSON, a dot, base64url HMAC-SHA256. Read by signing again
and comparing the whole text, since a decoder takes many texts for one signature.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from typing import Final, TypeVar

import msgspec
from itsdangerous import BadData, Signer
from itsdangerous.encoding import base64_decode, base64_encode

from gateway.core.errors import BadBody, BadSignature, Unauthenticated
from gateway.core.model import JobRef, Kind, Principal, Scope

TOKEN_LIFETIME: Final = 3600
"""Seconds a token lives when its minter does not say."""
MAX_LIFETIME: Final = 86_400
"""Seconds a token or a session may live. Checked on reading too, whatever is signed."""
REFRESH_LIFETIME: Final = 30 * 86_400
"""Seconds from its first token for which a chain of refreshed ones may go on."""
VISITOR_LIFETIME: Final = 30 * 86_400
"""Seconds a visitor's cookie lives at most."""
PASS_LIFETIME: Final = 600
"""Seconds a stream pass lives."""
TICKET_LIFETIME: Final = 604_800
"""Seconds a ticket lives: much longer than fal repeats a webhook."""
SKEW: Final = 30
"""Seconds by which the clocks of two replicas may differ, either way."""
MAX_LENGTH: Final = 4096
"""Characters of a signed text: it must fit into a header, a cookie or a URL."""
MIN_SECRET: Final = 32
"""Bytes of a signing secret."""

_TICKET: Final = "ticket"


class Purpose(StrEnum):
    """What a credential is for. One is never good as another."""

    TOKEN = "token"  # noqa: S105 - a word, not a secret
    SESSION = "session"
    PASS = "pass"  # noqa: S105
    VISITOR = "visitor"


_LONGEST: Final = {
    Purpose.TOKEN: MAX_LIFETIME,
    Purpose.SESSION: MAX_LIFETIME,
    Purpose.PASS: PASS_LIFETIME,
    Purpose.VISITOR: VISITOR_LIFETIME,
}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a credential says. Times are Unix seconds; `jti` is 128 random bits of the caller's.

    `kid` is the id of the key it was minted with, `parents` the `jti` of what it came from:
    revoking one of them revokes it. `endpoints` and `jobs` narrow its plan; None does not.
    """

    purpose: Purpose
    jti: str
    kid: str
    principal: Principal
    plan: str
    issued_at: int
    expires_at: int
    endpoints: tuple[str, ...] | None = None
    jobs: frozenset[str] | None = None
    parents: tuple[str, ...] = ()
    scopes: frozenset[Scope] | None = None
    """None: what a token has by nature, `submit`."""
    since: int | None = None
    """When the first credential of its chain was issued, if not this one: what revocations of
    the chain go by, so that none is outrun by what was made of it meanwhile."""
    refresh_until: int | None = None
    """Until when it, and what it is exchanged for, may be exchanged for a new one."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """The signed part of a job's webhook URL: enough to make a lost job anew."""

    ref: JobRef


class _ClaimsText(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Claims as JSON. A field that we do not know may be a restriction, and is refused."""

    typ: Purpose
    jti: str
    kid: str
    team: str
    principal: str
    plan: str
    endpoints: tuple[str, ...] | None = None
    jobs: tuple[str, ...] | None = None
    parents: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] | None = None
    since: int | None = None
    refresh: int | None = None
    iat: int
    exp: int


class _TicketText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    typ: str
    job: str
    team: str
    principal: str
    endpoint: str
    at: float


_Text = TypeVar("_Text", _ClaimsText, _TicketText)


class Seals:
    """The signing secrets, oldest first: the last one signs, all of them verify."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ValueError("no signing secret")
        if any(len(secret.encode()) < MIN_SECRET for secret in secrets):
            raise ValueError(f"a signing secret has fewer than {MIN_SECRET} bytes")
        self._signers = {name: _signers(secrets, name) for name in (*Purpose, _TICKET)}

    def issue(self, claims: Claims) -> str:
        """The text of a credential.

        Raises `BadBody` where its `endpoints` and `jobs` make it too long, and `ValueError` for
        a lifetime that `read` would refuse.
        """
        if not 0 < claims.expires_at - claims.issued_at <= _LONGEST[claims.purpose]:
            raise ValueError(f"lifetime of a {claims.purpose} out of bounds")
        return self._sign(claims.purpose, _written(claims))

    def read(self, purpose: Purpose, text: str, now: float) -> Claims:
        """What a credential of our own says. Raises `Unauthenticated`, and nothing else."""
        payload = self._verified(purpose, text)
        written = None if payload is None else _decoded(payload, _ClaimsText)
        if written is None or written.typ != purpose:
            raise Unauthenticated("the credential is not valid")
        claims = _claims(written)
        if now >= claims.expires_at + SKEW:
            raise Unauthenticated("the credential is expired")
        lifetime = claims.expires_at - claims.issued_at
        if now < claims.issued_at - SKEW or not 0 < lifetime <= _LONGEST[purpose]:
            raise Unauthenticated("the credential is not valid")
        return claims

    def ticket(self, ref: JobRef) -> str:
        """The last segment of the URL at which fal reports this job's end."""
        principal = ref.principal
        text = _TicketText(
            _TICKET, ref.id, principal.team, str(principal), ref.endpoint, ref.created_at
        )
        return self._sign(_TICKET, text)

    def read_ticket(self, text: str, now: float) -> Ticket:
        """The job that a webhook URL of ours is about. Raises `BadSignature`, and nothing else."""
        payload = self._verified(_TICKET, text)
        written = None if payload is None else _decoded(payload, _TicketText)
        if written is None or written.typ != _TICKET:
            raise BadSignature("the ticket is not valid")
        if not -SKEW <= now - written.at < TICKET_LIFETIME + SKEW:
            raise BadSignature("the ticket is expired")
        principal = _principal(written.team, written.principal)
        return Ticket(JobRef(written.job, principal, written.endpoint, written.at))

    def _sign(self, name: str, written: msgspec.Struct) -> str:
        payload = base64_encode(msgspec.json.encode(written))
        text = self._signers[name][0].sign(payload).decode()
        if len(text) > MAX_LENGTH:
            raise BadBody("the credential would be too long: name fewer endpoints and jobs")
        return text

    def _verified(self, name: str, text: str) -> bytes | None:
        """The JSON of a text that we signed for this purpose, letter for letter."""
        if len(text) > MAX_LENGTH or not text.isascii():
            return None
        given = text.encode()
        value = given.rpartition(b".")[0]
        if not any(compare_digest(signer.sign(value), given) for signer in self._signers[name]):
            return None
        try:
            return base64_decode(value)
        except BadData:
            return None


class VerifiedCache:
    """Claims of credentials that were read before, by the SHA-256 of their exact text.

    Holds at most `max` of them and forgets the one not used for longest. It saves arithmetic
    only: revocation is looked up on every use, cached or not.
    """

    def __init__(self, seals: Seals, *, max: int = 10_000) -> None:
        self._seals = seals
        self._max = max
        self._known: OrderedDict[tuple[Purpose, bytes], Claims] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def read(self, purpose: Purpose, text: str, now: float) -> Claims:
        """As `Seals.read`."""
        if len(text) > MAX_LENGTH or not text.isascii():
            raise Unauthenticated("the credential is not valid")
        place = (purpose, sha256(text.encode()).digest())
        known = self._known.pop(place, None)
        if known is None or now >= known.expires_at:
            known = self._seals.read(purpose, text, now)
        self._known[place] = known
        if len(self._known) > self._max:
            self._known.popitem(last=False)
        return known


def _signers(secrets: Sequence[str], name: str) -> tuple[Signer, ...]:
    """One signer a secret, newest first. The salt is what keeps purposes apart."""
    return tuple(
        Signer(secret, salt=f"fal-gateway.{name}", key_derivation="hmac", digest_method=sha256)
        for secret in reversed(secrets)
    )


def _written(claims: Claims) -> _ClaimsText:
    return _ClaimsText(
        typ=claims.purpose,
        jti=claims.jti,
        kid=claims.kid,
        team=claims.principal.team,
        principal=str(claims.principal),
        plan=claims.plan,
        endpoints=claims.endpoints,
        jobs=None if claims.jobs is None else tuple(sorted(claims.jobs)),
        parents=claims.parents,
        scopes=None if claims.scopes is None else tuple(sorted(claims.scopes)),
        since=claims.since,
        refresh=claims.refresh_until,
        iat=claims.issued_at,
        exp=claims.expires_at,
    )


def _claims(written: _ClaimsText) -> Claims:
    return Claims(
        purpose=written.typ,
        jti=written.jti,
        kid=written.kid,
        principal=_principal(written.team, written.principal),
        plan=written.plan,
        issued_at=written.iat,
        expires_at=written.exp,
        endpoints=written.endpoints,
        jobs=None if written.jobs is None else frozenset(written.jobs),
        parents=written.parents,
        scopes=None if written.scopes is None else frozenset(written.scopes),
        since=written.since,
        refresh_until=written.refresh,
    )


def _principal(team: str, text: str) -> Principal:
    kind, _, name = text.partition(":")
    return Principal(team, Kind(kind), name)


def _decoded(payload: bytes, form: type[_Text]) -> _Text | None:
    try:
        written = msgspec.json.decode(payload, type=form)
        Kind(written.principal.partition(":")[0])
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return written
