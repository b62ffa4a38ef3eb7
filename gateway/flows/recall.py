"""revocation -> the jobs that wait by it have failed, before fal gets them."""

import asyncio
from typing import Final

from gateway.core.ends import CREDENTIAL_REVOKED
from gateway.core.model import Job
from gateway.flows.authenticate import revoked
from gateway.flows.ending import write_end
from gateway.flows.services import Services
from gateway.store.ledger import Ended
from gateway.store.queues import HEADS

REST: Final = 10
"""How much longer than a sweep took the pause after it lasts at least."""


def is_recalled(services: Services, job: Job) -> bool:
    """Was what a waiting job was submitted with revoked since?"""
    return job.source is not None and revoked(services, job.source)


async def recall(services: Services, job: Job) -> bool:
    """End a job, if it still waits. Who has let it go meanwhile asks again before it is sent."""
    what = await write_end(services, job.ref, CREDENTIAL_REVOKED, "revoked", waiting=True)
    return what is Ended.ENDED


class Sweep:
    """After a revocation, a look at all who wait: they take up room, and money, that is others'.

    Whoever it misses is found when it is to go.
    """

    def __init__(self) -> None:
        self._seen: int | None = None
        """The version of the revocations by which the last one went."""
        self._next = 0.0

    async def look(self, services: Services) -> None:
        """Raises `StoreUnavailable`."""
        version, begun = services.revocations.version, _now()
        if not services.revocations.loaded or version == self._seen or begun < self._next:
            return
        for team, length in (await services.queues.lengths()).items():
            await _swept(services, team, length)
        self._seen, self._next = version, _now() + REST * (_now() - begun)


async def _swept(services: Services, team: str, length: int) -> None:
    kept = 0
    for _ in range(0, length, HEADS):
        for job in await services.queues.heads(team, kept):
            if is_recalled(services, job):
                await services.runs.to_end(recall(services, job))
            else:
                kept += 1


def _now() -> float:
    return asyncio.get_running_loop().time()
