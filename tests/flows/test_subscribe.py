"""Events from any place on: nothing lost, nothing doubled, and a gap is said to be one."""

import secrets
import signal
from collections.abc import Sequence
from typing import Any

import anyio
import httpx
import pytest
from redis.asyncio import Redis

from gateway.core.model import Kind, Principal
from gateway.store import keys
from tests.harness import Gateway, Running, Simulator
from tests.held import held, log_line
from tests.listening import Heard, listen, numbers

pytestmark = pytest.mark.anyio

BURST = 12
"""Jobs that run while a subscriber comes and goes."""


def user() -> str:
    return f"user-{secrets.token_hex(6)}"


async def submit(client: httpx.AsyncClient, count: int) -> None:
    for _ in range(count):
        answer = await client.post("/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}})
        assert answer.status_code == 202, answer.text


async def hear_in_parts(clients: Sequence[httpx.AsyncClient], path: str, ends: int) -> list[Heard]:
    """What a subscriber hears until `ends` jobs have completed, coming again all the time.

    It stays for 1, 2, 3 ... events, and resumes by header and by query, in turn.
    """
    heard: list[Heard] = []
    visit = 0
    while sum(event.type == "job.completed" for event in heard) < ends:
        client = clients[visit % len(clients)]
        visit += 1
        last = heard[-1].id if heard else "0-0"
        resume = {"headers": {"last-event-id": str(last)}} if visit % 2 else {}
        query = "" if visit % 2 else f"?last_event_id={last}"
        try:
            async with listen(client, path + query, **resume) as ear:
                for _ in range(visit % 7 + 1):
                    event = await ear.event()
                    if event is None:
                        break
                    heard.append(event)
                    if sum(event.type == "job.completed" for event in heard) == ends:
                        break
        except (httpx.TransportError, AssertionError):  # restarting
            await anyio.sleep(0.05)
    return heard


async def stored(redis: Redis, name: str) -> list[int]:
    """The numbers of all events of a user's feed."""
    feed = keys.feed(Principal("default", Kind.USER, name))
    entries: Any = await redis.xrange(feed)
    return [int(id.partition(b"-")[0]) for id, _ in entries]


async def test_who_comes_and_goes_hears_everything_once(gateway: Gateway, redis: Redis) -> None:
    name = user()
    heard: list[Heard] = []
    async with gateway.http(name) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(submit, client, BURST)
        heard = await hear_in_parts([client], "/v1/events", BURST)

    assert numbers(heard) == await stored(redis, name)
    assert len({event.data["id"] for event in heard}) == BURST


async def test_a_job_heard_in_parts_and_by_another_gateway_is_whole(
    running: Running, wide: Gateway, wide_sim: Simulator, wide_redis: Redis
) -> None:
    """Log lines among them, while more keep coming."""
    other = running.gateway(wide_sim)
    name = user()
    heard: list[Heard] = []
    whole: list[Heard] = []
    async with (
        wide.http(name) as here,
        other.http(name) as there,
        held(here, wide_sim) as job,
        anyio.create_task_group() as tasks,
    ):

        async def chatter() -> None:
            for count in range(60):
                await log_line(wide_redis, job, f"line {count}")
            job.end()

        tasks.start_soon(chatter)
        heard = await hear_in_parts([here, there], f"/v1/jobs/{job.id}/events", 1)
        async with listen(there, f"/v1/jobs/{job.id}/events") as ear:
            whole = [block for block in await ear.rest() if block.data is not None]

    lines = [event.data["log"]["message"] for event in heard if event.type == "job.log"]
    assert [line for line in lines if line.startswith("line ")] == [
        f"line {count}" for count in range(60)
    ]
    assert [event.raw for event in heard] == [event.raw for event in whole]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_nothing_is_lost_or_doubled_over_a_restart(
    running: Running, sim: Simulator, redis: Redis, number: signal.Signals
) -> None:
    first, second = running.gateway(sim, start=False), running.gateway(sim)
    first.env["GATEWAY_PUBLIC_URL"] = second.direct
    first.__post_init__()
    first.start()
    name = user()
    heard: list[Heard] = []
    async with first.http(name) as here, second.http(name) as there:
        await submit(here, 3)
        async with anyio.create_task_group() as tasks:

            async def restart() -> None:
                await submit(here, 3)
                first.process.signal(number)
                await anyio.to_thread.run_sync(lambda: first.process.popen.wait(30))  # type: ignore[union-attr]
                await submit(there, 3)
                await anyio.to_thread.run_sync(first.start)

            tasks.start_soon(restart)
            heard = await hear_in_parts([here, there], "/v1/events", 9)

    assert numbers(heard) == await stored(redis, name)
    assert len({event.data["id"] for event in heard}) == 9


async def test_history_that_is_gone_is_told_as_a_gap(gateway: Gateway, redis: Redis) -> None:
    """And what is left follows; after it, a subscriber resumes as ever."""
    name = user()
    async with gateway.http(name) as client:
        await submit(client, 3)
        await hear_in_parts([client], "/v1/events", 3)
        all_of_them = await stored(redis, name)
        await redis.xtrim(
            keys.feed(Principal("default", Kind.USER, name)), maxlen=2, approximate=False
        )
        async with listen(client, "/v1/events?last_event_id=2-0") as ear:
            gap, *left = [await ear.event() for _ in range(3)]
        async with listen(client, f"/v1/events?last_event_id={all_of_them[-2]}-0") as ear:
            resumed = await ear.event()

    assert gap is not None
    assert gap.type == "gap"
    assert gap.id == "2-0"
    assert numbers([event for event in left if event]) == all_of_them[-2:]
    assert resumed is not None
    assert numbers([resumed]) == all_of_them[-1:]


async def test_a_place_above_the_last_event_is_of_a_lost_history(
    gateway: Gateway, redis: Redis
) -> None:
    name = user()
    async with gateway.http(name) as client:
        await submit(client, 1)
        await hear_in_parts([client], "/v1/events", 1)
        async with listen(client, "/v1/events", {"last-event-id": "100000-0"}) as ear:
            gap, first = await ear.event(), await ear.event()

    assert gap is not None
    assert first is not None
    assert (gap.type, gap.id) == ("gap", "0-0")
    assert numbers([first]) == (await stored(redis, name))[:1]


async def test_without_a_place_all_of_ones_own_begin_with_what_comes(
    gateway: Gateway, redis: Redis
) -> None:
    name = user()
    async with gateway.http(name) as client:
        await submit(client, 1)
        await hear_in_parts([client], "/v1/events", 1)
        before = await stored(redis, name)
        async with listen(client, "/v1/events") as ear:
            await ear.block()
            await submit(client, 1)
            first = await ear.event()

    assert first is not None
    assert first.type == "job.created"
    assert numbers([first])[0] > before[-1]
