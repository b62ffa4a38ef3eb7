"""What a call may cost, before; what it did cost, after."""

from typing import Final

from gateway.core import prices
from gateway.core.errors import PriceUnknown
from gateway.core.limits import Unit
from gateway.core.model import JobRef, Plan, State
from gateway.core.prices import NOTHING, Estimate, Override, Price
from gateway.flows.services import Services

COST: Final = "x-gateway-cost"


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
    counted = prices.billed_units(units)
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
) -> bool:
    """Charge a direct run that has ended, and drop its record; `units` as fal's header has them.

    A run that `failed` or was `cancelled` and says nothing is free; any other that says nothing,
    also one whose outcome is not known, costs what was reserved.
    """
    told = billed_units(units)
    if told is None and state in {State.FAILED, State.CANCELLED}:
        told = 0
    if told is None:
        _log.warning("billed units not told: charged as estimated", extra={"run": ref.id})
        bill = Bill(_end_of_run(state), services.clock(), estimate.units, estimate.usd)
    else:
        price = estimate.price or (await _late_price(services, ref.endpoint) if told else "")
        bill = Bill(_end_of_run(state), services.clock(), told, _cost(told, price))
    return await services.settlements.settle(ref, bill, None, services.clock())


async def settle_lost_run(services: Services, job: Job) -> bool:
    """A run whose process died: nobody knows what became of it."""
    _log.warning("a run broke off: charged as estimated", extra={"run": job.id})
    bill = _estimated(job, State.EXPIRED, services.clock())
    return await services.settlements.settle(job.ref, bill, None, services.clock())


def _estimated(job: Job, state: State, at: float) -> Bill:
    return Bill(state, at, job.held_units, job.held_usd if job.price else None)


def _end_of_run(state: State) -> State:
    """What it counts as, in usage."""
    return state if state.ended else State.EXPIRED


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


async def settle_run(
    services: Services, ref: JobRef, units: int | None, state: State, held: Estimate
) -> None:
    """Give back what a direct run held, and count what it cost; None: as estimated."""
    # The settlement of jobs brings it along.
