"""direct run -> plan -> limits -> fal -> answer, passed through -> what it cost."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from gateway.core.errors import KeyRefused, NotSent, StoreUnavailable
from gateway.core.limits import Away
from gateway.core.meters import AT_OPENING
from gateway.core.model import Caller, JobRef, Plan, State
from gateway.core.parcels import Parcel
from gateway.core.plans import check_endpoint, check_submit
from gateway.core.prices import Estimate, billed_units
from gateway.core.quota import Standing, ratelimit_headers
from gateway.core.rules import shaped
from gateway.flows.bill import cost_header, estimate, settle_run
from gateway.flows.entry import check_fresh, let_in, new_ref
from gateway.flows.services import Services
from gateway.store.ledger import Opening
from gateway.upstream.answers import Answer


@asynccontextmanager
async def run(
    services: Services, caller: Caller, endpoint: str, parcel: Parcel, *, stream: bool
) -> AsyncGenerator[Answer]:
    """fal's answer to a direct run, as it comes. Leaving early ends the run at fal.

    It counts as a job does, but is none. Raises as `submit` does; a run never waits.
    """
    check_submit(caller)
    check_endpoint(caller, endpoint)
    body = shaped(caller.plan.rules, endpoint, parcel.body)
    services.refusals.check(caller)
    check_fresh(services)
    held = await estimate(services, caller.plan, endpoint, body)
    ref = new_ref(caller.principal, endpoint, services.clock())
    account = services.accounts.chosen(caller.principal.team)
    standings = await _counted(services, caller, ref, held, account)
    async with (
        _billed(services, ref, held) as bill,
        services.accounts.of(account).run(endpoint, body, parcel.headers, stream=stream) as answer,
    ):
        bill.hear(answer.status, answer.headers)
        more = ratelimit_headers(standings) | cost_header(held, bill.units_text)
        yield replace(answer, headers={**answer.headers, **more})


def _counts(plan: Plan) -> bool:
    """Does the plan bound anything that a run uses? Else Redis need not hear of it before."""
    return bool(plan.budgets) or any(limit.measure in AT_OPENING for limit in plan.limits)


async def _counted(
    services: Services, caller: Caller, ref: JobRef, held: Estimate, account: str
) -> tuple[Standing, ...]:
    if not _counts(caller.plan):
        return ()
    opening = Opening(
        ask_after=services.rules.run_deadline,
        pull=False,
        account=account,
        plan=caller.plan.name,
        price=held.price,
        run=True,
    )
    try:
        return (await let_in(services, caller, ref, opening, held)).standings
    except StoreUnavailable:
        if not _counts_locally(caller.plan):
            raise
        return services.local_rates.take(caller)


def _counts_locally(plan: Plan) -> bool:
    """While Redis is away: is every limit of the plan one that this process may count alone?"""
    here = [limit for limit in plan.limits if limit.measure in AT_OPENING]
    return not plan.budgets and all(limit.away is Away.LOCAL for limit in here)


class _Bill:
    """What a run has used, as far as fal has said."""

    def __init__(self) -> None:
        self.units: int | None = 0
        """Millionths; 0 until fal has the run, None where only an estimate is known."""
        self.units_text: str | None = None
        self.state = State.FAILED

    def hear(self, status: int, headers: Mapping[str, str]) -> None:
        self.units_text = headers.get("x-fal-billable-units")
        self.state = State.COMPLETED if status < 400 else State.FAILED
        told = billed_units(self.units_text)
        self.units = told if told is not None or status < 400 else 0


@asynccontextmanager
async def _billed(services: Services, ref: JobRef, held: Estimate) -> AsyncGenerator[_Bill]:
    """Whatever becomes of the run, what was held for it is given back, and what it cost counts."""
    bill = _Bill()
    bill.units = None  # from here on, fal may have it
    try:
        yield bill
    except (NotSent, KeyRefused):
        bill.units = 0
        raise
    finally:
        services.runs.start(
            services.runs.to_end(settle_run(services, ref, bill.units, bill.state, held))
        )
