"""Credentials taken back: refused in every process within a second, with what came from them."""

import re
from dataclasses import dataclass, field
from typing import Final

from gateway.core.errors import BadBody, NotFound, Unauthenticated
from gateway.core.issued import check_name
from gateway.core.model import Kind, is_user_name
from gateway.core.tokens import MAX_LIFETIME, SKEW, Purpose
from gateway.flows.authenticate import revocation_of
from gateway.flows.issue import revoke_key
from gateway.flows.managing import Actor, check_operator, check_team, recorded
from gateway.flows.services import Services

REVOKED_FOR: Final = 31 * 86_400
"""Seconds that it is remembered that a user's credentials were taken back."""

_KEY_ID: Final = re.compile(r"[a-z0-9]{8,128}|iss:[A-Za-z0-9._@+-]{1,128}")
"""Of a key of the settings; of an issuer, whose users' JWTs are meant."""
_JTI: Final = re.compile(r"[!-~]{1,300}")
"""Ours, or `iss:<issuer's name>:<jti>` of a JWT."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whose credentials are taken back; exactly one of the first four is given.

    `token` is the text of a token, a session or a pass of ours; `jti` its id, for the operator
    alone. `principal` is `kind:name` within `team`, which None leaves to the actor's own.
    """

    key: str | None = None
    principal: str | None = None
    token: str | None = field(default=None, repr=False)
    jti: str | None = None
    team: str | None = None


async def revoke(services: Services, actor: Actor, target: Target) -> None:
    """Refuse what the target holds, in every process within a second. Again does no harm.

    Raises `BadBody`, `NotFound` (a key that the actor does not manage), `Forbidden`.
    """
    given = (target.key, target.principal, target.token, target.jti)
    if sum(text is not None for text in given) != 1:
        raise BadBody("give one of key, principal, token and jti")
    if target.key is not None:
        await services.directory.registry.look()
    if target.key is not None and services.directory.registry.by_id(target.key) is not None:
        await revoke_key(services, actor, target.key)
        return
    name, lasts = _revocation(services, actor, target)
    now = services.clock()
    async with recorded(services, actor, "revoke", name):
        # What was issued within this second may have been issued before: its time is cut off.
        await services.revocations.revoke(
            [name], int(now) + 1, None if lasts is None else now + lasts
        )


def _revocation(services: Services, actor: Actor, target: Target) -> tuple[str, float | None]:
    """The name in the set of revocations, and for how many seconds it is to be there."""
    if target.principal is not None:
        return _principal_revocation(services, actor, target.principal, target.team)
    if target.token is not None:
        return _token_revocation(services, actor, target.token)
    if target.key is not None:
        if actor.team is not None or not _KEY_ID.fullmatch(target.key):
            raise NotFound("there is no such key")
        return f"key:{target.key}", None
    check_operator(actor, "taking a token back by its jti")
    if target.jti is None or not _JTI.fullmatch(target.jti):
        raise BadBody("jti must be the id of a token")
    return f"jti:{target.jti}", REVOKED_FOR


def _principal_revocation(
    services: Services, actor: Actor, principal: str, team: str | None
) -> tuple[str, float | None]:
    team = team or actor.team
    if team is None:
        raise BadBody("team must be given with a principal")
    check_name("team", team)
    check_team(actor, team)
    kind, _, name = principal.partition(":")
    if kind not in set(Kind) or not is_user_name(name):
        raise BadBody("principal must be key:<name>, user:<name> or anonymous:<name>")
    # A key may live for good. What is none, must not be remembered for good.
    is_key = kind == Kind.KEY and services.directory.named(team, name) is not None
    return revocation_of(team, principal), None if is_key else REVOKED_FOR


def _token_revocation(services: Services, actor: Actor, text: str) -> tuple[str, float]:
    for purpose in Purpose:
        try:
            claims = services.seals.read(purpose, text, services.clock())
        except Unauthenticated:
            continue
        check_team(actor, claims.principal.team)
        # What it was refreshed to may live longer than it does itself.
        lasts = max(MAX_LIFETIME, claims.expires_at - services.clock())
        return f"jti:{claims.jti}", lasts + 4 * SKEW
    raise BadBody(
        "token must be a token, a session or a pass that is good by now; "
        "a JWT is taken back by its jti or its principal"
    )
