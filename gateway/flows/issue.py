"""Keys made, shown, rotated, changed and revoked: by the operator, or for a team by its admins."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest
from typing import Any, Final

from msgspec import UNSET

from gateway.core.credentials import key_hash, new_key
from gateway.core.errors import BadBody, Conflict, Forbidden, PreconditionFailed
from gateway.core.issued import (
    MAX_OVERLAP,
    KeyChange,
    KeyRecord,
    KeyWish,
    check_lifetime,
    check_name,
    check_networks,
    check_origins,
    checked_scopes,
)
from gateway.core.model import Key, Scope
from gateway.core.tokens import MAX_LIFETIME, SKEW
from gateway.flows.managing import TRIES, Actor, check_grant, check_team, managed, recorded
from gateway.flows.services import Services
from gateway.store.registry import KeyWrite

MAX_PAGE: Final = 200
"""Keys on a page."""
KEPT: Final = 30 * 86_400
"""Seconds that a key is still shown after its end: much longer than any token made with it lives,
which is refused by this."""
TEAM_KEYS: Final = 5_000
"""Keys of one team, those that ended of late among them, beyond which only the operator makes
more: no team's admins take up the room of all."""
FORGOTTEN: Final = 20
"""Keys that are forgotten at once, when a new one is made."""

_CURSOR: Final = re.compile(r"([0-9]{1,15})-([a-z0-9]{8,128})")


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


async def create_key(services: Services, actor: Actor, wish: KeyWish) -> Issued:
    """A new key. Raises `BadBody` naming the field, `Forbidden`, `Conflict` for a taken name."""
    check_name("team", wish.team)
    check_name("name", wish.name)
    check_lifetime(wish.expires_in)
    check_origins(wish.origins)
    check_networks(wish.networks)
    key = Key(
        name=wish.name,
        hash="",
        team=wish.team,
        plan=wish.plan,
        scopes=checked_scopes(wish.scopes),
        expires_at=_end(services, wish.expires_in),
        origins=wish.origins,
        networks=wish.networks,
    )
    await services.directory.registry.look()  # the plan may be new
    check_grant(services, actor, key)
    if services.directory.names_key(wish.team, wish.name):
        raise Conflict("the team has a key of that name in the settings: choose another name")
    return await _issue(services, actor, "key.create", key)


