"""A change whose answer got lost is asked for again: nobody may be told that it was not made."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from gateway.core.errors import OutcomeUnknown, StoreUnavailable
from gateway.core.model import JobRef

TRIES: Final = (0.1, 0.5, 2.0)
"""Seconds between tries while Redis is away and somebody waits."""

T = TypeVar("T")


async def surely(ref: JobRef, ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` gives, which may be said twice, and by which fal may get the job.

    Raises `OutcomeUnknown` where Redis stays away: after a 503 clients would submit it again.
    """
    for pause in TRIES:
        with suppress(StoreUnavailable):
            return await ask()
        await asyncio.sleep(pause)
    try:
        return await ask()
    except StoreUnavailable:
        error = OutcomeUnknown("the job may wait for room at fal, but nobody can tell")
        error.job_id = ref.id
        raise error from None
