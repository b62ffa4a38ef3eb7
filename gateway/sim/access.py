"""Who may call: fal keys, and the accounts behind them."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

LOCKED: Final = "User is locked. Reason: Exhausted balance."
BAD_KEY: Final = "invalid key credentials"


@dataclass(frozen=True, slots=True)
class Lock:
    """What a locked account hears. Unless `everywhere`, only what would cost it money."""

    status: int
    everywhere: bool


def account_id(key: str) -> str:
    """A name for a key's public half, which is the same for all who show that half."""
    return sha256(key.split(":")[0].encode()).hexdigest()[:12]


class Access:
    """`keys` are the good ones; None takes any. `users` says as whom a key's account signs."""

    def __init__(
        self, keys: frozenset[str] | None, user_id: str = "", users: Mapping[str, str] | None = None
    ) -> None:
        self._keys = keys
        self._user_id = user_id
        self._users = {account_id(key): user for key, user in (users or {}).items()}
        self._locks: dict[str, Lock] = {}

    def account(self, authorization: str | None) -> str | None:
        """The account of an `Authorization` value, None if it is no good."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "key" or not key.strip():
            return None
        if self._keys is not None and key not in self._keys:
            return None
        return account_id(key)

    @property
    def accounts(self) -> list[str]:
        """Those that are known by their keys."""
        return sorted({account_id(key) for key in self._keys or ()})

    def user(self, account: str) -> str:
        """Whom its webhooks are signed for."""
        return self._users.get(account, self._user_id)

    def lock(self, account: str, lock: Lock | None) -> None:
        """Lock an account, or with None unlock it."""
        if lock is None:
            self._locks.pop(account, None)
        else:
            self._locks[account] = lock

    def locked(self, account: str) -> Lock | None:
        return self._locks.get(account)

    def unlock_all(self) -> None:
        self._locks.clear()
