"""What was done through the admin API, by whom: written before it is done, so nothing is missing.

The record lies in another slot than what it is about, so that no one script can write both.
"""

import json
import logging
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from redis.asyncio import Redis

from gateway.core.issued import Entry
from gateway.store import keys
from gateway.store.connect import translated

KEPT: Final = 100_000
"""Entries; the oldest go."""
DETAIL: Final = 8192
"""Characters of an entry's detail; of a longer one the beginning is kept, and its SHA-256."""

_log = logging.getLogger("gateway.audit")


class Audit:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def write(self, entry: Entry) -> str:
        """The entry's id, once it is kept. Raises `StoreUnavailable`: then nothing may be done."""
        fields: dict[Any, Any] = {
            "at": str(entry.at),
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "detail": _detail(entry.detail),
            "request_id": entry.request_id,
            "address": entry.address,
            "failed": entry.failed or "",
        }
        with translated():
            added: Any = await self._redis.xadd(keys.AUDIT, fields, maxlen=KEPT, approximate=False)
        told = f"{entry.actor} {entry.action} {entry.subject}"
        _log.info("%s%s", told, f" failed: {entry.failed}" if entry.failed else "", extra=fields)
        return str(added.decode())

    async def after(self, entry_id: str | None, limit: int) -> tuple[Entry, ...]:
        """Entries after that one (None: from the oldest), oldest first."""
        start = "-" if entry_id is None else f"({entry_id}"
        with translated():
            found: Any = await self._redis.xrange(keys.AUDIT, start, "+", count=limit)
        return tuple(_entry(id.decode(), fields) for id, fields in found)


def _detail(detail: Mapping[str, Any]) -> str:
    text = json.dumps(dict(detail), sort_keys=True)
    if len(text) <= DETAIL:
        return text
    return json.dumps({"begins": text[:DETAIL], "sha256": sha256(text.encode()).hexdigest()})


def _entry(entry_id: str, fields: Mapping[bytes, bytes]) -> Entry:
    text = {name.decode(): value.decode() for name, value in fields.items()}
    return Entry(
        id=entry_id,
        at=float(text["at"]),
        actor=text["actor"],
        action=text["action"],
        subject=text["subject"],
        detail=json.loads(text["detail"]),
        request_id=text["request_id"],
        address=text["address"],
        failed=text["failed"] or None,
    )
