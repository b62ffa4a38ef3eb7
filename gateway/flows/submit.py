"""request -> plan -> ledger -> fal -> ledger -> answer."""

import logging
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from gateway.core.ends import end_of_result
from gateway.core.errors import (
    GatewayError,
    KeyRefused,
    NotSent,
    OutcomeUnknown,
    StoreUnavailable,
)
from gateway.core.model import Caller, End, Job, JobRef, Principal, State, Where
from gateway.core.plans import check_endpoint, check_submit, check_webhook
from gateway.core.rules import shaped
from gateway.flows.accept import accept
from gateway.flows.ending import write_end
from gateway.flows.services import Services
from gateway.store.keys import shard_of_team
from gateway.store.ledger import Opening
from gateway.upstream.answers import Refusal

LOST_LOOK: Final = 60.0
"""Seconds after which the due loop looks at an unknown job."""

_log = logging.getLogger("gateway.jobs")


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client wants done. `body` is the model's input as raw JSON."""

    endpoint: str
    body: bytes
    headers: Mapping[str, str]
    webhook: str | None = None
    metadata: bytes | None = None


async def submit(services: Services, caller: Caller, submission: Submission) -> Job | Refusal:
    """Open a job and hand it to fal: the job, or fal's own refusal, whose job has failed.

    Raises `EndpointNotAllowed`, `WebhookNotAllowed`, `InputForbidden`, `RuleBroken`,
    `StoreUnavailable` before fal is asked;
    `NotSent`, `KeyRefused` when fal has not got it; `OutcomeUnknown` when nobody can tell.
    """
    check_submit(caller)
    check_endpoint(caller, submission.endpoint)
    check_webhook(caller, submission.webhook)
    body = shaped(caller.plan.rules, submission.endpoint, submission.body)
    submission = replace(submission, body=body)
    if not services.revocations.fresh():
        raise StoreUnavailable("the gateway cannot check revocations at the moment; try again")
    ref = _new_job(caller.principal, submission.endpoint, services.clock())
    opening = Opening(
        ask_after=services.rules.submit_deadline,
        pull=services.rules.webhook_base is None,
        webhook=submission.webhook,
        metadata=submission.metadata,
        account=services.accounts.chosen(caller.principal.team),
        plan=caller.plan.name,
    )
    await services.ledger.open(ref, opening)
    return await services.runs.to_end(_send(services, ref, submission, opening))


def _new_job(principal: Principal, endpoint: str, now: float) -> JobRef:
    """A random UUID whose first byte is the shard of the team."""
    shard = bytes.fromhex(shard_of_team(principal.team))
    return JobRef(str(UUID(bytes=shard + secrets.token_bytes(15), version=4)), principal, endpoint,
                  round(now, 3))  # fmt: skip


async def _send(
    services: Services, ref: JobRef, submission: Submission, opening: Opening
) -> Job | Refusal:
    """Hand an open job to fal. Once begun, this runs to its end, whoever may have left."""
    base = services.rules.webhook_base
    webhook = None if base is None else base + services.seals.ticket(ref)
    try:
        answer = await services.accounts.of(opening.account).submit(
            ref.endpoint, submission.body, submission.headers, webhook
        )
    except (NotSent, KeyRefused) as error:
        await _refused(services, ref, _not_taken(error))
        error.job_id = ref.id
        raise
    except OutcomeUnknown as error:
        known = await _lost(services, ref)
        if known is not None:
            return known
        error.job_id = ref.id
        raise
    if isinstance(answer, Refusal):
        end = end_of_result(answer.status, answer.headers, answer.body, False)
        await _refused(services, ref, end)
        return answer
    return await accept(services, ref, opening, answer)


async def _refused(services: Services, ref: JobRef, end: End) -> None:
    """Write the end of a job that fal has not got. The client hears of it all the same."""
    with suppress(StoreUnavailable):
        await write_end(services, ref, end, "submit", unaccepted=True)


async def _lost(services: Services, ref: JobRef) -> Job | None:
    """Write that the outcome is unknown. The job, if its webhook has told that fal took it."""
    _log.warning("submit: outcome unknown", extra={"job": ref.id, "endpoint": ref.endpoint})
    with suppress(StoreUnavailable):
        if not await services.ledger.lost(ref, LOST_LOOK):
            job = await services.ledger.read(ref.id)
            return job if job is not None and job.fal_id is not None else None
    return None


def _not_taken(error: GatewayError) -> End:
    """The end of a job that fal certainly did not take."""
    return End(State.FAILED, error.status, Where.GONE, error=str(error), error_type=error.code)
