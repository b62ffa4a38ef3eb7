"""Anonymous visitors in the settings, and what a gateway that is open to them must have."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from gateway.core.limits import Measure, Of
from gateway.core.model import Plan
from gateway.core.tokens import VISITOR_LIFETIME
from gateway.settings.sections import Section
from gateway.settings.sources import Clash
from gateway.settings.values import Bound, Name, seconds_of

_OF_ADDRESS: Final = frozenset({Measure.RATE, Measure.JOBS})
_OF_ALL: Final = _OF_ADDRESS | {Measure.IN_FLIGHT}


class Visitors(Section):
    plan: Name = Field(default="visitors", description="The plan of anonymous visitors")
    lifetime: Annotated[
        int,
        Field(ge=60, le=VISITOR_LIFETIME),
        BeforeValidator(seconds_of, json_schema_input_type=int | str),
        Bound.SECONDS,
    ] = Field(default=VISITOR_LIFETIME, description="How long a visitor's cookie is good")


def clashes(visitors: Visitors, plans: Mapping[str, Plan]) -> Iterator[Clash]:
    """What is missing for `anonymous: on`."""
    plan = plans.get(visitors.plan)
    if plan is None:
        yield Clash(
            ("anonymous",),
            f"on needs a plan for visitors: plans: {{{visitors.plan}: {{endpoints: [...], limits: "
            "[{jobs: 20/day, of: address}, {jobs: 1000/day, of: team}]}}",
        )
        return
    if not _capped(plan, Of.ADDRESS, _OF_ADDRESS):
        yield Clash(
            ("anonymous",),
            f"on needs a cap for each address: add {{jobs: 20/day, of: address}} to "
            f"plans.{visitors.plan}.limits (or a rate; not in shadow)",
        )
    budget = any(budget.of is Of.TEAM and not budget.shadow for budget in plan.budgets)
    if not budget and not _capped(plan, Of.TEAM, _OF_ALL):
        yield Clash(
            ("anonymous",),
            f"on needs a cap for all visitors together: add {{jobs: 1000/day, of: team}} to "
            f"plans.{visitors.plan}.limits, or a budget of: team (not in shadow)",
        )


def _capped(plan: Plan, of: Of, measures: frozenset[Measure]) -> bool:
    return any(
        limit.of is of and limit.measure in measures and not limit.shadow for limit in plan.limits
    )


def strays(visitors: Visitors, plans: Mapping[str, Plan]) -> Iterator[Clash]:
    """Limits that nobody would be held to: callers with credentials have no address here."""
    for name, plan in plans.items():
        for index, limit in enumerate(plan.limits):
            if limit.of is Of.ADDRESS and name != visitors.plan:
                route = ("plans", name, "limits", str(index), "of")
                yield Clash(
                    route,
                    f"address is for the plan of anonymous visitors alone, {visitors.plan}: "
                    "others are principal or team",
                )
