"""Work that goes on although the client that asked for it has gone."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

_log = logging.getLogger("gateway")


class Runs:
    """Tasks that belong to the process. `tasks` is entered for as long as it serves."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._going: set[asyncio.Task[Any]] = set()
        self._owed: set[asyncio.Task[Any]] = set()

    async def to_end(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What `work` gives. If the caller is cancelled, the work still runs to its end."""
        task, outcome = self.captured(work)
        self._owe(task)
        return await asyncio.shield(outcome)

    def owed(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the background, to its end: before that the process does not stop."""
        self._owe(self.start(work))

    def captured(
        self, work: Coroutine[Any, Any, Result]
    ) -> tuple[asyncio.Task[None], asyncio.Future[Result]]:
        """`work` in the background, and what it gives or raises; cancel the task to end it."""
        outcome: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        return self.start(_into(outcome, work)), outcome

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in the background. An error in it is logged, and ends nothing else."""
        task = self._tasks.create_task(_told(work))
        self._going.add(task)
        task.add_done_callback(self._going.discard)
        return task

    def _owe(self, task: asyncio.Task[None]) -> None:
        self._owed.add(task)
        task.add_done_callback(self._owed.discard)

    def stop(self) -> None:
        """Cancel what is still going on."""
        for task in self._going:
            task.cancel()

    async def finished(self, within: float) -> bool:
        """Wait for what runs to its end; False if some of it takes longer than `within` seconds.

        The rest, such as holding a watch, may be cancelled at any time.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + within
        while self._owed and (left := deadline - clock()) > 0:
            await asyncio.wait(set(self._owed), timeout=left)  # some of it begins more
        return not self._owed


async def _told(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001 - the outermost of a task: the group would end with it
        _log.exception("work in the background broke")


async def _into(outcome: asyncio.Future[Result], work: Coroutine[Any, Any, Result]) -> None:
    """Errors go to whoever waits; an error that nobody waits for must not end the process."""
    try:
        result = await work
    except asyncio.CancelledError:
        outcome.cancel()
        raise
    except Exception as error:  # noqa: BLE001 - handed on, not handled
        if not outcome.done():
            outcome.set_exception(error)
            outcome.exception()  # seen: the waiter may have gone
    else:
        if not outcome.done():
            outcome.set_result(result)
