"""Reservations, ends and bills in any order, beside a model that sums with Python's integers."""

from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, multiple, rule

from gateway.core import periods
from gateway.core.limits import Budget, Of, Unit
from gateway.core.model import End, JobRef, Plan, Principal, State, Where
from gateway.core.prices import Estimate
from tests.store.doors import budget, new_ref, plan
from tests.store.machines import Machine, run

DONE = End(State.COMPLETED, 200, Where.STORED, body=b"{}")

MICROS = st.one_of(st.integers(0, 3_000_000), st.integers(10**14, 2 * 10**14))
BUDGETS = st.builds(
    budget,
    st.one_of(st.integers(0, 20), st.just(10**9)),
    st.sampled_from(["usd", "units"]),
    st.sampled_from(["principal", "team"]),
    st.sampled_from(["day", "week", "month"]),
)


class Money(Machine):
    calls: Bundle[Any] = Bundle("calls")

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.plan = Plan("none")
        self.held: dict[str, tuple[Principal, dict[Unit, int]]] = {}
        self.billed: list[tuple[Principal, dict[Unit, int]]] = []
        self.ended: set[str] = set()
        self.settled: set[str] = set()
        self.runs: set[str] = set()

    @initialize(budgets=st.lists(BUDGETS, max_size=4, unique_by=lambda one: one.name))
    def plans(self, budgets: list[Budget]) -> None:
        self.plan = plan(*budgets)

    def sums(self, who: Principal, of: Of) -> tuple[Counter[Unit], Counter[Unit]]:
        """What is reserved, and what was billed."""

        def summed(sides: list[tuple[Principal, dict[Unit, int]]]) -> Counter[Unit]:
            total: Counter[Unit] = Counter()
            for other, amounts in sides:
                if who == other if of is Of.PRINCIPAL else who.team == other.team:
                    total.update(amounts)
            return total

        return summed(list(self.held.values())), summed(self.billed)

    def left(self, bound: Budget, who: Principal) -> int:
        held, billed = self.sums(who, bound.of)
        return bound.amount - held[bound.unit] - billed[bound.unit]

    @rule(target=calls, who=st.integers(0, 2), usd=MICROS, units=MICROS, run=st.booleans())
    def open(self, who: int, usd: int, units: int, run: bool) -> Any:
        one, wish = self.people[who], {Unit.USD: usd, Unit.UNITS: units}
        over = [bound for bound in self.plan.budgets if wish[bound.unit] > self.left(bound, one)]

        said = self.do(self.door.open(one, self.plan, Estimate(usd, units, "1"), run=run))

        if over:
            assert said.word == "spent"
            assert self.plan.budgets[said.numbers[0] - 1] == over[0]
            assert said.numbers[1] == max(0, self.left(over[0], one))
            return multiple()
        assert said.word == "opened"
        self.held[said.ref.id] = (one, wish)
        if run:
            self.runs.add(said.ref.id)
        return said.ref

    @rule(ref=calls)
    def say_again(self, ref: JobRef) -> None:
        """Also of a run that is over: for a minute, it is remembered."""
        estimate = Estimate(10**6, 10**6, "1")
        run = ref.id in self.runs
        said = self.do(self.door.open(ref.principal, self.plan, estimate, ref=ref, run=run))
        assert said.word == "there"

    @rule(ref=calls)
    def end(self, ref: JobRef) -> None:
        if ref.id not in self.runs:
            self.do(self.door.ledger.end(ref, DONE))
            self.ended.add(ref.id)

    @rule(ref=calls, units=MICROS, cost=MICROS)
    def bill(self, ref: JobRef, units: int, cost: int) -> None:
        """Once, whoever says it how often, and only after the end."""
        run = ref.id in self.runs
        may = (run or ref.id in self.ended) and ref.id not in self.settled

        assert self.do(self.door.bill(ref, units, cost, run=run)) is may

        if may:
            self.settled.add(ref.id)
            who, _ = self.held.pop(ref.id)
            self.billed.append((who, {Unit.USD: cost, Unit.UNITS: units}))

    @invariant()
    def sums_are_exact(self) -> None:
        subjects = [(who, of) for who in self.people for of in (Of.PRINCIPAL, Of.TEAM)]
        spends = self.all(self.door.spend(who, of) for who, of in subjects)
        for (who, of), spend in zip(subjects, spends, strict=True):
            held, billed = self.sums(who, of)
            for unit in Unit:
                assert spend.get(f"held:{unit}", 0) == held[unit]
                for per in ("day", "week", "month"):
                    name = periods.field(budget(1, per=per).per, unit, self.door.now)
                    assert spend.get(name, 0) == billed[unit]

    def finish(self) -> None:
        """When all has ended, nothing is reserved, and whatever is left can be spent."""
        for id, (who, _) in list(self.held.items()):
            ref = JobRef(id, who, "x", 0.0)
            if id not in self.runs and id not in self.ended:
                self.end(ref)
            self.bill(ref, 1, 1)
        self.sums_are_exact()
        for who in self.people:
            left = [(bound, max(0, self.left(bound, who))) for bound in self.plan.budgets]
            most = {
                unit: min((rest for bound, rest in left if bound.unit is unit), default=10**15)
                for unit in Unit
            }
            if any(self.left(bound, who) < 0 for bound in self.plan.budgets):
                continue
            estimate = Estimate(most[Unit.USD], most[Unit.UNITS], "1")
            ref = new_ref(who)
            assert self.do(self.door.open(who, self.plan, estimate, ref=ref)).word == "opened"
            self.do(self.door.ledger.end(ref, DONE))
            assert self.do(self.door.bill(ref, 0, 0))


def test_money_is_exact_whatever_comes_in_whatever_order(node_url: str) -> None:
    run(Money, node_url)