async def list_keys(
    services: Services,
    actor: Actor,
    team: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """Issued keys, those of one team or all that the actor manages; also revoked ones, for a
    while. `limit` is at most 200. Raises `BadBody`, `Forbidden`."""
    if not 1 <= limit <= MAX_PAGE:
        raise BadBody(f"limit must be from 1 to {MAX_PAGE}")
    before = None if cursor is None else _place_of(cursor)
    if team is not None:
        check_team(actor, team)
    wanted = team if actor.team is None else actor.team
    registry = services.directory.registry
    await registry.look()
    found = nlargest(
        limit + 1,
        (
            record
            for record in registry.records()
            if wanted in {None, record.key.team} and (before is None or _place(record) < before)
        ),
        key=_place,
    )
    more = len(found) > limit
    records = found[:limit]
    return Page(records, "{}-{}".format(*_place(records[-1])) if more else None)


async def show_key(services: Services, actor: Actor, key_id: str) -> KeyRecord:
    """Raises `NotFound`, also for keys of teams that the actor does not manage."""
    return await managed(services, actor, key_id)


async def rotate_key(services: Services, actor: Actor, key_id: str, overlap: int = 0) -> Issued:
    """A new key in place of one that lives on for `overlap` seconds. Same name, same principal.

    Tokens made with the old one end with it. The new one lives as long as the old was to, but
    for admins of teams, who do not make their own time longer.
    Raises `NotFound`, `BadBody`, `Forbidden`, `Conflict` (revoked, expired, rotated before).
    """
    old = await managed(services, actor, key_id)
    if not 0 <= overlap <= MAX_OVERLAP:
        raise BadBody(f"overlap must be from 0 to {MAX_OVERLAP} seconds")
    if old.id != actor.kid:
        check_grant(services, actor, old.key)
    now = services.clock()
    _check_current(old, now)
    ends = now + overlap
    if old.key.expires_at is not None:
        ends = min(ends, old.key.expires_at)
    ending = replace(old, key=replace(old.key, expires_at=ends))
    return await _issue(services, actor, "key.rotate", _renewed(actor, old, now), ending)


async def change_key(
    services: Services,
    actor: Actor,
    key_id: str,
    change: KeyChange,
    version: int | None = None,
) -> KeyRecord:
    """The changed key. `version`: only if it is still at this one.

    Raises `NotFound`, `BadBody`, `Forbidden`, `PreconditionFailed`, `Conflict`.
    """
    record = await managed(services, actor, key_id)
    _check_version(record, version)
    _check_current(record, services.clock())
    parts = _parts(services, change)
    check_grant(services, actor, record.key)
    changed = replace(record, key=replace(record.key, **parts))
    check_grant(services, actor, changed.key)
    async with recorded(services, actor, "key.change", key_id, **_told(changed.key)):
        try:
            await services.directory.registry.write(
                [KeyWrite(changed)], needs_plan=_needed(services, changed.key.plan)
            )
        except Conflict:
            _check_version(await managed(services, actor, key_id), version)
            raise
    return await managed(services, actor, key_id)


async def revoke_key(services: Services, actor: Actor, key_id: str) -> KeyRecord:
    """The key, revoked with all tokens made with it. Again does no harm. Raises `NotFound`."""
    record = await managed(services, actor, key_id)
    async with recorded(services, actor, "key.revoke", key_id, **_told(record.key)):
        for left in reversed(range(TRIES)):
            if record.revoked_at is not None:
                break
            try:
                write = KeyWrite(replace(record, revoked_at=services.clock()))
                await services.directory.registry.write([write])
            except Conflict:
                if not left:
                    raise
            record = await managed(services, actor, key_id)
        now = services.clock()
        await services.revocations.revoke(
            [f"key:{key_id}"], now + 2 * SKEW, now + MAX_LIFETIME + 4 * SKEW
        )
    return record


async def _issue(
    services: Services, actor: Actor, action: str, key: Key, ending: KeyRecord | None = None
) -> Issued:
    """The key with an id and a text of its own, in place of `ending` where that is given."""
    registry = services.directory.registry
    _check_room(actor, registry.records(), key.team)
    key_id, text = new_key()
    key = replace(key, id=key_id, hash=key_hash(text))
    record = KeyRecord(key, created_at=services.clock(), created_by=actor.name)
    writes = [KeyWrite(record)]
    told = _told(key)
    if ending is not None:
        writes.append(KeyWrite(replace(ending, replaced_by=key_id)))
        told |= {"replaces": ending.id, "until": ending.key.expires_at}
    async with recorded(services, actor, action, key_id, **told):
        await _forget(services)
        written = await registry.write(writes, needs_plan=_needed(services, key.plan))
    return Issued(replace(record, version=written), text)


def _check_room(actor: Actor, records: Iterable[KeyRecord], team: str) -> None:
    """Raises `Forbidden`."""
    if actor.team is not None and sum(each.key.team == team for each in records) >= TEAM_KEYS:
        raise Forbidden(f"the team has {TEAM_KEYS} keys: only the operator makes more")


def _renewed(actor: Actor, old: KeyRecord, now: float) -> Key:
    """What the new key is to be: as the old one was when it was made."""
    if old.key.expires_at is None or (actor.team is not None and Scope.ADMIN in old.key.scopes):
        return old.key
    return replace(old.key, expires_at=now + old.key.expires_at - old.created_at)


async def _forget(services: Services) -> None:
    """Make room: some of the keys that ended long ago go."""
    before = services.clock() - KEPT
    registry = services.directory.registry
    ended: list[KeyWrite] = []
    for record in registry.records():
        end = min(record.revoked_at or before, record.key.expires_at or before)
        if end < before and len(ended) < FORGOTTEN:
            ended.append(KeyWrite(record, gone=True))
    if ended:
        try:
            await registry.write(ended)
        except Conflict:
            return  # somebody else does it


def _parts(services: Services, change: KeyChange) -> dict[str, Any]:
    """The changed fields of the key. Raises `BadBody`."""
    parts: dict[str, Any] = {}
    if change.plan is not UNSET:
        parts["plan"] = change.plan
    if change.scopes is not UNSET:
        parts["scopes"] = checked_scopes(change.scopes)
    if change.expires_in is not UNSET:
        check_lifetime(change.expires_in)
        parts["expires_at"] = _end(services, change.expires_in)
    if change.origins is not UNSET:
        check_origins(change.origins)
        parts["origins"] = change.origins
    if change.networks is not UNSET:
        check_networks(change.networks)
        parts["networks"] = change.networks
    return parts


def _end(services: Services, expires_in: int | None) -> float | None:
    return None if expires_in is None else services.clock() + expires_in


def _needed(services: Services, plan: str) -> str | None:
    """The plan, where it could be deleted meanwhile."""
    return None if services.directory.in_settings(plan) else plan


def _told(key: Key) -> dict[str, Any]:
    """A key for the record of acts: nothing by which it could be used."""
    return {
        "team": key.team,
        "name": key.name,
        "plan": key.plan,
        "scopes": sorted(key.scopes),
        "expires_at": key.expires_at,
        "origins": list(key.origins),
        "networks": list(key.networks),
    }


def _check_version(record: KeyRecord, version: int | None) -> None:
    if version is not None and version != record.version:
        raise PreconditionFailed(f"the key is at version {record.version} by now")


def _check_current(record: KeyRecord, now: float) -> None:
    if record.replaced_by is not None:
        raise Conflict(f"the key has been rotated to {record.replaced_by}")
    if not record.live(now):
        raise Conflict("the key is revoked or expired: make a new one")


def _place(record: KeyRecord) -> tuple[int, str]:
    """Where a key stands in a list."""
    return int(record.created_at * 1000), record.id


def _place_of(cursor: str) -> tuple[int, str]:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise BadBody("cursor must be one of an earlier page")
    return int(match[1]), match[2]
