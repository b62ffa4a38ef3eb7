"""Which key, and which plan: those of the settings first, then those of the admin API."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.core.credentials import is_key_id
from gateway.core.errors import Forbidden, StoreUnavailable
from gateway.core.issued import KeyRecord, PlanRecord
from gateway.core.model import Key, Plan, Scope
from gateway.store.registry import Registry


class Directory:
    """All from memory: no request waits for this."""

    def __init__(
        self,
        keys: Iterable[Key],
        plans: Mapping[str, Plan],
        registry: Registry,
        told: Callable[[Plan], dict[str, Any]] = lambda _: {},
    ) -> None:
        """`told` gives the rules of a plan as the admin API shows them."""
        records = [KeyRecord(key, created_at=0.0, created_by="settings") for key in keys]
        self._by_hash = {record.key.hash: record for record in records}
        self._by_id = {record.key.id: record for record in records if record.key.id is not None}
        self._all_told = len(self._by_id) == len(records)
        self._by_name = {(record.key.team, record.key.name): record for record in records}
        self._plans = dict(plans)
        self._told = told
        self.registry = registry

    def key(self, hash: str) -> KeyRecord | None:
        """The key with this hash. Raises `StoreUnavailable` where nobody can say yet."""
        record = self._by_hash.get(hash) or self.registry.by_hash(hash)
        if record is None:
            self._check_loaded()
        return record

    async def meet(self, hash: str) -> None:
        """Another process may just have made the key with this hash: look, if it is not known."""
        if hash not in self._by_hash and self.registry.by_hash(hash) is None:
            await self.registry.catch_up()

    async def meet_origin(self, kid: str) -> None:
        """The same for the key that a token came from."""
        if is_key_id(kid) and kid not in self._by_id and self.registry.by_id(kid) is None:
            await self.registry.catch_up()

    def origin(self, kid: str) -> KeyRecord | None:
        """The key that a token came from. None: one of the settings that does not tell its id, or
        no key. Raises `Forbidden` where it is not readable here, and `StoreUnavailable`."""
        record = self._by_id.get(kid) or self.registry.by_id(kid)
        if record is None:
            self._check_loaded()
            if self.registry.unreadable(kid):
                raise Forbidden("the key of this credential is of a later version of the gateway")
        return record

    def gone(self, kid: str) -> bool:
        """Is it the id of a key that is not there any more? Nobody can tell of any, while a key
        of the settings does not tell its id."""
        return self._all_told and is_key_id(kid) and self.origin(kid) is None

    def ended(self, kid: str, now: float) -> bool:
        """Is it an issued key that is good for nothing any more? What is not known, is not."""
        record = self._by_id.get(kid) or self.registry.by_id(kid)
        return self.registry.unreadable(kid) or (record is not None and not record.live(now))

    def revoked(self, kid: str) -> bool:
        """Is it an issued key that was revoked? One that has expired was not."""
        record = self.registry.by_id(kid)
        return record is not None and record.revoked_at is not None

    def reads_no_more(self, kid: str) -> bool:
        """Is it a key that has lost the scope `read`, or never had it?"""
        record = self._by_id.get(kid) or self.registry.by_id(kid)
        return record is not None and Scope.READ not in record.key.scopes

    def plan(self, name: str) -> Plan | None:
        """Raises `Forbidden` where it is not readable here, and `StoreUnavailable`."""
        plan = self._plans.get(name) or self.registry.plan(name)
        if plan is None:
            self._check_loaded()
            if self.registry.has_plan(name):
                raise Forbidden(f"the plan {name} is not usable in this gateway: see its log")
        return plan

    def get(self, name: str) -> Plan | None:
        """The plan as far as it is known here, for work that is under way."""
        return self._plans.get(name) or self.registry.plan(name)

    def fresh(self) -> bool:
        """Is what the admin API made known well enough to open jobs by?"""
        return self.registry.fresh()

    def in_settings(self, name: str) -> bool:
        """Is the plan one of the settings, which the admin API cannot change?"""
        return name in self._plans

    def names_key(self, team: str, name: str) -> bool:
        """Has the team a key of that name in the settings?"""
        return (team, name) in self._by_name

    def named(self, team: str, name: str) -> KeyRecord | None:
        """The team's key of that name, here or there; of several the newest."""
        issued = (
            record
            for record in self.registry.records()
            if (record.key.team, record.key.name) == (team, name)
        )
        newest = max(issued, key=lambda record: record.created_at, default=None)
        return self._by_name.get((team, name), newest)

    def plans_of(self, team: str) -> set[str]:
        """Names of the plans that the team's keys have."""
        records = (*self._by_hash.values(), *self.registry.records())
        return {record.key.plan for record in records if record.key.team == team}

    def plan_records(self) -> list[PlanRecord]:
        """All plans by name; of two with one name the one of the settings, which counts."""
        records = {record.name: record for record in self.registry.plan_records()}
        records |= {
            name: PlanRecord(name, self._told(plan), in_file=True)
            for name, plan in self._plans.items()
        }
        return [records[name] for name in sorted(records)]

    def _check_loaded(self) -> None:
        if not self.registry.loaded:
            raise StoreUnavailable("the gateway does not know its issued keys yet; try again")
