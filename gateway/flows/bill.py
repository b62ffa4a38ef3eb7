"""What a call may cost, before; what it did cost, after."""

from typing import Final

from gateway.core import prices
from gateway.core.errors import PriceUnknown
from gateway.core.limits import Unit
from gateway.core.model import Plan
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


async def _price(services: Services, endpoint: str, override: Override | None) -> Price | None:
    if override is not None and override.unit_price is not None:
        return Price(override.unit_price, override.unit)
    return await services.prices.of(endpoint, services.clock())
