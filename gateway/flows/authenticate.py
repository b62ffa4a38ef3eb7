"""Credential in, caller out. All from memory: no request waits for this."""

from gateway.core.credentials import Presented, key_hash, key_id
from gateway.core.errors import Forbidden, Unauthenticated
from gateway.core.model import Caller, Kind, Principal, Scope
from gateway.core.tokens import Claims, Purpose
from gateway.flows.services import Services

LOOPBACK: Principal = Principal("default", Kind.ANONYMOUS, "loopback")
"""Everybody on this machine, where `anonymous: loopback` lets them in."""


async def authenticate(
    services: Services, presented: Presented | None, *, loopback: bool
) -> Caller:
    """Who is calling. `loopback`: the request is one that `anonymous: loopback` lets in.

    Raises `Unauthenticated`, with the same words for whatever is wrong with a credential.
    """
    if presented is not None:
        caller = _known(services, presented)
        if services.revocations.revoked(caller.revocable, caller.issued_at):
            raise Unauthenticated("the credential has been revoked")
        return caller
    if loopback:
        return _loopback(services)
    raise Unauthenticated("a credential is needed: Authorization: Bearer <gateway key or token>")


def acting_for(caller: Caller, name: str | None) -> Caller:
    """The caller as a user of its team, where `X-Gateway-Principal` says so.

    Raises `Forbidden` without the scope `mint`.
    """
    if name is None:
        return caller
    if Scope.MINT not in caller.scopes:
        raise Forbidden("acting for a user needs a key with the scope mint")
    return Caller(
        principal=Principal(caller.principal.team, Kind.USER, name),
        plan=caller.plan,
        scopes=caller.scopes - {Scope.READ},
        kid=caller.kid,
        revocable=(*caller.revocable, revocation_of(caller.principal.team, f"user:{name}")),
        issued_at=caller.issued_at,
        expires_at=caller.expires_at,
    )


def read_pass(services: Services, text: str) -> Caller:
    """The caller that a stream pass stands for: it may only read. Raises `Unauthenticated`."""
    return authenticate_claims(services, Purpose.PASS, text)


def authenticate_claims(services: Services, purpose: Purpose, text: str) -> Caller:
    claims = services.verified.read(purpose, text, services.clock())
    caller = _caller_of(services, claims)
    if services.revocations.revoked(caller.revocable, caller.issued_at):
        raise Unauthenticated("the credential has been revoked")
    return caller


def still_good(services: Services, caller: Caller) -> bool:
    """Would the credential that a stream began with be taken now?"""
    expired = caller.expires_at is not None and services.clock() > caller.expires_at
    return not expired and not services.revocations.revoked(caller.revocable, caller.issued_at)


def revocation_of(team: str, principal: str) -> str:
    """The name under which a principal's credentials are revoked."""
    return f"principal:{team}/{principal}"


def _known(services: Services, presented: Presented) -> Caller:
    if presented.kind == "key":
        return _of_key(services, presented.text)
    purpose = Purpose.SESSION if presented.kind == "session" else Purpose.TOKEN
    return _caller_of(services, services.verified.read(purpose, presented.text, services.clock()))


def _of_key(services: Services, text: str) -> Caller:
    key = services.keys.get(key_hash(text))
    if key is None:
        raise Unauthenticated("the credential is not valid")
    principal = Principal(key.team, Kind.KEY, key.name)
    kid = key_id(text)
    return Caller(
        principal=principal,
        plan=services.plans[key.plan],
        scopes=key.scopes,
        kid=kid,
        revocable=(f"key:{kid}", revocation_of(key.team, str(principal))),
        issued_at=0.0,
    )


def _caller_of(services: Services, claims: Claims) -> Caller:
    plan = services.plans.get(claims.plan)
    if plan is None:
        raise Unauthenticated("the credential is not valid")
    names = (claims.jti, *claims.parents)
    return Caller(
        principal=claims.principal,
        plan=plan,
        scopes=frozenset({Scope.SUBMIT}) if claims.scopes is None else claims.scopes,
        kid=claims.kid,
        revocable=(
            f"key:{claims.kid}",
            revocation_of(claims.principal.team, str(claims.principal)),
            *(f"jti:{jti}" for jti in names),
        ),
        issued_at=claims.issued_at,
        expires_at=claims.expires_at,
        endpoints=claims.endpoints,
        jobs=claims.jobs,
        read_only=claims.purpose is Purpose.PASS,
        by_cookie=claims.purpose is Purpose.SESSION,
    )


def _loopback(services: Services) -> Caller:
    return Caller(
        principal=LOOPBACK,
        plan=services.plans["default"],
        scopes=frozenset({Scope.SUBMIT}),
        kid="loopback",
        revocable=(),
        issued_at=0.0,
    )
