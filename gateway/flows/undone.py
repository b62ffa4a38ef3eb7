"""a call that was refused because Redis was away -> ledger: nothing of it is to stay there.

What got lost may have been done all the same, or be done late: then a place and money are held
for something that fal was never asked for.
"""

import asyncio
from contextlib import suppress
from typing import Final

from gateway.core.errors import StoreUnavailable
from gateway.core.model import JobRef, State
from gateway.core.prices import NOTHING
from gateway.flows.bill import settle_run
from gateway.flows.ending import not_taken, write_end
from gateway.flows.services import Services

LOOKS: Final = (3.0, 10.0, 30.0, 90.0)
"""Seconds before each look at what there is of the call. The first is longer than a write that got
lost takes, and what nobody finds by the last ends by the due loop."""


async def undone(services: Services, ref: JobRef) -> None:
    """End a job, or a direct run, that fal was certainly not asked for."""
    for pause in LOOKS:
        await asyncio.sleep(pause)
        with suppress(StoreUnavailable):
            job = await services.ledger.read(ref.id)
            if job is None:
                continue
            if job.run:
                await settle_run(services, ref, None, State.FAILED, NOTHING)
            else:
                end = not_taken(StoreUnavailable("the gateway's ledger was out of reach"))
                await write_end(services, ref, end, "submit", unaccepted=True)
            return
