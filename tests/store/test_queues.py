"""Who waits goes to fal once, and only where there is room."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.core.ends import WITHDRAWN
from gateway.core.limits import Queue
from gateway.core.meters import refusal
from gateway.core.model import JobRef, Plan, Principal, Progress, State
from gateway.store import keys
from gateway.store.connect import script
from gateway.store.feeds import Feeds
from gateway.store.queues import AT_ONCE, REMEMBERED
from tests.flows.desk import eventually
from tests.store.doors import Door, limit, person, plan

pytestmark = pytest.mark.anyio

QUEUE = Queue(length=9, team_length=9, team_bytes=1000, wait=600.0)
ONE = plan(limit("in_flight", 1), queue=QUEUE)
ONE_MORE = plan(limit("in_flight", 2), queue=QUEUE)


@pytest.fixture
def door(node: Redis) -> Door:
    return Door(node)


async def waiting(door: Door, who: Principal, rules: Plan = ONE) -> JobRef:
    """A job that waits behind another of the same caller."""
    if not await door.in_flight(who):
        await door.open(who, rules)
    said = await door.open(who, rules, input=b"input")
    assert said.word == "waiting"
    return said.ref


@pytest.mark.parametrize(
    ("most", "word"),
    [((1, 0), "principal"), ((0, 1), "team"), ((2, 1), "team"), ((2, 2), "admitted"),
     ((0, 0), "admitted")],
)  # fmt: skip
async def test_who_has_room_is_let_go(door: Door, most: tuple[int, int], word: str) -> None:
    ref = await waiting(door, person())

    admission = await door.admit(ref, ONE, most)

    assert admission.word == word
    assert admission.input == (b"input" if word == "admitted" else b"")


async def test_one_attempt_may_ask_again_and_no_other(door: Door) -> None:
    """Its answer got lost; until fal has the job, its input is there."""
    ref = await waiting(door, person())
    ask = (ref, "main", (0, 0), 60.0)

    first = await door.queues.admit(*ask, "mine")
    again = await door.queues.admit(*ask, "mine")
    other = await door.queues.admit(*ask, "another")
    await door.ledger.accept(ref, "fal-1", "main", Progress(State.QUEUED, 0), 5.0)
    late = await door.queues.admit(*ask, "mine")

    assert first == again
    assert (first.word, first.input) == ("admitted", b"input")
    assert (other.word, late.word) == ("gone", "gone")
    assert not await door.redis.exists(keys.queue_input(ref.id))


async def test_a_place_is_told_when_it_is_another(door: Door) -> None:
    alice = person()
    first, second = await waiting(door, alice), await waiting(door, alice)
    assert not await door.queues.moved(second)
    await door.ledger.cancel(first)

    assert await door.queues.moved(second)
    assert not await door.queues.moved(second)

    events = (await Feeds(door.redis).of_job(second.id, "0-0")).events
    assert [event.position for event in events] == [None, 1, 0]
    assert not await door.queues.moved(first)


async def test_what_was_let_go_stays_ahead_until_fal_has_begun_it(door: Door) -> None:
    alice = person()
    first, second = await waiting(door, alice), await waiting(door, alice)
    places = [await place(door, second)]
    await door.admit(first, ONE, (0, 0))
    places.append(await place(door, second))
    await door.ledger.accept(first, "fal-1", "main", Progress(State.QUEUED, 3), 5.0)
    places.append(await place(door, second))
    await door.ledger.progress(first, Progress(State.RUNNING))
    places.append(await place(door, second))

    assert places == [1, 1, 1, 0]


async def place(door: Door, ref: JobRef) -> int | None:
    job = await door.ledger.read(ref.id)
    assert job is not None
    return job.position


async def test_only_teams_whose_jobs_wait_are_looked_at(door: Door) -> None:
    """However many had to wait before: what is looked at twice a second must be few."""
    alice, bob = person(), person("bob")
    for who in (alice, bob):
        await waiting(door, who)
        await door.announce(who.team, ago=2 * REMEMBERED)
    await waiting(door, bob)
    for n in range(3):
        await door.announce(f"old-{n}", ago=2 * REMEMBERED)
        await door.announce(f"new-{n}")

    assert await door.queues.lengths() == {alice.team: 1, bob.team: 2}
    teams: Any = await door.redis.zrange(keys.QUEUES, 0, -1)
    known = {team.decode() for team in teams}
    assert known == {alice.team, bob.team, "new-0", "new-1", "new-2"}


async def test_a_team_that_comes_again_is_not_forgotten(door: Door) -> None:
    """It said so after it was found empty, and before it was to be forgotten."""
    forget = script(door.redis, "forget")
    await door.announce("again")
    await door.announce("gone", ago=60.0)
    seconds, _ = await door.redis.time()

    assert await forget(keys=[keys.QUEUES], args=[seconds - 30, "again", "gone", "never"]) == 1
    assert await door.redis.zrange(keys.QUEUES, 0, -1) == [b"again"]


async def test_a_process_does_not_remember_all_teams(door: Door) -> None:
    for n in range(AT_ONCE + 10):
        await door.queues.announce(f"team-{n}")

    assert await door.redis.zcard(keys.QUEUES) == AT_ONCE + 10
    assert len(door.queues) <= AT_ONCE


async def test_a_job_withdrawn_by_one_who_died_is_soon_looked_at(door: Door) -> None:
    alice = person()
    ref = await waiting(door, alice)
    assert await door.ledger.cancel(ref) == ("withdrawn", None)

    at = await door.redis.zscore(keys.due(keys.shard_of_job(ref.id)), ref.id)
    seconds, _ = await door.redis.time()
    assert at is not None
    assert 0 <= at / 1000 - seconds <= 10
    job = await door.ledger.read(ref.id)
    assert job is not None
    assert (job.waiting, job.cancel_requested) == (True, True)  # by which its end is written


async def test_parking_may_be_said_again_after_a_cancellation(door: Door) -> None:
    """Its answer got lost; the job has no place in the queue any more."""
    ref = (await door.open(person(), ONE)).ref
    assert await door.park(ref, QUEUE)
    await door.ledger.cancel(ref)

    assert await door.park(ref, QUEUE)


# Bytes of inputs.


async def bytes_of(door: Door, who: Principal) -> int:
    """As they are counted."""
    count: Any = await door.redis.hget(keys.inputs(who.team), "all")
    return int(count or 0)


async def test_inputs_of_a_team_take_up_no_more_than_its_plan_says(door: Door) -> None:
    alice = person()
    bob = person("bob", alice.team)
    for who in (alice, bob):
        await door.open(who, ONE)

    first = await door.open(alice, ONE, input=b"x" * 600)
    refused = await door.open(bob, ONE, input=b"x" * 401)
    told = await door.open(bob, ONE, input=b"", size=401)
    fits = await door.open(bob, ONE, input=b"", size=400)
    other = person("bob")
    await door.open(other, ONE)

    assert [first.word, refused.word, told.word, fits.word] == ["waiting", "full", "full", "wait"]
    assert refused.numbers == told.numbers == (3,)
    assert "(team_bytes)" in str(refusal(told.asked, told.verdict, door.now))
    assert await bytes_of(door, alice) == 600
    assert not await door.redis.exists(keys.job(refused.ref.id))
    assert (await door.open(other, ONE, input=b"x" * 1000)).word == "waiting"


@pytest.mark.parametrize("bound", ["length", "team_length"])
async def test_a_refusal_names_the_bound(door: Door, bound: str) -> None:
    alice = person()
    short = plan(limit("in_flight", 1), queue=replace(QUEUE, **{bound: 1}))
    await door.words(2, alice, short)

    said = await door.open(alice, short)

    assert f"({bound})" in str(refusal(said.asked, said.verdict, door.now))


async def test_who_finds_no_room_at_an_account_waits_only_if_its_input_fits(door: Door) -> None:
    alice = person()
    first, other = [(await door.open(alice, ONE_MORE)).ref for _ in range(2)]
    assert await door.park(first, QUEUE, b"x" * 600)

    assert not await door.park(other, QUEUE, b"x" * 401)
    assert await bytes_of(door, alice) == 600
    assert await door.park(other, QUEUE, b"x" * 400)

    assert await bytes_of(door, alice) == 1000


async def test_what_fal_has_takes_up_nothing(door: Door) -> None:
    alice = person()
    await door.open(alice, ONE)
    ref = (await door.open(alice, ONE, input=b"x" * 600)).ref
    await door.admit(ref, ONE, (0, 0))
    assert await bytes_of(door, alice) == 600
    for _ in range(2):
        await door.ledger.accept(ref, "fal-1", "main", Progress(State.QUEUED, 0), 5.0)

    assert await bytes_of(door, alice) == 0


async def test_who_comes_back_keeps_the_room_of_its_input(door: Door) -> None:
    """Its account had no room, and others have come meanwhile."""
    alice = person()
    await door.open(alice, ONE)
    ref = (await door.open(alice, ONE, input=b"x" * 600)).ref
    assert (await door.admit(ref, ONE, (0, 0))).word == "admitted"
    assert (await door.open(alice, ONE, input=b"y" * 400)).word == "waiting"
    assert (await door.open(alice, ONE, input=b"y")).word == "full"

    assert await door.park(ref, QUEUE, b"x" * 600)

    assert await bytes_of(door, alice) == 1000


async def test_said_twice_it_counts_once(door: Door) -> None:
    """Of parking as of each way to leave."""
    alice = person()
    opened = (await door.open(alice, ONE)).ref
    for _ in range(2):
        assert await door.park(opened, QUEUE, b"x" * 600)
    assert await bytes_of(door, alice) == 600
    ref = (await door.open(alice, ONE, input=b"input")).ref

    for _ in range(2):
        await door.ledger.end(opened, WITHDRAWN, waiting=True)
        await door.queues.admit(ref, "main", (0, 0), 60.0, "mine")
        await door.ledger.lost(ref, 60.0)

    assert await bytes_of(door, alice) == 0
    assert not await door.redis.exists(keys.inputs(alice.team), keys.inputs_end(alice.team))


async def test_bytes_of_which_all_else_is_lost_end_with_the_time_of_their_input(
    door: Door,
) -> None:
    """Somebody deleted keys, or no process ran for days: nobody will ever end the job."""
    alice = person()
    await door.open(alice, ONE)
    lost = (await door.open(alice, ONE, input=b"x" * 900)).ref
    await door.redis.delete(keys.job(lost.id), keys.queue_input(lost.id))
    assert (await door.open(alice, ONE, input=b"x" * 200)).word == "full"
    ends = await door.redis.zscore(keys.inputs_end(alice.team), lost.id)
    seconds, _ = await door.redis.time()
    assert ends is not None
    assert QUEUE.wait <= ends / 1000 - seconds <= QUEUE.wait + 3601
    await door.redis.zadd(keys.inputs_end(alice.team), {lost.id: (seconds - 1) * 1000})

    assert (await door.open(alice, ONE, input=b"x" * 200)).word == "waiting"

    assert await bytes_of(door, alice) == 200


async def gone(door: Door, ref: JobRef) -> bool:
    return not await door.redis.exists(keys.queue_input(ref.id))


async def test_bytes_of_who_was_let_go_by_one_who_died_end_with_its_input(door: Door) -> None:
    alice = person()
    await door.open(alice, ONE)
    ref = (await door.open(alice, ONE, input=b"x" * 900)).ref
    await door.queues.admit(ref, "main", (0, 0), 0.02, "mine")
    await eventually(partial(gone, door, ref))

    again = await door.open(alice, ONE, input=b"x" * 200)

    assert again.word == "waiting"
    assert await bytes_of(door, alice) == 200
    assert await door.ledger.lost(ref, 60.0)  # as the due loop finds it
    assert await bytes_of(door, alice) == 200
