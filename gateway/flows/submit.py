"""request -> plan -> limits and ledger -> fal -> ledger -> answer."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from gateway.core.errors import StoreUnavailable
from gateway.core.meters import queue_text
from gateway.core.model import Caller, Job, JobRef, Plan, State
from gateway.core.parcels import Parcel
from gateway.core.plans import check_endpoint, check_submit, check_webhook
from gateway.core.prices import Estimate
from gateway.core.quota import Standing
from gateway.core.rules import shaped
from gateway.flows.accounts import AccountFull
from gateway.flows.bill import estimate
from gateway.flows.entry import Entry, check_fresh, let_in, new_ref
from gateway.flows.places import Place, no_room
from gateway.flows.send import not_taken, refused, send
from gateway.flows.services import Services
from gateway.store.ledger import Opening
from gateway.upstream.answers import Refusal


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
    body = shaped(plan.rules, endpoint, submission.parcel.body)
    parcel = Parcel(body, submission.parcel.headers)
    services.refusals.check(caller)
    check_fresh(services)
    held = await estimate(services, plan, endpoint, body)
    ref = new_ref(caller.principal, endpoint, services.clock())
    opening = Opening(
        ask_after=services.rules.submit_deadline,
        pull=services.rules.webhook_base is None,
        webhook=submission.webhook,
        metadata=submission.metadata,
        account=services.accounts.chosen(team),
        plan=plan.name,
        price=held.price,
    )
    place = Place(services, ref.id, direct=True)
    entry = await _entered(services, caller, ref, opening, held, parcel, place)
    if entry.position is not None:
        await place.free()
        return Taken(await _waiting(services, ref, entry.position), entry.standings)
    sent = _sent(services, plan, ref, opening, parcel, place)
    return Taken(await services.runs.to_end(sent), entry.standings)


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
    entry, _ = await asyncio.gather(
        let_in(services, caller, ref, opening, held, parcel.packed),
        place.hurry(opening.account),
        return_exceptions=True,
    )
    if isinstance(entry, BaseException):
        await place.free()
        raise entry
    return entry


async def _sent(
    services: Services, plan: Plan, ref: JobRef, opening: Opening, parcel: Parcel, place: Place
) -> Job | Refusal:
    """The job goes to fal at once, or waits for room at an account."""
    try:
        return await send(services, ref, opening, parcel, place)
    except AccountFull:
        queue = plan.queue
        if queue and await services.queues.park(ref, queue_text(queue), parcel.packed()):
            return await _waiting(services, ref, None)
        error = no_room()
        await refused(services, ref, not_taken(error))
        raise error from None


async def _waiting(services: Services, ref: JobRef, position: int | None) -> Job:
    """The dispatcher of some process will hear of it."""
    with suppress(StoreUnavailable):  # then this process knows, and later the due loop
        await services.queues.announce(ref.principal.team)
    services.room.set()
    return Job(ref, State.QUEUED, "0-0", position=position, waiting=True)
