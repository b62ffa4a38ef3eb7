"""A job's result, fetched from fal once, as its end."""

import asyncio
from typing import Final

from gateway.core.ends import end_of_result
from gateway.core.model import End, Job
from gateway.flows.services import Services
from gateway.upstream.answers import PENDING

PATIENCE: Final = (0.2, 0.5, 1.0, 2.0)
"""Seconds between asks while fal says that a completed job is still in progress."""


async def fetched_end(services: Services, job: Job, fal_id: str) -> End | None:
    """How fal says that a job ended; None if fal knows nothing of it, or not yet.

    Raises `Unavailable`, `KeyRefused`.
    """
    fal = services.accounts.of(job.account)
    for pause in (*PATIENCE, None):
        result = await fal.result(job.ref.endpoint, fal_id, services.rules.results_max)
        if result is None:
            return None
        if result is not PENDING:
            too_large = result.body is None
            return end_of_result(result.status, result.headers, result.body, too_large)
        if pause is not None:
            await asyncio.sleep(pause)
    return None
