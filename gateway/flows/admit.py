"""waiting job -> room at fal -> fal: principals of a team take turns."""

import logging
import random

from gateway.core.errors import GatewayError
from gateway.core.limits import Of
from gateway.core.meters import in_flight
from gateway.core.model import Job, Plan, Principal
from gateway.core.parcels import Parcel, unpacked
from gateway.flows.send import send
from gateway.flows.services import Services
from gateway.store.ledger import Opening

_log = logging.getLogger("gateway.jobs")


async def admit_waiting(services: Services) -> None:
    """Let go whatever has room, one job of each team in turn. Raises `StoreUnavailable`."""
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
    account = services.accounts.chosen(team)
    for job in heads:
        if job.ref.principal in full:
            continue
        plan = services.plans.get(job.plan)
        deadline = services.rules.submit_deadline
        admission = await services.queues.admit(job.ref, account, _most(plan), deadline)
        match admission.word:
            case "admitted":
                services.runs.start(
                    services.runs.to_end(_go(services, job, account, unpacked(admission.input)))
                )
                return True
            case "principal":
                full.add(job.ref.principal)
            case "team":
                return False
    return False


def _most(plan: Plan | None) -> tuple[int, int]:
    """Jobs in flight of the principal, and of its team; 0: any number."""
    if plan is None:  # it was taken away since; what was let in may still go
        return 0, 0
    return in_flight(plan.limits, Of.PRINCIPAL), in_flight(plan.limits, Of.TEAM)


async def _go(services: Services, job: Job, account: str, parcel: Parcel) -> None:
    """Nobody waits for the answer: whoever owns the job reads it from the ledger."""
    opening = Opening(
        ask_after=services.rules.submit_deadline,
        pull=job.pull,
        metadata=job.metadata,
        account=account,
        plan=job.plan,
    )
    try:
        await send(services, job.ref, opening, parcel)
    except GatewayError as error:
        _log.warning("a job that had waited: %s", error.code, extra={"job": job.id})
