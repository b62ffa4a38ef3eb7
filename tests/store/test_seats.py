"""Seats of streams over several connections, as over several processes."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from redis.asyncio import Redis

from gateway.core.errors import LimitReached
from gateway.core.limits import Limit, Measure, Of
from gateway.core.model import Kind, Principal
from gateway.store import keys
from gateway.store.connect import commands
from gateway.store.seats import StreamSeats

pytestmark = pytest.mark.anyio

ANN = Principal("acme", Kind.USER, "ann")
BEN = Principal("acme", Kind.USER, "ben")


def streams(amount: int, of: Of = Of.PRINCIPAL, *, shadow: bool = False) -> Limit:
    return Limit(f"{of}-streams", Measure.STREAMS, of, amount, shadow=shadow)


@pytest.fixture
async def processes(node_url: str, node: Redis) -> AsyncGenerator[list[StreamSeats]]:
    async with commands(node_url) as one, commands(node_url) as other, commands(node_url) as third:
        yield [StreamSeats(redis, lease=2.0) for redis in (node, one, other, third)]


async def tried(seats: StreamSeats, principal: Principal, *limits: Limit) -> str | None:
    try:
        return await seats.take(principal, limits)
    except LimitReached:
        return None


async def taken(node: Redis, principal: Principal) -> tuple[int, int]:
    """By the principal, and by its team."""
    shard = keys.shard_of_team(principal.team)
    return (
        await node.zcard(keys.streams(shard, principal.digest)),
        await node.zcard(keys.streams(shard, keys.team_digest(principal.team))),
    )


async def test_of_many_at_once_in_all_processes_exactly_so_many_get_in(
    processes: list[StreamSeats], node: Redis
) -> None:
    for _ in range(10):
        got = await asyncio.gather(*(tried(processes[n % 4], ANN, streams(7)) for n in range(60)))
        assert len([name for name in got if name]) == 7
        for n, name in enumerate(got):
            if name:
                await processes[n % 4].leave(name)
        assert await taken(node, ANN) == (0, 0)


async def test_the_team_is_counted_in_the_same_step(
    processes: list[StreamSeats], node: Redis
) -> None:
    limits = streams(5), streams(6, Of.TEAM)
    assert all([await tried(processes[n % 4], ANN, *limits) for n in range(5)])
    assert await tried(processes[0], BEN, *limits)

    with pytest.raises(LimitReached, match="team-streams") as refused:
        await processes[1].take(BEN, limits)

    assert refused.value.limit == limits[1]
    assert await taken(node, BEN) == (1, 6)  # the refused one is counted nowhere


async def test_a_lost_process_frees_its_seats_in_time(processes: list[StreamSeats]) -> None:
    """It is not renewed any more; what lives is."""
    lost, alive = processes[:2]
    assert await tried(lost, ANN, streams(2))
    assert await tried(alive, ANN, streams(2))
    assert not await tried(alive, ANN, streams(2))

    async with asyncio.timeout(10):
        while not (name := await tried(alive, ANN, streams(2))):
            await alive.renew()
            await asyncio.sleep(0.05)

    assert not await tried(alive, ANN, streams(2))
    await alive.leave(name)
    assert await tried(alive, ANN, streams(2))


async def test_a_seat_lasts_as_long_as_it_is_renewed(processes: list[StreamSeats]) -> None:
    alive, other = processes[:2]
    name = await alive.take(ANN, [streams(1)])
    for _ in range(8):
        await asyncio.sleep(0.2)
        await alive.renew()
        assert not await tried(other, ANN, streams(1))
    await alive.leave(name)
    assert await tried(other, ANN, streams(1))


async def test_who_leaves_during_a_renewal_leaves_no_seat_behind(
    processes: list[StreamSeats], node: Redis
) -> None:
    seats = processes[0]
    for _ in range(50):
        name = await seats.take(ANN, [streams(3)])
        await asyncio.gather(seats.renew(), seats.leave(name))
        assert await taken(node, ANN) == (0, 0)


async def test_a_limit_in_shadow_counts_and_lets_in(
    processes: list[StreamSeats], node: Redis
) -> None:
    limits = (streams(1, shadow=True),)
    assert all([await tried(processes[0], ANN, *limits) for _ in range(3)])

    meter = keys.meter(keys.shard_of_team("acme"), ANN.digest)
    assert await node.hget(meter, "s:principal-streams") == b"2"


async def test_equal_names_in_two_teams_have_seats_of_their_own(
    processes: list[StreamSeats],
) -> None:
    assert await tried(processes[0], ANN, streams(1))
    assert await tried(processes[0], Principal("other", Kind.USER, "ann"), streams(1))
    assert not await tried(processes[0], ANN, streams(1))
