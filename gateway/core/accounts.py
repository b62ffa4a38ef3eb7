"""The accounts at fal that pay for jobs: who may use which, and how they stand."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core.errors import Unavailable

MAIN = "main"
"""The account of FAL_KEY."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account, without its key."""

    name: str
    user_id: str | None = None
    """What fal calls it in signed webhooks; None where the operator has not said."""
    weight: int = 1
    """Its share of new jobs; with 0 it only ends those that it has."""
    cap: int | None = None
    """Jobs that it runs at once at most."""
    teams: tuple[str, ...] = ()
    """Teams that are pinned to it: it serves no others, and they use no others."""


def open_to(accounts: Iterable[Account], team: str) -> tuple[Account, ...]:
    """The accounts that new calls of `team` may go to."""
    accounts = tuple(accounts)
    pinned = tuple(account for account in accounts if team in account.teams)
    mine = pinned or tuple(account for account in accounts if not account.teams)
    return tuple(account for account in mine if account.weight)


@dataclass(frozen=True, slots=True)
class Out:
    """fal refuses an account's key: `status`, 401 or 403. Times are Unix seconds."""

    since: float
    status: int
    probes: int = 0
    """How often fal was asked since, in vain."""
    probe_at: float | None = None
    """When it is asked next."""

    @property
    def reason(self) -> str:
        return _REASONS.get(self.status, f"fal answers {self.status} to its key")


_REASONS = {
    401: "fal does not know its key (401)",
    403: "fal lets its key do nothing (403): it is locked, or out of credit",
}


@dataclass(frozen=True, slots=True)
class AccountView:
    """How an account stands, for operators. `running` counts the jobs that hold a slot."""

    account: Account
    out: Out | None
    running: int

    @property
    def alert(self) -> str | None:
        """What the operator should do, if there is anything."""
        return None if self.out is None else advice(self.account.name, self.out)


def advice(name: str, out: Out) -> str:
    return (
        f"fal account {name} is out of use: {out.reason}. Check the key and the balance in fal's "
        "dashboard; it is asked again by itself, and comes back once fal takes its key"
    )


def no_such_account() -> Unavailable:
    """For a job whose account is not configured any more.

    Nobody can ask fal about it. Its webhook is still taken; without one it ends as `expired`.
    """
    return Unavailable("the account at fal that has this job is not configured any more")
