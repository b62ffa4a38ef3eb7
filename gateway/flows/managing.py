"""Who may manage what, and the record of it."""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from hmac import compare_digest
from typing import Any, Final

from gateway.core.credentials import Presented, key_hash
from gateway.core.errors import BadBody, Forbidden, GatewayError, NotFound, StoreUnavailable
from gateway.core.issued import Entry, KeyRecord
from gateway.core.model import Caller, Key, Plan, Scope
from gateway.flows.services import Services

MAX_ENTRIES: Final = 1000
"""Entries of the audit record that are read at once."""
TRIES: Final = 5
"""How often a step is begun anew that somebody else's change came in between."""

_ENTRY_ID: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: the operator, or somebody with a key of the scope `admin`.

    `request_id` and `address` say by which request, for the record.
    """

    name: str
    team: str | None = None
    """The team that it manages; None: all of them."""
    plan: Plan | None = None
    """Its own, which bounds the plans that it may give; None: it may give any."""
    kid: str | None = None
    """The id of its key."""
    request_id: str = ""
    address: str = ""


def operator(services: Services, presented: Presented | None) -> bool:
    """Is this GATEWAY_ADMIN_KEY? Never, where none is set, and never by cookie."""
    known = services.operator_hash
    if known is None or presented is None or presented.kind == "session":
        return False
    return compare_digest(key_hash(presented.text), known)


def operating(request_id: str = "", address: str = "") -> Actor:
    """The operator as an actor, once `operator` has said so."""
    return Actor("operator", request_id=request_id, address=address)


def acting(caller: Caller, request_id: str = "", address: str = "") -> Actor:
    """A caller as an actor for its team. Raises `Forbidden` without the scope `admin`."""
    if Scope.ADMIN not in caller.scopes or caller.read_only:
        raise Forbidden("managing a team needs a key with the scope admin")
    team = caller.principal.team
    name = f"{team}/{caller.principal}"
    return Actor(name, team, caller.plan, caller.kid, request_id, address)


def check_operator(actor: Actor, what: str) -> None:
    """Raises `Forbidden` for all but the operator."""
    if actor.team is not None:
        raise Forbidden(f"{what} is for the operator alone")


def check_team(actor: Actor, team: str) -> None:
    """Raises `Forbidden` for a team that the actor does not manage."""
    if actor.team not in {None, team}:
        raise Forbidden(f"team must be {actor.team}: this key manages no other")


def check_grant(services: Services, actor: Actor, key: Key) -> None:
    """May the actor give somebody this key, or say what it can do?

    Raises `BadBody` for an unknown plan, `Forbidden`.
    """
    if services.directory.plan(key.plan) is None:
        raise BadBody("plan must be the name of a plan that exists")
    if actor.team is None:
        return
    check_team(actor, key.team)
    if Scope.ADMIN in key.scopes:
        raise Forbidden("scopes: only the operator gives the scope admin")
    granted = actor.plan is not None and key.plan in {actor.plan.name, *actor.plan.grants}
    if not granted:
        raise Forbidden("plan: the plan of this admin key does not grant that one")


async def managed(services: Services, actor: Actor, key_id: str) -> KeyRecord:
    """The issued key as it is now. Raises `NotFound`, also for one of a team out of reach."""
    registry = services.directory.registry
    await registry.look()
    record = registry.by_id(key_id)
    if record is None or actor.team not in {None, record.key.team}:
        raise NotFound("there is no such key")
    return record


@asynccontextmanager
async def recorded(
    services: Services, actor: Actor, action: str, subject: str, **detail: Any
) -> AsyncGenerator[None]:
    """Keeps a record of what is done inside, from before it begins; a failure gets another.

    Raises `LimitReached` for admins of a team that does too much at once.
    """
    if actor.team is not None:
        services.acts.take(actor.team)
    entry = Entry(
        id="",
        at=services.clock(),
        actor=actor.name,
        action=action,
        subject=subject,
        detail=detail,
        request_id=actor.request_id,
        address=actor.address,
    )
    await services.audit.write(entry)
    try:
        yield
    except GatewayError as error:
        with suppress(StoreUnavailable):
            await services.audit.write(replace(entry, failed=error.code))
        raise


async def audit(
    services: Services, actor: Actor, after: str | None = None, limit: int = 100
) -> Sequence[Entry]:
    """What was done, oldest first, after the entry with the id `after` (None: from the oldest).

    `limit` is at most 1,000. Raises `BadBody`, and `Forbidden` for all but the operator.
    """
    check_operator(actor, "the audit record")
    if not 1 <= limit <= MAX_ENTRIES:
        raise BadBody(f"limit must be from 1 to {MAX_ENTRIES}")
    if after is not None and not _ENTRY_ID.fullmatch(after):
        raise BadBody("after must be an entry's id")
    return await services.audit.after(after, limit)
