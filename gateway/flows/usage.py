"""What was used, and how callers stand: read, never changed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from gateway.core.errors import Forbidden, StoreUnavailable
from gateway.core.limits import Of
from gateway.core.model import Caller, Kind, Principal, Scope
from gateway.core.usage import Json, Row, Span, budget_json, limit_json, sees_team
from gateway.flows.services import Services
from gateway.store.connect import WAIT


async def usage(services: Services, caller: Caller, span: Span, *, team: bool) -> list[Row]:
    """The caller's own, or its whole team's. Raises `Forbidden`."""
    if caller.jobs is not None:
        raise Forbidden("this credential is for single jobs, not for usage")
    await told(services)
    if not team:
        return await services.usage.of_principal(caller.principal, span)
    if Scope.READ not in caller.scopes:
        raise Forbidden("the team's usage needs a key with the scope read")
    return await services.usage.of_team(caller.principal.team, span)


async def standing(services: Services, caller: Caller) -> tuple[list[Json], list[Json]]:
    """How the caller stands with the limits and the budgets of its plan."""
    await told(services)
    read, now = await services.usage.standing(caller)
    shown = {of for of in read if of is not Of.TEAM or sees_team(caller)}
    plan = caller.plan
    limits = [limit_json(each, read[each.of], now) for each in plan.limits if each.of in shown]
    budgets = [budget_json(each, read[each.of], now) for each in plan.budgets if each.of in shown]
    return limits, budgets


async def usage_export(services: Services, team: str | None, span: Span) -> AsyncGenerator[Row]:
    """Everybody's, by team, principal, day and endpoint; of one team where one is named.

    Read as it is written: an export may be long.
    """
    await told(services)
    if team is not None:
        async for row in _of_team(services, team, span):
            yield row
        return
    async for name in services.usage.teams(span):
        async for row in _of_team(services, name, span):
            yield row


async def told(services: Services) -> None:
    """See that Redis has what this process has gathered, where it takes that now: one that is full
    can still be read."""
    with suppress(StoreUnavailable, TimeoutError):
        async with asyncio.timeout(WAIT):
            await services.tally.tell()


async def _of_team(services: Services, team: str, span: Span) -> AsyncGenerator[Row]:
    async for who in services.usage.people(team, span):
        kind, _, name = who.partition(":")
        for row in await services.usage.of_principal(Principal(team, Kind(kind), name), span):
            yield row
