"""Clock ticks -> a flow: late jobs are asked about, deliveries are made."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from gateway.core.errors import GatewayError
from gateway.core.model import Delivery
from gateway.flows.deliver import deliver
from gateway.flows.reconcile import reconcile
from gateway.flows.services import Services
from gateway.store.outages import Outage
from gateway.work.seats import Seats

TICK: Final = 0.5
"""Seconds between looks at the lists, unless something is in a hurry."""
ASKED: Final = 40
"""Jobs that a process asks about at once."""
DELIVERED: Final = 40
"""Deliveries that a process makes at once. Other seats than those for jobs: receivers are slow."""
PER_HOST: Final = 4
"""Deliveries that it makes to one host at once, so that a silent one leaves seats for others."""

_log = logging.getLogger("gateway.due")


async def run(services: Services) -> None:
    """Work off what is due in all shards until cancelled, whatever goes wrong with one of them."""
    asking, delivering = Seats(ASKED), Seats(DELIVERED, PER_HOST)
    outage = Outage(_log, "looks at what is due")
    while True:
        asking.wanted = delivering.wanted = False
        try:
            services.due.stir(services.wakes.stirred())
            jobs, deliveries = await services.due.late(services.ledger.shards)
            late = list(jobs | deliveries)
            random.shuffle(late)  # none is always last
            for shard in late:
                if shard in jobs:
                    await _ask(services, shard, asking)
                if shard in deliveries:
                    await _deliver(services, shard, delivering)
            outage.over()
        except GatewayError as error:
            outage.begun(error.code)
        await _tick(services.hurry)


async def _ask(services: Services, shard: str, seats: Seats) -> None:
    """Only as much is claimed as can begin now: a claim that waits may end before its work."""
    free = seats.free
    jobs = await services.due.jobs(shard, free) if free else []
    seats.wanted |= len(jobs) == free
    for job_id in jobs:
        seats.take(shard)
        work = partial(reconcile, services, job_id)
        services.runs.start(_seated(services, seats, shard, work))


async def _deliver(services: Services, shard: str, seats: Seats) -> None:
    free = seats.free
    deliveries = await services.due.deliveries(shard, free) if free else []
    seats.wanted |= len(deliveries) == free
    for delivery in deliveries:
        host = _host(delivery)
        if seats.take(host):
            work = partial(deliver, services, shard, delivery)
            services.runs.start(_seated(services, seats, host, work))
        else:
            seats.wanted = True
            # At once for a host that answers; later and later for one that does not.
            await services.due.put_back(shard, delivery, seats.stood(host))


def _host(delivery: Delivery) -> str:
    return urlsplit(delivery.url).hostname or ""


async def _seated(
    services: Services, seats: Seats, name: str, work: Callable[[], Awaitable[None]]
) -> None:
    """What fails is due again when its claim ends."""
    try:
        await work()
    except GatewayError as error:
        _log.warning("due work put off: %s", error.code)
    except Exception:  # noqa: BLE001 - the outermost of a piece of work
        _log.exception("due work failed")
    finally:
        seats.leave(name)
        if seats.wanted:
            services.hurry.set()


async def _tick(hurry: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(TICK):
            await hurry.wait()
    except TimeoutError:
        return
    hurry.clear()
