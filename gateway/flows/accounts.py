"""A call -> one of the accounts at fal that its team may use; and which of them fal still takes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from gateway.core.accounts import AccountView, advice
from gateway.core.errors import GatewayError, KeyRefused
from gateway.flows.services import Services
from gateway.upstream.accounts import no_account

PROBE: Final = 10.0
"""Seconds for one probe: less than it is claimed for."""

T = TypeVar("T")

_log = logging.getLogger("gateway.accounts")


class AccountFull(Exception):
    """For `on_an_account`: this account has no room, the next may have some."""


async def on_an_account(
    services: Services,
    team: str,
    call: Callable[[str], Awaitable[T]],
    *,
    paid: bool = True,
    first: str = "",
) -> tuple[str, T]:
    """The name of the account that a call of `team` went to, and what `call` of it gave.

    The one to ask `first` has been chosen before, if it is still among those to choose from.

    Where fal refuses an account's key it has certainly done nothing, and the next one is tried;
    once that has been so with all that were in use, those that were out as well, since one of them
    may be good by now. One without room is waited for instead: it is no reason to try those.
    That a call worked shows that fal takes the key again, if it is a `paid` one: a locked account
    may still do the rest. Raises what `call` does: `KeyRefused` when none of them works, `locked`
    where each said so of itself, and `AccountFull` when some had no room.
    """
    failure: KeyRefused | AccountFull | None = None
    tried: set[str] = set()
    while left := [name for name in services.accounts.choices(team) if name not in tried]:
        name = first if first in left else left[0]
        tried.add(name)
        try:
            answer = await call(name)
        except AccountFull as full:
            failure = full
        except KeyRefused as refused:
            # `Fal` has told it to whoever keeps the accounts' health.
            if failure is None or (isinstance(failure, KeyRefused) and failure.locked):
                failure = refused
        else:
            if paid:
                services.accounts.health.worked(name)
            return name, answer
    raise failure or no_account()


async def exchange(services: Services) -> None:
    """Tell all processes what this one knows of the accounts, and hear what they know.

    Raises `StoreUnavailable`.
    """
    health = services.accounts.health
    refused, worked = health.untold
    for name, out in refused.items():
        if await services.outs.put(name, out.status):
            _log.error("%s", advice(name, out), extra={"account": name})
    for name in worked:
        await _back(services, name)
    health.told(await services.outs.known(), refused, worked)


async def probe_due(services: Services) -> None:
    """Ask fal about accounts that are out, if it is time, and this process's turn.

    Raises `StoreUnavailable`.
    """
    for name in await services.outs.due():
        services.runs.start(_probe(services, name))


async def overview(services: Services) -> list[AccountView]:
    """How each account stands. Raises `StoreUnavailable`."""
    outs = await services.outs.known()
    return [
        AccountView(account, outs.get(account.name), await services.slots.running(account.name))
        for account in services.accounts.all
    ]


async def _probe(services: Services, name: str) -> None:
    """What remains unclear counts as in vain: it is asked again later."""
    good = False
    if services.accounts.account(name) is None:
        return  # another process has other settings, or it was removed: its record ends by itself
    with suppress(GatewayError, TimeoutError):
        async with asyncio.timeout(PROBE):
            good = await services.accounts.of(name).usable()
    if good:
        await _back(services, name)
    else:
        await services.outs.probed(name, False)


async def _back(services: Services, name: str) -> None:
    if await services.outs.probed(name, True):
        _log.warning("fal account %s is in use again", name, extra={"account": name})
