"""How others stand, and what they used, for whoever manages them."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from gateway.core.errors import BadBody, NotFound
from gateway.core.issued import check_name
from gateway.core.limits import Of
from gateway.core.model import Caller, Kind, Plan, Principal, Scope, is_user_name
from gateway.core.usage import Json, Row, Span, budget_json, limit_json
from gateway.flows.managing import Actor, check_team
from gateway.flows.services import Services
from gateway.flows.usage import told, usage_export


@dataclass(frozen=True, slots=True)
class Standing:
    """Of a team, and of one of its principals where one is named, with the limits of `plan`."""

    team: str
    principal: Principal | None
    plan: str
    limits: list[Json]
    budgets: list[Json]


def used(services: Services, actor: Actor, team: str | None, span: Span) -> AsyncGenerator[Row]:
    """What was used by everybody whom the actor manages, or by one team of them.

    Raises `Forbidden`, `BadBody`.
    """
    if team is not None:
        check_name("team", team)
        check_team(actor, team)
    return usage_export(services, team or actor.team, span)


async def standing(
    services: Services, actor: Actor, team: str | None, principal: str | None, plan: str | None
) -> Standing:
    """How a team stands; with `principal`, `kind:name`, also how that one does.

    `plan` is whose limits are meant; None: that of the key with this name, else `default`, and
    for an admin of a team its own. Raises `BadBody`, `Forbidden`, `NotFound` for a plan that is
    not there, or not one of the team's.
    """
    team = team or actor.team or "default"
    check_name("team", team)
    check_team(actor, team)
    who = None if principal is None else _principal(team, principal)
    found = _plan(services, actor, who, plan)
    caller = Caller(
        principal=who or Principal(team, Kind.KEY, ""),
        plan=found,
        scopes=frozenset({Scope.READ}),
        kid="",
        revocable=(),
        issued_at=0.0,
    )
    await told(services)
    read, now = await services.usage.standing(caller)
    shown = {of for of in read if of is not Of.PRINCIPAL or who is not None}
    return Standing(
        team=team,
        principal=who,
        plan=found.name,
        limits=[
            limit_json(limit, read[limit.of], now)
            | {"would_refuse": int(read[limit.of].meter.get(f"s:{limit.name}", 0))}
            for limit in found.limits
            if limit.of in shown
        ],
        budgets=[
            budget_json(budget, read[budget.of], now)
            for budget in found.budgets
            if budget.of in shown
        ],
    )


def _principal(team: str, text: str) -> Principal:
    kind, _, name = text.partition(":")
    if kind not in set(Kind) or not is_user_name(name):
        raise BadBody(f"principal must be kind:name, with one of the kinds {', '.join(Kind)}")
    return Principal(team, Kind(kind), name)


def _plan(services: Services, actor: Actor, who: Principal | None, name: str | None) -> Plan:
    if name is None and who is not None and who.kind is Kind.KEY:
        record = services.directory.named(who.team, who.name)
        name = None if record is None else record.key.plan
    usual = "default" if actor.plan is None else actor.plan.name
    plan = services.directory.plan(name or usual)
    if plan is None or not _sees(services, actor, plan.name):
        raise NotFound("there is no such plan")
    return plan


def _sees(services: Services, actor: Actor, plan: str) -> bool:
    """What other teams' plans allow is not for an admin of one."""
    if actor.team is None or actor.plan is None:
        return actor.team is None
    granted = {actor.plan.name, *actor.plan.grants}
    return plan in granted or plan in services.directory.plans_of(actor.team)
