"""The one way in which a job's end gets into the ledger, and into the log."""

import logging
from contextlib import suppress

from gateway.core.ends import charged
from gateway.core.errors import GatewayError, StoreUnavailable
from gateway.core.model import End, JobRef, State, Where
from gateway.flows.bill import settle
from gateway.flows.places import free_places
from gateway.flows.services import Services
from gateway.store.ledger import Ended

_log = logging.getLogger("gateway.jobs")


async def write_end(
    services: Services,
    ref: JobRef,
    end: End,
    source: str,
    *,
    fal_id: str | None = None,
    unaccepted: bool = False,
    waiting: bool = False,
    quiet: float | None = None,
) -> Ended:
    """Write how a job ended; `source` says who found out. See `Ledger.end`."""
    what = await services.ledger.end(
        ref, end, fal_id=fal_id, unaccepted=unaccepted, waiting=waiting, quiet=quiet
    )
    facts = {"job": ref.id, "endpoint": ref.endpoint, "team": ref.principal.team, "source": source}
    if what is Ended.ENDED:
        seconds = round(services.clock() - ref.created_at, 3)
        _log.info(
            "job %s %s",
            end.state,
            end.http_status,
            extra=facts | {"fal": fal_id, "status": end.http_status, "seconds": seconds},
        )
        if end.settled and charged(end) == 0:
            await _released(services, ref)
        await free_places(services, ref.id)
        services.due.stir_of(ref.id)
        services.hurry.set()  # a delivery, or what is still missing, is due now
        services.room.set()  # for whoever waits
    elif what is Ended.OTHER:
        _log.warning("another fal id than the one known: not written", extra=facts)
    return what


def not_taken(error: GatewayError) -> End:
    """The end of a job that fal certainly did not take."""
    return End(State.FAILED, error.status, Where.GONE, error=str(error), error_type=error.code)


async def _released(services: Services, ref: JobRef) -> None:
    """Give back at once what a job had reserved that costs nothing; else the due loop does."""
    with suppress(StoreUnavailable):
        job = await services.ledger.read(ref.id)
        if job is not None and job.end is not None:
            await settle(services, job, job.end)
