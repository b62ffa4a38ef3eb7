"""A seat for an answer that takes its time: in all processes where the plan says how many."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.requests import Request

from gateway.core.errors import StoreUnavailable
from gateway.core.limits import Away, Limit, Measure, Of
from gateway.core.model import Caller
from gateway.flows.services import Services
from gateway.store.keys import subject
from gateway.web.site import Seats, services_of, site_of


@asynccontextmanager
async def seat(request: Request, caller: Caller) -> AsyncGenerator[None]:
    """Has a seat for as long as this is entered. Raises `LimitReached`, `StoreUnavailable`.

    Where the plan does not say how many its principals may have, this process does.
    """
    services, here = services_of(request), site_of(request).seats
    limits = tuple(limit for limit in caller.plan.limits if limit.measure is Measure.STREAMS)
    async with AsyncExitStack() as stack:
        counted = any(limit.of is Of.PRINCIPAL and not limit.shadow for limit in limits)
        if caller.address is not None or not counted:  # a visitor can be a new one each time
            stack.enter_context(here.seat(caller.holder))
        if limits:
            await _sit(services, here, caller, limits, stack)
        yield


async def _sit(
    services: Services,
    here: Seats,
    caller: Caller,
    limits: Sequence[Limit],
    stack: AsyncExitStack,
) -> None:
    try:
        name = await services.stream_seats.take(caller.principal, limits)
    except StoreUnavailable:
        hard = [limit for limit in limits if not limit.shadow]
        if any(limit.away is Away.CLOSED for limit in hard):
            raise
        for limit in hard:
            stack.enter_context(here.within(subject(limit.of, caller.principal, None), limit))
        return

    async def leave() -> None:
        await services.runs.to_end(services.stream_seats.leave(name))

    stack.push_async_callback(leave)
