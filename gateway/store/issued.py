"""Records of the registry as JSON, and back. Unix seconds in both."""

from typing import Any, Generic, TypeVar

import msgspec

from gateway.core.issued import KeyRecord, PlanRecord
from gateway.core.model import Key, Scope


class _KeyText(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A field that we do not know may be a restriction: its key is refused."""

    id: str
    hash: str
    team: str
    name: str
    plan: str
    scopes: tuple[Scope, ...]
    expires_at: float | None = None
    origins: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    created_at: float
    created_by: str
    revoked_at: float | None = None
    replaced_by: str | None = None


class _PlanText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    rules: dict[str, Any]
    created_at: float
    changed_at: float


_Record = TypeVar("_Record", _KeyText, _PlanText)


class _Kept(msgspec.Struct, Generic[_Record], frozen=True):
    """What the script adds: the version, and a mark of the write."""

    version: int
    write: str
    record: _Record


def key_text(record: KeyRecord) -> str:
    key = record.key
    return _json(
        _KeyText(
            id=record.id,
            hash=key.hash,
            team=key.team,
            name=key.name,
            plan=key.plan,
            scopes=tuple(sorted(key.scopes)),
            expires_at=key.expires_at,
            origins=key.origins,
            networks=key.networks,
            created_at=record.created_at,
            created_by=record.created_by,
            revoked_at=record.revoked_at,
            replaced_by=record.replaced_by,
        )
    )


def key_record_of(text: bytes) -> KeyRecord:
    """Raises `ValueError`."""
    kept = msgspec.json.decode(text, type=_Kept[_KeyText])
    written = kept.record
    key = Key(
        name=written.name,
        hash=written.hash,
        team=written.team,
        plan=written.plan,
        scopes=frozenset(written.scopes),
        id=written.id,
        expires_at=written.expires_at,
        origins=written.origins,
        networks=written.networks,
    )
    return KeyRecord(
        key=key,
        created_at=written.created_at,
        created_by=written.created_by,
        revoked_at=written.revoked_at,
        replaced_by=written.replaced_by,
        version=kept.version,
    )


def plan_text(record: PlanRecord) -> str:
    return _json(_PlanText(record.name, record.rules, record.created_at, record.changed_at))


def plan_record_of(text: bytes) -> PlanRecord:
    """Raises `ValueError`."""
    kept = msgspec.json.decode(text, type=_Kept[_PlanText])
    written = kept.record
    return PlanRecord(
        name=written.name,
        rules=written.rules,
        created_at=written.created_at,
        changed_at=written.changed_at,
        version=kept.version,
    )


def _json(written: msgspec.Struct) -> str:
    return msgspec.json.encode(written).decode()
