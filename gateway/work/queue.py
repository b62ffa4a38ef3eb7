"""Room at fal, or a tick of the clock -> waiting jobs are let go."""

import asyncio
import logging
from typing import Final

from gateway.core.errors import GatewayError
from gateway.flows.admit import Pause, admit_waiting
from gateway.flows.recall import Sweep
from gateway.flows.services import Services
from gateway.store.outages import Outage

TICK: Final = 0.5
"""Seconds between looks at the queues, unless there may be room at once."""

_log = logging.getLogger("gateway.queue")


async def run(services: Services) -> None:
    """Let waiting jobs go as there is room, until cancelled."""
    outage, pause, sweep = Outage(_log, "looks at the queues"), Pause(), Sweep()
    while True:
        try:
            await sweep.look(services)
            await admit_waiting(services, pause)
            outage.over()
        except GatewayError as error:
            outage.begun(error.code)
        try:
            async with asyncio.timeout(TICK):
                await services.room.wait()
        except TimeoutError:
            continue
        services.room.clear()
