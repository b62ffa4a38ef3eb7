"""A credential, in exchange for one that is worth more."""

import secrets
from dataclasses import dataclass

from gateway.core.errors import BadBody, Forbidden, Unauthenticated
from gateway.core.model import Caller, Kind, Principal, Scope
from gateway.core.plans import check_endpoint
from gateway.core.tokens import MAX_LIFETIME, PASS_LIFETIME, TOKEN_LIFETIME, Claims, Purpose
from gateway.flows.services import Services


@dataclass(frozen=True, slots=True)
class Wish:
    """What a token is to grant. None leaves a part as the key has it; `lifetime` is seconds."""

    user: str | None = None
    endpoints: tuple[str, ...] | None = None
    jobs: frozenset[str] | None = None
    lifetime: int = TOKEN_LIFETIME
    scopes: frozenset[Scope] | None = None


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
    for pattern in wish.endpoints or ():
        if "*" not in pattern:
            check_endpoint(caller, pattern)
    principal = caller.principal
    if wish.user is not None:
        principal = Principal(principal.team, Kind.USER, wish.user)
    return _seal(services, Purpose.TOKEN, caller, wish.lifetime, principal, wish)


def open_session(services: Services, caller: Caller) -> Minted:
    """What the session cookie holds: it ends with the credential that it came from."""
    wish = Wish(scopes=caller.scopes & {Scope.SUBMIT, Scope.READ})
    return _seal(services, Purpose.SESSION, caller, MAX_LIFETIME, caller.principal, wish)


def stream_pass(services: Services, caller: Caller, job_id: str | None) -> Minted:
    """A read-only credential for event streams, which may stand in a URL."""
    jobs = None if job_id is None else frozenset({job_id})
    wish = Wish(jobs=jobs, scopes=caller.scopes & {Scope.READ})
    return _seal(services, Purpose.PASS, caller, PASS_LIFETIME, caller.principal, wish)


def _seal(
    services: Services,
    purpose: Purpose,
    caller: Caller,
    lifetime: int,
    principal: Principal,
    wish: Wish,
) -> Minted:
    now = int(services.clock())
    expires_at = now + lifetime
    if caller.expires_at is not None:
        expires_at = min(expires_at, int(caller.expires_at))
    if expires_at <= now:  # taken so far for the sake of skewed clocks, but no longer handed on
        raise Unauthenticated("the credential is expired")
    claims = Claims(
        purpose=purpose,
        jti=secrets.token_hex(16),
        kid=caller.kid,
        principal=principal,
        plan=caller.plan.name,
        issued_at=now,
        expires_at=expires_at,
        endpoints=caller.endpoints if wish.endpoints is None else wish.endpoints,
        jobs=caller.jobs if wish.jobs is None else wish.jobs,
        scopes=wish.scopes,
        parents=tuple(name[4:] for name in caller.revocable if name.startswith("jti:")),
    )
    return Minted(services.seals.issue(claims), claims)
