"""due delivery -> egress -> done, or due again."""

import json
import logging
import random

from gateway.core.model import Delivery, Job, State
from gateway.core.retry import deliver_after
from gateway.core.slices import is_json
from gateway.flows.services import Services

BODY_MAX = 1 * 2**20
"""Bytes of result that a delivery carries at most. A larger one, and one that is no JSON, is told
by `payload_error`."""

_log = logging.getLogger("gateway.deliveries")


async def deliver(services: Services, shard: str, delivery: Delivery) -> None:
    """Make one attempt, and write how it went."""
    job = await services.ledger.read(delivery.job_id)
    if job is None or job.end is None:
        await services.due.attempted(shard, delivery, None, "gone")
        return
    body = await _body(services, job)
    outcome = await services.egress.deliver(
        delivery.url, body, {"content-type": "application/json"}
    )
    done = outcome.status is not None and 200 <= outcome.status < 300
    last = done or delivery.attempt + 1 >= services.rules.delivery_attempts
    again = None if last else deliver_after(delivery.attempt, random.random())  # noqa: S311 - jitter
    note = "delivered" if done else outcome.why or f"status {outcome.status}"
    await services.due.attempted(shard, delivery, again, note)
    _log.log(
        logging.INFO if done else logging.WARNING,
        "delivery %s",
        "made" if done else "given up" if again is None else "to be tried again",
        extra={"job": job.id, "delivery": delivery.id, "attempt": delivery.attempt, "why": note},
    )


async def _body(services: Services, job: Job) -> bytes:
    """fal's shape, with our id; the result goes in as it is, never written again."""
    assert job.end is not None
    payload = await services.ledger.result(job.id, BODY_MAX)
    error = None
    if job.state is not State.COMPLETED:
        error = job.end.error or f"the job has {job.state}"
    members = {
        "request_id": job.id,
        "gateway_request_id": job.id,
        "status": "OK" if error is None else "ERROR",
        "error": error,
    }
    if payload is None or not is_json(payload):
        members["payload_error"] = f"fetch the result at /v1/jobs/{job.id}/result"
        payload = b"null"
    return json.dumps(members)[:-1].encode() + b', "payload": ' + payload + b"}"
