"""limits and budgets -> ledger: a call is let in, waits, or is refused."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from gateway.core.errors import LimitReached, StoreUnavailable
from gateway.core.limits import Standing
from gateway.core.meters import asked, refusal, standings
from gateway.core.model import Caller, JobRef, Principal
from gateway.core.prices import Estimate
from gateway.flows.authenticate import check_kept
from gateway.flows.services import Services
from gateway.flows.surely import surely
from gateway.store.keys import shard_of_team
from gateway.store.ledger import Opening


@dataclass(frozen=True, slots=True)
class Entry:
    """`position` is the call's place in the gateway's own queue; None where it need not wait."""

    position: int | None
    standings: tuple[Standing, ...]


def new_ref(principal: Principal, endpoint: str, now: float) -> JobRef:
    """A random UUID whose first byte is the shard of the team."""
    shard = bytes.fromhex(shard_of_team(principal.team))
    job_id = str(UUID(bytes=shard + secrets.token_bytes(15), version=4))
    return JobRef(job_id, principal, endpoint, round(now, 3))


def check_fresh(services: Services, caller: Caller) -> None:
    """Raises `StoreUnavailable` where revocations cannot be checked, and `Unauthenticated` for a
    caller whose credential was taken back while its body came."""
    if not (services.revocations.fresh() and services.directory.fresh()):
        raise StoreUnavailable("the gateway cannot check revocations at the moment; try again")
    check_kept(services, caller)


async def let_in(
    services: Services,
    caller: Caller,
    ref: JobRef,
    opening: Opening,
    estimate: Estimate,
    about_to_wait: Callable[[], Awaitable[bytes]] | None = None,
    size: int = 0,
) -> Entry:
    """Open a job, or a direct run, and count it.

    `about_to_wait` is called before a job is let wait, and gives what is kept meanwhile: `size`
    bytes.

    Raises `LimitReached`, `BudgetSpent`; `StoreUnavailable`, by which it may be open all the same
    (see `undone`), or `OutcomeUnknown` where it may wait, and fal may get it.
    """
    now, address = services.clock(), caller.address
    wish = asked(caller.plan, estimate, now, address=address is not None, run=opening.run)
    verdict = await services.ledger.open(ref, opening, wish, address=address, size=size)
    if verdict.word == "wait" and about_to_wait is not None:
        input = await about_to_wait()
        open_ = services.ledger.open
        verdict = await surely(ref, lambda: open_(ref, opening, wish, address=address, input=input))
    match verdict.word:
        case "opened":
            return Entry(None, standings(wish, verdict))
        case "waiting":
            return Entry(verdict.numbers[0], standings(wish, verdict))
        case "there":
            return Entry(verdict.numbers[0] if verdict.numbers else None, ())
        case _:
            pass
    error = refusal(wish, verdict, now)
    if isinstance(error, LimitReached):
        services.refusals.remember(caller, error)
    raise error
