"""The job table and the queue: who waits, who runs, how each job ends."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from gateway.core import fal
from gateway.core.fal import Status
from gateway.sim.access import account_id
from gateway.sim.config import SimConfig
from gateway.sim.faults import Fault
from gateway.sim.model import CANCELLED, DEADLINE, Call, Job, Outcome, trouble
from gateway.sim.spool import Spool
from gateway.sim.webhooks import Webhooks

MAX_BYTES: Final = 512 * 2**20
"""Of inputs and results; beyond, the oldest ended jobs are dropped."""

STRANGERS: Final = 2
STEP: Final = 0.45
"""Seconds for one stranger before us in the queue."""
RUN: Final = 2.5
LINES: Final = (
    "Loading model",
    "Reading input",
    "Step 1 of 3",
    "Step 2 of 3",
    "Step 3 of 3",
    "Saving result",
)

_HELD: Final = frozenset({Fault.HOLD, Fault.CANCEL_200_OK, Fault.CANCEL_200_SUCCESS})
_AT_ONCE: Final = frozenset({Fault.FAST, Fault.WEBHOOK_FIRST})


class Full(Exception):
    """No room in the job table: all its jobs are open."""


class Engine:
    """`work` runs an endpoint, `spool` keeps what is open, `tasks` what lives beyond a request."""

    def __init__(
        self,
        config: SimConfig,
        work: Callable[[Call], Awaitable[Outcome]],
        webhooks: Webhooks,
        spool: Spool,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._config = config
        self._work = work
        self._webhooks = webhooks
        self._spool = spool
        self._tasks = tasks
        self._background: set[asyncio.Task[None]] = set()
        self._jobs: dict[str, Job] = {}
        self._kept = 0
        self._waiting: defaultdict[str, list[Job]] = defaultdict(list)
        self._running: defaultdict[str, int] = defaultdict(int)
        self._slots = {account_id(key): slots for key, slots in config.slots.items()}

    def submit(self, call: Call) -> Job:
        """A new job, on its way. Raises `Full`."""
        self._make_room()
        job = Job(call, strangers=_strangers(call))
        self._spool.keep(job)
        self._begin(job)
        return job

    def resume(self) -> None:
        """Queue again what was open when the simulator stopped, as far as there is room."""
        for job_id, kept in self._spool.found():
            try:
                self._make_room()
            except Full:
                logging.getLogger(__name__).warning("job %s is dropped: no room", job_id)
                self._spool.forget(job_id)
                continue
            job = Job(kept.call, _strangers(kept.call), id=job_id, created_at=kept.created_at)
            self._begin(job)
            if kept.outcome is not None:
                self.end(job, kept.outcome)

    def find(self, request_id: str) -> Job | None:
        return self._jobs.get(request_id)

    def all(self) -> list[Job]:
        return list(self._jobs.values())

    def position(self, job: Job) -> int:
        """How many stand before it: strangers, and its own account's jobs."""
        line = self._waiting[job.call.account]
        return job.strangers + (line.index(job) if job in line else 0)

    def waiting_on(self, endpoint: str) -> int:
        """How many jobs of all accounts wait for an endpoint."""
        return sum(
            job.status is Status.IN_QUEUE and job.call.endpoint == endpoint
            for job in self._jobs.values()
        )

    def cancel(self, job: Job) -> None:
        """Ask a job to stop. Whether it does is its own matter."""
        job.cancel_requested = True
        if job.call.fault is not Fault.CANCEL_IGNORED:
            self.end(job, CANCELLED)

    def end(self, job: Job, outcome: Outcome) -> bool:
        """Write how a job ended, and report it. False if it had ended before."""
        if job.outcome is not None:
            return False
        self._leave(job)
        job.outcome, job.status, job.ended_at = outcome, Status.COMPLETED, time.time()
        self._kept += len(outcome.body)
        job.touch()
        if job.task is not None and job.task is not asyncio.current_task():
            job.task.cancel()
            self._spool.keep(job, outcome)
        self._start(self._report(job))
        return True

    def reset(self) -> None:
        """Forget everything; whoever waits for a job is let go."""
        self.stop()
        for job in self._jobs.values():
            self._spool.forget(job.id)
            job.dropped = True
            job.told.set()
            job.touch()
        self._jobs.clear()
        self._waiting.clear()
        self._running.clear()
        self._kept = 0

    def stop(self) -> None:
        """Cancel everything under way."""
        for task in self._background:
            task.cancel()

    def _begin(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._kept += len(job.call.body)
        if job.call.fault not in _AT_ONCE and job.call.fault is not Fault.HOLD_QUEUED:
            self._waiting[job.call.account].append(job)
        job.task = self._start(self._live(job))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _live(self, job: Job) -> None:
        try:
            async with asyncio.timeout(_left(job)):
                await self._turn(job)
        except TimeoutError:
            self.end(job, DEADLINE)
            return
        try:
            outcome = await self._run(job)
        except Exception:  # a fault of one job is not the end of all others
            logging.getLogger(__name__).exception("job %s failed", job.id)
            outcome = trouble(500, "runner_server_error", "The runner failed")
        self.end(job, outcome)

    async def _report(self, job: Job) -> None:
        try:
            await self._webhooks.report(job)
        except Exception:  # as above
            logging.getLogger(__name__).exception("webhook of job %s failed", job.id)
            job.told.set()
        self._spool.forget(job.id)

    async def _turn(self, job: Job) -> None:
        """Wait in the queue; on return the job runs."""
        if job.call.fault is Fault.HOLD_QUEUED:
            await asyncio.Event().wait()
        while job.strangers:
            await self._pause(STEP)
            job.strangers -= 1
            job.touch()
        if job.call.fault not in _AT_ONCE:
            while not self._free(job):
                await job.changed.wait()
            self._waiting[job.call.account].remove(job)
            self._running[job.call.account] += 1
            self._moved(job.call.account)
        self._progress(job, Status.IN_PROGRESS)

    def _free(self, job: Job) -> bool:
        account = job.call.account
        slots = self._slots.get(account, self._config.concurrency)
        return self._waiting[account][0] is job and self._running[account] < slots

    def running(self, account: str) -> int:
        """How many of an account's jobs run."""
        return self._running[account]

    async def _run(self, job: Job) -> Outcome:
        if job.call.fault in _AT_ONCE:
            return await self._work(job.call)
        if job.call.fault is Fault.REQUEUE:
            await self._pause(STEP)
            self._progress(job, Status.IN_QUEUE)
            await self._pause(STEP)
            self._progress(job, Status.IN_PROGRESS)
        for number, line in enumerate(LINES):
            job.log(line)
            if number == 1 and job.call.fault in _HELD:
                await asyncio.Event().wait()
            await self._pause(RUN / len(LINES))
        outcome = await self._work(job.call)
        job.log("Done")
        return outcome

    def _progress(self, job: Job, status: fal.Status) -> None:
        job.status = status
        job.started_at = time.time()
        job.touch()

    def _leave(self, job: Job) -> None:
        """Give up its place in the queue, or its running slot."""
        account = job.call.account
        if job in self._waiting[account]:
            self._waiting[account].remove(job)
        elif job.started_at is not None and job.call.fault not in _AT_ONCE:
            self._running[account] -= 1
        self._moved(account)

    def _moved(self, account: str) -> None:
        for job in self._waiting[account]:
            job.touch()

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._config.pace)

    def _make_room(self) -> None:
        while len(self._jobs) >= self._config.max_jobs or self._kept > MAX_BYTES:
            ended = next((job for job in self._jobs.values() if job.outcome is not None), None)
            if ended is None:
                raise Full
            assert ended.outcome is not None
            self._kept -= len(ended.call.body) + len(ended.outcome.body)
            del self._jobs[ended.id]
            self._spool.forget(ended.id)


def _strangers(call: Call) -> int:
    return 0 if call.fault in _AT_ONCE else STRANGERS


def _left(job: Job) -> float | None:
    """Seconds until it must have started, counted from its submit whatever happened since."""
    most = job.call.start_timeout
    return None if most is None else job.created_at + most - time.time()
