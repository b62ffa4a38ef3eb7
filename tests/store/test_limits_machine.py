"""Calls, ends and losses in any order, beside a model that counts with Python's own sets."""

from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, initialize, invariant, multiple, rule

from gateway.core import periods
from gateway.core.limits import Limit, Measure, Of
from gateway.core.model import End, JobRef, Plan, Principal, Progress, State, Where
from tests.store.doors import limit, new_ref, plan, rate
from tests.store.machines import Machine, run

DONE = End(State.COMPLETED, 200, Where.STORED, body=b"{}")
FAILED = End(State.FAILED, 500, Where.GONE, error="no")

PEOPLE = st.integers(0, 2)


def bound(measure: str, amount: int, of: str) -> Limit:
    return rate(amount, of) if measure == "rate" else limit(measure, amount, of)


BOUNDS = st.builds(
    bound,
    st.sampled_from(["rate", "jobs", "in_flight"]),
    st.integers(1, 7),
    st.sampled_from(["principal", "team"]),
)


class Limits(Machine):
    jobs: Bundle[Any] = Bundle("jobs")

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.plan = Plan("none")
        self.flying: dict[str, Principal] = {}
        self.calls: Counter[str] = Counter()

    @initialize(limits=st.lists(BOUNDS, max_size=5, unique_by=lambda one: one.name))
    def plans(self, limits: list[Limit]) -> None:
        self.plan = plan(*limits)

    def used(self, bound: Limit, who: Principal) -> int:
        if bound.measure is Measure.IN_FLIGHT:
            return sum(self.same(bound, who, other) for other in self.flying.values())
        return self.calls[str(who) + who.team if bound.of is Of.PRINCIPAL else who.team]

    @staticmethod
    def same(bound: Limit, who: Principal, other: Principal) -> bool:
        return who == other if bound.of is Of.PRINCIPAL else who.team == other.team

    @rule(target=jobs, who=PEOPLE, run=st.booleans())
    def open(self, who: int, run: bool) -> Any:
        one = self.people[who]
        full = [bound for bound in self.plan.limits if self.used(bound, one) >= bound.amount]

        said = self.do(self.door.open(one, self.plan, run=run))

        if full:
            assert said.word == "refused"
            assert self.plan.limits[said.numbers[0] - 1] == full[0]
            return multiple()
        assert said.word == "opened"
        self.flying[said.ref.id] = one
        self.calls.update([str(one) + one.team, one.team])
        left = [bound.amount - self.used(bound, one) for bound in self.plan.limits]
        assert list(said.left) == left
        return said.ref

    @rule(ref=jobs)
    def say_again(self, ref: JobRef) -> None:
        assert self.do(self.door.open(ref.principal, self.plan, ref=ref)).word == "there"

    @rule(ref=jobs)
    def accept(self, ref: JobRef) -> None:
        took = ("main", Progress(State.QUEUED, 0), 5.0)
        self.do(self.door.ledger.accept(ref, f"fal-{ref.id}", *took))

    @rule(ref=jobs)
    def lose(self, ref: JobRef) -> None:
        self.do(self.door.ledger.lost(ref, 60.0))

    @rule(ref=jobs, state=st.sampled_from([State.QUEUED, State.RUNNING]))
    def progress(self, ref: JobRef, state: State) -> None:
        self.do(self.door.ledger.progress(ref, Progress(state)))

    @rule(ref=jobs, end=st.sampled_from([DONE, FAILED]))
    def end(self, ref: JobRef, end: End) -> None:
        self.do(self.door.ledger.end(ref, end))
        self.flying.pop(ref.id, None)

    @rule(ref=consumes(jobs))
    def settle(self, ref: JobRef) -> None:
        self.do(self.door.ledger.end(ref, DONE))
        self.do(self.door.bill(ref, 0, 0))
        self.flying.pop(ref.id, None)

    @invariant()
    def counts_are_exact(self) -> None:
        own = self.all(self.door.in_flight(who) for who in self.people)
        of_teams = self.all(self.door.in_flight(who, "team") for who in self.people)
        meters = self.all(self.door.counted(who) for who in self.people)
        for who, in_flight, of_team, meter in zip(self.people, own, of_teams, meters, strict=True):
            assert in_flight == sum(who == other for other in self.flying.values())
            assert of_team == sum(who.team == other.team for other in self.flying.values())
            today = f"j:{periods.day(self.door.now)}"
            assert meter.get(today, 0) == self.calls[str(who) + who.team]

    def finish(self) -> None:
        """Once all have ended, everything is free that is not counted by the clock."""
        for id, who in list(self.flying.items()):
            ref = JobRef(id, who, "x", 0.0)
            self.do(self.door.ledger.end(ref, DONE))
        empty = plan(limit("in_flight", 1), limit("in_flight", 1, "team"))
        for who in (self.people[0], self.people[2]):
            assert self.do(self.door.open(who, empty, ref=new_ref(who))).word == "opened"


def test_limits_hold_whatever_comes_in_whatever_order(node_url: str) -> None:
    run(Limits, node_url)
