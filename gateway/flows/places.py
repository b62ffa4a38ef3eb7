"""A place at a fal account, for accounts that run only so many jobs at once."""

import asyncio
import secrets
from contextlib import suppress
from typing import Final

from gateway.core.errors import LimitReached, StoreUnavailable
from gateway.core.meters import queue_text
from gateway.core.model import JobRef, Plan
from gateway.core.parcels import Parcel
from gateway.flows.accounts import AccountFull
from gateway.flows.services import Services
from gateway.flows.surely import surely

LIVES: Final = 600.0
"""Seconds that a place counts without a sign of its job: more than the longest pause between two
looks of the due loop at an open job."""
TRIED: Final = 30.0
"""Seconds that a place counts of which is not known yet whether its job may go."""


class Place:
    """Where one job, or one direct run, has its place; at one account at most.

    Who comes `direct` lets those go first who wait in the gateway's queue.
    """

    def __init__(self, services: Services, id: str, *, direct: bool, lives: float = LIVES) -> None:
        self._services = services
        self.id = id
        self._direct = direct
        self._lives = lives
        self._full: set[str] = set()
        self._at: str | None = None
        self._asked: str | None = None
        """Where it may have a place, whose answer has not come."""
        self._lock = asyncio.Lock()

    async def take(self, name: str) -> None:
        """Raises `AccountFull`, `StoreUnavailable`."""
        async with self._lock:
            await self._take(name)

    async def _take(self, name: str) -> None:
        account = self._services.accounts.account(name)
        if self._at == name or account is None or account.cap is None:
            return
        if name in self._full:
            raise AccountFull
        await self._free()
        slots, self._asked = self._services.slots, name
        taken = await slots.take(name, account.cap, self.id, self._lives, direct=self._direct)
        self._asked = None
        if not taken:
            self._full.add(name)
            raise AccountFull
        self._at = name

    async def hurry(self, name: str) -> None:
        """Ask for a place early, beside something else: `take` knows the answer then."""
        with suppress(AccountFull, StoreUnavailable):
            await self.take(name)

    async def hand(self, id: str) -> None:
        """The place is that of `id` from now on, until its end."""
        async with self._lock:
            if self._at is not None:
                with suppress(StoreUnavailable):
                    await self._services.slots.hand(self._at, self.id, id, LIVES)
            self.id, self._lives = id, LIVES

    async def keep(self) -> None:
        """Renew it until cancelled: nobody else asks after a direct run."""
        while True:
            await asyncio.sleep(self._lives / 3)
            async with self._lock:
                if self._at is not None:
                    with suppress(StoreUnavailable):
                        await self._services.slots.renew(self._at, self.id, self._lives)

    async def free(self) -> None:
        """Give the place back, also one that is being taken just now."""
        async with self._lock:
            await self._free()

    async def _free(self) -> None:
        """One that gets lost here ends by itself."""
        at = self._at or self._asked
        if at is not None:
            with suppress(StoreUnavailable):
                await self._services.slots.free(at, self.id)
            self._at = self._asked = None
            if self._direct:  # else whoever looks for room would call himself to look again
                self._services.room.set()


def tried_place(services: Services, id: str) -> Place:
    """For a job that waits: `hand` it to the job once that may go.

    Until then it has a name of its own. Several processes try for one job at a time, and none may
    give back what another has taken.
    """
    return Place(services, f"{id}:{secrets.token_hex(8)}", direct=False, lives=TRIED)


async def free_places(services: Services, id: str) -> None:
    """Whatever place a job had, at any account."""
    with suppress(StoreUnavailable):
        for account in services.accounts.all:
            if account.cap is not None:
                await services.slots.free(account.name, id)


async def keep_place(services: Services, name: str, id: str) -> None:
    """There is still a sign of a job."""
    account = services.accounts.account(name)
    if account is not None and account.cap is not None:
        await services.slots.renew(name, id, LIVES)


def no_room() -> LimitReached:
    """For who may not wait."""
    return LimitReached("the gateway's accounts at fal run as many jobs as they can; come again")


async def parked(
    services: Services, ref: JobRef, plan: Plan | None, parcel: Parcel, attempt: str = ""
) -> int:
    """Let a job wait that no account has room for: its place, from 1. 0 where its plan or its
    queue does not let it.

    `attempt` is the one by which it was let go, if it had waited. Raises `OutcomeUnknown`.
    """
    if plan is None or plan.queue is None:
        return 0
    queue, input = queue_text(plan.queue), parcel.packed()

    async def park() -> int:
        await services.queues.announce(ref.principal.team)
        return await services.queues.park(ref, queue, input, attempt)

    return await surely(ref, park)
