from dataclasses import replace

import pytest

from gateway.core.errors import LimitReached, RuleBroken
from gateway.core.limits import Away, Limit, Measure, Of
from gateway.core.model import Caller, Kind, Plan, Principal, Scope
from gateway.core.parcels import Parcel
from gateway.core.quota import reached
from gateway.core.rules import Rule
from gateway.flows.local import LocalBytes, LocalRates
from gateway.flows.refusals import LONGEST, Refusals
from gateway.flows.run import run
from gateway.flows.submit import Submission, submit
from tests.flows.desk import database
from tests.flows.office import an_office

RATE = Limit("rate", Measure.RATE, Of.PRINCIPAL, 2, per=10.0)
TEAM_JOBS = Limit("team-jobs", Measure.JOBS, Of.TEAM, 5)
BY_ADDRESS = Limit("by-address", Measure.RATE, Of.ADDRESS, 1, per=1.0)
FLIGHT = Limit("flight", Measure.IN_FLIGHT, Of.PRINCIPAL, 1)
UPLOADS = Limit("uploads", Measure.UPLOADS, Of.PRINCIPAL, 100, away=Away.LOCAL)
TEAM_UPLOADS = Limit("team-uploads", Measure.UPLOADS, Of.TEAM, 150, away=Away.LOCAL)


def caller(
    name: str = "ann", *limits: Limit, plan: str = "pro", address: str | None = None
) -> Caller:
    return Caller(
        Principal("acme", Kind.USER, name),
        Plan(plan, limits=limits or (RATE, TEAM_JOBS, FLIGHT)),
        frozenset(),
        "kid",
        (),
        0.0,
        address=address,
    )


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def refusals(now: list[float]) -> Refusals:
    return Refusals(most=100, clock=lambda: now[0])


def test_who_was_refused_is_refused_until_it_may_come_again(
    refusals: Refusals, now: list[float]
) -> None:
    refusals.remember(caller(), reached(RATE, 7.5))
    now[0] += 4.0
    with pytest.raises(LimitReached) as again:
        refusals.check(caller())
    assert (again.value.limit, again.value.retry_after) == (RATE, 4)
    assert again.value.wait == 3.5

    now[0] += 3.5
    refusals.check(caller())
    assert len(refusals) == 0


def test_others_are_not_held_to_it(refusals: Refusals) -> None:
    refusals.remember(caller(), reached(RATE, 7.5))
    refusals.check(caller("ben"))
    refusals.check(replace(caller(), principal=Principal("other", Kind.USER, "ann")))
    with pytest.raises(LimitReached):
        refusals.check(caller())


def test_a_limit_of_the_team_holds_for_all_of_it(refusals: Refusals) -> None:
    refusals.remember(caller(), reached(TEAM_JOBS, 30.0))
    with pytest.raises(LimitReached):
        refusals.check(caller("ben"))
    refusals.check(replace(caller(), principal=Principal("other", Kind.USER, "ann")))


def test_a_limit_of_an_address_holds_for_whoever_comes_from_there(refusals: Refusals) -> None:
    refusals.remember(caller("ann", BY_ADDRESS, address="192.0.2.1"), reached(BY_ADDRESS, 3.0))
    refusals.check(caller("ann", BY_ADDRESS, address="192.0.2.2"))
    refusals.check(caller("ann", BY_ADDRESS))
    with pytest.raises(LimitReached):
        refusals.check(caller("ben", BY_ADDRESS, address="192.0.2.1"))


def test_another_plan_or_a_changed_one_is_not_locked_out(refusals: Refusals) -> None:
    refusals.remember(caller(), reached(RATE, 7.5))
    refusals.check(caller(plan="max"))
    refusals.check(caller("ann", replace(RATE, amount=20)))
    with pytest.raises(LimitReached):
        refusals.check(caller())


@pytest.mark.parametrize("limit", [FLIGHT, UPLOADS, replace(RATE, shadow=True)])
def test_what_the_clock_alone_does_not_free_is_not_remembered(
    refusals: Refusals, limit: Limit
) -> None:
    refusals.remember(caller("ann", limit), reached(limit, 7.5))
    refusals.check(caller("ann", limit), frozenset(Measure))
    assert len(refusals) == 0


def test_a_call_is_only_held_to_the_measures_that_count_it(refusals: Refusals) -> None:
    """An upload is no job."""
    refusals.remember(caller(), reached(TEAM_JOBS, 30.0))
    refusals.check(caller(), {Measure.RATE})
    with pytest.raises(LimitReached):
        refusals.check(caller())


