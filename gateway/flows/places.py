"""A place at a fal account, for accounts that run only so many jobs at once."""

from contextlib import suppress
from typing import Final

from gateway.core.errors import LimitReached, StoreUnavailable
from gateway.flows.accounts import AccountFull
from gateway.flows.services import Services

LIVES: Final = 600.0
"""Seconds that a place counts without a sign of its job: more than the longest pause between two
looks of the due loop at an open job."""


class Place:
    """Where one job, or one direct run, has its place; at one account at most.

    Who comes `direct` lets those go first who wait in the gateway's queue.
    """

    def __init__(self, services: Services, id: str, *, direct: bool) -> None:
        self._services = services
        self._id = id
        self._direct = direct
        self._full: set[str] = set()
        self._at: str | None = None

    async def take(self, name: str) -> None:
        """Raises `AccountFull`, `StoreUnavailable`."""
        account = self._services.accounts.account(name)
        if self._at == name or account is None or account.cap is None:
            return
        if name in self._full:
            raise AccountFull
        await self.free()
        slots = self._services.slots
        if not await slots.take(name, account.cap, self._id, LIVES, direct=self._direct):
            self._full.add(name)
            raise AccountFull
        self._at = name

    async def hurry(self, name: str) -> None:
        """Ask for a place early, beside something else: `take` knows the answer then."""
        with suppress(AccountFull, StoreUnavailable):
            await self.take(name)

    async def free(self) -> None:
        """Give the place back; one that gets lost here ends by itself."""
        if self._at is not None:
            with suppress(StoreUnavailable):
                await self._services.slots.free(self._at, self._id)
            self._at = None
            self._services.room.set()


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
