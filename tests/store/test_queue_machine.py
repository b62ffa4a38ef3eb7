"""The gateway's own queue, used in any order, beside a model of turns in exact fractions."""

import secrets
from fractions import Fraction
from hashlib import sha256
from math import floor
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from gateway.core.ends import WAITED_TOO_LONG, WITHDRAWN
from gateway.core.limits import Of, Queue
from gateway.core.meters import in_flight
from gateway.core.model import End, JobRef, Plan, Principal, Progress, State, Where
from gateway.store import keys
from gateway.store.ledger import Ended
from tests.store.doors import ENDPOINT, limit, person, plan
from tests.store.machines import Machine, run

DONE = End(State.COMPLETED, 200, Where.STORED, body=b"{}")
PEOPLE = st.integers(0, 3)
SIZES = st.sampled_from([0, 0, 1, 40, 120])
"""Bytes of an input, beside its id."""
ANY = st.integers(0, 10**6)


class Waiter:
    """A job that waits. `turn` is within its class."""

    def __init__(self, ref: JobRef, weight: int, priority: int, turn: Fraction) -> None:
        self.ref, self.weight, self.priority, self.turn = ref, weight, priority, turn

    @property
    def place(self) -> tuple[int, Fraction, str]:
        return self.priority, self.turn, self.ref.id


