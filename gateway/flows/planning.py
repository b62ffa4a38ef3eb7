"""Plans of the admin API: the operator's, for all teams. Those of the settings stay as they are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.core.errors import BadBody, Conflict, NotFound, PreconditionFailed
from gateway.core.issued import PlanRecord, check_name
from gateway.core.limits import Of
from gateway.flows.managing import TRIES, Actor, check_operator, recorded
from gateway.flows.services import Services
from gateway.store.registry import PlanWrite

MAX_RULES: Final = 64 * 1024
"""Bytes of a plan as JSON."""


async def put_plan(
    services: Services,
    actor: Actor,
    name: str,
    rules: Mapping[str, Any],
    version: int | None = None,
) -> PlanRecord:
    """Make a plan, or change it if it is still at `version` (0: only make it; None: whatever).

    Raises `BadBody`, `PreconditionFailed`, `Conflict` for one of the settings, and `Forbidden` for
    all but the operator.
    """
    check_operator(actor, "changing plans")
    check_name("name", name)
    registry = services.directory.registry
    await registry.look()  # what it grants may be new
    _check_rules(services, name, rules)
    _check_not_in_settings(services, name)
    now = services.clock()
    known = registry.plan_record(name)
    record = PlanRecord(
        name=name,
        rules=dict(rules),
        created_at=now if known is None else known.created_at,
        changed_at=now,
        version=version or 0,
    )
    async with recorded(services, actor, "plan.put", name, rules=record.rules):
        try:
            written = await registry.write([PlanWrite(record, whatever=version is None)])
        except Conflict as error:
            raise PreconditionFailed(str(error)) from None
    return replace(record, version=written)


async def list_plans(services: Services, actor: Actor) -> Sequence[PlanRecord]:
    """All plans by name, those of the file too; for a team, its own and what that grants."""
    await services.directory.registry.look()
    records = services.directory.plan_records()
    if actor.team is None:
        return records
    granted = set() if actor.plan is None else {actor.plan.name, *actor.plan.grants}
    return [record for record in records if record.name in granted]


async def show_plan(services: Services, actor: Actor, name: str) -> PlanRecord:
    """Raises `NotFound`."""
    for record in await list_plans(services, actor):
        if record.name == name:
            return record
    raise NotFound("there is no such plan")


async def delete_plan(services: Services, actor: Actor, name: str) -> None:
    """Raises `NotFound`, `Forbidden`, and `Conflict` for one of the file or in use."""
    check_operator(actor, "deleting plans")
    _check_not_in_settings(services, name)
    await show_plan(services, actor, name)
    registry = services.directory.registry
    async with recorded(services, actor, "plan.delete", name):
        for left in reversed(range(TRIES)):
            await registry.look()
            version = registry.version
            _check_unused(services, name)
            gone = PlanWrite(PlanRecord(name), gone=True, whatever=True)
            try:
                await registry.write([gone], at_version=version)
                return
            except Conflict:
                if not left:
                    raise


def _check_rules(services: Services, name: str, rules: Mapping[str, Any]) -> None:
    """Raises `BadBody` for what is no plan."""
    try:
        text = json.dumps(dict(rules), allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError):
        raise BadBody(
            "a plan must be a JSON object, its text valid and its numbers finite"
        ) from None
    if len(text) > MAX_RULES:
        raise BadBody(f"a plan may take at most {MAX_RULES} bytes")
    try:
        plan = services.directory.registry.parse(name, rules)
    except ValueError as error:
        raise BadBody(str(error)) from None
    for index, limit in enumerate(plan.limits):
        if limit.of is Of.ADDRESS:  # the plan of visitors is in the settings
            raise BadBody(f"limits[{index}].of: address is for anonymous visitors alone")
    for granted in plan.grants:
        if granted != name and services.directory.plan(granted) is None:
            raise BadBody(f"grants: there is no plan {granted[:128]}")


def _check_not_in_settings(services: Services, name: str) -> None:
    if services.directory.in_settings(name):
        raise Conflict("that plan is in the settings, and can be changed there alone")


def _check_unused(services: Services, name: str) -> None:
    now = services.clock()
    registry = services.directory.registry
    users = [each for each in registry.records() if each.key.plan == name and each.live(now)]
    if users:
        raise Conflict(f"{len(users)} keys have that plan, such as {users[0].id}")
    for record in services.directory.plan_records():
        plan = services.directory.get(record.name)
        if plan is not None and record.name != name and name in plan.grants:
            raise Conflict(f"the plan {record.name} grants that plan")
