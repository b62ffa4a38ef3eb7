"""What was taken back: written once, in one slot, and read by every process."""

import time
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.core.errors import StoreUnavailable
from gateway.store import keys
from gateway.store.connect import commands
from gateway.store.revocations import Revocations
from tests.harness import free_port

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0


async def test_what_was_issued_before_is_revoked_and_what_comes_after_is_not(node: Redis) -> None:
    revocations = Revocations(node)
    await revocations.revoke(["jti:a", "key:b"], NOW)

    for name in ("jti:a", "key:b"):
        assert revocations.revoked([name], NOW - 0.001)
        assert revocations.revoked(["jti:other", name], 0.0)
        assert not revocations.revoked([name], NOW)
    assert not revocations.revoked(["jti:b", "key:a", "a", ""], 0.0)
    assert not revocations.revoked([], 0.0)


async def test_another_process_knows_after_its_next_look(node: Redis) -> None:
    one, other = Revocations(node), Revocations(node)
    await other.look()
    await one.revoke(["jti:a"], NOW)
    before = other.revoked(["jti:a"], 0.0)

    await other.look()

    assert not before
    assert other.revoked(["jti:a"], 0.0)


async def test_a_revocation_is_never_made_less(node: Redis) -> None:
    """An earlier time changes nothing, a later one does."""
    revocations = Revocations(node)
    await revocations.revoke(["jti:a"], NOW)
    await revocations.revoke(["jti:a"], NOW - 100)
    assert revocations.revoked(["jti:a"], NOW - 1)

    await revocations.revoke(["jti:a"], NOW + 100)

    assert revocations.revoked(["jti:a"], NOW + 99)


async def test_a_look_costs_one_small_read_while_nothing_changes(node: Redis) -> None:
    revocations = Revocations(node)
    await revocations.revoke([f"jti:{n}" for n in range(100)], NOW)
    await revocations.look()
    before = await reads(node)
    for _ in range(10):
        await revocations.look()
    unchanged = await reads(node)
    await Revocations(node).revoke(["jti:new"], NOW)
    await revocations.look()

    assert unchanged == before
    assert revocations.revoked(["jti:new"], 0.0)
    assert revocations.revoked(["jti:99"], 0.0)


async def test_a_change_costs_no_more_where_much_was_taken_back_before(node: Redis) -> None:
    """Whoever signs out again and again makes no process read the whole set each time."""
    writer, reader = Revocations(node), Revocations(node)
    for start in range(0, 20_000, 1000):
        await writer.revoke([f"jti:{n}" for n in range(start, start + 1000)], NOW)
    await reader.look()
    before = await reads(node)
    for n in range(10):
        await writer.revoke([f"jti:again-{n}"], NOW)
        await reader.look()

    assert await reads(node) - before <= 5 * 10  # of two processes, and the script
    assert all(reader.revoked([f"jti:{n}"], 0.0) for n in (0, 19_999, "again-0", "again-9"))


async def test_what_a_script_without_changes_wrote_is_read_too(node: Redis) -> None:
    """Of an earlier version; and what is there no more, once Redis is another."""
    revocations = Revocations(node)
    await revocations.revoke(["jti:a"], NOW)
    await node.hset(keys.REVOKED, "jti:b", NOW)
    await node.incr(keys.REVOKED_VERSION)
    await revocations.look()
    both = [revocations.revoked([name], 0.0) for name in ("jti:a", "jti:b")]

    await node.delete(*keys.REVOCATIONS)
    await Revocations(node).revoke(["jti:c"], NOW)
    await revocations.look()

    assert both == [True, True]
    names = ("jti:a", "jti:b", "jti:c")
    assert [revocations.revoked([name], 0.0) for name in names] == [False, False, True]


async def reads(redis: Redis) -> int:
    """Commands that read more than a version."""
    return sum(
        [await calls(redis, name) for name in ("hscan", "hgetall", "hmget", "zrangebyscore")]
    )


