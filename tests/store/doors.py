"""What lets calls in, as the flows use it, for tests that look at nothing else."""

import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from gateway.core.limits import DAY, MICRO, Budget, Limit, Measure, Of, Period, Queue, Unit
from gateway.core.meters import Asked, Verdict, asked, queue_text
from gateway.core.model import JobRef, Kind, Plan, Principal, State
from gateway.core.prices import NOTHING, Estimate
from gateway.store import keys
from gateway.store.ledger import Ledger, Opening
from gateway.store.queues import Admission, Queues
from gateway.store.settlements import Bill, Settlements

RETENTION = 3600
ENDPOINT = "fal-ai/flux/dev"


def new_ref(principal: Principal, endpoint: str = ENDPOINT) -> JobRef:
    shard = bytes.fromhex(keys.shard_of_team(principal.team))
    id = UUID(bytes=shard + secrets.token_bytes(15), version=4)
    return JobRef(str(id), principal, endpoint, round(time.time(), 3))


def person(name: str = "alice", team: str | None = None) -> Principal:
    """Of a team of its own, unless it is named: nobody else counts there."""
    return Principal(secrets.token_hex(8) if team is None else team, Kind.USER, name)


def limit(measure: str, amount: int, of: str = "principal", **more: Any) -> Limit:
    name = more.pop("name", f"{of}-{measure}")
    return Limit(name, Measure(measure), Of(of), amount, **more)


def rate(amount: int, of: str = "principal", per: float = DAY, **more: Any) -> Limit:
    """Of a day, unless said: no place of it comes back while a test runs."""
    return limit("rate", amount, of, per=per, **more)


def budget(
    amount: float, unit: str = "usd", of: str = "principal", per: str = "day", shadow: bool = False
) -> Budget:
    name = f"{of}-{unit}-{per}"
    return Budget(name, Of(of), round(amount * MICRO), Unit(unit), Period(per), shadow)


def plan(*bounds: Limit | Budget, queue: Queue | None = None, name: str = "plan") -> Plan:
    return Plan(
        name,
        limits=tuple(bound for bound in bounds if isinstance(bound, Limit)),
        budgets=tuple(bound for bound in bounds if isinstance(bound, Budget)),
        queue=queue,
    )


def costs(usd: float = 0.0, units: float = 0.0) -> Estimate:
    return Estimate(round(usd * MICRO), round(units * MICRO), "1000000")


@dataclass(frozen=True)
class Said:
    """What a call heard: of which job, what it had asked, and the answer."""

    ref: JobRef
    asked: Asked
    verdict: Verdict

    @property
    def word(self) -> str:
        return self.verdict.word

    @property
    def numbers(self) -> tuple[int, ...]:
        return self.verdict.numbers

    @property
    def left(self) -> tuple[int, ...]:
        """How many more calls each limit takes."""
        return self.numbers[1 if self.word == "waiting" else 0 :][::2]


@dataclass
class Door:
    redis: Redis
    now: float = field(default_factory=time.time)
    """For all that a test does: no midnight comes in between."""
    ledger: Ledger = field(init=False)
    queues: Queues = field(init=False)
    settlements: Settlements = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.redis, RETENTION)
        self.queues = Queues(self.redis)
        self.settlements = Settlements(self.redis, RETENTION)

    async def open(
        self,
        who: Principal,
        plan: Plan,
        estimate: Estimate = NOTHING,
        *,
        ref: JobRef | None = None,
        address: str | None = None,
        input: bytes = b"{}",
        size: int = 0,
        run: bool = False,
    ) -> Said:
        """One call; `input` empty: it has not heard yet that it may have to wait."""
        ref = ref or new_ref(who)
        wish = asked(plan, estimate, self.now, address=address is not None, run=run)
        opening = Opening(60.0, False, plan=plan.name, price=estimate.price, run=run)
        verdict = await self.ledger.open(
            ref, opening, wish, address=address, input=input, size=size
        )
        return Said(ref, wish, verdict)

    async def words(self, times: int, who: Principal, plan: Plan, **more: Any) -> list[str]:
        return [(await self.open(who, plan, **more)).word for _ in range(times)]

    async def admit(self, ref: JobRef, plan: Plan, most: tuple[int, int]) -> Admission:
        return await self.queues.admit(ref, "main", most, 60.0, secrets.token_hex(8))

    async def park(self, ref: JobRef, queue: Queue, input: bytes = b"{}") -> bool:
        """As whoever opened it, or let it go last."""
        attempt: Any = await self.redis.hget(keys.job(ref.id), "attempt")
        text = (attempt or b"").decode()
        return bool(await self.queues.park(ref, queue_text(queue), input, text))

    async def announce(self, team: str, ago: float = 0.0) -> None:
        """Say that jobs of `team` may wait, or have said so a while ago."""
        await self.queues.announce(team)
        await self.redis.zincrby(keys.QUEUES, -ago, team)

    async def bill(
        self, ref: JobRef, units: int, cost: int, state: State = State.COMPLETED, run: bool = False
    ) -> bool:
        """Settle an ended job, or a run, for so many millionths."""
        bill = Bill(state, self.now, units, cost, run)
        return await self.settlements.settle(ref, bill, None, self.now)

    async def counted(self, who: Principal, of: str = "principal") -> dict[str, int]:
        """A subject's meter."""
        return await self._numbers(keys.meter(*self._place(who, of)))

    async def spend(self, who: Principal, of: str = "principal") -> dict[str, int]:
        return await self._numbers(keys.spend(*self._place(who, of)))

    async def in_flight(self, who: Principal, of: str = "principal") -> int:
        count: Any = await self.redis.zcard(keys.slots(*self._place(who, of)))
        return int(count)

    async def waiting(self, who: Principal, of: str = "principal") -> list[str]:
        """Ids of those who wait, in their order."""
        ids: Any = await self.redis.zrange(keys.waiting(*self._place(who, of)), 0, -1)
        return [id.decode() for id in ids]

    def _place(self, who: Principal, of: str) -> tuple[str, str]:
        digest = who.digest if of == "principal" else keys.team_digest(who.team)
        return keys.shard_of_team(who.team), digest

    async def _numbers(self, key: str) -> dict[str, int]:
        fields: Any = await self.redis.hgetall(key)
        return {name.decode(): int(value) for name, value in fields.items()}
