"""What is counted without a job, over several connections, as over several processes."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.core import gcra
from gateway.core.errors import BodyTooLarge, LimitReached
from gateway.core.limits import Limit, Measure, Of
from gateway.core.model import Kind, Principal
from gateway.store import keys
from gateway.store.connect import commands
from gateway.store.meters import Meters

pytestmark = pytest.mark.anyio

ANN = Principal("acme", Kind.USER, "ann")
BEN = Principal("acme", Kind.USER, "ben")
DAY = "20261122"
RATE = Limit("rate", Measure.RATE, Of.PRINCIPAL, 10, per=3600.0)
TEAM_RATE = Limit("team-rate", Measure.RATE, Of.TEAM, 15, per=3600.0)
ADDRESS_RATE = Limit("address-rate", Measure.RATE, Of.ADDRESS, 1, per=3600.0)
UPLOADS = Limit("uploads", Measure.UPLOADS, Of.PRINCIPAL, 1000)
TEAM_UPLOADS = Limit("team-uploads", Measure.UPLOADS, Of.TEAM, 1500)


@pytest.fixture
async def processes(node_url: str, node: Redis) -> AsyncGenerator[list[Meters]]:
    async with commands(node_url) as one, commands(node_url) as other, commands(node_url) as third:
        yield [Meters(redis) for redis in (node, one, other, third)]


async def came(meters: Meters, principal: Principal, *limits: Limit, at: str | None = None) -> bool:
    try:
        await meters.take(principal, at, limits)
    except LimitReached:
        return False
    return True


async def took(meters: Meters, size: int, *limits: Limit, by: Principal = ANN, **more: Any) -> bool:
    try:
        await meters.reserve(by, limits or (UPLOADS,), size, DAY, 60.0, **more)
    except (LimitReached, BodyTooLarge):
        return False
    return True


async def used(node: Redis, principal: Principal) -> tuple[int, int]:
    """Bytes of the day, by the principal and by its team."""
    shard = keys.shard_of_team(principal.team)
    digests = principal.digest, keys.team_digest(principal.team)
    found: list[Any] = [await node.hget(keys.meter(shard, each), f"u:{DAY}") for each in digests]
    return int(found[0] or 0), int(found[1] or 0)


async def test_of_many_at_once_in_all_processes_exactly_so_many_come(
    processes: list[Meters], node: Redis
) -> None:
    for _ in range(10):
        await node.flushall()
        got = await asyncio.gather(*(came(processes[n % 4], ANN, RATE) for n in range(60)))
        assert sum(got) == 10


async def test_a_call_counts_against_all_rates_or_none(processes: list[Meters]) -> None:
    meters = processes[0]
    assert sum([await came(meters, ANN, RATE, TEAM_RATE) for _ in range(12)]) == 10
    assert sum([await came(meters, BEN, RATE, TEAM_RATE) for _ in range(12)]) == 5
    with pytest.raises(LimitReached) as refused:
        await meters.take(BEN, None, [RATE, TEAM_RATE])
    assert refused.value.limit == TEAM_RATE
    (left,) = await meters.take(BEN, None, [RATE])
    assert left.remaining == 4  # what the team's rate refused has filled nothing


async def test_how_long_to_wait_is_told(processes: list[Meters]) -> None:
    quick = replace(RATE, amount=1, per=0.2)
    assert await came(processes[0], ANN, quick)
    with pytest.raises(LimitReached) as refused:
        await processes[1].take(ANN, None, [quick])
    assert 0 < refused.value.wait <= 0.2
    await asyncio.sleep(refused.value.wait)
    assert await came(processes[2], ANN, quick)


async def test_of_two_rates_that_refuse_the_longer_wait_is_told(processes: list[Meters]) -> None:
    short = replace(RATE, name="short", amount=1, per=10.0)
    long = replace(RATE, name="long", amount=1, per=100.0)
    assert await came(processes[0], ANN, short, long)
    for order in ([short, long], [long, short]):
        with pytest.raises(LimitReached) as refused:
            await processes[0].take(ANN, None, order)
        assert refused.value.limit == long


async def test_visitors_are_counted_by_address_too(processes: list[Meters]) -> None:
    meters = processes[0]
    assert await came(meters, ANN, ADDRESS_RATE, at="192.0.2.1")
    assert not await came(meters, BEN, ADDRESS_RATE, at="192.0.2.1")
    assert await came(meters, BEN, ADDRESS_RATE, at="192.0.2.2")
    assert await came(meters, BEN, ADDRESS_RATE)  # has none to be counted by


async def test_a_rate_in_shadow_counts_what_it_would_refuse(
    processes: list[Meters], node: Redis
) -> None:
    shadow = replace(RATE, amount=1, shadow=True)
    assert all([await came(processes[0], ANN, shadow) for _ in range(4)])
    assert await node.hget(keys.meter(keys.shard_of_team("acme"), ANN.digest), "s:rate") == b"3"


async def test_redis_counts_as_the_pure_rule_does(processes: list[Meters], node: Redis) -> None:
    """To the microsecond: the same calls, written down by the one, judged by the other."""
    quick = replace(RATE, amount=7, per=0.01, burst=3)
    key = keys.meter(keys.shard_of_team("acme"), ANN.digest)
    for _ in range(200):
        before: Any = await node.hget(key, gcra.field(quick))
        try:
            (standing,) = await processes[0].take(ANN, None, [quick])
        except LimitReached as refused:
            at = int(before) + gcra.pace(quick).interval - gcra.pace(quick).burst
            now = at - round(refused.wait * gcra.SECOND)
            assert not gcra.take(int(before), now, gcra.pace(quick)).allowed
            assert await node.hget(key, gcra.field(quick)) == before
            continue
        after: Any = await node.hget(key, gcra.field(quick))
        now = int(after) - round(standing.reset * gcra.SECOND)
        expected = gcra.take(int(before or 0), now, gcra.pace(quick))
        assert (expected.allowed, expected.tat, expected.remaining) == (
            True, int(after), standing.remaining,
        )  # fmt: skip
        assert abs(now / gcra.SECOND - time.time()) < 5


async def test_bytes_of_many_at_once_never_pass_the_day(
    processes: list[Meters], node: Redis
) -> None:
    for _ in range(10):
        await node.flushall()
        got = await asyncio.gather(*(took(processes[n % 4], 99) for n in range(40)))
        assert sum(got) == 10
        assert await used(node, ANN) == (990, 990)


async def test_bytes_count_for_the_team_in_the_same_step(
    processes: list[Meters], node: Redis
) -> None:
    meters, both = processes[0], (UPLOADS, TEAM_UPLOADS)
    assert await took(meters, 1000, *both)
    with pytest.raises(LimitReached, match="team-uploads") as refused:
        await meters.reserve(BEN, both, 501, DAY, 60.0)
    assert refused.value.retry_after == 60
    assert await used(node, BEN) == (0, 1000)
    (mine, ours) = await meters.reserve(BEN, both, 500, DAY, 60.0)
    assert (mine.remaining, ours.remaining) == (500, 0)


async def test_what_was_not_sent_is_given_back_and_never_more(
    processes: list[Meters], node: Redis
) -> None:
    meters = processes[0]
    assert await took(meters, 1000)
    await meters.give_back(ANN, 600, DAY)
    assert await used(node, ANN) == (400, 400)
    await meters.give_back(ANN, 10_000, DAY)
    assert await used(node, ANN) == (0, 0)
    assert await took(meters, 1000)
    assert not await took(meters, 1)


async def test_parts_of_a_file_are_bounded_together(processes: list[Meters], node: Redis) -> None:
    meters, wide = processes[0], replace(UPLOADS, amount=10**6)
    assert await took(meters, 600, wide, part=("f" * 32, 1, 1000))
    assert await took(meters, 400, wide, part=("f" * 32, 2, 1000))
    assert not await took(meters, 1, wide, part=("f" * 32, 3, 1000))
    assert await took(meters, 600, wide, part=("f" * 32, 1, 1000))  # tried again
    assert not await took(meters, 601, wide, part=("f" * 32, 1, 1000))
    assert await took(meters, 1000, wide, part=("e" * 32, 1, 1000))  # another file
    assert await used(node, ANN) == (2600, 2600)


async def test_a_smaller_try_of_a_part_makes_no_room(processes: list[Meters]) -> None:
    """Which of the two fal has in the end, nobody knows."""
    meters, wide = processes[0], replace(UPLOADS, amount=10**6)
    assert await took(meters, 1000, wide, part=("f" * 32, 1, 1000))
    assert await took(meters, 1, wide, part=("f" * 32, 1, 1000))
    assert not await took(meters, 1, wide, part=("f" * 32, 2, 1000))


async def test_parts_at_once_never_pass_their_file(processes: list[Meters], node: Redis) -> None:
    wide = replace(UPLOADS, amount=10**6)
    for file in range(5):
        got = await asyncio.gather(
            *(
                took(processes[n % 4], 99, wide, part=(f"{file:032}", n + 1, 1000))
                for n in range(40)
            )
        )
        assert sum(got) == 10
