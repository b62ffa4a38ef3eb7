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
    """Let waiting jobs go as there is room, and end those whose credential was revoked, until
    cancelled. Neither holds the other up: there may be many to end."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_let_go(services))
        tasks.create_task(_sweep(services))


async def _let_go(services: Services) -> None:
    outage, pause = Outage(_log, "looks at the queues"), Pause()
    while True:
        try:
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


async def _sweep(services: Services) -> None:
    outage, sweep = Outage(_log, "looks for jobs of what was revoked"), Sweep()
    while True:
        try:
            await sweep.look(services)
            outage.over()
        except GatewayError as error:
            outage.begun(error.code)
        await asyncio.sleep(TICK)
