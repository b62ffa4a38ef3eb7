"""What a call may cost, before; what it did cost, after."""

import logging
from contextlib import suppress
from dataclasses import replace

from gateway.core import prices
from gateway.core.ends import charged
from gateway.core.errors import PricesUnavailable, PriceUnknown
from gateway.core.limits import Unit
from gateway.core.model import End, Job, JobRef, Plan, State
from gateway.core.prices import COST, NOTHING, Estimate, Override, Price, billed_units
from gateway.flows.services import Services
from gateway.store.settlements import Bill

_log = logging.getLogger("gateway.bill")


async def estimate(services: Services, plan: Plan, endpoint: str, body: bytes) -> Estimate:
    """What to reserve for a call; nothing where the plan has no budgets.

    Raises `PriceUnknown` where a budget is in dollars and neither fal nor the operator names a
    price, `PricesUnavailable` where fal cannot be asked: both before fal is called.
    """
    if not plan.budgets:
        return NOTHING
    override = prices.chosen(services.price_overrides, endpoint)
    if all(budget.unit is Unit.UNITS for budget in plan.budgets):
        return prices.estimate(None, override, body)
    price = await _price(services, endpoint, override)
    if price is None:
        raise PriceUnknown(f"the price of {endpoint} is not known, and the plan has a budget")
    return prices.estimate(price, override, body)


def cost_header(estimate: Estimate, units: str | None) -> dict[str, str]:
    """`x-gateway-cost` of an answer whose `x-fal-billable-units` are `units`, if it can be told."""
    counted = billed_units(units)
    if counted is None or not estimate.price:
        return {}
    return {COST: prices.usd_text(prices.cost(counted, estimate.price))}


async def settle(services: Services, job: Job, end: End) -> bool:
    """Charge an ended job for what fal bills, and be done with it. `end` lacks nothing any more.

    Where fal did not tell, what was reserved is charged: never nothing by mistake.
    """
    units = charged(end)
    if units is None:
        _log.warning("billed units not told: charged as estimated", extra={"job": job.id})
        bill = _estimated(job, end.state, job.ended_at or services.clock())
    else:
        price = job.price or (await _late_price(services, job.ref.endpoint) if units else "")
        bill = Bill(end.state, job.ended_at or services.clock(), units, _cost(units, price))
    return await services.settlements.settle(job.ref, bill, end, services.clock())


async def settle_run(
    services: Services, ref: JobRef, units: str | None, state: State, estimate: Estimate
) -> None:
    """Charge a direct run that is over, and drop its record; `units` as fal's header has them."""
    bill = await run_bill(services, ref, units, state, estimate)
    await services.settlements.settle(ref, bill, None, bill.at)


async def run_bill(
    services: Services, ref: JobRef, units: str | None, state: State, estimate: Estimate
) -> Bill:
    """What is charged for a direct run that is over.

    One that `failed` or was `cancelled` and says nothing is free; any other that says nothing,
    also one whose outcome is not known, costs what was reserved.
    """
    now, told = services.clock(), billed_units(units)
    ended = state if state.ended else State.EXPIRED
    if told is None and state not in {State.FAILED, State.CANCELLED}:
        if estimate.units:
            _log.warning("billed units not told: charged as estimated", extra={"run": ref.id})
        return Bill(ended, now, estimate.units, estimate.usd, run=True)
    price = estimate.price or (await _late_price(services, ref.endpoint) if told else "")
    return Bill(ended, now, told or 0, _cost(told or 0, price), run=True)


async def settle_lost_run(services: Services, job: Job) -> bool:
    """A run whose process died: nobody knows what became of it."""
    _log.warning("a run broke off: charged as estimated", extra={"run": job.id})
    bill = replace(_estimated(job, State.EXPIRED, services.clock()), run=True)
    return await services.settlements.settle(job.ref, bill, None, services.clock())


def _estimated(job: Job, state: State, at: float) -> Bill:
    return Bill(state, at, job.held_units, job.held_usd if job.price else None)


def _cost(units: int, price: str) -> int | None:
    """Nothing costs nothing, whatever the price."""
    if not units:
        return 0
    return prices.cost(units, price) if price else None


async def _late_price(services: Services, endpoint: str) -> str:
    """Of a call for which none was asked before: usage tells what it did cost all the same."""
    with suppress(PricesUnavailable):
        price = await _price(services, endpoint, prices.chosen(services.price_overrides, endpoint))
        return prices.price_text(price) if price is not None else ""
    return ""


async def _price(services: Services, endpoint: str, override: Override | None) -> Price | None:
    if override is not None and override.unit_price is not None:
        return Price(override.unit_price, override.unit)
    return await services.prices.of(endpoint, services.clock())
