"""ended job -> fal -> ledger: what the end did not tell, and what it costs."""

from dataclasses import replace
from typing import Final

from gateway.core.errors import GatewayError
from gateway.core.model import End, Job, State, Where
from gateway.flows import bill
from gateway.flows.fetch import fetched_end, fetched_head
from gateway.flows.services import Services

SETTLE_FOR: Final = 3600.0
"""Seconds after an end for which fal is asked for the result it lacks: fal keeps them no longer."""
UNITS_FOR: Final = 600.0
"""Seconds for which it is asked again for the units alone."""
SETTLE_PAUSE: Final = 60.0
"""Seconds between these asks at most."""


async def settle(services: Services, job: Job) -> float | None:
    """Settle one ended job. Seconds until the next try; None where there is none to come.

    Raises what fal's being away raises, as long as asking again may help.
    """
    known = job.end
    if known is None or job.settled:
        return None
    if known.settled:
        await bill.settle(services, job, known)
        return None
    age = services.clock() - (job.ended_at or 0.0)
    told = None
    if job.fal_id is not None and age < SETTLE_FOR:
        patient = age < (UNITS_FOR if known.where is Where.STORED else SETTLE_FOR)
        try:
            told = await _told(services, job, known, job.fal_id)
        except GatewayError:
            if patient:
                raise
        if told is None and patient:
            return min(SETTLE_PAUSE, max(1.0, age))
    await bill.settle(services, job, _completed(known, told))
    return None


async def _told(services: Services, job: Job, known: End, fal_id: str) -> End | None:
    """What fal says by now: of a body that is here already, the head alone."""
    if known.where is Where.STORED:
        return await fetched_head(services, job, fal_id)
    return await fetched_end(services, job, fal_id)


def _completed(known: End, told: End | None) -> End:
    """The end with what was missing, as far as fal told it.

    By now that may be another thing, such as that the result has expired: then it is not taken.
    """
    if told is None or (told.state is State.COMPLETED) is not (known.state is State.COMPLETED):
        return replace(known, where=Where.GONE if known.where is Where.AT_FAL else known.where)
    return replace(
        told,
        state=known.state,
        error=known.error or told.error,
        error_type=known.error_type or told.error_type,
    )
