"""Keys, plans and revocations, by whoever may manage them. Every act leaves a record first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.core.credentials import Presented
from gateway.core.issued import KeyChange, KeyRecord, KeyWish, PlanRecord
from gateway.core.model import Caller, Plan
from gateway.flows.services import Services


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
    request_id: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key. `text` is shown this once, and kept nowhere."""

    record: KeyRecord
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """Some keys, newest first. `cursor` leads to the next page; None: there is none."""

    records: Sequence[KeyRecord]
    cursor: str | None


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


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit record. `at` is Unix seconds; `failed` an error's code."""

    id: str
    at: float
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    request_id: str
    address: str
    failed: str | None = None


def operator(services: Services, presented: Presented | None) -> bool:
    """Is this GATEWAY_ADMIN_KEY? Never, where none is set."""
    raise NotImplementedError


def operating(request_id: str = "", address: str = "") -> Actor:
    """The operator as an actor, once `operator` has said so."""
    raise NotImplementedError


def acting(caller: Caller, request_id: str = "", address: str = "") -> Actor:
    """A caller as an actor for its team. Raises `Forbidden` without the scope `admin`."""
    raise NotImplementedError


async def create_key(services: Services, actor: Actor, wish: KeyWish) -> Issued:
    """A new key. Raises `BadBody` naming the field, `Forbidden`, `Conflict` for a taken name."""
    raise NotImplementedError


async def list_keys(
    services: Services,
    actor: Actor,
    team: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Issued keys, those of one team or all that the actor manages; also revoked ones, for a
    while. `limit` is at most 200. Raises `BadBody`, `Forbidden`."""
    raise NotImplementedError


async def show_key(services: Services, actor: Actor, key_id: str) -> KeyRecord:
    """Raises `NotFound`, also for keys of teams that the actor does not manage."""
    raise NotImplementedError


async def rotate_key(services: Services, actor: Actor, key_id: str, overlap: int = 0) -> Issued:
    """A new key in place of one that lives on for `overlap` seconds. Same name, same principal.

    Raises `NotFound`, `BadBody`, `Forbidden`, `Conflict` (revoked, expired, rotated before).
    """
    raise NotImplementedError


async def change_key(
    services: Services,
    actor: Actor,
    key_id: str,
    change: KeyChange,
    version: int | None = None,
) -> KeyRecord:
    """The changed key. `version`: only if it is still at this one.

    Raises `NotFound`, `BadBody`, `Forbidden`, `Conflict`.
    """
    raise NotImplementedError


async def revoke_key(services: Services, actor: Actor, key_id: str) -> KeyRecord:
    """The key, revoked with all tokens made with it. Again does no harm. Raises `NotFound`."""
    raise NotImplementedError


async def put_plan(
    services: Services,
    actor: Actor,
    name: str,
    rules: Mapping[str, Any],
    version: int | None = None,
) -> PlanRecord:
    """Make a plan, or change it if it is still at `version` (0: only make it; None: whatever).

    Raises `BadBody`, `Conflict`, and `Forbidden` for all but the operator.
    """
    raise NotImplementedError


async def list_plans(services: Services, actor: Actor) -> Sequence[PlanRecord]:
    """All plans by name, those of the file too; for a team, its own and what that grants."""
    raise NotImplementedError


async def show_plan(services: Services, actor: Actor, name: str) -> PlanRecord:
    """Raises `NotFound`."""
    raise NotImplementedError


async def delete_plan(services: Services, actor: Actor, name: str) -> None:
    """Raises `NotFound`, `Forbidden`, and `Conflict` for one of the file or in use."""
    raise NotImplementedError


async def revoke(services: Services, actor: Actor, target: Target) -> None:
    """Refuse what the target holds, in every process within a second. Again does no harm.

    Raises `BadBody`, `NotFound` (a key that the actor does not manage), `Forbidden`.
    """
    raise NotImplementedError


async def audit(
    services: Services, actor: Actor, after: str | None = None, limit: int = 100
) -> Sequence[Entry]:
    """What was done, oldest first, after the entry with the id `after` (None: from the oldest).

    `limit` is at most 1,000. Raises `BadBody`, and `Forbidden` for all but the operator.
    """
    raise NotImplementedError
