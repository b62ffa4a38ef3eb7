"""request -> plan -> limits and ledger -> fal -> ledger -> answer."""

import asyncio
from dataclasses import dataclass
from typing import Final

from gateway.core.errors import StoreUnavailable
from gateway.core.limits import Standing
from gateway.core.model import Caller, Job, JobRef, Plan, State
from gateway.core.parcels import Parcel
from gateway.core.plans import check_endpoint, check_submit, check_webhook
from gateway.core.prices import Estimate
from gateway.core.rules import shaped
from gateway.flows.accounts import AccountFull
from gateway.flows.ending import not_taken
from gateway.flows.entry import Entry, check_fresh, let_in, new_ref
from gateway.flows.places import Place, no_room, parked
from gateway.flows.relay import priced
from gateway.flows.send import refused, send
from gateway.flows.services import Services
from gateway.flows.undone import undone
from gateway.store.ledger import Opening
from gateway.upstream.answers import Refusal

UNTOLD: Final = "0-0"
"""Version of a job of which the ledger has to be asked for the rest."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client wants done."""

    endpoint: str
    parcel: Parcel
    webhook: str | None = None
    metadata: bytes | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """The job, or fal's own refusal, whose job has failed; and how the caller stands now."""

    answer: Job | Refusal
    standings: tuple[Standing, ...] = ()


async def submit(services: Services, caller: Caller, submission: Submission) -> Taken:
    """Open a job and hand it to fal, or let it wait until there is room.

    Raises `EndpointNotAllowed`, `WebhookNotAllowed`, `InputForbidden`, `RuleBroken`,
    `PriceUnknown`, `BudgetSpent`, `LimitReached`, `StoreUnavailable` before fal is asked;
    `NotSent`, `KeyRefused` when fal has not got it; `OutcomeUnknown` when nobody can tell.
    """
    endpoint, plan, team = submission.endpoint, caller.plan, caller.principal.team
    check_submit(caller)
    check_endpoint(caller, endpoint)
    check_webhook(caller, submission.webhook)
    services.refusals.check(caller)  # before what a large body costs
    body = shaped(plan.rules, endpoint, submission.parcel.body)
    parcel = Parcel(body, submission.parcel.headers)
    check_fresh(services, caller)
    held = await priced(services, caller, endpoint, body)
    ref = new_ref(caller.principal, endpoint, services.clock())
    opening = Opening(
        ask_after=services.rules.submit_deadline,
        pull=services.rules.webhook_base is None,
        webhook=submission.webhook,
        metadata=submission.metadata,
        account=services.accounts.chosen(team),
        plan=plan.name,
        price=held.price,
        source=caller.source,
    )
    return await services.runs.to_end(_submitted(services, caller, ref, opening, held, parcel))


async def _submitted(
    services: Services,
    caller: Caller,
    ref: JobRef,
    opening: Opening,
    held: Estimate,
    parcel: Parcel,
) -> Taken:
    place = Place(services, ref.id, direct=True)
    entry = await _entered(services, caller, ref, opening, held, parcel, place)
    if entry.position is not None:
        return Taken(_waiting(services, ref, entry.position), entry.standings)
    return Taken(await _sent(services, caller.plan, ref, opening, parcel, place), entry.standings)


async def _entered(
    services: Services,
    caller: Caller,
    ref: JobRef,
    opening: Opening,
    held: Estimate,
    parcel: Parcel,
    place: Place,
) -> Entry:
    """Limits and budgets, and a place at the account, in one round trip: neither waits for the
    other. What one of them gave goes back where the other refuses."""

    async def about_to_wait() -> bytes:
        """Once it waits, any process may let it go, with a place of the same name."""
        await place.free()
        await services.queues.announce(ref.principal.team)
        return parcel.packed()

    entry, _ = await asyncio.gather(
        let_in(services, caller, ref, opening, held, about_to_wait, parcel.size),
        place.hurry(opening.account),
        return_exceptions=True,
    )
    if isinstance(entry, BaseException):
        await place.free()
        if isinstance(entry, StoreUnavailable):
            services.runs.start(undone(services, ref))
        raise entry
    return entry


async def _sent(
    services: Services, plan: Plan, ref: JobRef, opening: Opening, parcel: Parcel, place: Place
) -> Job | Refusal:
    """The job goes to fal at once, or waits for room at an account."""
    try:
        return await send(services, ref, opening, parcel, place)
    except AccountFull:
        if place_in_queue := await parked(services, ref, plan, parcel):
            return _waiting(services, ref, place_in_queue - 1)
        error = no_room()
        await refused(services, ref, not_taken(error))
        raise error from None


def _waiting(services: Services, ref: JobRef, position: int) -> Job:
    """This process looks at once whether there is room, the others soon."""
    services.room.set()
    return Job(ref, State.QUEUED, UNTOLD, position=position, waiting=True)
