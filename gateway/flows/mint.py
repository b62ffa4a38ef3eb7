"""A credential, in exchange for one that is worth more."""

import secrets
from dataclasses import dataclass, replace

from gateway.core.endpoints import overlap
from gateway.core.errors import BadBody, EndpointNotAllowed, Forbidden, Unauthenticated
from gateway.core.model import Caller, Kind, Plan, Principal, Scope
from gateway.core.plans import check_endpoint
from gateway.core.tokens import (
    MAX_LIFETIME,
    PASS_LIFETIME,
    REFRESH_LIFETIME,
    TOKEN_LIFETIME,
    Claims,
    Purpose,
)
from gateway.flows.services import Services


@dataclass(frozen=True, slots=True)
class Wish:
    """What a token is to grant. None leaves a part as the key has it; times are seconds."""

    user: str | None = None
    endpoints: tuple[str, ...] | None = None
    jobs: frozenset[str] | None = None
    lifetime: int = TOKEN_LIFETIME
    scopes: frozenset[Scope] | None = None
    plan: str | None = None
    refresh_for: int = 0
    """From now, for how long it may be exchanged for a new one; 0: not at all."""


@dataclass(frozen=True, slots=True)
class Minted:
    text: str
    claims: Claims


def mint_token(services: Services, caller: Caller, wish: Wish) -> Minted:
    """A token for a browser or a phone. Raises `Forbidden`, `BadBody`, `EndpointNotAllowed`."""
    if Scope.MINT not in caller.scopes:
        raise Forbidden("minting a token needs a key with the scope mint")
    if not 1 <= wish.lifetime <= MAX_LIFETIME:
        raise BadBody(f"expires_in must be from 1 to {MAX_LIFETIME} seconds")
    if wish.refresh_for and not wish.lifetime < wish.refresh_for <= REFRESH_LIFETIME:
        raise BadBody(
            f"refresh_for must be 0, or more than expires_in and at most {REFRESH_LIFETIME} seconds"
        )
    granted = replace(caller, plan=_granted(services, caller.plan, wish.plan))
    for pattern in wish.endpoints or ():
        _check_pattern(granted, pattern)
    principal = caller.principal
    if wish.user is not None:
        principal = Principal(principal.team, Kind.USER, wish.user)
    return _seal(services, Purpose.TOKEN, granted, wish.lifetime, principal, wish)


def refresh_token(services: Services, text: str) -> Minted:
    """A token in exchange for one that is still good: the same, but for its time.

    It keeps the name that it is revoked by, so that to revoke one of a chain ends all of it.
    Raises `Unauthenticated`, and `Forbidden` for one that may not be, or not any more.
    """
    now = services.clock()
    claims = services.verified.read(Purpose.TOKEN, text, now)
    if claims.refresh_until is None:
        raise Forbidden("this token was not minted to be refreshed: see refresh_for")
    if now >= claims.expires_at:  # taken so far for the sake of skewed clocks
        raise Unauthenticated("the credential is expired")
    until = _refresh_end(services, claims, claims.refresh_until)
    if claims.expires_at >= until:
        raise Forbidden("this token has come to its refresh end: a new one must be minted")
    fresh = replace(
        claims,
        issued_at=int(now),
        expires_at=min(int(now) + claims.expires_at - claims.issued_at, until),
        since=claims.issued_at if claims.since is None else claims.since,
    )
    return Minted(services.seals.issue(fresh), fresh)


def open_session(services: Services, caller: Caller) -> Minted:
    """What the session cookie holds: it ends with the credential that it came from.

    Raises `Forbidden`, and `LimitReached` for whoever opens too many.
    """
    if caller.address is not None:
        raise Forbidden("a visitor has no credential to open a session with")
    services.sign_ins.take(caller.principal.digest)
    wish = Wish(scopes=caller.scopes & {Scope.SUBMIT, Scope.READ})
    return _seal(services, Purpose.SESSION, caller, MAX_LIFETIME, caller.principal, wish)


def stream_pass(services: Services, caller: Caller, job_id: str | None) -> Minted:
    """A read-only credential for event streams, which may stand in a URL."""
    jobs = None if job_id is None else frozenset({job_id})
    wish = Wish(jobs=jobs, scopes=caller.scopes & {Scope.READ})
    return _seal(services, Purpose.PASS, caller, PASS_LIFETIME, caller.principal, wish)


def _granted(services: Services, own: Plan, name: str | None) -> Plan:
    """The plan that a token is to have: the key's own, or one that this grants."""
    if name is None or name == own.name:
        return own
    plan = services.directory.plan(name) if name in own.grants else None
    if plan is None:
        raise Forbidden(f"the plan of this key grants no plan of that name: {own.name}")
    return plan


def _check_pattern(caller: Caller, pattern: str) -> None:
    """A token grants what it names and its plan allows: that must be something."""
    if "*" not in pattern:
        check_endpoint(caller, pattern)
    elif not any(overlap(pattern, allowed) for allowed in caller.plan.endpoints):
        raise EndpointNotAllowed(f"the plan allows no endpoint that is {pattern}")


def _refresh_end(services: Services, claims: Claims, until: int) -> int:
    """Until when a chain may go on: never for longer than its key, which must still be one that
    mints. That it could still give what the token grants is asked on every use."""
    record = services.directory.origin(claims.kid)
    if record is None:
        return until
    if Scope.MINT not in record.key.scopes:
        raise Forbidden("the key of this token may not mint any more")
    expires_at = record.key.expires_at
    return until if expires_at is None else min(until, int(expires_at))


def _seal(
    services: Services,
    purpose: Purpose,
    caller: Caller,
    lifetime: int,
    principal: Principal,
    wish: Wish,
) -> Minted:
    now = int(services.clock())
    end = now + max(lifetime, wish.refresh_for)
    if caller.expires_at is not None:
        end = min(end, int(caller.expires_at))
    if end <= now:  # taken so far for the sake of skewed clocks, but no longer handed on
        raise Unauthenticated("the credential is expired")
    parents = tuple(name[4:] for name in caller.revocable if name.startswith("jti:"))
    claims = Claims(
        purpose=purpose,
        jti=secrets.token_hex(16),
        kid=caller.kid,
        principal=principal,
        plan=caller.plan.name,
        issued_at=now,
        expires_at=min(now + lifetime, end),
        endpoints=caller.endpoints if wish.endpoints is None else wish.endpoints,
        jobs=caller.jobs if wish.jobs is None else wish.jobs,
        scopes=wish.scopes,
        parents=parents,
        since=min(now, int(caller.issued_at)) if parents else None,
        refresh_until=end if wish.refresh_for else None,
    )
    return Minted(services.seals.issue(claims), claims)
