"""open job -> fal -> ledger. Once begun, this runs to its end, whoever may have left."""

import logging
from contextlib import suppress
from dataclasses import replace
from typing import Final

from gateway.core.ends import CREDENTIAL_REVOKED, end_of_result
from gateway.core.errors import (
    KeyRefused,
    NotSent,
    OutcomeUnknown,
    StoreUnavailable,
    Unauthenticated,
)
from gateway.core.model import End, Job, JobRef
from gateway.core.parcels import Parcel
from gateway.flows.accept import accept
from gateway.flows.accounts import on_an_account
from gateway.flows.authenticate import revoked
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
    when fal has not got it, `StoreUnavailable` before it is asked; `Unauthenticated` where what it
    was submitted with is revoked by then; `OutcomeUnknown` when nobody can tell.
    """
    try:
        account, answer = await _asked(services, ref, opening, parcel, place, patient=patient)
    except (NotSent, KeyRefused) as error:
        if not patient:
            await refused(services, ref, not_taken(error))
        error.job_id = ref.id
        raise
    except Unauthenticated:
        await refused(services, ref, CREDENTIAL_REVOKED)
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


async def _asked(
    services: Services,
    ref: JobRef,
    opening: Opening,
    parcel: Parcel,
    place: Place,
    *,
    patient: bool,
) -> tuple[str, Submitted | Refusal]:
    """Which account was asked, and what it answered."""
    base = services.rules.webhook_base
    webhook = None if base is None else base + services.seals.ticket(ref)

    def check() -> None:
        """At the last moment: much may have been waited for since the caller was known."""
        if opening.source is not None and revoked(services, opening.source):
            raise Unauthenticated("the credential has been revoked")

    async def submit(account: str) -> Submitted | Refusal:
        await place.take(account)
        if account != opening.account:
            await services.ledger.move(ref, account)
        if patient:  # a request has just been checked to be fresh
            await _recent(services)
        fal = services.accounts.of(account)
        return await fal.submit(ref.endpoint, parcel.body, parcel.headers, webhook, check)

    team, first = ref.principal.team, opening.account
    return await on_an_account(services, team, submit, first=first)


async def _recent(services: Services) -> None:
    """Raises `NotSent` where nobody can tell what was revoked: then the job waits on."""
    try:
        await services.revocations.recent()
    except StoreUnavailable:
        raise NotSent("the gateway cannot check revocations at the moment") from None


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
