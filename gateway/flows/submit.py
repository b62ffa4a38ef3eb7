"""request -> plan -> limits and ledger -> fal -> ledger -> answer."""

from dataclasses import dataclass

from gateway.core.model import Caller, Job, State
from gateway.core.parcels import Parcel
from gateway.core.plans import check_endpoint, check_submit, check_webhook
from gateway.core.quota import Standing
from gateway.core.rules import shaped
from gateway.flows.bill import estimate
from gateway.flows.entry import check_fresh, let_in, new_ref
from gateway.flows.send import send
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
    entry = await let_in(services, caller, ref, opening, held, parcel.packed())
    if entry.position is not None:
        await services.queues.announce(team)
        services.room.set()
        job = Job(ref, State.QUEUED, "0-0", position=entry.position, waiting=True)
        return Taken(job, entry.standings)
    answer = await services.runs.to_end(send(services, ref, opening, parcel))
    return Taken(answer, entry.standings)
