"""One of several processes that open jobs as fast as they can, all at once: run as a program.

It reads one line of JSON for each round, and answers with one when the round is over.
"""

import asyncio
import json
import sys
from typing import Any

from redis.asyncio import Redis

from gateway.core.limits import MICRO
from gateway.core.model import End, JobRef, Kind, Plan, Principal, State, Where
from gateway.core.prices import NOTHING
from gateway.store.connect import commands
from tests.store.doors import Door, budget, costs, limit, new_ref, plan

DONE = End(State.COMPLETED, 200, Where.STORED, body=b"{}")
AT_ONCE = 16
"""Calls under way at a time."""

PLANS: dict[str, Plan] = {
    "limit": plan(limit("in_flight", 100, "team")),
    "budget": plan(budget(37, of="team"), budget(37, "units", "team", "month")),
}
"""37 calls of one dollar, and one unit, fit the second."""


async def main(url: str) -> None:
    async with commands(url) as redis:
        while line := await asyncio.to_thread(sys.stdin.readline):
            answer = await played(redis, json.loads(line))
            print(json.dumps(answer), flush=True)


async def played(redis: Redis, order: dict[str, Any]) -> dict[str, Any]:
    """A round: open jobs for a team, or end and bill those that were let in."""
    door = Door(redis, order["now"])
    who = Principal(order["team"], Kind.USER, order["who"])
    turns = asyncio.Semaphore(AT_ONCE)
    if order["do"] == "open":
        estimate = costs(usd=1, units=1) if order["plan"] == "budget" else NOTHING
        opened: list[str] = []

        async def one() -> None:
            async with turns:
                said = await door.open(who, PLANS[order["plan"]], estimate, ref=new_ref(who))
            assert said.word in {"opened", "refused", "spent"}
            if said.word == "opened":
                opened.append(said.ref.id)

        await asyncio.gather(*(one() for _ in range(order["times"])))
        return {"opened": opened}

    async def ended(id: str, units: int) -> None:
        """Each is told twice, as fal's webhook and the due loop may."""
        ref = JobRef(id, who, "fal-ai/flux/dev", order["now"])
        async with turns:
            await asyncio.gather(*(door.ledger.end(ref, DONE) for _ in range(2)))
            bills = (door.bill(ref, units * MICRO, 3 * units) for _ in range(2))
            assert sorted(await asyncio.gather(*bills)) == [False, True]

    await asyncio.gather(*(ended(id, n % 5) for n, id in enumerate(order["ids"])))
    return {"units": sum(n % 5 for n in range(len(order["ids"])))}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
