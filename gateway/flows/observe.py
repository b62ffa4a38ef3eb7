"""What became of a job: for whoever polls, waits, or fetches."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.core.errors import JobNotFound, ResultGone, Unavailable
from gateway.core.model import Caller, Job, Scope
from gateway.core.plans import may_see
from gateway.flows.authenticate import check_kept
from gateway.flows.follow import follower
from gateway.flows.services import Services
from gateway.store.feeds import number, rung, topic_of_job

RESULT_HOLD: Final = 20.0
"""Seconds that a fal-form result of an open job is held."""
WAIT_MAX: Final = 60.0
"""Seconds that a long poll waits at most."""
RESULT_PIECE: Final = 256 * 2**10
"""Bytes of a stored result that are read at once."""


async def job_of(services: Services, caller: Caller, job_id: str) -> Job:
    """The caller's job. Raises `JobNotFound`, the same for a foreign one as for none."""
    job, _ = await _seen(services, caller, job_id)
    return job


async def polled(services: Services, caller: Caller, job_id: str) -> Job:
    """The caller's job, now watched for a while."""
    job = await job_of(services, caller, job_id)
    _count(services, job)
    return job


async def polled_with_logs(
    services: Services, caller: Caller, job_id: str
) -> tuple[Job, list[bytes]]:
    """The caller's job, now watched for a while, and its log lines as JSON."""
    job, lines = await _seen(services, caller, job_id, logs=True)
    _count(services, job)
    return job, lines


async def changed(
    services: Services,
    caller: Caller,
    job_id: str,
    after: str | None,
    wait: float,
    leaving: asyncio.Event,
) -> Job:
    """The job once its version is above `after`, or as it is after `wait` seconds.

    Without `after`, the next change counts. Once `leaving` is set, nobody waits.
    Raises `Unauthenticated` where the credential is taken back meanwhile.
    """
    deadline = _now() + min(wait, WAIT_MAX)
    job = await job_of(services, caller, job_id)
    after = after or job.version
    with (
        services.wakes.bell(topic_of_job(job_id)) as bell,
        services.watching.attend(job.ref, follower(services, job.ref)),
    ):
        while number(job.version) <= number(after) and not job.state.ended and _now() < deadline:
            if leaving.is_set():
                break
            await rung(bell, max(0.0, min(2.0, deadline - _now())))
            check_kept(services, caller)
            job = await job_of(services, caller, job_id)
    _count(services, job)
    return job


async def ended(services: Services, caller: Caller, job_id: str, hold: float) -> Job:
    """The job as soon as it has ended, or as it is after `hold` seconds.

    Raises `Unauthenticated` where the credential is taken back meanwhile.
    """
    job = await job_of(services, caller, job_id)
    if job.state.ended:
        return job
    deadline = _now() + hold
    with (
        services.wakes.bell(topic_of_job(job_id)) as bell,
        services.watching.attend(job.ref, follower(services, job.ref)),
    ):
        while not job.state.ended and _now() < deadline:
            await rung(bell, max(0.0, min(2.0, deadline - _now())))
            check_kept(services, caller)
            job = await job_of(services, caller, job_id)
    return job


@dataclass(frozen=True, slots=True)
class Stored:
    """A result that the gateway keeps: its size, and its bytes as they are asked for.

    `chunks` raises `ResultGone` if the result goes meanwhile.
    """

    size: int
    chunks: AsyncGenerator[bytes]


async def stored_result(services: Services, job: Job) -> Stored:
    """Raises `ResultGone`."""
    size, begin = await services.ledger.result_begun(job.id, RESULT_PIECE)
    if size == 0:
        raise _not_kept()
    return Stored(size, _pieces(services, job, size, begin))


async def _pieces(services: Services, job: Job, size: int, piece: bytes) -> AsyncGenerator[bytes]:
    """A reader may be slow, and there may be many: none holds more than a piece."""
    sent = 0
    while True:
        yield piece
        sent += len(piece)
        if sent >= size:
            return
        piece = await services.ledger.result_part(job.id, sent, RESULT_PIECE)
        if not piece:
            raise _not_kept()


@asynccontextmanager
async def result_at_fal(services: Services, job: Job) -> AsyncGenerator[AsyncIterator[bytes]]:
    """A result too large to keep, as fal sends it. Raises `ResultGone`, `Unavailable`."""
    assert job.end is not None
    if job.fal_id is None:
        raise _not_kept()
    account = services.accounts.of(job.account)
    async with account.stream_result(job.ref.endpoint, job.fal_id) as answer:
        if answer.status == 404:
            raise ResultGone("neither the gateway nor fal keeps this result any longer")
        if (answer.status < 300) is not (job.end.http_status < 300):
            raise Unavailable("fal does not hand out the result at the moment; try again")
        yield answer.chunks


def _not_kept() -> ResultGone:
    return ResultGone("the result is no longer kept")


async def _seen(
    services: Services, caller: Caller, job_id: str, *, logs: bool = False
) -> tuple[Job, list[bytes]]:
    """What is not for the caller never leaves Redis: its size would show in the time it takes."""
    who = None if Scope.READ in caller.scopes else caller.principal
    job, lines = await services.ledger.seen(job_id, caller.principal.team, who, logs=logs)
    if job is None or not may_see(caller, job):
        raise JobNotFound("no such job")
    return job, lines


def _count(services: Services, job: Job) -> None:
    if not job.state.ended:
        services.watching.poll(job.ref, follower(services, job.ref))


def _now() -> float:
    return asyncio.get_running_loop().time()
