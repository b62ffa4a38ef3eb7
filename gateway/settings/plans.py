"""Plans, as the file and the admin API have them, and what they mean."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from gateway.core.errors import BadBody
from gateway.core.limits import DAY, MICRO, Budget, Limit, Measure, Queue, Unit
from gateway.core.model import Plan
from gateway.core.prices import usd_text
from gateway.core.rulebook import faults as rule_faults
from gateway.settings.plan_sections import BudgetEntry, LimitEntry, PlanRules, RuleEntry
from gateway.settings.sources import Route, first_mistake
from gateway.settings.values import PER, Name, amount_of

_UNITS_OF_TIME: Final = {seconds: unit for unit, seconds in PER.items() if len(unit) == 1}
_PLAN_NAME: Final = TypeAdapter[str](Name)


def plan_of(name: str, rules: PlanRules, bodies_max: int) -> Plan:
    """A section of the file as a plan. It has no `faults`."""
    return Plan(
        name=name,
        endpoints=rules.endpoints,
        deny=rules.deny,
        rules=tuple(entry.rule for entry in rules.rules),
        client_webhooks=rules.client_webhooks,
        webhook_hosts=rules.webhook_hosts,
        realtime_tokens=rules.realtime_tokens,
        max_body=min(rules.max_body, bodies_max),
        max_upload=rules.max_upload,
        client_headers=frozenset(rules.client_headers),
        forced_headers=tuple(sorted(rules.forced_headers.items())),
        limits=tuple(map(_limit, rules.limits)),
        budgets=tuple(map(_budget, rules.budgets)),
        queue=None if rules.queue is None else Queue(**dict(rules.queue)),
        grants=rules.grants,
    )


def plan_from(name: str, value: Mapping[str, Any], bodies_max: int) -> Plan:
    """A plan from plain JSON, as the admin API takes it.

    Raises `BadBody` with the place and the reason.
    """
    try:
        _PLAN_NAME.validate_python(name)
        rules = PlanRules.model_validate(dict(value))
    except ValidationError as error:
        route, text = first_mistake(PlanRules, error)
        raise BadBody(_said(route, text)) from None
    for route, text in faults(rules, bodies_max):
        raise BadBody(_said(route, text))
    return plan_of(name, rules, bodies_max)


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan as `plan_from` takes it: what is not said is the default."""
    rules = PlanRules(
        endpoints=plan.endpoints,
        deny=plan.deny,
        rules=tuple(map(RuleEntry.of_rule, plan.rules)),
        client_webhooks=plan.client_webhooks,
        webhook_hosts=plan.webhook_hosts,
        realtime_tokens=plan.realtime_tokens,
        max_body=plan.max_body,
        max_upload=plan.max_upload,
        client_headers=tuple(sorted(plan.client_headers)),
        forced_headers=dict(plan.forced_headers),
        limits=tuple(map(_limit_entry, plan.limits)),
        budgets=tuple(map(_budget_entry, plan.budgets)),
        queue=None if plan.queue is None else _queue_json(plan.queue),  # type: ignore[arg-type]
        grants=plan.grants,
    )
    shown = rules.model_dump(mode="json", exclude_defaults=True)
    if plan.rules:
        shown["rules"] = [entry.shown for entry in rules.rules]
    return shown


def faults(rules: PlanRules, bodies_max: int) -> Iterator[tuple[Route, str]]:
    """Where in a plan, and why, its parts do not go together."""
    if "max_body" in rules.model_fields_set and rules.max_body > bodies_max:
        yield ("max_body",), "must be at most bodies.max"
    if rules.queue is not None and rules.queue.team_bytes < min(rules.max_body, bodies_max):
        yield ("queue", "team_bytes"), "must be at least max_body: no larger input could ever wait"
    yield from rule_faults(rules.endpoints, rules.deny, [entry.rule for entry in rules.rules])
    names = [("limits", str(i), entry.full_name) for i, entry in enumerate(rules.limits)]
    names += [("budgets", str(i), entry.full_name) for i, entry in enumerate(rules.budgets)]
    seen: Counter[str] = Counter()
    for section, index, name in names:
        seen[name] += 1
        if seen[name] > 1:
            yield (section, index, "name"), f"{name} is the name of another; give one of its own"


def _said(route: Route, text: str) -> str:
    place = "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in route)
    return f"{place.removeprefix('.')}: {text}"[:400] if place else text


def _limit(entry: LimitEntry) -> Limit:
    amount, per = amount_of(entry.text)
    return Limit(
        name=entry.full_name,
        measure=entry.measure,
        of=entry.of,
        amount=amount,
        per=per or DAY,
        burst=entry.burst or 0,
        shadow=entry.shadow,
        away=entry.away,
    )


def _limit_entry(limit: Limit) -> LimitEntry:
    amount: Any = limit.amount
    if limit.measure is Measure.RATE:
        amount = f"{limit.amount}/{_UNITS_OF_TIME[int(limit.per)]}"
    elif limit.measure in (Measure.JOBS, Measure.UPLOADS):
        amount = f"{limit.amount}/day"
    return LimitEntry.model_validate(
        {
            str(limit.measure): amount,
            "name": limit.name,
            "of": limit.of,
            "burst": limit.burst or None,
            "shadow": limit.shadow,
            "away": limit.away,
        }
    )


def _budget(entry: BudgetEntry) -> Budget:
    return Budget(
        name=entry.full_name,
        of=entry.of,
        amount=int(entry.amount * MICRO),
        unit=entry.unit,
        per=entry.per,
        shadow=entry.shadow,
    )


def _budget_entry(budget: Budget) -> BudgetEntry:
    amount = usd_text(budget.amount)
    return BudgetEntry.model_validate(
        {
            "usd" if budget.unit is Unit.USD else "units": amount,
            "per": budget.per,
            "name": budget.name,
            "of": budget.of,
            "shadow": budget.shadow,
        }
    )


def _queue_json(queue: Queue) -> dict[str, Any]:
    return {name: getattr(queue, name) for name in Queue.__dataclass_fields__}
