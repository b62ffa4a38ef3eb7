"""ledger -> subscriber: what was missed, then what comes, nothing lost between."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Final

from gateway.core.errors import StoreUnavailable
from gateway.core.model import Caller, Event, EventType, Job
from gateway.flows.follow import follower
from gateway.flows.observe import job_of
from gateway.flows.services import Services
from gateway.store.feeds import (
    Page,
    rung,
    topic_of_job,
    topic_of_principal,
    topic_of_team,
)

IDLE: Final = 2.0
"""Seconds after which a subscription looks at Redis although nothing rang. It yields None after
each look that found nothing, so that its stream can send a heartbeat or come to its end."""

ENDS: Final = frozenset(
    {EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED, EventType.EXPIRED}
)


@dataclass(frozen=True, slots=True)
class Gap:
    """Some history is gone: the subscriber must fetch. The stream goes on after `resume`."""

    resume: str


News = Event | Gap | None
"""None: there is nothing new."""


async def job_events(services: Services, job: Job, after: str) -> AsyncGenerator[News]:
    """A job's events after `after`, to its end."""

    def page(at: str) -> Awaitable[Page]:
        return services.feeds.of_job(job.id, at)

    waits = job.waiting
    with _watched(services, job):
        async for news in _events(services, topic_of_job(job.id), page, after):
            if news is None and waits:
                waits = await _still_waits(services, job)
            yield news
            if isinstance(news, Event) and news.type in ENDS:
                return


async def _still_waits(services: Services, job: Job) -> bool:
    """Tell its place in the gateway's queue, of which nothing else makes an event."""
    with suppress(StoreUnavailable):
        now = await services.ledger.read(job.id)
        if now is None or not now.waiting:
            return False
        await services.queues.moved(job.ref)
    return True


async def now_of(services: Services, caller: Caller, *, team: bool) -> str:
    """The place of the last event so far, of a principal or of its team."""
    if team:
        return await services.feeds.last_of_team(caller.principal.team)
    return await services.feeds.last_of_principal(caller.principal)


async def own_events(services: Services, caller: Caller, after: str) -> AsyncGenerator[News]:
    """The events of all of a principal's jobs after `after`."""
    principal = caller.principal

    def page(at: str) -> Awaitable[Page]:
        return services.feeds.of_principal(principal, at)

    async for news in _events(services, topic_of_principal(principal), page, after):
        yield news


async def team_events(services: Services, caller: Caller, after: str) -> AsyncGenerator[News]:
    """The events of all jobs of the caller's team after `after`, numbered for the team."""
    team = caller.principal.team

    def page(at: str) -> Awaitable[Page]:
        return services.feeds.of_team(team, at)

    async for news in _events(services, topic_of_team(team), page, after):
        yield news


async def statuses(
    services: Services, caller: Caller, job: Job
) -> AsyncGenerator[tuple[Job, list[bytes]] | None]:
    """A job's state as it is now, then on each change, with the log lines that are new.

    Ends with the state that is an end. None: there is nothing new.
    """
    at, told = "0-0", None
    with _watched(services, job), services.wakes.bell(topic_of_job(job.id)) as bell:
        while True:
            try:
                job = await job_of(services, caller, job.id)
                lines, at = await _lines_after(services, job.id, at)
            except StoreUnavailable:  # it passes; the stream need not
                lines = []
            state = (job.state, job.position)
            yield (job, lines) if lines or state != told else None
            told = state
            if job.state.ended:
                return
            await rung(bell, IDLE)


async def _lines_after(services: Services, job_id: str, at: str) -> tuple[list[bytes], str]:
    """The log lines after a place, and the place after them."""
    lines: list[bytes] = []
    while events := (await services.feeds.of_job(job_id, at)).events:
        lines += [event.log for event in events if event.log is not None]
        at = events[-1].id
    return lines, at


async def _events(
    services: Services, topic: str, page_after: Callable[[str], Awaitable[Page]], at: str
) -> AsyncGenerator[News]:
    """Read, tell, wait for the bell, read on. The bell hangs before the first look."""
    with services.wakes.bell(topic) as bell:
        while True:
            try:
                page = await page_after(at)
            except StoreUnavailable:  # it passes; the stream need not
                page = Page((), gap=False)
            if page.gap:
                at = at if page.events else "0-0"
                yield Gap(at)
            for event in page.events:
                yield event
                at = event.id
            if not page.events and not page.gap:
                yield None
                await rung(bell, IDLE)


def _watched(services: Services, job: Job) -> AbstractContextManager[None]:
    if job.state.ended:
        return nullcontext()
    return services.watching.attend(job.ref, follower(services, job.ref))
