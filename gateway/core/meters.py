"""What a call asks of its plan's limits and budgets, as `open.lua` reads it, and the answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any, Final

import msgspec

from gateway.core import gcra, periods
from gateway.core.errors import BudgetSpent, GatewayError, LimitReached
from gateway.core.limits import DAY, Budget, Limit, Measure, Of, Queue, Standing, Unit
from gateway.core.model import Plan
from gateway.core.prices import NOTHING, Estimate, usd_text
from gateway.core.quota import reached

AT_OPENING: Final = frozenset({Measure.RATE, Measure.JOBS, Measure.IN_FLIGHT})
"""What is counted when a job or a run is opened; streams and uploads are counted elsewhere."""
METER_LIVES: Final = 2 * DAY
"""Seconds that a subject's counters outlive its last call: longer than any of their windows."""
SPEND_LIVES: Final = 100 * DAY
"""Seconds that what a subject has spent outlives its last job: longer than any period."""
BOUNDS: Final = ("length", "team_length", "team_bytes")
"""Of a queue, as `queue.lua` counts them from 1."""
FREES: Final = 2.0
"""Seconds after which a place in flight may be free again: nobody knows."""


@dataclass(frozen=True, slots=True)
class Asked:
    """`text` is JSON for the script, which speaks of `limits` and `budgets` by their places.

    `usd` and `units` are millionths to be reserved.
    """

    text: bytes
    limits: tuple[Limit, ...] = ()
    budgets: tuple[Budget, ...] = ()
    usd: int = 0
    units: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The script's answer: `word` is one of those in its head, `numbers` what follows it."""

    word: str
    numbers: tuple[int, ...] = ()


def asked(
    plan: Plan | None,
    estimate: Estimate,
    now: float,
    *,
    address: bool = False,
    run: bool = False,
    replay: bool = False,
) -> Asked:
    """What opening a job, or a direct `run`, asks. `now` is Unix seconds.

    `address`: the caller is counted by an address too. `replay`: it was let in before, and what
    it uses is only written down again.
    """
    known = _asked_on(int(now // DAY), plan, address, run, replay)
    if not (estimate.usd or estimate.units):
        return known
    return replace(known, usd=estimate.usd or 0, units=estimate.units)


@lru_cache(maxsize=1024)
def _asked_on(day: int, plan: Plan | None, address: bool, run: bool, replay: bool) -> Asked:
    """The same for each call of a plan on one day, in days since the epoch."""
    limits = () if plan is None or replay else tuple(_counted(plan.limits, address))
    budgets = () if plan is None or replay else plan.budgets
    queue = None if plan is None or run else plan.queue
    now = float(day * DAY)
    body: dict[str, Any] = {
        "limits": [_limit(limit) for limit in limits],
        "budgets": [_budget(budget, now) for budget in budgets],
        "day": periods.day(now),
        "meter_lives": METER_LIVES,
        "spend_lives": SPEND_LIVES,
    }
    if run:
        body["run"] = True
    if address:
        body["address"] = True
    if queue is not None:
        body["queue"] = _queue(queue) | {"shared": in_flight(limits, Of.TEAM) > 0}
    return Asked(msgspec.json.encode(body), limits, budgets)


def nothing_asked(now: float) -> Asked:
    """For a job that somebody was let in with before."""
    return asked(None, NOTHING, now, replay=True)


def queue_text(queue: Queue) -> bytes:
    """A plan's queue, as `park.lua` reads it."""
    return msgspec.json.encode(_queue(queue))


def in_flight(limits: Sequence[Limit], of: Of) -> int:
    """How many jobs may be in flight at once; 0 for any number."""
    amounts = [
        limit.amount
        for limit in limits
        if limit.measure is Measure.IN_FLIGHT and limit.of is of and not limit.shadow
    ]
    return min(amounts, default=0)


def standings(asked: Asked, verdict: Verdict) -> tuple[Standing, ...]:
    """How the caller stands after a call that was let in."""
    numbers = verdict.numbers[1:] if verdict.word == "waiting" else verdict.numbers
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return tuple(
        Standing(limit, left, reset / 1000)
        for limit, (left, reset) in zip(asked.limits, pairs, strict=False)
    )


def refusal(asked: Asked, verdict: Verdict, now: float) -> GatewayError:
    """Why a call was not let in."""
    index = verdict.numbers[0] - 1
    if verdict.word == "full":
        return LimitReached(
            f"the queue of the plan is full ({BOUNDS[index]}); come again when a job has ended"
        )
    if verdict.word == "spent":
        return _spent(asked.budgets[index], verdict.numbers[1], now)
    limit = asked.limits[index]
    wait = FREES if limit.measure is Measure.IN_FLIGHT else verdict.numbers[1] / 1000
    return reached(limit, wait)


def _spent(budget: Budget, left: int, now: float) -> BudgetSpent:
    resets_at = periods.ends_at(budget.per, now)
    worth = "$" + usd_text(left) if budget.unit is Unit.USD else f"{usd_text(left)} units"
    error = BudgetSpent(
        f"the budget {budget.name} does not cover this call: {worth} of it is left; it begins "
        f"anew at {periods.written(resets_at)}"
    )
    error.budget, error.remaining, error.resets_at = budget, left, resets_at
    error.retry_after = max(1, ceil(resets_at - now))
    return error


def _counted(limits: Sequence[Limit], address: bool) -> list[Limit]:
    return [
        limit
        for limit in limits
        if limit.measure in AT_OPENING and (address or limit.of is not Of.ADDRESS)
    ]


def _limit(limit: Limit) -> dict[str, Any]:
    """Times in microseconds, as GCRA counts them."""
    body: dict[str, Any] = {
        "measure": limit.measure,
        "of": limit.of,
        "name": limit.name,
        "amount": limit.amount,
        "shadow": limit.shadow,
    }
    if limit.measure is Measure.RATE:
        pace = gcra.pace(limit)
        body |= {"interval": pace.interval, "burst": pace.burst, "field": gcra.field(limit)}
    return body


def _budget(budget: Budget, now: float) -> dict[str, Any]:
    return {
        "of": budget.of,
        "name": budget.name,
        "unit": budget.unit,
        "amount": budget.amount,
        "spent": periods.field(budget.per, budget.unit, now),
        "shadow": budget.shadow,
    }


def _queue(queue: Queue) -> dict[str, Any]:
    return {
        "length": queue.length,
        "team_length": queue.team_length,
        "team_bytes": queue.team_bytes,
        "wait": round(queue.wait * 1000),
        "weight": queue.weight,
        "priority": queue.priority,
    }