async def calls(redis: Redis, command: str) -> int:
    stats = await redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def test_a_restart_keeps_what_was_taken_back(node: Redis) -> None:
    """The set has no lifetime, and one version counts all of its changes."""
    await Revocations(node).revoke(["jti:a"], time.time())
    await Revocations(node).revoke(["jti:b"], time.time())

    assert await node.ttl(keys.REVOKED) == -1
    assert await node.get(keys.REVOKED_VERSION) == b"2"
    fresh = Revocations(node)
    await fresh.look()
    assert fresh.revoked(["jti:a"], 0.0)
    assert fresh.revoked(["jti:b"], 0.0)


async def entries(redis: Redis) -> set[str]:
    names: Any = await redis.hkeys(keys.REVOKED)
    return {name.decode() for name in names}


async def test_what_has_expired_is_forgotten(node: Redis) -> None:
    """Signing out, again and again, does not make the set grow; what is for good stays."""
    revocations, now = Revocations(node), time.time()
    await revocations.revoke(["key:a", "principal:t/b"], now)
    for n in range(50):
        await revocations.revoke([f"jti:{n}"], now, until=now - 10)
    few = await entries(node)
    await revocations.revoke(["jti:open"], now, until=now + 60)
    await revocations.revoke(["jti:next"], now, until=now + 60)

    assert few == {"key:a", "principal:t/b", "jti:49"}
    assert await entries(node) == {"key:a", "principal:t/b", "jti:open", "jti:next"}
    assert await node.zcard(keys.REVOKED_UNTIL) == 2
    assert all(revocations.revoked([name], now - 1) for name in await entries(node))
    assert await node.zcard(keys.REVOKED_CHANGES) == 4
    fresh = Revocations(node)
    await fresh.look()
    assert not fresh.revoked(["jti:49"], 0.0)


async def test_a_call_forgets_a_hundred_at_most(node: Redis) -> None:
    revocations, now = Revocations(node), time.time()
    await revocations.revoke([f"jti:{n}" for n in range(150)], now, until=now - 10)
    await revocations.revoke(["jti:a"], now, until=now + 60)
    after_one = len(await entries(node))
    await revocations.revoke(["jti:b"], now, until=now + 60)

    assert after_one == 51
    assert await entries(node) == {"jti:a", "jti:b"}


async def test_an_entry_stays_for_the_longest_that_was_asked(node: Redis) -> None:
    revocations, past = Revocations(node), time.time() - 10
    await revocations.revoke(["jti:longer"], NOW, until=past)
    await revocations.revoke(["jti:longer", "jti:short"], NOW, until=time.time() + 60)
    await revocations.revoke(["jti:longer"], NOW, until=past)
    await revocations.revoke(["jti:for-good"], NOW, until=time.time() + 60)
    await revocations.revoke(["jti:for-good"], NOW)
    await revocations.revoke(["jti:for-good"], NOW, until=past)
    await revocations.revoke(["jti:last"], NOW)

    assert await entries(node) == {"jti:longer", "jti:short", "jti:for-good", "jti:last"}
    timed: Any = await node.zrange(keys.REVOKED_UNTIL, 0, -1)
    assert sorted(timed) == [b"jti:longer", b"jti:short"]


async def test_a_copy_that_was_never_read_is_not_fresh(node: Redis) -> None:
    revocations = Revocations(node)
    before = revocations.fresh()
    await revocations.look()

    assert not before
    assert revocations.fresh()


async def test_without_redis_nothing_is_forgotten_and_nothing_is_promised(node: Redis) -> None:
    async with commands(f"redis://127.0.0.1:{free_port()}") as nowhere:
        revocations = Revocations(nowhere)
        with pytest.raises(StoreUnavailable):
            await revocations.look()
        with pytest.raises(StoreUnavailable):
            await revocations.revoke(["jti:a"], NOW)

    assert not revocations.fresh()
    assert not revocations.revoked(["jti:a"], 0.0)
    good = Revocations(node)
    await good.revoke(["jti:a"], NOW)
    assert good.revoked(["jti:a"], 0.0)
