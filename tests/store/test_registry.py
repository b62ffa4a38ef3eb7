"""Issued keys and plans: written with care for others who write, known everywhere at once."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.core.credentials import key_hash, new_key
from gateway.core.errors import Conflict, Overloaded, StoreUnavailable
from gateway.core.issued import KeyRecord, PlanRecord
from gateway.core.model import Key, Plan, Scope
from gateway.store import keys, registry
from gateway.store.connect import commands
from gateway.store.registry import KeyWrite, PlanWrite, Registry
from tests.harness import free_port

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0


def parsed(name: str, rules: Mapping[str, Any]) -> Plan:
    if set(rules) - {"endpoints"}:
        raise ValueError("unknown rule")
    return Plan(name, tuple(rules.get("endpoints", ())))


def new_record(name: str = "backend", team: str = "team", **more: Any) -> KeyRecord:
    key_id, text = new_key()
    key = Key(name, key_hash(text), team, id=key_id, **more)
    return KeyRecord(key, created_at=NOW, created_by="operator")


async def one_and_other(node: Redis) -> tuple[Registry, Registry]:
    one, other = Registry(node, parsed), Registry(node, parsed)
    await other.look()
    return one, other


async def test_a_key_is_known_to_another_process_as_it_was_written(node: Redis) -> None:
    one, other = await one_and_other(node)
    record = new_record(
        scopes=frozenset({Scope.READ, Scope.ADMIN}),
        plan="pro",
        expires_at=NOW + 0.5,
        origins=("https://a.example",),
        networks=("10.0.0.0/8", "::1"),
    )
    version = await one.write([KeyWrite(record)])
    before = other.by_hash(record.key.hash)

    await other.look()

    assert before is None
    assert other.by_hash(record.key.hash) == replace(record, version=version)
    assert other.by_id(record.id) == replace(record, version=version)
    assert other.by_hash(key_hash("fgw_other")) is None


async def test_only_what_changed_is_read(node: Redis) -> None:
    one, other = await one_and_other(node)
    first, second = new_record("a"), new_record("b")
    await one.write([KeyWrite(first), KeyWrite(second)])
    await other.look()
    known = other.by_id(first.id)
    await node.hset(keys.REGISTRY_KEYS, first.id, "changed behind the version's back")
    mine = one.by_id(second.id)
    assert mine is not None

    await one.write([KeyWrite(replace(mine, revoked_at=NOW))])
    await other.look()

    assert other.by_id(first.id) is known
    assert other.by_id(second.id) == one.by_id(second.id)
    assert one.by_id(second.id) != mine


async def test_what_is_removed_is_removed_everywhere(node: Redis) -> None:
    one, other = await one_and_other(node)
    kept, gone = new_record("kept"), new_record("gone")
    await one.write([KeyWrite(kept), KeyWrite(gone)])
    await one.write([PlanWrite(PlanRecord("pro"))])
    await other.look()
    assert other.by_hash(gone.key.hash) is not None

    mine = one.by_id(gone.id)
    assert mine is not None
    await one.write([KeyWrite(mine, gone=True), PlanWrite(PlanRecord("pro", version=2), gone=True)])
    await other.look()

    for each in (one, other):
        assert each.by_hash(gone.key.hash) is None
        assert each.by_id(gone.id) is None
        assert not each.has_plan("pro")
        assert each.by_hash(kept.key.hash) is not None
    assert await node.zcard(keys.REGISTRY_CHANGES) == 1
    assert await node.hlen(keys.REGISTRY_NAMES) == 1


async def test_another_redis_is_believed(node: Redis) -> None:
    """Restored from an older state: what is not there is not there any more."""
    one, other = await one_and_other(node)
    await one.write([KeyWrite(new_record("a"))])
    lost = new_record("b")
    await one.write([KeyWrite(lost)])
    await other.look()
    await node.flushall()

    newer = new_record("c")
    await Registry(node, parsed).write([KeyWrite(newer)])
    await other.look()

    assert other.by_id(lost.id) is None
    assert other.by_id(newer.id) is not None


async def test_no_update_is_lost(node: Redis) -> None:
    """Of many who change the same version of a record, one does; the others are told."""
    registries = [Registry(node, parsed) for _ in range(8)]
    await registries[0].write([KeyWrite(new_record())])
    known = next(iter(registries[0].records()))

    outcomes = await asyncio.gather(
        *(
            each.write([KeyWrite(replace(known, created_by=f"writer {number}"))])
            for number, each in enumerate(registries)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(outcome, int) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 7
    with pytest.raises(Conflict):
        await registries[0].write([KeyWrite(replace(known, version=0))])


async def test_all_or_none_is_written(node: Redis) -> None:
    one, _ = await one_and_other(node)
    await one.write([KeyWrite(new_record("a"))])
    old = next(iter(one.records()))
    stale = replace(old, version=old.version + 7)

    with pytest.raises(Conflict):
        await one.write([KeyWrite(new_record("b")), KeyWrite(stale)])

    assert list(one.records()) == [old]


async def test_a_name_is_one_keys_until_that_is_dead(node: Redis) -> None:
    one, _ = await one_and_other(node)
    await one.write([KeyWrite(new_record("a"))])
    for taken in (new_record("a"), new_record("a", expires_at=9e12)):
        with pytest.raises(Conflict, match="name"):
            await one.write([KeyWrite(taken)])
    await one.write([KeyWrite(new_record("a", team="other"))])

    holder = next(record for record in one.records() if record.key.team == "team")
    await one.write([KeyWrite(replace(holder, revoked_at=NOW))])
    await one.write([KeyWrite(new_record("a", expires_at=1.0))])
    await one.write([KeyWrite(new_record("a", expires_at=9e12))])  # the last one has expired

    with pytest.raises(Conflict, match="name"):
        await one.write([KeyWrite(new_record("a"))])


async def test_who_gives_a_name_up_may_pass_it_on_in_the_same_step(node: Redis) -> None:
    one, _ = await one_and_other(node)
    await one.write([KeyWrite(new_record("a"))])
    old = next(iter(one.records()))
    new = new_record("a")

    await one.write([KeyWrite(new), KeyWrite(replace(old, replaced_by=new.id))])

    assert one.by_id(new.id) is not None
    with pytest.raises(Conflict, match="name"):
        await one.write([KeyWrite(new_record("a"))])


async def test_a_plan_that_a_key_needs_must_be_there(node: Redis) -> None:
    one, _ = await one_and_other(node)
    with pytest.raises(Conflict, match="plan"):
        await one.write([KeyWrite(new_record())], needs_plan="pro")
    await one.write([PlanWrite(PlanRecord("pro", {"endpoints": ["a/b"]}))])

    await one.write([KeyWrite(new_record())], needs_plan="pro")

    assert one.plan("pro") == Plan("pro", ("a/b",))


async def test_a_change_at_a_version_needs_that_nothing_else_happened(node: Redis) -> None:
    one, _ = await one_and_other(node)
    await one.write([PlanWrite(PlanRecord("pro"))])
    seen = one.version
    await Registry(node, parsed).write([KeyWrite(new_record())])
    gone = PlanWrite(PlanRecord("pro"), gone=True, whatever=True)

    with pytest.raises(Conflict):
        await one.write([gone], at_version=seen)
    still_there = one.has_plan("pro")
    await one.write([gone], at_version=one.version)

    assert still_there
    assert not one.has_plan("pro")


async def test_sent_twice_it_is_written_once(node: Redis, scripts: Any) -> None:
    """As redis-py does when a connection breaks before the answer."""
    record = new_record()
    text = (scripts / "register.lua").read_text()
    arguments: list[Any] = ["mark", "", "", 10, 10, *KeyWrite(record).arguments()]

    first: Any = await node.eval(text, 6, *keys.REGISTRY, *arguments)
    second: Any = await node.eval(text, 6, *keys.REGISTRY, *arguments)
    other: Any = await node.eval(text, 6, *keys.REGISTRY, "other mark", *arguments[1:])

    assert first == second == [1, 1]
    assert other == [0, b"conflict"]


async def test_keys_and_plans_are_bounded(node: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MAX_KEYS", 2)
    monkeypatch.setattr(registry, "MAX_PLANS", 1)
    one, _ = await one_and_other(node)
    await one.write([KeyWrite(new_record("a"))])
    await one.write([KeyWrite(new_record("b"))])
    await one.write([PlanWrite(PlanRecord("a"))])

    with pytest.raises(Overloaded):
        await one.write([KeyWrite(new_record("c"))])
    with pytest.raises(Overloaded):
        await one.write([PlanWrite(PlanRecord("b"))])

    await one.write([PlanWrite(PlanRecord("a", {"endpoints": ["a/b"]}, version=3))])
    assert one.plan("a") == Plan("a", ("a/b",))


async def test_what_is_not_understood_is_refused_and_the_rest_goes_on(
    node: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Written by a later version of the gateway."""
    one, other = await one_and_other(node)
    await one.write([KeyWrite(new_record("later"))])
    record = next(iter(one.records()))
    kept: Any = await node.hget(keys.REGISTRY_KEYS, record.id)
    text = kept.decode()
    await node.hset(keys.REGISTRY_KEYS, record.id, text.replace('"team"', '"only_on":[1],"team"'))
    with caplog.at_level(logging.ERROR):
        await one.write([PlanWrite(PlanRecord("new", {"endpoints": [], "moons": 3}))])
        await one.write([KeyWrite(new_record("good")), PlanWrite(PlanRecord("old"))])
        await other.look()

    assert other.by_hash(record.key.hash) is None
    assert other.unreadable(record.id)
    assert not other.unreadable("unknown")
    assert (other.has_plan("new"), other.plan("new")) == (True, None)
    assert other.plan("old") == Plan("old")
    assert [each.key.name for each in other.records()] == ["good"]
    assert f"issued key {record.id}" in caplog.text
    assert "plan new" in caplog.text


async def test_without_redis_there_is_no_copy_and_no_crash() -> None:
    async with commands(f"redis://127.0.0.1:{free_port()}") as nowhere:
        away = Registry(nowhere, parsed)
        await away.load()

        assert not away.loaded
        assert not away.fresh()
        with pytest.raises(StoreUnavailable):
            await away.look()


async def test_a_copy_is_loaded_even_when_there_is_nothing(node: Redis) -> None:
    empty = Registry(node, parsed)
    await empty.load()

    assert empty.loaded
    assert empty.fresh()


async def test_many_keys_are_read_in_pieces(node: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PIECE", 7)
    one, other = await one_and_other(node)
    for start in range(0, 50, 10):
        await one.write([KeyWrite(new_record(f"n{start + each}")) for each in range(10)])
    await other.look()
    anew = Registry(node, parsed)
    await anew.look()

    names = {f"n{number}" for number in range(50)}
    assert {record.key.name for record in other.records()} == names
    assert {record.key.name for record in anew.records()} == names
