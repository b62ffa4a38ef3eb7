"""Credential in, caller out. All from memory, but for keys that were made only just now."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

from gateway.core.credentials import Presented, has_checksum, key_hash, key_id
from gateway.core.errors import Forbidden, OriginNotAllowed, Unauthenticated
from gateway.core.issued import KeyRecord
from gateway.core.jwts import Bearer
from gateway.core.model import Caller, Kind, Principal, Scope, Source
from gateway.core.tokens import Claims, Purpose
from gateway.flows.services import Services

LOOPBACK: Principal = Principal("default", Kind.ANONYMOUS, "loopback")
"""Everybody on this machine, where `anonymous: loopback` lets them in."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request comes from: its Origin headers, as browsers send them, and the client's
    address."""

    origins: Sequence[str] = ()
    address: str = "unknown"


NOWHERE: Final = Place()
JUST_MINTED: Final = 10.0
"""Seconds in which the key of a token may be so new that this process does not know it yet."""


async def authenticate(
    services: Services,
    presented: Presented | None,
    *,
    loopback: bool,
    place: Place = NOWHERE,
) -> Caller:
    """Who is calling. `loopback`: the request is one that `anonymous: loopback` lets in.

    Raises `Unauthenticated`, with the same words for whatever is wrong with a credential,
    `OriginNotAllowed` and `Forbidden` for a good one in the wrong place, and `KeysUnavailable`
    for a JWT that nobody can verify now.
    """
    if presented is not None:
        return _unrevoked(services, await _known(services, presented, place))
    if loopback:
        return _loopback(services)
    raise Unauthenticated("a credential is needed: Authorization: Bearer <gateway key or token>")


def acting_for(services: Services, caller: Caller, name: str | None) -> Caller:
    """The caller as a user of its team, where `X-Gateway-Principal` says so.

    What was taken back of the user before this call is none of its business; what is from now
    on, is. Raises `Forbidden` without the scope `mint`.
    """
    if name is None:
        return caller
    if Scope.MINT not in caller.scopes:
        raise Forbidden("acting for a user needs a key with the scope mint")
    return Caller(
        principal=Principal(caller.principal.team, Kind.USER, name),
        plan=caller.plan,
        scopes=caller.scopes - {Scope.READ, Scope.ADMIN},
        kid=caller.kid,
        revocable=(*caller.revocable, revocation_of(caller.principal.team, f"user:{name}")),
        issued_at=services.clock(),
        expires_at=caller.expires_at,
    )


async def read_pass(services: Services, text: str, place: Place = NOWHERE) -> Caller:
    """The caller that a stream pass stands for: it may only read. Raises as `authenticate`."""
    return _unrevoked(services, await _by_claims(services, Purpose.PASS, text, place))


def still_good(services: Services, caller: Caller) -> bool:
    """Would the credential that a stream began with be taken now, and for as much?"""
    now = services.clock()
    if caller.expires_at is not None and now > caller.expires_at:
        return False
    if Scope.READ in caller.scopes and services.directory.reads_no_more(caller.kid):
        return False
    return not taken_back(services, caller)


def taken_back(services: Services, caller: Caller) -> bool:
    """Has the credential been revoked, or its key ended, since the caller was known?"""
    return services.directory.ended(caller.kid, services.clock()) or services.revocations.revoked(
        caller.revocable, caller.issued_at
    )


def revoked(services: Services, source: Source) -> bool:
    """Was it taken back by somebody? Its time being over does not count."""
    return services.directory.revoked(source.kid) or services.revocations.revoked(
        source.revocable, source.issued_at
    )


def check_kept(services: Services, caller: Caller) -> None:
    """For what begins long after its caller was known, since a body or an end was waited for.

    Raises `Unauthenticated` where the credential was taken back meanwhile.
    """
    if taken_back(services, caller):
        raise Unauthenticated("the credential has been revoked")


def revocation_of(team: str, principal: str) -> str:
    """The name under which a principal's credentials are revoked."""
    return f"principal:{team}/{principal}"


def _unrevoked(services: Services, caller: Caller) -> Caller:
    if services.revocations.revoked(caller.revocable, caller.issued_at):
        raise Unauthenticated("the credential has been revoked")
    return caller


async def _known(services: Services, presented: Presented, place: Place) -> Caller:
    if presented.kind == "key":
        if has_checksum(presented.text):
            await services.directory.meet(key_hash(presented.text))
        return _of_key(services, presented.text, place)
    if presented.kind == "jwt":
        return _of_bearer(services, await services.issuers.bearer(presented.text, services.clock))
    purpose = Purpose.SESSION if presented.kind == "session" else Purpose.TOKEN
    return await _by_claims(services, purpose, presented.text, place)


