"""A job's result, fetched from fal once, as its end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.core.ends import end_of_result
from gateway.core.model import End, Job
from gateway.flows.services import Services
from gateway.upstream.answers import Pending, Result

PATIENCE: Final = (0.2, 0.5, 1.0, 2.0)
"""Seconds between asks while fal says that a completed job is still in progress."""


async def fetched_end(services: Services, job: Job, fal_id: str) -> End | None:
    """How fal says that a job ended; None if fal knows nothing of it, or not yet.

    Raises `Unavailable`, `KeyRefused`.
    """
    fal = services.accounts.of(job.account)
    most = services.rules.results_max
    result = await _ready(lambda: fal.result(job.ref.endpoint, fal_id, most))
    if result is None:
        return None
    return end_of_result(result.status, result.headers, result.body, result.body is None)


async def fetched_head(services: Services, job: Job, fal_id: str) -> End | None:
    """The same without the body, for what a webhook did not tell."""
    fal = services.accounts.of(job.account)
    result = await _ready(lambda: fal.result_head(job.ref.endpoint, fal_id))
    return None if result is None else end_of_result(result.status, result.headers, None, True)


async def _ready(ask: Callable[[], Awaitable[Result | Pending | None]]) -> Result | None:
    for pause in (*PATIENCE, None):
        result = await ask()
        if not isinstance(result, Pending):
            return result
        if pause is not None:
            await asyncio.sleep(pause)
    return None
