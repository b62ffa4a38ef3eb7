"""Somebody without a credential, where `anonymous: on` lets everybody in."""

import secrets
from dataclasses import dataclass, field
from typing import Final

from gateway.core.errors import StoreUnavailable, Unauthenticated
from gateway.core.model import Caller, Kind, Principal, Scope
from gateway.core.tokens import Claims, Purpose
from gateway.flows.authenticate import revocation_of
from gateway.flows.services import Services, Visitors

TEAM: Final = "visitors"
"""Of all visitors."""
KID: Final = "visitor"


@dataclass(frozen=True, slots=True)
class Visit:
    """Who comes, and the cookie to know them by next time, where they have none yet."""

    caller: Caller
    cookie: str | None = field(default=None, repr=False)
    lifetime: int = 0
    """Seconds, of a new cookie."""


def visit(services: Services, cookie: str | None, address: str) -> Visit:
    """The visitor of this cookie, or a new one where there is none, or one that is no good.

    `address` stands for all who come from one place. Nothing is written anywhere for it.
    Raises `Unauthenticated` where visitors are not let in.
    """
    visitors = services.rules.visitors
    if visitors is None:
        raise Unauthenticated(
            "a credential is needed: Authorization: Bearer <gateway key or token>"
        )
    if cookie is not None:
        known = _known(services, visitors, cookie, address)
        if known is not None:
            return Visit(known)
    claims = _new(services, visitors)
    caller = _caller(services, visitors, claims, address)
    return Visit(caller, services.seals.issue(claims), visitors.lifetime)


def is_visitor(principal: Principal) -> bool:
    return principal.kind is Kind.ANONYMOUS and principal.team == TEAM


def _known(services: Services, visitors: Visitors, cookie: str, address: str) -> Caller | None:
    try:
        claims = services.verified.read(Purpose.VISITOR, cookie, services.clock())
    except Unauthenticated:
        return None
    caller = _caller(services, visitors, claims, address)
    revoked = services.revocations.revoked(caller.revocable, caller.issued_at)
    return None if revoked else caller


def _new(services: Services, visitors: Visitors) -> Claims:
    now, name = int(services.clock()), secrets.token_hex(16)
    return Claims(
        purpose=Purpose.VISITOR,
        jti=name,
        kid=KID,
        principal=Principal(TEAM, Kind.ANONYMOUS, name),
        plan=visitors.plan,
        issued_at=now,
        expires_at=now + visitors.lifetime,
    )


def _caller(services: Services, visitors: Visitors, claims: Claims, address: str) -> Caller:
    """The plan is the one of the settings now, whatever it was when the visitor first came."""
    plan = services.directory.plan(visitors.plan)
    if plan is None:
        raise StoreUnavailable("the plan of visitors is not known")
    return Caller(
        principal=claims.principal,
        plan=plan,
        scopes=frozenset({Scope.SUBMIT}),
        kid=claims.kid,
        revocable=(
            f"key:{claims.kid}",
            revocation_of(claims.principal.team, str(claims.principal)),
            f"jti:{claims.jti}",
        ),
        issued_at=claims.issued_at,
        expires_at=claims.expires_at,
        address=address,
    )
