"""What opening a job decides: all limits and budgets in one step, or nothing of any of them."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from gateway.core import periods
from gateway.core.limits import DAY, MICRO, Budget, Limit, Period, Queue
from gateway.core.meters import nothing_asked, queue_text, refusal, standings
from gateway.core.model import End, State, Where
from gateway.core.prices import NOTHING, Estimate
from gateway.store import keys
from gateway.store.ledger import Opening
from tests.store.doors import ENDPOINT, Door, budget, costs, limit, new_ref, person, plan, rate

pytestmark = pytest.mark.anyio

DONE = End(State.COMPLETED, 200, Where.STORED, body=b"{}", units="1")
QUEUE = Queue(length=3, team_length=5, wait=600.0)


@pytest.fixture
def door(node: Redis) -> Door:
    return Door(node)


# Limits, one at a time.


@pytest.mark.parametrize("bound", [rate(3), limit("jobs", 3), limit("in_flight", 3)])
async def test_a_limit_lets_in_what_it_says(door: Door, bound: Limit) -> None:
    alice = person()

    assert await door.words(5, alice, plan(bound)) == [*["opened"] * 3, *["refused"] * 2]
    assert (await door.open(person(), plan(bound))).word == "opened"


@pytest.mark.parametrize("bound", [rate(3, "team"), limit("jobs", 3, "team")])
async def test_a_team_shares_its_limit(door: Door, bound: Limit) -> None:
    alice = person()
    bob = person("bob", alice.team)

    assert await door.words(2, alice, plan(bound)) == ["opened"] * 2
    assert await door.words(2, bob, plan(bound)) == ["opened", "refused"]
    assert (await door.open(person("bob"), plan(bound))).word == "opened"


@pytest.mark.parametrize("bound", [rate(2, "address"), limit("jobs", 2, "address")])
async def test_all_from_one_address_share_its_limit(door: Door, bound: Limit) -> None:
    visitors = [person(f"v{n}", "visitors") for n in range(4)]

    words = [(await door.open(who, plan(bound), address="192.0.2.7")).word for who in visitors]

    assert words == ["opened", "opened", "refused", "refused"]
    assert (await door.open(visitors[3], plan(bound), address="192.0.2.8")).word == "opened"


async def test_a_limit_by_address_does_not_bound_who_has_none(door: Door) -> None:
    strict = plan(rate(1, "address"))

    assert await door.words(3, person(), strict) == ["opened"] * 3


async def test_a_rate_takes_its_burst_at_once_and_no_more(door: Door) -> None:
    assert await door.words(6, person(), plan(rate(1000, burst=4))) == [
        *["opened"] * 4, *["refused"] * 2
    ]  # fmt: skip


async def test_a_rate_lets_in_again_when_it_said(door: Door) -> None:
    pace = plan(rate(10, per=2.0, burst=1))  # one in 0.2 s
    alice = person()
    await door.open(alice, pace)
    refused = await door.open(alice, pace)
    _, wait = refused.numbers

    assert refused.word == "refused"
    assert 0 < wait <= 200
    await asyncio.sleep(wait / 1000)
    assert (await door.open(alice, pace)).word == "opened"


@pytest.mark.parametrize("of", ["principal", "team"])
async def test_a_rate_of_a_plan_does_not_hold_up_who_has_another(door: Door, of: str) -> None:
    """Nor does a call by the one give back what the other has counted."""
    alice, slow, quick = person(), plan(rate(2, of)), plan(rate(1000, of, per=1.0), name="quick")
    assert await door.words(3, alice, slow) == ["opened", "opened", "refused"]

    assert await door.words(3, alice, quick) == ["opened"] * 3
    assert await door.words(1, alice, slow) == ["refused"]


async def test_an_ended_job_gives_its_place_back_and_not_its_count(door: Door) -> None:
    alice, bounds = person(), plan(limit("in_flight", 1), limit("jobs", 2))
    first = await door.open(alice, bounds)
    assert (await door.open(alice, bounds)).numbers[:1] == (1,)
    await door.ledger.end(first.ref, DONE)

    assert (await door.open(alice, bounds)).word == "opened"
    assert await door.in_flight(alice) == 1
    assert await door.in_flight(alice, "team") == 1
    refused = await door.open(alice, bounds)
    assert refused.word == "refused"
    assert (await door.counted(alice))[f"j:{periods.day(door.now)}"] == 2


async def test_a_place_in_flight_ends_by_itself(door: Door) -> None:
    """Of a job whose end got lost."""
    alice, one = person(), plan(limit("in_flight", 1))
    first = await door.open(alice, one)
    assert (await door.open(alice, one)).word == "refused"
    place = keys.slots(keys.shard_of_team(alice.team), alice.digest)
    await door.redis.zadd(place, {first.ref.id: time.time() * 1000 - 1})

    assert (await door.open(alice, one)).word == "opened"


async def test_the_jobs_of_another_day_do_not_count(door: Door) -> None:
    alice, one = person(), plan(limit("jobs", 1))
    await door.open(alice, one)
    meter = keys.meter(keys.shard_of_team(alice.team), alice.digest)
    today = f"j:{periods.day(door.now)}"
    await door.redis.hset(meter, mapping={f"j:{periods.day(door.now - DAY)}": 50, today: 0})

    assert await door.words(2, alice, one) == ["opened", "refused"]
    assert 0 < await door.redis.ttl(meter) <= 2 * DAY


# Shadows.


@pytest.mark.parametrize(
    ("bound", "estimate"),
    [
        (rate(2, shadow=True), NOTHING),
        (limit("jobs", 2, "team", shadow=True), NOTHING),
        (limit("in_flight", 2, shadow=True), NOTHING),
        (budget(2, shadow=True), costs(usd=1)),
        (budget(2, "units", "team", shadow=True), costs(units=1)),
    ],
)
async def test_a_shadow_counts_whom_it_would_have_refused(
    door: Door, bound: Limit | Budget, estimate: Estimate
) -> None:
    alice = person()

    words = await door.words(5, alice, plan(bound), estimate=estimate)

    assert words == ["opened"] * 5
    assert (await door.counted(alice, bound.of))[f"s:{bound.name}"] == 3


async def test_a_shadow_lets_nobody_wait(door: Door) -> None:
    shadow = plan(limit("in_flight", 1, shadow=True), queue=QUEUE)

    assert await door.words(3, person(), shadow, input=b"") == ["opened"] * 3


# Several at once.


BOUNDS = [
    rate(2), rate(2, "team"), limit("jobs", 2), limit("jobs", 2, "team"),
    limit("in_flight", 2), limit("in_flight", 2, "team"),
    budget(2.0), budget(2.0, of="team", per="month"), budget(2.0, "units"),
    budget(2.0, "units", "team", "week"),
]  # fmt: skip
WIDE: list[Limit | Budget] = [
    rate(50, name="wide-rate"), rate(50, "team", name="wide-team-rate"),
    limit("jobs", 50, name="wide-jobs"), limit("in_flight", 50, name="wide-flight"),
]  # fmt: skip


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.name)
@pytest.mark.parametrize("first", [True, False])
async def test_who_is_refused_by_one_uses_nothing_of_any(
    door: Door, bound: Limit | Budget, first: bool
) -> None:
    alice = person()
    together = plan(*([bound, *WIDE] if first else [*WIDE, bound]))
    estimate = costs(usd=1, units=1)
    assert await door.words(2, alice, together, estimate=estimate) == ["opened"] * 2
    before = await everything(door.redis)

    refused = await door.words(3, alice, together, estimate=estimate)

    assert refused == ["spent" if isinstance(bound, Budget) else "refused"] * 3
    assert await everything(door.redis) == before
    assert (await door.open(person(), together, estimate)).word == "opened"


async def everything(redis: Redis) -> dict[bytes, bytes | None]:
    """All of Redis, as it dumps it."""
    return {key: await redis.dump(key) async for key in redis.scan_iter()}


async def test_the_first_that_refuses_is_told(door: Door) -> None:
    alice = person()
    both = plan(limit("jobs", 1), rate(5), budget(0.5, "units"), budget(1.5))
    await door.open(alice, both, costs(usd=1))

    refused = await door.open(alice, both, costs(usd=1))
    spent = await door.open(person(), both, costs(usd=1, units=1))

    assert (refused.word, refused.numbers[0]) == ("refused", 1)
    assert "principal-jobs" in str(refusal(refused.asked, refused.verdict, door.now))
    assert (spent.word, spent.numbers[0]) == ("spent", 1)
    assert "principal-units-day" in str(refusal(spent.asked, spent.verdict, door.now))


async def test_what_is_left_and_when_it_is_back(door: Door) -> None:
    alice = person()
    bounds = plan(rate(4, per=400.0), limit("jobs", 9, "team"), limit("in_flight", 3))
    await door.open(alice, bounds)
    now = door.now

    said = await door.open(alice, bounds)

    by_rate, by_jobs, in_flight = standings(said.asked, said.verdict)
    assert (by_rate.remaining, by_jobs.remaining, in_flight.remaining) == (2, 7, 1)
    assert 199 < by_rate.reset <= 200
    assert abs(by_jobs.reset - (periods.ends_at(Period.DAY, now) - now)) < 5
    assert in_flight.reset == 0


# Budgets.


@pytest.mark.parametrize("of", ["principal", "team"])
@pytest.mark.parametrize("unit", ["usd", "units"])
@pytest.mark.parametrize("per", ["day", "week", "month"])
async def test_a_budget_is_spent_by_what_is_reserved_and_by_what_was_billed(
    door: Door, of: str, unit: str, per: str
) -> None:
    alice, ten = person(), plan(budget(10, unit, of, per))
    estimate = costs(usd=4) if unit == "usd" else costs(units=4)
    said = [await door.open(alice, ten, estimate) for _ in range(3)]
    assert [one.word for one in said] == ["opened", "opened", "spent"]
    assert said[2].numbers == (1, 2 * MICRO)

    await door.ledger.end(said[0].ref, DONE)
    await door.bill(said[0].ref, MICRO, MICRO)

    assert [(await door.open(alice, ten, estimate)).word for _ in range(2)] == ["opened", "spent"]
    spend = await door.spend(alice, of)
    assert spend[f"held:{unit}"] == 8 * MICRO
    assert spend[periods.field(Period(per), ten.budgets[0].unit, door.now)] == MICRO


async def test_what_fits_exactly_is_let_in(door: Door) -> None:
    alice, exact = person(), plan(budget(0.3))

    said = [await door.open(alice, exact, costs(usd=0.1)) for _ in range(4)]

    assert [one.word for one in said] == ["opened"] * 3 + ["spent"]
    assert (await door.open(alice, exact, costs(usd=0))).word == "opened"  # of what is free


async def test_large_sums_stay_exact(door: Door) -> None:
    """Lua writes large numbers with fourteen digits, unless told otherwise."""
    alice, rich = person(), plan(budget(10**9), budget(10**9, "units", "team"))
    estimate = costs(usd=123_456_789.012345, units=234_567_890.123457)

    assert await door.words(4, alice, rich, estimate=estimate) == ["opened"] * 4

    assert (await door.spend(alice))["held:usd"] == 4 * (estimate.usd or 0)
    assert (await door.spend(alice, "team"))["held:units"] == 4 * estimate.units
    last = await door.open(alice, rich, estimate)
    assert last.word == "spent"
    assert last.numbers == (2, 10**9 * MICRO - 4 * estimate.units)


# The queue.


async def test_who_finds_no_place_in_flight_waits(door: Door) -> None:
    alice, one = person(), plan(limit("in_flight", 1), limit("jobs", 9), queue=QUEUE)
    await door.open(alice, one)
    before = await everything(door.redis)

    asked_again = await door.open(alice, one, input=b"")
    unchanged = await everything(door.redis)
    said = await door.open(alice, one, ref=asked_again.ref, input=b'{"prompt": "x"}')

    assert asked_again.word == "wait"
    assert unchanged == before
    assert (said.word, said.numbers[0]) == ("waiting", 0)
    assert said.left == (0, 7)
    job = await door.ledger.read(said.ref.id)
    assert job is not None
    assert (job.state, job.waiting, job.position) == (State.QUEUED, True, 0)
    assert await door.redis.get(keys.queue_input(said.ref.id)) == b'{"prompt": "x"}'
    assert await door.in_flight(alice) == 1


async def test_a_direct_run_does_not_wait(door: Door) -> None:
    alice, one = person(), plan(limit("in_flight", 1), queue=QUEUE)
    await door.open(alice, one, run=True)

    assert (await door.open(alice, one, run=True)).word == "refused"
    assert (await door.open(alice, one)).word == "waiting"


async def test_nobody_passes_his_own_who_wait(door: Door) -> None:
    alice, one = person(), plan(limit("in_flight", 1), queue=QUEUE)
    bob = person("bob", alice.team)
    first = await door.open(alice, one)
    await door.open(alice, one)
    await door.ledger.end(first.ref, DONE)

    assert (await door.open(alice, one, input=b"")).word == "wait"
    assert (await door.open(bob, one, input=b"")).word == "opened"


async def test_nobody_passes_those_of_a_bounded_team(door: Door) -> None:
    alice = person()
    bob = person("bob", alice.team)
    bounded = plan(limit("in_flight", 1, "team"), queue=QUEUE)
    first = await door.open(alice, bounded)
    await door.open(alice, bounded)
    await door.ledger.end(first.ref, DONE)

    assert (await door.open(bob, bounded, input=b"")).word == "wait"


@pytest.mark.parametrize(("many", "word"), [(3, "full"), (2, "waiting")])
async def test_a_principals_queue_has_a_length(door: Door, many: int, word: str) -> None:
    alice, one = person(), plan(limit("in_flight", 1), queue=QUEUE)
    await door.words(1 + many, alice, one)

    assert (await door.open(alice, one)).word == word
    assert (await door.open(alice, one, input=b"")).word == "full"  # and needs no input for that


async def test_a_teams_queue_has_a_length(door: Door) -> None:
    alice, one = person(), plan(limit("in_flight", 1), queue=QUEUE)
    people = [person(f"p{n}", alice.team) for n in range(6)]

    words = [await door.words(2, who, one) for who in people]

    assert words == [["opened", "waiting"]] * 5 + [["opened", "full"]]


@pytest.mark.parametrize("bound", [rate(2), limit("jobs", 2), budget(2)])
async def test_who_is_over_another_limit_does_not_wait(door: Door, bound: Limit | Budget) -> None:
    strict = plan(bound, limit("in_flight", 1), queue=QUEUE)
    words = await door.words(4, person(), strict, estimate=costs(usd=1))

    no = "spent" if isinstance(bound, Budget) else "refused"
    assert words == ["opened", "waiting", no, no]


# Said twice.


@pytest.mark.parametrize("queue", [None, QUEUE])
async def test_an_opening_said_twice_counts_once(door: Door, queue: Queue | None) -> None:
    alice = person()
    bounds = plan(limit("in_flight", 1), rate(50), limit("jobs", 50), budget(9), queue=queue)
    if queue:
        await door.open(alice, bounds)
    first = await door.open(alice, bounds, costs(usd=1))
    before = await everything(door.redis)

    again = await door.open(alice, bounds, costs(usd=1), ref=first.ref)

    assert first.word == ("waiting" if queue else "opened")
    assert (again.word, again.numbers) == ("there", (0,) if queue else ())
    assert await everything(door.redis) == before


async def test_a_job_made_anew_is_written_and_held_to_nothing(door: Door) -> None:
    """Redis has lost it since it was let in."""
    alice, none = person(), plan(limit("jobs", 0))
    ref = new_ref(alice)

    verdict = await door.ledger.open(ref, Opening(0.0, False), nothing_asked(time.time()))

    assert verdict.word == "opened"
    assert (await door.open(alice, none)).word == "refused"
    job = await door.ledger.read(ref.id)
    assert job is not None
    assert job.ref.endpoint == ENDPOINT


async def test_a_run_is_counted_and_nobody_hears_of_it(door: Door) -> None:
    alice, bounds = person(), plan(limit("in_flight", 1), budget(5))
    said = await door.open(alice, bounds, costs(usd=2), run=True)

    assert said.word == "opened"
    assert await door.in_flight(alice) == 1
    assert (await door.spend(alice))["held:usd"] == 2 * MICRO
    assert (await door.ledger.listed(alice, None, 10)).jobs == []
    assert not await door.redis.exists(keys.events(said.ref.id), keys.feed(alice))


async def test_no_race_gets_more_than_there_is(door: Door) -> None:
    bounds = plan(limit("in_flight", 7), rate(30), budget(20))
    alice = person()

    said = await asyncio.gather(*(door.open(alice, bounds, costs(usd=1)) for _ in range(60)))

    assert [one.word for one in said].count("opened") == 7
    assert (await door.spend(alice))["held:usd"] == 7 * MICRO


# Waiting.


async def test_nobody_who_waits_shortly_takes_the_queue_from_who_waits_long(door: Door) -> None:
    alice = person()
    bob = person("bob", alice.team)
    patient = plan(limit("in_flight", 1), queue=Queue(wait=86_400.0), name="patient")
    hasty = plan(limit("in_flight", 1), queue=Queue(wait=1.0), name="hasty")
    await door.words(2, alice, patient)
    await door.words(2, bob, hasty)

    shard, team = keys.shard_of_team(alice.team), keys.team_digest(alice.team)
    assert await door.redis.ttl(keys.waiting(shard, team)) > 86_400
    assert 0 < await door.redis.ttl(keys.waiting(shard, bob.digest)) <= 3601


async def test_a_job_parked_twice_is_not_let_go_twice(door: Door) -> None:
    """The answer got lost, and another process has let it go before it was said again."""
    alice, one = person(), plan(limit("in_flight", 1), queue=QUEUE)
    said = await door.open(alice, one)
    assert await door.queues.park(said.ref, queue_text(QUEUE), b"{}")
    before = await everything(door.redis)
    assert await door.queues.park(said.ref, queue_text(QUEUE), b"{}")
    assert await everything(door.redis) == before
    first = await door.queues.admit(said.ref, "main", (0, 0), 60.0, "one")

    assert await door.queues.park(said.ref, queue_text(QUEUE), b"{}")

    assert first.word == "admitted"
    assert await door.waiting(alice) == []
    assert (await door.queues.admit(said.ref, "main", (0, 0), 60.0, "two")).word == "gone"
    assert await door.queues.park(said.ref, queue_text(QUEUE), b"{}", "one")  # its sender may
    assert await door.waiting(alice) == [said.ref.id]
