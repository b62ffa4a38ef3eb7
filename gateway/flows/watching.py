"""Who holds the one status stream of a job that somebody watches.

A process with watchers of a job tries for its lease. The one that has it follows fal's stream and
writes what it says into the ledger, from which all watchers of all processes are served.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.errors import GatewayError
from gateway.core.model import JobRef
from gateway.flows.runs import Runs
from gateway.store.due import Leases

Follow = Callable[[int], Coroutine[Any, Any, bool]]
"""Follows a job under a lease's number; True once there is nothing more to follow."""

POLL_COUNTS: Final = 15.0
"""Seconds that one poll counts as watching."""
RENEW: Final = 2.0
"""Seconds between renewals of a lease, and between tries for one that another holds."""
AGAIN: Final = 1.0
"""Seconds to wait after a stream broke; twice as long after each that breaks soon again."""
AGAIN_MAX: Final = 30.0
"""Seconds to wait at most."""
STEADY: Final = 10.0
"""Seconds after which a stream did not break soon."""
MAX_WATCHED: Final = 5000
"""Jobs that a process watches at once; those beyond it are left to the due loop."""

_log = logging.getLogger("gateway.watching")


@dataclass(slots=True)
class _Watch:
    ref: JobRef
    until: float
    streams: int = 0


class Watching:
    """The jobs that this process has watchers of."""

    def __init__(self, leases: Leases, runs: Runs) -> None:
        self._leases = leases
        self._runs = runs
        self._watched: dict[str, _Watch] = {}

    def poll(self, ref: JobRef, follow: Follow) -> None:
        """Count one poll of an open job as watching it for a while."""
        watch = self._watch(ref, follow)
        if watch is not None:
            watch.until = _now() + POLL_COUNTS

    @contextmanager
    def attend(self, ref: JobRef, follow: Follow) -> Generator[None]:
        """Count a stream of an open job as watching it for as long as this is entered."""
        watch = self._watch(ref, follow)
        if watch is None:
            yield
            return
        watch.streams += 1
        try:
            yield
        finally:
            watch.streams -= 1

    def _watch(self, ref: JobRef, follow: Follow) -> _Watch | None:
        watch = self._watched.get(ref.id)
        if watch is None:
            if len(self._watched) >= MAX_WATCHED:
                return None
            watch = self._watched[ref.id] = _Watch(ref, 0.0)
            self._runs.start(self._hold(watch, follow))
        return watch

    async def _hold(self, watch: _Watch, follow: Follow) -> None:
        """Try for the lease, follow under it, let go when the watchers have gone."""
        pause = AGAIN
        try:
            while self._wanted(watch):
                begun = _now()
                try:
                    if await self._held(watch, follow):
                        return
                except GatewayError as error:
                    _log.warning("watch broken: %s", error.code, extra={"job": watch.ref.id})
                pause = AGAIN if _now() - begun > STEADY else min(2 * pause, AGAIN_MAX)
                await asyncio.sleep(pause if self._wanted(watch) else 0)
        finally:
            del self._watched[watch.ref.id]

    async def _held(self, watch: _Watch, follow: Follow) -> bool:
        """One try for the lease, and what follows from it. True once there is nothing to watch."""
        lease = await self._leases.take(watch.ref)
        while lease == 0 and self._wanted(watch):
            await asyncio.sleep(RENEW)
            lease = await self._leases.take(watch.ref)
        if lease <= 0:
            return lease < 0
        try:
            return await self._followed(watch, follow, lease)
        finally:
            with suppress(GatewayError):
                await self._leases.release(watch.ref)

    async def _followed(self, watch: _Watch, follow: Follow, lease: int) -> bool:
        """Follow while the lease is ours and somebody watches."""
        task, outcome = self._runs.captured(follow(lease))
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=RENEW)
                if done:
                    return outcome.result()
                if not self._wanted(watch) or await self._leases.take(watch.ref) != lease:
                    return False
        finally:
            task.cancel()
            await asyncio.wait({task})

    def _wanted(self, watch: _Watch) -> bool:
        return watch.streams > 0 or _now() < watch.until


def _now() -> float:
    return asyncio.get_running_loop().time()
