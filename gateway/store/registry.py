"""The keys and plans that the admin API makes: kept in Redis, and copied into every process."""

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis

from gateway.core.errors import Conflict, GatewayError, Overloaded, StoreUnavailable
from gateway.core.issued import KeyRecord, PlanRecord
from gateway.core.model import Kind, Plan, Principal
from gateway.store import keys
from gateway.store.connect import call, script
from gateway.store.copies import Copy
from gateway.store.issued import key_record_of, key_text, plan_record_of, plan_text

MAX_KEYS: Final = 100_000
"""Keys that are kept, those that were revoked or expired of late among them."""
MAX_PLANS: Final = 1_000
PIECE: Final = 1_000
"""Records that are read at once."""

Parse: TypeAlias = Callable[[str, Mapping[str, Any]], Plan]
"""Name and rules of a plan -> the plan. Raises one of `_MISREAD`."""

_REFUSALS: Final = {
    "conflict": "it has been changed meanwhile: look at it again",
    "plan": "the plan is not there any more",
    "name": "the team has a key of that name already: rotate that, or choose another name",
}

_MISREAD: Final = (ValueError, TypeError, LookupError, GatewayError)
"""What reading a record of a later version, or a broken one, may raise."""

_log = logging.getLogger("gateway.store")


@dataclass(frozen=True, slots=True)
class KeyWrite:
    """A key to be written over the version that `record` has; 0: it must be new."""

    record: KeyRecord
    gone: bool = False
    """Remove it."""

    def arguments(self) -> tuple[str, ...]:
        key = self.record.key
        name = Principal(key.team, Kind.KEY, key.name).digest
        text = "" if self.gone else key_text(self.record)
        takes = name if self.gone or self.record.version == 0 else ""
        return ("k", self.record.id, str(self.record.version), text, takes)


@dataclass(frozen=True, slots=True)
class PlanWrite:
    """The same for a plan; `whatever` version it has."""

    record: PlanRecord
    gone: bool = False
    whatever: bool = False

    def arguments(self) -> tuple[str, ...]:
        expected = "" if self.whatever else str(self.record.version)
        return ("p", self.record.name, expected, "" if self.gone else plan_text(self.record), "")


class Registry(Copy):
    """This process's copy, and the way to change what it is a copy of."""

    def __init__(self, redis: Redis, parse: Parse) -> None:
        super().__init__("issued keys and plans")
        self._redis = redis
        self.parse = parse
        self._register = script(redis, "register")
        self._keys: dict[str, KeyRecord | None] = {}
        self._by_hash: dict[str, str] = {}
        self._plans: dict[str, tuple[PlanRecord | None, Plan | None]] = {}
        self._version = -1

    @property
    def version(self) -> int:
        """Of the copy."""
        return self._version

    def by_hash(self, hash: str) -> KeyRecord | None:
        key_id = self._by_hash.get(hash)
        return None if key_id is None else self._keys.get(key_id)

    def by_id(self, key_id: str) -> KeyRecord | None:
        return self._keys.get(key_id)

    def unreadable(self, key_id: str) -> bool:
        """Is there such a key, of which this version of the gateway understands too little?"""
        return key_id in self._keys and self._keys[key_id] is None

    def records(self) -> Iterable[KeyRecord]:
        return (record for record in self._keys.values() if record is not None)

    def has_plan(self, name: str) -> bool:
        return name in self._plans

    def plan(self, name: str) -> Plan | None:
        """None also for one that this version of the gateway does not understand."""
        return self._plans.get(name, (None, None))[1]

    def plan_record(self, name: str) -> PlanRecord | None:
        return self._plans.get(name, (None, None))[0]

    def plan_records(self) -> Iterable[PlanRecord]:
        return (record for record, _ in self._plans.values() if record is not None)

    async def write(
        self,
        changes: Sequence[KeyWrite | PlanWrite],
        *,
        at_version: int | None = None,
        needs_plan: str | None = None,
    ) -> int:
        """The version that all of the changes have got, or none of them is made.

        `at_version`: only if nothing at all has changed since. `needs_plan` must be there.
        Raises `Conflict`, `Overloaded` when there is no room, `StoreUnavailable`.
        """
        done, told = await call(
            self._register, list(keys.REGISTRY),
            secrets.token_hex(8), "" if at_version is None else at_version, needs_plan or "",
            MAX_KEYS, MAX_PLANS, *(text for change in changes for text in change.arguments()),
        )  # fmt: skip
        await self.look()
        if done:
            return int(told)
        if told == b"full":
            raise Overloaded(f"at most {MAX_KEYS} keys and {MAX_PLANS} plans are kept")
        raise Conflict(_REFUSALS[told.decode()])

    async def load(self) -> None:
        """The first look. Without Redis it is left to `run`."""
        try:
            await self.look()
        except StoreUnavailable:
            _log.warning("issued keys and plans are not known yet: Redis is away")

    async def _read(self) -> None:
        told: Any = await self._redis.mget(keys.REGISTRY_VERSION, keys.REGISTRY_FLOOR)
        version, floor = (int(value or 0) for value in told)
        if version == self._version:
            return
        if version < self._version or self._version < floor:
            await self._read_all()
        else:
            await self._read_changes()
        self._version = version  # what came later is read once more, next time

    async def _read_all(self) -> None:
        """Anew: something has been removed, or Redis is another."""
        fresh = Registry(self._redis, self.parse)
        async for key_id, text in self._redis.hscan_iter(keys.REGISTRY_KEYS, count=PIECE):
            fresh._take_key(key_id.decode(), text)
        async for name, text in self._redis.hscan_iter(keys.REGISTRY_PLANS, count=PIECE):
            fresh._take_plan(name.decode(), text)
        self._keys, self._by_hash, self._plans = fresh._keys, fresh._by_hash, fresh._plans

    async def _read_changes(self) -> None:
        changed: Any = await self._redis.zrangebyscore(
            keys.REGISTRY_CHANGES, f"({self._version}", "+inf"
        )
        members = [member.decode() for member in changed]
        for kind, key, take in (
            ("k", keys.REGISTRY_KEYS, self._take_key),
            ("p", keys.REGISTRY_PLANS, self._take_plan),
        ):
            ids = [member[1:] for member in members if member[0] == kind]
            for start in range(0, len(ids), PIECE):
                piece = ids[start : start + PIECE]
                texts: Any = await self._redis.hmget(key, piece)
                for each, text in zip(piece, texts, strict=True):
                    if text is not None:
                        take(each, text)

    def _take_key(self, key_id: str, text: bytes) -> None:
        try:
            record = key_record_of(text)
        except _MISREAD as error:
            _log.error("the issued key %s is not readable, and refused: %s", key_id, error)
            self._keys[key_id] = None
            return
        self._keys[key_id] = record
        self._by_hash[record.key.hash] = key_id

    def _take_plan(self, name: str, text: bytes) -> None:
        record: PlanRecord | None = None
        try:
            record = plan_record_of(text)
            self._plans[name] = record, self.parse(name, record.rules)
        except _MISREAD as error:
            _log.error("the plan %s is not readable, and its callers refused: %s", name, error)
            self._plans[name] = record, None
