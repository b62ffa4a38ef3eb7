"""direct run -> plan -> limits -> fal -> answer, passed through -> what it cost."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

from gateway.core.errors import KeyRefused, LimitReached, NotSent, StoreUnavailable
from gateway.core.limits import Away, Standing
from gateway.core.meters import AT_OPENING
from gateway.core.model import Caller, JobRef, Plan, State
from gateway.core.parcels import Parcel
from gateway.core.plans import check_endpoint, check_submit
from gateway.core.prices import Estimate, units_told
from gateway.core.quota import ratelimit_headers
from gateway.core.rules import shaped
from gateway.flows.accounts import AccountFull, on_an_account
from gateway.flows.bill import cost_header, run_bill, settle_run
from gateway.flows.entry import check_fresh, let_in, new_ref
from gateway.flows.places import Place, no_room
from gateway.flows.relay import priced
from gateway.flows.services import Services
from gateway.flows.undone import undone
from gateway.store.ledger import Opening
from gateway.upstream.answers import Answer

SETTLE_TRIES: Final = (0.1, 0.5, 2.0, 10.0, 30.0)
"""Seconds between tries to settle a run while Redis is away."""


@asynccontextmanager
async def run(
    services: Services, caller: Caller, endpoint: str, parcel: Parcel, *, stream: bool
) -> AsyncGenerator[Answer]:
    """fal's answer to a direct run, as it comes. Leaving early ends the run at fal.

    It counts as a job does, but is none. Raises as `submit` does; a run never waits.
    """
    check_submit(caller)
    check_endpoint(caller, endpoint)
    services.refusals.check(caller)  # before what a large body costs
    body = shaped(caller.plan.rules, endpoint, parcel.body)
    check_fresh(services, caller)
    held = await priced(services, caller, endpoint, body)
    ref = new_ref(caller.principal, endpoint, services.clock())
    standings = await _counted(services, caller, ref, held)
    async with (
        _billed(services, ref, held, kept=_counts(caller.plan)) as heard,
        _answered(services, ref, Parcel(body, parcel.headers), stream) as answer,
    ):
        heard.answer(answer.status, answer.headers)
        more = ratelimit_headers(standings) | cost_header(held, heard.units)
        yield replace(answer, headers={**answer.headers, **more})


@asynccontextmanager
async def _answered(
    services: Services, ref: JobRef, parcel: Parcel, stream: bool
) -> AsyncGenerator[Answer]:
    """The answer of whichever account takes the run, which keeps its place there until its end."""
    place = Place(services, ref.id, direct=True)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(place.free)
        if services.accounts.capped:
            stack.callback(services.runs.start(place.keep()).cancel)

        async def ask(account: str) -> Answer:
            await place.take(account)
            run = services.accounts.of(account).run(
                ref.endpoint, parcel.body, parcel.headers, stream=stream
            )
            return await stack.enter_async_context(run)

        try:
            _, answer = await on_an_account(services, ref.principal.team, ask)
        except AccountFull:
            raise no_room() from None
        yield answer


def _counts(plan: Plan) -> bool:
    """Does the plan bound anything that a run uses? Else Redis need not hear of it before."""
    return bool(plan.budgets) or any(limit.measure in AT_OPENING for limit in plan.limits)


async def _counted(
    services: Services, caller: Caller, ref: JobRef, held: Estimate
) -> tuple[Standing, ...]:
    if not _counts(caller.plan):
        return ()
    opening = Opening(
        ask_after=services.rules.run_deadline,
        pull=False,
        plan=caller.plan.name,
        price=held.price,
        run=True,
    )
    try:
        return (await let_in(services, caller, ref, opening, held)).standings
    except asyncio.CancelledError:  # its caller left
        services.runs.start(undone(services, ref))
        raise
    except StoreUnavailable:
        if not _counts_locally(caller.plan):
            services.runs.start(undone(services, ref))
            raise
        return services.local_rates.take(caller)


def _counts_locally(plan: Plan) -> bool:
    """While Redis is away: is every limit of the plan one that this process may count alone?"""
    here = [limit for limit in plan.limits if limit.measure in AT_OPENING]
    return not plan.budgets and all(limit.away is Away.LOCAL for limit in here)


class _Heard:
    """What fal has said of a run. Before that, nobody knows."""

    def __init__(self) -> None:
        self.units: str | None = None
        self.state = State.UNKNOWN

    def answer(self, status: int, headers: Mapping[str, str]) -> None:
        self.units = units_told(status, headers)
        self.state = State.COMPLETED if status < 400 else State.FAILED


@asynccontextmanager
async def _billed(
    services: Services, ref: JobRef, held: Estimate, *, kept: bool
) -> AsyncGenerator[_Heard]:
    """Whatever becomes of a run, what was held for it is given back, and what it cost counts.

    `kept`: Redis has heard of it, and may hold something for it.
    """
    heard = _Heard()
    try:
        yield heard
    except (NotSent, KeyRefused, LimitReached, StoreUnavailable):  # fal has not got it
        heard.state = State.FAILED
        raise
    finally:
        settled = _settled if kept else _tallied
        services.runs.owed(settled(services, ref, heard, held))


async def _tallied(services: Services, ref: JobRef, heard: _Heard, held: Estimate) -> None:
    bill = await run_bill(services, ref, heard.units, heard.state, held)
    services.tally.add(ref.principal, ref.endpoint, bill)


async def _settled(services: Services, ref: JobRef, heard: _Heard, held: Estimate) -> None:
    """Where Redis stays away, the due loop does it, once the run can have no end any more: by the
    estimate then, since what fal said is known here alone."""
    for pause in SETTLE_TRIES:
        with suppress(StoreUnavailable):
            await settle_run(services, ref, heard.units, heard.state, held)
            return
        await asyncio.sleep(pause)
