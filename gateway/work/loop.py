"""Clock ticks -> a flow: late jobs are asked about, deliveries are made."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.core.errors import GatewayError
from gateway.flows.deliver import deliver
from gateway.flows.reconcile import reconcile
from gateway.flows.services import Services
from gateway.store.outages import Outage

TICK: Final = 0.5
"""Seconds between looks at the lists, unless something is in a hurry."""
BATCH: Final = 20
"""What a process takes of one list at once."""
AT_ONCE: Final = 20
"""Items that a process works on at once."""

_log = logging.getLogger("gateway.due")


async def run(services: Services) -> None:
    """Work off what is due in all shards until cancelled, whatever goes wrong with one of them."""
    seats = asyncio.Semaphore(AT_ONCE)
    outage = Outage(_log, "looks at what is due")
    while True:
        try:
            for shard in await services.due.shards(services.ledger.shards):
                await _shard(services, shard, seats)
            outage.over()
        except GatewayError as error:
            outage.begun(error.code)
        await _tick(services.hurry)


async def _shard(services: Services, shard: str, seats: asyncio.Semaphore) -> None:
    for job_id in await services.due.jobs(shard, BATCH):
        await _start(services, seats, lambda job_id=job_id: reconcile(services, job_id))  # type: ignore[misc]
    for delivery in await services.due.deliveries(shard, BATCH):
        await _start(services, seats, lambda it=delivery: deliver(services, shard, it))  # type: ignore[misc]


async def _start(
    services: Services, seats: asyncio.Semaphore, work: Callable[[], Awaitable[None]]
) -> None:
    await seats.acquire()
    services.runs.start(_guarded(work, seats))


async def _guarded(work: Callable[[], Awaitable[None]], seats: asyncio.Semaphore) -> None:
    """What fails is due again when its claim ends."""
    try:
        await work()
    except GatewayError as error:
        _log.warning("due work put off: %s", error.code)
    except Exception:  # noqa: BLE001 - the outermost of a piece of work
        _log.exception("due work failed")
    finally:
        seats.release()


async def _tick(hurry: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(TICK):
            await hurry.wait()
    except TimeoutError:
        return
    hurry.clear()
