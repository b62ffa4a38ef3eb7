"""The accounts at fal that the gateway may use. A job stays with the one that took it."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from gateway.core.accounts import Account, Out, no_such_account, open_to
from gateway.core.errors import KeyRefused
from gateway.upstream.fal import Fal
from gateway.upstream.health import Health

_chance: Final[Callable[[], float]] = random.random


class Accounts:
    """`fals` are by the name of their account. `chance` gives numbers from 0 up to 1."""

    def __init__(
        self,
        accounts: Sequence[Account],
        fals: Mapping[str, Fal],
        health: Health,
        chance: Callable[[], float] = _chance,
    ) -> None:
        self._accounts = {account.name: account for account in accounts}
        self._fals = dict(fals)
        self._chance = chance
        self.health: Final = health
        ids = [account.user_id for account in accounts]
        self.user_ids: Final = None if None in ids else frozenset(ids)
        """Who fal's webhooks may be signed for; None for anybody."""

    @property
    def all(self) -> tuple[Account, ...]:
        return tuple(self._accounts.values())

    @property
    def capped(self) -> bool:
        """Is there one that runs only so many jobs at once?"""
        return any(account.cap is not None for account in self._accounts.values())

    def account(self, name: str) -> Account | None:
        """None for one that is not configured any more."""
        return self._accounts.get(name)

    def signer(self, user_id: str) -> str:
        """The account that fal calls so in its webhooks; empty where that is not known."""
        named = [name for name, account in self._accounts.items() if account.user_id == user_id]
        unnamed = [name for name, account in self._accounts.items() if account.user_id is None]
        if named:
            return named[0]
        return unnamed[0] if len(unnamed) == 1 else ""

    def of(self, name: str) -> Fal:
        """The account that has a job; the first one for a job that says none.

        Raises `Unavailable` where there is no such account any more.
        """
        if not name:
            return next(iter(self._fals.values()))
        if name not in self._fals:
            raise no_such_account()
        return self._fals[name]

    def choices(self, team: str) -> list[str]:
        """The accounts to try for a new call of `team`, in this order, by chance and weight.

        Those whose key fal refuses are left out while there are others. Where there are none they
        are tried all the same: a 403 may be about one endpoint, and nobody may close the gateway
        to all by asking for it.
        """
        mine = self._shuffled(open_to(self._accounts.values(), team))
        return [name for name in mine if self.out(name) is None] or mine

    def chosen(self, team: str) -> str:
        """The first of these. Raises `KeyRefused` where `team` has none."""
        choices = self.choices(team)
        if not choices:
            raise no_account()
        return choices[0]

    def out(self, name: str) -> Out | None:
        """Why an account is out of use; None while it is in use."""
        return self.health.out(name)

    def redacted(self, told: bytes) -> bytes:
        """What fal has told us elsewhere, without any of our keys."""
        return self.of("").redacted(told)

    def _shuffled(self, accounts: Sequence[Account]) -> list[str]:
        """Each is the first as often as its weight says; and so on without it for the others.

        Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
        """
        keyed = [(self._chance() ** (1 / account.weight), account.name) for account in accounts]
        return [name for _, name in sorted(keyed, reverse=True)]


def no_account() -> KeyRefused:
    return KeyRefused("the gateway has no account at fal for this team")
