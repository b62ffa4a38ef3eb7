"""Clock ticks -> what all processes know of the accounts at fal."""

import asyncio
import logging
from typing import Final

from gateway.core.errors import StoreUnavailable
from gateway.flows.accounts import exchange, probe_due
from gateway.flows.services import Services
from gateway.store.outages import Outage

TICK: Final = 0.4
"""Seconds. What one process finds out, all know after two of them."""

_log = logging.getLogger("gateway.accounts")


async def run(services: Services) -> None:
    """Keep it up to date until cancelled."""
    outage = Outage(_log, "looks at fal's accounts")
    while True:
        try:
            await exchange(services)
            if any(services.accounts.out(account.name) for account in services.accounts.all):
                await probe_due(services)
            outage.over()
        except StoreUnavailable as error:
            outage.begun(error.code)
        await asyncio.sleep(TICK)
