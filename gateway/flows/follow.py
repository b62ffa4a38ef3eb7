"""fal's status stream of one job -> the ledger."""

import asyncio
from functools import partial
from typing import Final

from gateway.core.errors import Unavailable
from gateway.core.model import Job, JobRef, Progress
from gateway.flows.ending import write_end
from gateway.flows.fetch import fetched_end
from gateway.flows.services import Services
from gateway.flows.watching import Follow
from gateway.store.feeds import rung, topic_of_job

WEBHOOK_HEAD_START: Final = 1.0
"""Seconds that a webhook gets to tell the end that the stream has just announced: it brings the
result along, and saves fetching it."""
UNKNOWN_YET: Final = 1.0
"""Seconds between looks for fal's id, while a submit is still on its way."""


def follower(services: Services, ref: JobRef) -> Follow:
    """How to follow `ref`, for `Watching`."""
    return partial(follow, services, ref)


async def follow(services: Services, ref: JobRef, lease: int) -> bool:
    """Write what fal's status stream says until the job has ended.

    True once there is nothing more to follow. Raises `Unavailable`, `StoreUnavailable`.
    """
    job = await _accepted(services, ref)
    if job is None:
        return True
    assert job.fal_id is not None
    fal = services.accounts.of(job.account)
    try:
        async with fal.status_stream(ref.endpoint, job.fal_id) as stream:
            async for progress in stream:
                if not await services.ledger.progress(ref, progress, lease):
                    return False  # it has ended, or another has the watch: the lease tells
                if progress.completed:
                    return await _conclude(services, job)
    except Unavailable:
        await _ask_once(services, job, lease)
        raise
    return False


async def _accepted(services: Services, ref: JobRef) -> Job | None:
    """The open job as soon as fal's id of it is known; None once it has ended."""
    while True:
        job = await services.ledger.read(ref.id)
        if job is None or job.state.ended:
            return None
        if job.fal_id is not None:
            return job
        with services.wakes.bell(topic_of_job(ref.id)) as bell:
            await rung(bell, UNKNOWN_YET)


async def _conclude(services: Services, job: Job) -> bool:
    """fal says that the job has completed: wait for its webhook, or fetch the result."""
    if not job.pull and await ended_within(services, job.ref, WEBHOOK_HEAD_START):
        return True
    assert job.fal_id is not None
    end = await fetched_end(services, job, job.fal_id)
    if end is not None:
        await write_end(services, job.ref, end, "stream", fal_id=job.fal_id)
    return end is not None


async def ended_within(services: Services, ref: JobRef, seconds: float) -> bool:
    """Does the job's end get into the ledger within `seconds`?"""
    deadline = asyncio.get_running_loop().time() + seconds
    with services.wakes.bell(topic_of_job(ref.id)) as bell:
        while True:
            job = await services.ledger.read(ref.id)
            if job is None or job.state.ended:
                return True
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await rung(bell, min(left, 2.0))


async def _ask_once(services: Services, job: Job, lease: int) -> None:
    """Where the stream does not work, one poll in its place: watchers must not stand still."""
    assert job.fal_id is not None
    fal = services.accounts.of(job.account)
    progress: Progress | None = await fal.status(job.ref.endpoint, job.fal_id)
    if progress is None:
        return
    await services.ledger.progress(job.ref, progress, lease)
    if progress.completed:
        await _conclude(services, job)