class Queued(Machine):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        team = self.people[0].team
        self.people = [person(name, team) for name in ("alice", "bob", "carol", "dave")]
        self.plans: list[Plan] = []
        self.flying: dict[str, JobRef] = {}
        self.accepted: set[str] = set()
        self.waiters: list[Waiter] = []
        self.admitted: set[str] = set()
        self.over: set[str] = set()
        self.inputs: dict[str, bytes] = {}
        """Those that lie in Redis."""
        self.count = 0

    @initialize(
        own=st.integers(1, 3),
        team=st.sampled_from([None, 2, 4]),
        weights=st.lists(st.sampled_from([1, 1, 2, 3]), min_size=4, max_size=4),
        classes=st.lists(st.sampled_from([0, 5, 5]), min_size=4, max_size=4),
        length=st.integers(2, 6),
        together=st.integers(4, 12),
        room=st.sampled_from([200, 400, 10_000]),
    )
    def bounds(
        self,
        own: int,
        team: int | None,
        weights: list[int],
        classes: list[int],
        length: int,
        together: int,
        room: int,
    ) -> None:
        bounds = [limit("in_flight", own)]
        if team is not None:
            bounds.append(limit("in_flight", team, "team"))
        self.plans = [
            plan(
                *bounds, queue=Queue(length, together, room, 600.0, weight, priority), name=f"p{n}"
            )
            for n, (weight, priority) in enumerate(zip(weights, classes, strict=True))
        ]

    # The model.

    def queue(self, who: int) -> Queue:
        queue = self.plans[who].queue
        assert queue is not None
        return queue

    def mine(self, who: Principal) -> list[Waiter]:
        return [one for one in self.waiters if one.ref.principal == who]

    def flies(self, who: Principal) -> int:
        return sum(ref.principal == who for ref in self.flying.values())

    def full(self, who: int) -> str | None:
        """Who has no room in flight, if somebody has none."""
        most = [in_flight(self.plans[who].limits, of) for of in (Of.PRINCIPAL, Of.TEAM)]
        if self.flies(self.people[who]) >= most[0]:
            return "principal"
        return "team" if 0 < most[1] <= len(self.flying) else None

    def full_queue(self, who: int, input: bytes, id: str = "") -> int:
        """Which bound of the queue, from 1, has no room for this input, in place of the one that
        the job `id` has; 0: it may wait."""
        queue = self.queue(who)
        if len(self.mine(self.people[who])) >= queue.length:
            return 1
        if len(self.waiters) >= queue.team_length:
            return 2
        lie = self.bytes() - len(self.inputs.get(id, b""))
        return 3 if lie + len(input) > queue.team_bytes else 0

    def bytes(self) -> int:
        return sum(map(len, self.inputs.values()))

    def join(self, who: int, ref: JobRef) -> None:
        queue = self.queue(who)
        turns = [one.turn for one in self.waiters if one.priority == queue.priority]
        own = [one.turn for one in self.mine(self.people[who]) if one.priority == queue.priority]
        last = max(min(turns, default=Fraction(0)), max(own, default=Fraction(0)))
        turn = last + Fraction(1, queue.weight)
        self.waiters.append(Waiter(ref, queue.weight, queue.priority, turn))

    def order(self) -> list[str]:
        return [one.ref.id for one in sorted(self.waiters, key=lambda one: one.place)]

    def leave(self, id: str) -> None:
        self.waiters = [one for one in self.waiters if one.ref.id != id]

    def number(self, ref: JobRef) -> int:
        return self.people.index(ref.principal)

    def numbered(self, who: Principal) -> JobRef:
        """Of two jobs with the same turn, the lesser id goes first: they are in the same order
        whenever a run is repeated."""
        rest = sha256(str(self.count).encode()).digest()[:3] + secrets.token_bytes(12)
        id = UUID(bytes=bytes.fromhex(keys.shard_of_team(who.team)) + rest, version=4)
        return JobRef(str(id), who, ENDPOINT, self.door.now)

    # What may happen.

    @rule(who=PEOPLE, size=SIZES)
    def open(self, who: int, size: int) -> None:
        one = self.people[who]
        mine, others = self.mine(one), list(self.waiters)
        bounded = in_flight(self.plans[who].limits, Of.TEAM) > 0
        waits = self.full(who) or mine or (bounded and others)
        self.count += 1
        ref = self.numbered(one)
        input = ref.id.encode() + b"x" * size
        bound = self.full_queue(who, input)

        call = (one, self.plans[who])
        first = self.do(self.door.open(*call, ref=ref, input=b"", size=len(input)))
        if first.word == "wait":
            assert not bound
            first = self.do(self.door.open(*call, ref=ref, input=input, size=len(input)))

        if not waits:
            assert first.word == "opened"
            self.flying[ref.id] = ref
        elif not bound:
            assert first.word == "waiting"
            self.join(who, ref)
            self.inputs[ref.id] = input
            if not mine:
                self.few_are_ahead(ref, others, first.numbers[0])
        else:
            assert (first.word, first.numbers) == ("full", (bound,))
            assert not self.do(self.redis.exists(keys.job(ref.id)))

    def few_are_ahead(self, ref: JobRef, others: list[Waiter], position: int) -> None:
        """A newcomer waits for one round of his class: of each other, as many as his weight says
        and one more; and for the classes before."""
        [new] = [one for one in self.waiters if one.ref.id == ref.id]
        ahead = self.do(self.door.waiting(ref.principal, "team")).index(ref.id)
        allowed = sum(other.priority < new.priority for other in others)
        for who in {one.ref.principal for one in others if one.priority == new.priority}:
            theirs = [one for one in others if one.ref.principal == who]
            allowed += min(len(theirs), floor(theirs[0].weight / new.weight) + 1)
        assert ahead <= allowed
        assert position >= ahead

    @precondition(lambda self: set(self.flying) - self.accepted)
    @rule(which=ANY, size=SIZES)
    def park(self, which: int, size: int) -> None:
        """The account had no room."""
        fresh = sorted(set(self.flying) - self.accepted)
        ref = self.flying[fresh[which % len(fresh)]]
        who = self.number(ref)
        input = self.inputs.get(ref.id, ref.id.encode() + b"x" * size)
        may = not self.full_queue(who, input, ref.id)

        assert self.do(self.door.park(ref, self.queue(who), input)) is may

        if may:
            del self.flying[ref.id]
            self.admitted.discard(ref.id)
            self.join(who, ref)
            self.inputs[ref.id] = input

    @precondition(lambda self: self.waiters)
    @rule(which=ANY)
    def admit_any(self, which: int) -> None:
        self.admit(sorted(self.waiters, key=lambda one: one.place)[which % len(self.waiters)].ref)

    @precondition(lambda self: self.waiters)
    @rule()
    def admit_next(self) -> None:
        """As the dispatcher does: the first whose principal has room."""
        heads = self.do(self.door.queues.heads(self.people[0].team))
        assert [job.id for job in heads] == self.order()
        for job in heads:
            full = self.full(self.number(job.ref))
            if full != "principal":
                self.admit(job.ref)
                return

    def admit(self, ref: JobRef) -> None:
        who = self.number(ref)
        full = self.full(who)
        own = [in_flight(self.plans[who].limits, of) for of in (Of.PRINCIPAL, Of.TEAM)]
        waited = [one.ref.id for one in self.waiters]

        admission = self.do(self.door.admit(ref, self.plans[who], (own[0], own[1])))

        if full is not None:
            assert admission.word in {"principal", "team"}
            assert ref.id in waited
            return
        assert (admission.word, admission.input) == ("admitted", self.inputs[ref.id])
        assert ref.id not in self.admitted
        self.admitted.add(ref.id)
        self.leave(ref.id)
        self.flying[ref.id] = ref

    @precondition(lambda self: self.flying or self.over)
    @rule(which=ANY)
    def admit_who_does_not_wait(self, which: int) -> None:
        ids = sorted(self.flying) + sorted(self.over)
        ref = JobRef(ids[which % len(ids)], self.people[0], "x", 0.0)
        assert self.do(self.door.admit(ref, self.plans[0], (0, 0))).word == "gone"

    @precondition(lambda self: self.flying)
    @rule(which=ANY)
    def accept(self, which: int) -> None:
        ref = self.one_flying(which)
        took = ("main", Progress(State.RUNNING), 5.0)
        assert self.do(self.door.ledger.accept(ref, f"fal-{ref.id}", *took))[0] == "accepted"
        self.accepted.add(ref.id)
        self.inputs.pop(ref.id, None)

    @precondition(lambda self: set(self.flying) - self.accepted)
    @rule(which=ANY)
    def lose(self, which: int) -> None:
        """Nobody knows whether fal has it; it counts as in flight for a while, and ends."""
        fresh = sorted(set(self.flying) - self.accepted)
        ref = self.flying[fresh[which % len(fresh)]]
        assert self.do(self.door.ledger.lost(ref, 60.0))
        self.inputs.pop(ref.id, None)
        assert not self.do(self.door.park(ref, self.queue(self.number(ref)), b"x"))
        self.count_is_right()
        assert self.do(self.door.ledger.end(ref, DONE)) is Ended.ENDED
        del self.flying[ref.id]
        self.over.add(ref.id)

    @precondition(lambda self: self.waiters)
    @rule(which=ANY)
    def lose_an_input(self, which: int) -> None:
        """Redis has lost it: whoever would send it gives back what it took up, and it ends."""
        ref = self.waiters[which % len(self.waiters)].ref
        self.do(self.redis.delete(keys.queue_input(ref.id)))
        assert self.do(self.door.admit(ref, self.plans[0], (0, 0))).word == "gone"
        del self.inputs[ref.id]
        self.count_is_right()
        assert self.do(self.door.ledger.end(ref, WAITED_TOO_LONG, waiting=True)) is Ended.ENDED
        self.leave(ref.id)
        self.over.add(ref.id)

    @precondition(lambda self: self.flying)
    @rule(which=ANY)
    def end(self, which: int) -> None:
        ref = self.one_flying(which)
        assert self.do(self.door.ledger.end(ref, WAITED_TOO_LONG, waiting=True)) is Ended.KEPT
        assert self.do(self.door.ledger.end(ref, DONE)) is Ended.ENDED
        del self.flying[ref.id]
        self.inputs.pop(ref.id, None)
        self.over.add(ref.id)

    @precondition(lambda self: self.waiters)
    @rule(which=ANY, cancelled=st.booleans())
    def give_up(self, which: int, cancelled: bool) -> None:
        """Cancelled, or it has waited for too long."""
        ref = self.waiters[which % len(self.waiters)].ref
        if cancelled:
            assert self.do(self.door.ledger.cancel(ref))[0] == "withdrawn"
            assert self.do(self.door.admit(ref, self.plans[0], (0, 0))).word == "gone"
        end = WITHDRAWN if cancelled else WAITED_TOO_LONG
        assert self.do(self.door.ledger.end(ref, end, waiting=True)) is Ended.ENDED
        assert self.do(self.door.ledger.end(ref, end, waiting=True)) is Ended.BEFORE
        self.leave(ref.id)
        del self.inputs[ref.id]
        self.over.add(ref.id)

    def one_flying(self, which: int) -> JobRef:
        return self.flying[sorted(self.flying)[which % len(self.flying)]]

    # What always holds.

    @invariant()
    def all_are_where_they_should_be(self) -> None:
        shard, team = keys.shard_of_team(self.people[0].team), self.people[0].team
        digests = [keys.team_digest(team), *(who.digest for who in self.people)]
        order = self.order()
        together, *own, inputs, in_flight, at_all = self.do(self.seen(shard, digests, order))
        assert [id.decode() for id in together] == order
        for who, ids, flying in zip(self.people, own, at_all, strict=True):
            mine = {one.ref.id for one in self.mine(who)}
            assert [id.decode() for id in ids] == [id for id in order if id in mine]
            assert flying == self.flies(who)
        assert inputs == len(order)
        assert in_flight == len(self.flying)
        self.count_is_right()

    def count_is_right(self) -> None:
        """What is counted is what lies there, job by job and in all."""
        team = self.people[0].team
        found = self.do(self.stored())
        assert found == {id: len(input) for id, input in self.inputs.items()}
        counted: Any = self.do(self.redis.hgetall(keys.inputs(team)))
        said = {id.decode(): int(bytes) for id, bytes in counted.items()}
        assert said.pop("all", 0) == self.bytes()
        assert said == found
        ends: Any = self.do(self.redis.zrange(keys.inputs_end(team), 0, -1))
        assert {id.decode() for id in ends} == set(found)

    async def stored(self) -> dict[str, int]:
        """Bytes of each input that lies in Redis, of all jobs that there ever were."""
        waiters = (one.ref.id for one in self.waiters)
        known = sorted({*self.flying, *self.over, *self.inputs, *waiters})
        async with self.redis.pipeline(transaction=False) as pipe:
            for id in known:
                pipe.strlen(keys.queue_input(id))
            sizes = await pipe.execute()
        return {id: size for id, size in zip(known, sizes, strict=True) if size}

    async def seen(self, shard: str, digests: list[str], order: list[str]) -> list[Any]:
        """Who waits, of the team and of each; inputs; who is in flight, likewise."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for digest in digests:
                pipe.zrange(keys.waiting(shard, digest), 0, -1)
            for digest in digests:
                pipe.zcard(keys.slots(shard, digest))
            for id in order:
                pipe.exists(keys.queue_input(id))
            found = await pipe.execute()
        many = len(digests)
        return [*found[:many], sum(found[2 * many :]), found[many], found[many + 1 : 2 * many]]

    @rule()
    def look(self) -> None:
        """Positions are told as they are: behind those on their way to fal."""
        order = self.order()
        ahead = len((self.admitted & set(self.flying)) - self.accepted)
        jobs = self.all(self.door.ledger.read(id) for id in order)
        places = [job.position if job else None for job in jobs]
        assert places == list(range(ahead, ahead + len(order)))

    def finish(self) -> None:
        """With room, all get to fal, each principal's in the order in which they came."""
        while self.flying:
            self.end(0)
        gone: list[str] = []
        while self.waiters:
            before = set(self.flying)
            self.admit_next()
            [id] = set(self.flying) - before
            gone.append(id)
            self.end(0)
        self.all_are_where_they_should_be()
        due: Any = self.do(
            self.redis.zrange(keys.due(keys.shard_of_team(self.people[0].team)), 0, -1)
        )
        assert self.over <= {id.decode() for id in due}  # to be settled


def test_the_queue_is_fair_and_loses_nobody(node_url: str) -> None:
    run(Queued, node_url, examples=40)
