"""waiting job -> room at fal -> fal: principals of a team take turns."""

import asyncio
import logging
import random
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gateway.core.errors import GatewayError, KeyRefused, NotSent, OutcomeUnknown
from gateway.core.limits import Of
from gateway.core.meters import in_flight
from gateway.core.model import Job, JobRef, Plan, Principal
from gateway.core.parcels import Parcel, unpacked
from gateway.flows.accounts import PROBE, AccountFull
from gateway.flows.ending import not_taken
from gateway.flows.places import Place, no_room, parked, tried_place
from gateway.flows.recall import is_recalled, recall
from gateway.flows.send import refused, send
from gateway.flows.services import Services
from gateway.flows.surely import surely
from gateway.store.ledger import Opening

WAITS: Final = 2.0
"""Seconds for which who waits goes first, once there was no room: several looks of the loop."""

PAUSE: Final = 5.0
"""Seconds in which a process lets nobody go, once fal could not be reached, or nobody of those whom
the same accounts serve, once fal refused their keys."""

_log = logging.getLogger("gateway.jobs")


class Pause:
    """While it lasts nobody is let go: all who wait would come back at once.

    It is for whoever has these accounts to choose from, and no others: one that is back ends it.
    Without accounts it is for all.
    """

    def __init__(self) -> None:
        self._until: dict[frozenset[str], float] = {}

    def begin(self, accounts: Iterable[str] = ()) -> None:
        self._until[frozenset(accounts)] = asyncio.get_running_loop().time() + PAUSE

    def lasts(self, accounts: Iterable[str] = ()) -> bool:
        now, whose = asyncio.get_running_loop().time(), (frozenset[str](), frozenset(accounts))
        return any(now < self._until.get(each, 0.0) for each in whose)


async def admit_waiting(services: Services, pause: Pause) -> None:
    """Let go whatever has room, one job of each team in turn.

    Raises `StoreUnavailable`, `OutcomeUnknown`.
    """
    teams = list(await services.queues.lengths())
    random.shuffle(teams)
    while teams:
        teams = [team for team in teams if await _admit_one(services, team, pause)]


async def _admit_one(services: Services, team: str, pause: Pause) -> bool:
    """Let the team's next job go to fal. False if none waits, or none has room, or may go now."""
    if pause.lasts(services.accounts.choices(team)):
        return False
    await services.revocations.recent()
    heads = await services.queues.heads(team)
    full: set[Principal] = set()
    looked, recalled = 0, False
    while heads:
        looked += len(heads)
        for job in heads:
            if job.ref.principal in full:
                continue
            match await services.runs.to_end(_tried(services, job, pause)):
                case "admitted":
                    return True
                case "principal":
                    full.add(job.ref.principal)
                case "recalled":
                    recalled = True
                case "gone":
                    continue
                case _:
                    return False
        if recalled:  # there may be many, and other teams shall not wait for all their ends
            return True
        heads = await services.queues.heads(team, looked)
    return False


async def _tried(services: Services, job: Job, pause: Pause) -> str:
    """See `Admission.word`; also 'account': none has room, and 'recalled': this has ended it."""
    if is_recalled(services, job):
        return "recalled" if await recall(services, job) else "gone"
    place = tried_place(services, job.id)
    account = await _place_at(services, job.ref.principal.team, place)
    if account is None:
        return "account"
    try:
        word = await _admitted(services, job, account, place, pause)
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


async def _admitted(services: Services, job: Job, account: str, place: Place, pause: Pause) -> str:
    most = _most(services.directory.get(job.plan))
    deadline, attempt = services.rules.submit_deadline, place.id
    admission = await surely(
        job.ref, lambda: services.queues.admit(job.ref, account, most, deadline, attempt)
    )
    if admission.word == "admitted":
        await place.hand(job.id)
        let_go = _LetGo(job, account, unpacked(admission.input), place, attempt)
        services.runs.start(services.runs.to_end(_go(services, let_go, pause)))
    return admission.word


def _most(plan: Plan | None) -> tuple[int, int]:
    """Jobs in flight of the principal, and of its team; 0: any number."""
    if plan is None:  # it was taken away since; what was let in may still go
        return 0, 0
    return in_flight(plan.limits, Of.PRINCIPAL), in_flight(plan.limits, Of.TEAM)


@dataclass(frozen=True, slots=True)
class _LetGo:
    """A job that is to go to fal from here, and from nowhere else, by this `attempt`."""

    job: Job
    account: str
    parcel: Parcel
    place: Place
    attempt: str


async def _go(services: Services, one: _LetGo, pause: Pause) -> None:
    """Nobody waits for the answer: whoever owns the job reads it from the ledger."""
    job = one.job
    opening = Opening(
        ask_after=services.rules.submit_deadline,
        pull=job.pull,
        metadata=job.metadata,
        account=one.account,
        plan=job.plan,
        source=job.source,
    )
    try:
        try:
            await send(services, job.ref, opening, one.parcel, one.place, patient=True)
        except (NotSent, KeyRefused) as error:
            if isinstance(error, KeyRefused) and not await _locked(services, job.ref, error):
                await refused(services, job.ref, not_taken(error))
                raise
            refuse = isinstance(error, KeyRefused)
            pause.begin(services.accounts.choices(job.ref.principal.team) if refuse else ())
            await _back(services, one, error)
        except AccountFull:
            await _back(services, one, no_room())
    except GatewayError as error:
        _log.warning("a job that had waited: %s", error.code, extra={"job": job.id})


async def _locked(services: Services, ref: JobRef, error: KeyRefused) -> bool:
    """Does fal refuse whatever is asked with the keys that the team may use? Else it refuses this
    one job, which would come back for ever. Unclear is locked: to wait does no harm.

    A locked account may still answer what costs nothing, so fal's own word for it comes first.
    """
    if error.locked:
        return True
    for name in services.accounts.choices(ref.principal.team):
        with suppress(GatewayError, TimeoutError):
            async with asyncio.timeout(PROBE):
                if await services.accounts.of(name).usable():
                    return False
    return True


async def _back(services: Services, one: _LetGo, error: GatewayError) -> None:
    """It waits again, as long as its plan lets it; else `error` is its end."""
    await one.place.free()
    plan = services.directory.get(one.job.plan)
    if not await parked(services, one.job.ref, plan, one.parcel, one.attempt):
        await refused(services, one.job.ref, not_taken(error))
