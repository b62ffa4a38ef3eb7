"""The one way in which a job's end gets into the ledger, and into the log."""

import logging

from gateway.core.model import End, JobRef
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
    quiet: float | None = None,
) -> Ended:
    """Write how a job ended; `source` says who found out. See `Ledger.end`."""
    what = await services.ledger.end(ref, end, fal_id=fal_id, unaccepted=unaccepted, quiet=quiet)
    facts = {"job": ref.id, "endpoint": ref.endpoint, "team": ref.principal.team, "source": source}
    if what is Ended.ENDED:
        seconds = round(services.clock() - ref.created_at, 3)
        _log.info(
            "job %s %s",
            end.state,
            end.http_status,
            extra=facts | {"fal": fal_id, "status": end.http_status, "seconds": seconds},
        )
        services.hurry.set()  # a delivery, or what is still missing, is due now
        services.room.set()  # for whoever waits
    elif what is Ended.OTHER:
        _log.warning("another fal id than the one known: not written", extra=facts)
    return what