def test_a_long_refusal_is_looked_up_again_after_a_minute(
    refusals: Refusals, now: list[float]
) -> None:
    refusals.remember(caller(), reached(TEAM_JOBS, 40_000.0))
    now[0] += LONGEST - 0.1
    with pytest.raises(LimitReached) as again:
        refusals.check(caller())
    assert again.value.wait == pytest.approx(40_000.0 - LONGEST + 0.1)
    now[0] += 0.1
    refusals.check(caller())


def test_no_more_than_so_many_are_remembered(refusals: Refusals) -> None:
    for number in range(150):
        refusals.remember(caller(f"u{number}"), reached(RATE, 60.0))
    assert len(refusals) == 100
    refusals.check(caller("u0"))
    with pytest.raises(LimitReached):
        refusals.check(caller("u149"))


def test_an_error_of_no_limit_is_passed_over(refusals: Refusals) -> None:
    refusals.remember(caller(), LimitReached("the queue is full"))
    refusals.check(caller())


def test_a_process_alone_counts_rates_all_or_none() -> None:
    micros = [5_000_000]
    local = LocalRates(clock=lambda: micros[0])
    strict = replace(RATE, name="strict", amount=1)
    both = caller("ann", RATE, strict, FLIGHT)

    (first, second) = local.take(both)
    assert (first.remaining, second.remaining) == (1, 0)
    with pytest.raises(LimitReached) as refused:
        local.take(both)
    assert (refused.value.limit, refused.value.wait) == (strict, 10.0)
    micros[0] += 10_000_000
    assert local.take(both)[0].remaining == 1  # the refused call has filled nothing


def test_of_two_rates_that_refuse_the_longer_wait_is_told() -> None:
    local = LocalRates(clock=lambda: 0)
    short, long = (replace(RATE, name=n, amount=1, per=p) for n, p in (("a", 1.0), ("b", 9.0)))
    local.take(caller("ann", short, long))
    for order in ((short, long), (long, short)):
        with pytest.raises(LimitReached) as refused:
            local.take(caller("ann", *order))
        assert refused.value.limit == long


def test_a_shadowed_rate_refuses_nobody() -> None:
    local = LocalRates(clock=lambda: 0)
    shadowed = caller("ann", replace(RATE, amount=1, shadow=True))
    assert all(local.take(shadowed) for _ in range(5))


def test_local_counts_are_bounded() -> None:
    local, used = LocalRates(most=10, clock=lambda: 0), LocalBytes(most=10)
    for number in range(50):
        local.take(caller(f"u{number}", RATE))
        used.reserve(caller(f"u{number}", UPLOADS), 1, "20261122", 5.0)
    assert (len(local), len(used)) == (10, 10)


def test_a_process_alone_counts_the_bytes_of_a_day_and_takes_them_back() -> None:
    used, ann, ben = LocalBytes(), caller("ann", UPLOADS, TEAM_UPLOADS), caller("ben", TEAM_UPLOADS)
    used.reserve(ann, 100, "20261122", 5.0)
    with pytest.raises(LimitReached, match="uploads"):
        used.reserve(ann, 1, "20261122", 5.0)
    with pytest.raises(LimitReached, match="team-uploads"):
        used.reserve(ben, 51, "20261122", 5.0)
    used.give_back(ann, 40, "20261122")
    used.reserve(ben, 51, "20261122", 5.0)
    used.reserve(ann, 39, "20261122", 5.0)
    used.reserve(ann, 100, "20261123", 5.0)
    used.give_back(ann, 1000, "20261123")
    with pytest.raises(LimitReached):
        used.reserve(ann, 101, "20261123", 5.0)


@pytest.mark.anyio
async def test_who_is_over_its_rate_is_refused_before_its_input_is_looked_at(
    redis_url: str,
) -> None:
    """A large body with many values takes a while to judge."""
    plan = Plan("pro", endpoints=("**",), rules=(Rule("**", "n", max=1),), limits=(RATE,))
    ann = replace(caller(), plan=plan, scopes=frozenset({Scope.SUBMIT}))
    wish = Submission("fal-ai/echo", Parcel(b'{"n": 2}', {}))
    async with an_office(database(redis_url, 7)) as services:
        with pytest.raises(RuleBroken):
            await submit(services, ann, wish)

        services.refusals.remember(ann, reached(RATE, 60.0))

        with pytest.raises(LimitReached):
            await submit(services, ann, wish)
        with pytest.raises(LimitReached):
            async with run(services, ann, wish.endpoint, wish.parcel, stream=False):
                pass
