"""open job -> fal -> ledger. Once begun, this runs to its end, whoever may have left."""

import logging
from contextlib import suppress
from dataclasses import replace
from typing import Final

from gateway.core.ends import end_of_result
from gateway.core.errors import (
    KeyRefused,
    NotSent,
    OutcomeUnknown,
    StoreUnavailable,
)
from gateway.core.model import End, Job, JobRef
from gateway.core.parcels import Parcel
from gateway.flows.accept import accept
from gateway.flows.accounts import on_an_account
from gateway.flows.ending import not_taken, write_end
from gateway.flows.places import Place
from gateway.flows.services import Services
from gateway.flows.undone import undone
from gateway.store.ledger import Opening
from gateway.upstream.answers import Refusal, Submitted

LOST_LOOK: Final = 60.0
"""Seconds after which the due loop looks at an unknown job."""

_log = logging.getLogger("gateway.jobs")


async def send(
    services: Services,
    ref: JobRef,
    opening: Opening,
    parcel: Parcel,
    place: Place,
    *,
    patient: bool = False,
) -> Job | Refusal:
    """The job as fal took it, or fal's own refusal, whose job has failed.

    Where fal cannot be reached, or refuses our keys, it has failed too, unless it is `patient`.
    Raises `AccountFull` where no account has room, and the job may wait; `NotSent`, `KeyRefused`
    when fal has not got it, `StoreUnavailable` before it is asked; `OutcomeUnknown` when nobody
    can tell.
    """
    base = services.rules.webhook_base
    webhook = None if base is None else base + services.seals.ticket(ref)

    async def submit(account: str) -> Submitted | Refusal:
        await place.take(account)
        if account != opening.account:
            await services.ledger.move(ref, account)
        fal = services.accounts.of(account)
        return await fal.submit(ref.endpoint, parcel.body, parcel.headers, webhook)

    try:
        team, first = ref.principal.team, opening.account
        account, answer = await on_an_account(services, team, submit, first=first)
    except (NotSent, KeyRefused) as error:
        if not patient:
            await refused(services, ref, not_taken(error))
        error.job_id = ref.id
        raise
    except StoreUnavailable:  # before fal was asked
        services.runs.start(undone(services, ref))
        raise
    except OutcomeUnknown as error:
        known = await _lost(services, ref)
        if known is not None:
            return known
        error.job_id = ref.id
        raise
    if isinstance(answer, Refusal):
        end = end_of_result(answer.status, answer.headers, answer.body, False)
        await refused(services, ref, end)
        return answer
    return await accept(services, ref, replace(opening, account=account), answer)


async def refused(services: Services, ref: JobRef, end: End) -> None:
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
