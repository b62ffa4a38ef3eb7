"""cancel -> ledger -> fal, which decides the end. A job that waits here has ended at once."""

from gateway.core.ends import WITHDRAWN
from gateway.core.errors import JobNotFound
from gateway.core.model import Caller, Job
from gateway.core.plans import may_change
from gateway.flows.ending import write_end
from gateway.flows.observe import job_of
from gateway.flows.services import Services


async def cancel(services: Services, caller: Caller, job_id: str) -> tuple[Job, bool]:
    """Ask for a job's cancellation: the job, and whether it was still open.

    Where fal's id is not known yet, the submit passes it on. Raises `JobNotFound`, `Unavailable`.
    """
    job = await job_of(services, caller, job_id)
    if not may_change(caller, job):
        raise JobNotFound("no such job")
    return await services.runs.to_end(_cancel(services, job))


async def _cancel(services: Services, job: Job) -> tuple[Job, bool]:
    what, fal_id = await services.ledger.cancel(job.ref)
    if what == "missing":
        raise JobNotFound("no such job")
    if what == "ended":
        return job, False
    if what == "withdrawn":
        await write_end(services, job.ref, WITHDRAWN, "cancel", unaccepted=True)
        return job, True
    if fal_id is not None:
        await services.accounts.of(job.account).cancel(job.ref.endpoint, fal_id)
        await services.due.again(job.id, 1.0)
    return job, True
