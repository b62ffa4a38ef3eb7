"""late job -> fal -> ledger: for what no webhook and no watcher has told."""

import logging
from contextlib import suppress
from typing import Final

from gateway.core.ends import WAITED_TOO_LONG, WITHDRAWN
from gateway.core.errors import GatewayError
from gateway.core.model import Job
from gateway.core.retry import ask_after
from gateway.flows.bill import settle_lost_run
from gateway.flows.ending import write_end
from gateway.flows.fetch import fetched_end
from gateway.flows.places import keep_place
from gateway.flows.services import Services
from gateway.flows.settle import settle
from gateway.store.ledger import Ended, expired

QUIET: Final = 3 * 3600.0
"""Seconds without a sign of life after which a job that fal does not know is given up."""
MAX_AGE: Final = 24 * 3600.0
"""Seconds after which an open job is given up whatever fal says."""

_log = logging.getLogger("gateway.due")


async def reconcile(services: Services, job_id: str) -> None:
    """Look at one job that is due, and say when to look again."""
    job = await services.ledger.read(job_id)
    again: float | None = 60.0
    try:
        again = None if job is None else await _looked_at(services, job)
    except GatewayError as error:
        _log.warning("fal could not be asked: %s", error.code, extra={"job": job_id})
        again = 60.0 if job is None else ask_after(job.asks, job.pull)
    finally:
        await services.due.again(job_id, again if again is not None else 0.0)


async def _looked_at(services: Services, job: Job) -> float | None:
    """Seconds until the next look; None where there is none to come."""
    if job.run:
        await settle_lost_run(services, job)
        return None
    if job.state.ended:
        return await settle(services, job)
    age = services.clock() - job.ref.created_at
    if age >= MAX_AGE:
        await write_end(services, job.ref, expired(), "due")
        return None
    if job.waiting:
        return await _waiting(services, job, age)
    if job.fal_id is None:
        return await _unaccepted(services, job)
    return await _asked(services, job, job.fal_id)


async def _waiting(services: Services, job: Job, age: float) -> float | None:
    """A job in the gateway's own queue: its time may be over, or its cancelling broke off."""
    plan = services.directory.get(job.plan)
    left = 0.0 if plan is None or plan.queue is None else plan.queue.wait - age
    if left > 0 and not job.cancel_requested:
        return left
    end = WITHDRAWN if job.cancel_requested else WAITED_TOO_LONG
    what = await write_end(services, job.ref, end, "due", waiting=True)
    return services.rules.submit_deadline if what is Ended.KEPT else None  # it has gone to fal


async def _unaccepted(services: Services, job: Job) -> float:
    """A submit that never told its outcome: only a webhook can, until it is too late for one."""
    await services.ledger.lost(job.ref, ask_after(job.asks, False))
    await write_end(services, job.ref, expired(), "due", unaccepted=True, quiet=QUIET)
    return ask_after(job.asks, False)


async def _asked(services: Services, job: Job, fal_id: str) -> float | None:
    if job.cancel_requested:
        with suppress(GatewayError):  # what became of the job matters more
            await services.accounts.of(job.account).cancel(job.ref.endpoint, fal_id)
    if await services.due.watched(job.ref):
        await keep_place(services, job.account, job.id)
        return ask_after(job.asks, job.pull)  # its status stream tells more, and sooner
    progress = await services.accounts.of(job.account).status(job.ref.endpoint, fal_id)
    if progress is None:
        await write_end(services, job.ref, expired(), "due", quiet=QUIET)
        return ask_after(job.asks, job.pull)
    await keep_place(services, job.account, job.id)
    await services.ledger.progress(job.ref, progress)
    if progress.completed:
        end = await fetched_end(services, job, fal_id)
        if end is not None:
            await write_end(services, job.ref, end, "due", fal_id=fal_id)
            return None
        await write_end(services, job.ref, expired(), "due", quiet=QUIET)
    return ask_after(job.asks, job.pull)