async def _by_claims(services: Services, purpose: Purpose, text: str, place: Place) -> Caller:
    claims = services.verified.read(purpose, text, services.clock())
    if services.clock() - claims.issued_at < JUST_MINTED:
        await services.directory.meet_origin(claims.kid)
    return _caller_of(services, claims, place)


def _of_key(services: Services, text: str, place: Place) -> Caller:
    record = services.directory.key(key_hash(text))
    if record is None:
        raise Unauthenticated("the credential is not valid")
    _check_live(record, services.clock())
    _check_origin(record, place)
    key = record.key
    _check_network(key.networks, place)
    plan = services.directory.plan(key.plan)
    if plan is None:
        raise Forbidden("the plan of this key is not there any more")
    principal = Principal(key.team, Kind.KEY, key.name)
    kid = key.id or key_id(text)
    return Caller(
        principal=principal,
        plan=plan,
        scopes=key.scopes,
        kid=kid,
        revocable=(f"key:{kid}", revocation_of(key.team, str(principal))),
        issued_at=record.created_at,
        expires_at=key.expires_at,
    )


def _of_bearer(services: Services, bearer: Bearer) -> Caller:
    """A user of the app's own, by the word of an issuer that the settings name."""
    plan = services.directory.plan(bearer.plan)
    if plan is None:
        raise Unauthenticated("the credential is not valid")
    principal, kid = bearer.principal, bearer.issuer.kid
    return Caller(
        principal=principal,
        plan=plan,
        scopes=frozenset({Scope.SUBMIT}),
        kid=kid,
        revocable=(
            f"key:{kid}",
            revocation_of(principal.team, str(principal)),
            f"jti:{bearer.jti}",
        ),
        issued_at=bearer.issued_at,
        expires_at=bearer.expires_at,
    )


def _caller_of(services: Services, claims: Claims, place: Place) -> Caller:
    record = services.directory.origin(claims.kid)
    if record is not None:
        _check_live(record, services.clock())
        _check_origin(record, place)
        _check_given(services, claims, record)
    elif services.directory.gone(claims.kid):
        raise Unauthenticated("the credential has been revoked")
    plan = services.directory.plan(claims.plan)
    if plan is None:
        raise Unauthenticated("the credential is not valid")
    names = (claims.jti, *claims.parents)
    return Caller(
        principal=claims.principal,
        plan=plan,
        scopes=_scopes(claims, record),
        kid=claims.kid,
        revocable=(
            f"key:{claims.kid}",
            revocation_of(claims.principal.team, str(claims.principal)),
            *(f"jti:{jti}" for jti in names),
        ),
        issued_at=claims.issued_at if claims.since is None else claims.since,
        expires_at=claims.expires_at,
        endpoints=claims.endpoints,
        jobs=claims.jobs,
        read_only=claims.purpose is Purpose.PASS,
        session=f"jti:{claims.jti}" if claims.purpose is Purpose.SESSION else None,
    )


def _scopes(claims: Claims, record: KeyRecord | None) -> frozenset[Scope]:
    """Never those of servers, whatever is signed, nor what its key has lost since."""
    if claims.scopes is None:
        return frozenset({Scope.SUBMIT})
    lost = frozenset() if record is None else frozenset({Scope.READ}) - record.key.scopes
    return claims.scopes - {Scope.MINT, Scope.ADMIN} - lost


def _check_given(services: Services, claims: Claims, record: KeyRecord) -> None:
    """Team and plan are still such that this key could give them."""
    own = services.directory.plan(record.key.plan)
    granted = {record.key.plan} if own is None else {own.name, *own.grants}
    if claims.principal.team != record.key.team or claims.plan not in granted:
        raise Unauthenticated("the credential is not valid")


def _check_live(record: KeyRecord, now: float) -> None:
    if record.revoked_at is not None:
        raise Unauthenticated("the credential has been revoked")
    if not record.live(now):
        raise Unauthenticated("the credential is expired")


def _check_origin(record: KeyRecord, place: Place) -> None:
    """A page that is not one of the key's may not use it, nor what was made with it."""
    allowed = record.key.origins
    if allowed and not all(origin in allowed for origin in place.origins):
        raise OriginNotAllowed("this credential is not for pages of this origin")


def _check_network(networks: Sequence[str], place: Place) -> None:
    if not networks:
        return
    try:
        address = ip_address(place.address)
    except ValueError:
        address = None
    if address is None or not any(address in ip_network(network) for network in networks):
        raise Forbidden("this key may not be used from this address")


def _loopback(services: Services) -> Caller:
    plan = services.directory.plan("default")
    assert plan is not None  # the settings always have it
    return Caller(
        principal=LOOPBACK,
        plan=plan,
        scopes=frozenset({Scope.SUBMIT}),
        kid="anonymous:loopback",
        revocable=(),
        issued_at=0.0,
    )
