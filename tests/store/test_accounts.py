"""Which accounts are out: known to all, probed by one, less and less often."""

import asyncio
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.store import keys
from gateway.store.accounts import LONGEST, Outs

pytestmark = pytest.mark.anyio

PAUSE = 30.0


@pytest.fixture
def outs(node: Redis) -> Outs:
    return Outs(node, PAUSE)


async def record(node: Redis, name: str = "main") -> dict[str, Any]:
    raw: Any = await node.hget(keys.ACCOUNTS_OUT, name)
    found: dict[str, Any] = msgspec.json.decode(raw)
    return found


async def shift(node: Redis, seconds: float, name: str = "main") -> None:
    """Let so much time have passed for an account."""
    moved = {
        field: value - seconds * 1000 if field in {"since", "probe_at", "back"} else value
        for field, value in (await record(node, name)).items()
    }
    await node.hset(keys.ACCOUNTS_OUT, name, msgspec.json.encode(moved))


async def test_one_of_many_takes_an_account_out(outs: Outs, node: Redis) -> None:
    seconds, _ = await node.time()

    found = await asyncio.gather(*(outs.put("main", 401 + n) for n in range(9)))

    assert sum(found) == 1
    (out,) = (await outs.known()).values()
    assert out.status in range(401, 410)
    assert abs(out.since - seconds) < 5
    assert out.probe_at is not None
    assert abs(out.probe_at - out.since - PAUSE) < 0.01
    assert await outs.put("second", 403)
    assert set(await outs.known()) == {"main", "second"}


async def test_one_process_probes_at_a_time(outs: Outs, node: Redis) -> None:
    await outs.put("main", 403)
    assert await outs.due() == []
    await shift(node, PAUSE)

    claims = await asyncio.gather(*(outs.due() for _ in range(9)))

    assert sorted(claims) == [[]] * 8 + [["main"]]
    await shift(node, 60)  # whoever claimed it has died
    assert await outs.due() == ["main"]


async def test_probes_in_vain_get_rare(outs: Outs, node: Redis) -> None:
    await outs.put("main", 403)
    pauses = []

    for _ in range(7):
        assert not await outs.probed("main", False)
        found = await record(node)
        now, micros = await node.time()
        pauses.append(round(found["probe_at"] / 1000 - now - micros / 1e6))

    assert pauses == [60, 120, 240, 480, 600, 600, 600]
    assert (await outs.known())["main"].probes == 7


async def test_an_account_comes_back_once(outs: Outs, node: Redis) -> None:
    await outs.put("main", 403)

    found = await asyncio.gather(*(outs.probed("main", True) for _ in range(5)))

    assert sum(found) == 1
    assert await outs.known() == {}
    assert await outs.due() == []
    assert not await outs.probed("unknown", True)
    assert not await outs.probed("main", False)
    assert await outs.known() == {}


async def test_one_that_is_refused_again_soon_goes_on_doubling(outs: Outs, node: Redis) -> None:
    await outs.put("main", 403)
    for expected in (60_000, 120_000):
        await outs.probed("main", True)
        assert await outs.put("main", 403)
        assert (await record(node))["pause"] == expected

    await outs.probed("main", True)
    await shift(node, LONGEST)

    assert await outs.put("main", 403)
    assert (await record(node))["pause"] == PAUSE * 1000


async def test_an_old_comeback_is_forgotten(outs: Outs, node: Redis) -> None:
    await outs.put("main", 403)
    await outs.probed("main", True)
    await outs.due()
    assert await node.hexists(keys.ACCOUNTS_OUT, "main")

    await shift(node, LONGEST)
    await outs.due()

    assert not await node.hexists(keys.ACCOUNTS_OUT, "main")
