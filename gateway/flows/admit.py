"""waiting job -> room at fal -> fal: principals of a team take turns."""

import logging
import random
from contextlib import suppress
from typing import Final

from gateway.core.errors import GatewayError, OutcomeUnknown
from gateway.core.limits import Of
from gateway.core.meters import in_flight
from gateway.core.model import Job, Plan, Principal
from gateway.core.parcels import Parcel, unpacked
from gateway.flows.accounts import AccountFull
from gateway.flows.ending import not_taken
from gateway.flows.places import Place, no_room, parked, tried_place
from gateway.flows.send import refused, send
from gateway.flows.services import Services
from gateway.flows.surely import surely
from gateway.store.ledger import Opening

WAITS: Final = 2.0
"""Seconds for which who waits goes first, once there was no room: several looks of the loop."""

_log = logging.getLogger("gateway.jobs")


async def admit_waiting(services: Services) -> None:
    """Let go whatever has room, one job of each team in turn.

    Raises `StoreUnavailable`, `OutcomeUnknown`.
    """
    teams = await services.queues.teams()
    random.shuffle(teams)
    while teams:
        teams = [team for team in teams if await _admit_one(services, team)]


async def _admit_one(services: Services, team: str) -> bool:
    """Let the team's next job go to fal. False if none waits, or none has room."""
    heads = await services.queues.heads(team)
    if not heads:
        await services.queues.forget(team)
        return False
    full: set[Principal] = set()
    looked = 0
    while heads:
        looked += len(heads)
        for job in heads:
            if job.ref.principal in full:
                continue
            match await services.runs.to_end(_tried(services, job)):
                case "admitted":
                    return True
                case "principal":
                    full.add(job.ref.principal)
                case "gone":
                    continue
                case _:
                    return False
        heads = await services.queues.heads(team, looked)
    return False


async def _tried(services: Services, job: Job) -> str:
    """See `Admission.word`; also 'account': none has room."""
    place = tried_place(services, job.id)
    account = await _place_at(services, job.ref.principal.team, place)
    if account is None:
        return "account"
    try:
        word = await _admitted(services, job, account, place)
    except OutcomeUnknown:
        await place.free()
        raise
    if word != "admitted":
        await place.free()
    return word


async def _place_at(services: Services, team: str, place: Place) -> str | None:
    """The account that has room, or None: then whoever comes new must not be faster."""
    names = services.accounts.choices(team)
    for name in names:
        with suppress(AccountFull):
            await place.take(name)
            return name
    for name in names:
        await services.slots.say_waiting(name, WAITS)
    return None


async def _admitted(services: Services, job: Job, account: str, place: Place) -> str:
    most = _most(services.directory.get(job.plan))
    deadline, attempt = services.rules.submit_deadline, place.id
    admission = await surely(
        job.ref, lambda: services.queues.admit(job.ref, account, most, deadline, attempt)
    )
    if admission.word == "admitted":
        await place.hand(job.id)
        parcel = unpacked(admission.input)
        going = _go(services, job, account, parcel, place, attempt)
        services.runs.start(services.runs.to_end(going))
    return admission.word


def _most(plan: Plan | None) -> tuple[int, int]:
    """Jobs in flight of the principal, and of its team; 0: any number."""
    if plan is None:  # it was taken away since; what was let in may still go
        return 0, 0
    return in_flight(plan.limits, Of.PRINCIPAL), in_flight(plan.limits, Of.TEAM)


async def _go(
    services: Services, job: Job, account: str, parcel: Parcel, place: Place, attempt: str
) -> None:
    """Nobody waits for the answer: whoever owns the job reads it from the ledger."""
    opening = Opening(
        ask_after=services.rules.submit_deadline,
        pull=job.pull,
        metadata=job.metadata,
        account=account,
        plan=job.plan,
    )
    plan = services.directory.get(job.plan)
    try:
        try:
            await send(services, job.ref, opening, parcel, place)
        except AccountFull:
            if not await parked(services, job.ref, plan, parcel, attempt):
                await refused(services, job.ref, not_taken(no_room()))
    except GatewayError as error:
        _log.warning("a job that had waited: %s", error.code, extra={"job": job.id})
