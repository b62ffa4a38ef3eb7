"""fal has taken a job -> ledger: its id must get there, whatever becomes of Redis."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from gateway.core.errors import GatewayError, OutcomeUnknown, StoreUnavailable
from gateway.core.meters import nothing_asked
from gateway.core.model import Job, JobRef
from gateway.core.retry import ask_after
from gateway.flows.services import Services
from gateway.flows.surely import TRIES
from gateway.store.ledger import Opening
from gateway.upstream.answers import Submitted

LATER: Final = 5.0
"""Seconds between the tries that follow, while nobody waits."""
LATER_FOR: Final = 3600.0
"""Seconds after which these end: without a webhook, fal forgets its result by then."""

_log = logging.getLogger("gateway.jobs")


async def accept(services: Services, ref: JobRef, opening: Opening, answer: Submitted) -> Job:
    """Write fal's id. The job as fal has it now.

    Raises `OutcomeUnknown` where Redis stays away; then it is tried again in the background.
    """
    for pause in TRIES:
        with suppress(StoreUnavailable):
            return await _accepted(services, ref, opening, answer)
        await asyncio.sleep(pause)
    services.runs.start(_later(services, ref, opening, answer))
    error = OutcomeUnknown("fal took the job, but its record could not be written yet")
    error.job_id = ref.id
    raise error


async def _accepted(services: Services, ref: JobRef, opening: Opening, answer: Submitted) -> Job:
    wait = ask_after(0, opening.pull)
    took = (ref, answer.fal_id, opening.account, answer.progress, wait)
    what, cancel, job = await services.ledger.accept(*took)
    if what == "missing":  # Redis has lost it since it was opened
        await services.ledger.open(ref, opening, nothing_asked(services.clock()))
        what, cancel, job = await services.ledger.accept(*took)
    if what == "other":
        _log.error("fal gave a second id for one job", extra={"job": ref.id})
    if cancel:
        with suppress(GatewayError):  # the due loop asks again
            await services.accounts.of(opening.account).cancel(ref.endpoint, answer.fal_id)
    state, position = answer.progress.state, answer.progress.position
    return job or Job(ref, state, "0-0", fal_id=answer.fal_id, position=position, pull=opening.pull)


async def _later(services: Services, ref: JobRef, opening: Opening, answer: Submitted) -> None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + LATER_FOR
    while clock() < deadline:
        await asyncio.sleep(LATER)
        with suppress(StoreUnavailable):
            await _accepted(services, ref, opening, answer)
            return
    _log.error("fal's id of a job was never written", extra={"job": ref.id, "fal": answer.fal_id})
