"""What jobs cost: reserved before, charged at their end, told to their owners."""

import copy
import time
from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any

import pytest

from gateway.core import periods
from gateway.core.limits import Period, Unit
from gateway.core.model import Job, Kind, Principal, State
from gateway.flows.settle import UNITS_FOR
from gateway.store import keys
from tests.flows.desk import Desk, a_desk, database, eventually
from tests.flows.test_reconcile import age, look_now
from tests.harness import CONFIG, Gateway, Running, Simulator

pytestmark = pytest.mark.anyio

TEAM = "default"
PRICED = "fal-ai/flux/dev"
TWO_HALF = "sim/units/2.5"


@pytest.fixture(scope="module")
def till(running: Running, fal: Simulator, redis_url: str) -> Gateway:
    """A gateway whose plans have budgets."""
    config: dict[str, Any] = copy.deepcopy(dict(CONFIG))
    config["plans"]["default"]["budgets"] = [
        {"usd": 1, "per": "day"},
        {"units": 1000, "per": "month", "of": "team"},
    ]
    config["plans"]["few"] = {
        "endpoints": ["**"],
        "budgets": [{"usd": 1, "per": "day"}],
        "limits": [{"rate": "2/h"}],
    }
    config["plans"]["free"] = {"endpoints": ["**"]}
    config["plans"]["counted"] = {"endpoints": ["**"], "budgets": [{"units": 5, "per": "day"}]}
    config["prices"] = [
        {"endpoint": "fal-ai/mine", "unit_price": "0.5", "times": ["num_images"]},
        {"endpoint": "fal-ai/dear", "unit_price": "0.4"},
        {"endpoint": "sim/fault/**", "unit_price": "0.01"},
    ]
    return running.gateway(fal, redis_url=database(redis_url, 3), config=config)


@pytest.fixture
async def shop(till: Gateway, fal: Simulator) -> AsyncGenerator[Desk]:
    """alice's desk, with nothing spent."""
    fal.ask("POST", "prices")  # the list is there
    fal.ask("POST", f"price/{TWO_HALF}", params={"unit_price": "0.0301"})  # known for an hour
    async with a_desk(till, fal) as desk:
        await desk.redis.flushdb()
        yield desk


async def spend(desk: Desk, user: str = "alice") -> dict[str, int]:
    """What is reserved and spent, in millionths, of today."""
    digest = Principal(TEAM, Kind.USER, user).digest if user else keys.team_digest(TEAM)
    found: Any = await desk.redis.hgetall(keys.spend(keys.shard_of_team(TEAM), digest))
    now = time.time()
    fields = {unit: periods.field(Period.DAY, unit, now).encode() for unit in Unit}
    return {
        "held": int(found.get(b"held:usd", 0)),
        "held_units": int(found.get(b"held:units", 0)),
        "usd": int(found.get(fields[Unit.USD], 0)),
        "units": int(found.get(fields[Unit.UNITS], 0)),
    }


async def settled(desk: Desk, job: Job) -> Job:
    return await desk.until(job.id, lambda now: now.settled)


async def test_reserved_then_charged_exactly(shop: Desk, fal: Simulator) -> None:
    job = await shop.opened(TWO_HALF)
    before = await spend(shop)

    job = await settled(shop, job)
    assert (before["held"], before["held_units"]) in {(30_100, 10**6), (0, 0)}  # it may have ended
    assert job.cost == 75_250
    assert await spend(shop) == {"held": 0, "held_units": 0, "usd": 75_250, "units": 2_500_000}
    assert await spend(shop, "") == await spend(shop)
    told = (await shop.http.get(f"/v1/jobs/{job.id}")).json()
    assert (told["units"], told["cost"]) == ("2.5", "0.07525")


@pytest.mark.parametrize(
    "path", ["/v1/jobs/{id}/result", "/fal/queue/sim/units/requests/{id}", "proxy"]
)
async def test_every_door_tells_the_cost(shop: Desk, fal: Simulator, path: str) -> None:
    job = await settled(shop, await shop.opened(TWO_HALF))

    if path == "proxy":
        target = f"https://queue.fal.run/sim/units/requests/{job.id}"
        answer = await shop.http.get("/api/fal/proxy", headers={"x-fal-target-url": target})
    else:
        answer = await shop.http.get(path.format(id=job.id))
    assert answer.status_code == 200
    assert answer.headers["x-gateway-cost"] == "0.07525"
    assert answer.headers["x-fal-billable-units"] == "2.5"


async def test_a_webhook_costs_one_look_at_a_head(shop: Desk, fal: Simulator) -> None:
    """Its body is here already: one fetch, however often it is told."""
    job = await settled(shop, await shop.opened(TWO_HALF))
    await shop.report(job)

    assert fal.calls(method="GET", ends=f"/requests/{job.fal_id}") == 1
    assert (await shop.record(job.id))[b"(result)"] != b""


@pytest.mark.parametrize("fault", ["fail-503", "cancelled", "timeout-504"])
async def test_what_fal_could_not_do_is_free(shop: Desk, fal: Simulator, fault: str) -> None:
    """Released at once, and nothing is asked."""
    job = await settled(shop, await shop.opened(f"sim/fault/{fault}"))

    assert job.cost == 0
    assert await spend(shop) == {"held": 0, "held_units": 0, "usd": 0, "units": 0}
    assert fal.calls(method="GET", ends=f"/requests/{job.fal_id}") == 0


async def test_refused_input_costs_what_fal_says(shop: Desk) -> None:
    job = await settled(shop, await shop.opened("sim/fault/fail-422"))

    assert (job.state, job.cost) == (State.FAILED, 0)
    assert (await spend(shop))["held"] == 0


@pytest.mark.parametrize("fault", ["submit-422", "submit-500", "submit-401"])
async def test_nothing_stays_reserved_of_what_fal_refused(shop: Desk, fault: str) -> None:
    """But of what fal may have taken: its end decides."""
    answer = await shop.submit(f"sim/fault/{fault}")
    assert answer.status_code >= 400

    held = 10_000 if fault == "submit-500" else 0
    assert (await spend(shop))["held"] == held


async def test_cancelled_job_is_released(shop: Desk) -> None:
    job = await shop.opened("sim/fault/hold")
    assert (await spend(shop))["held"] == 10_000

    await shop.http.post(f"/v1/jobs/{job.id}/cancel")
    await settled(shop, job)
    assert await spend(shop) == {"held": 0, "held_units": 0, "usd": 0, "units": 0}


async def test_units_that_are_never_told_cost_the_estimate(shop: Desk) -> None:
    """fal answered, without the header: that is its last word."""
    job = await settled(shop, await shop.opened("sim/units/none"))

    assert job.cost is not None
    assert job.cost > 0
    assert await spend(shop) == {
        "held": 0, "held_units": 0, "usd": job.cost, "units": 10**6
    }  # fmt: skip
    assert "charged as estimated" in shop.gateway.log_lines()


async def test_units_are_asked_for_ten_minutes_long(shop: Desk) -> None:
    """Then the estimate is charged: never nothing by mistake."""
    job = await shop.opened("sim/fault/result-404")
    ended = await shop.until(job.id, lambda now: now.state.ended)
    await shop.until(job.id, lambda now: now.asks > 0)
    assert not (await shop.job(job.id)).settled
    assert (await spend(shop))["held"] == 10_000

    await age(shop, ended, ended=UNITS_FOR + 60)
    await look_now(shop, ended)
    job = await settled(shop, ended)
    assert job.cost == 10_000
    assert (await spend(shop))["held"] == 0
    assert (await spend(shop))["usd"] == 10_000


async def test_budget_in_dollars_is_kept(shop: Desk) -> None:
    """Two jobs of 0.4 fit into a dollar, a third does not, and fal never hears of it."""
    before = shop.sim.calls(method="POST", has="fal-ai/dear")
    jobs = [await shop.opened("fal-ai/dear") for _ in range(2)]
    third = await shop.submit("fal-ai/dear")
    me = (await shop.http.get("/v1/me")).json()

    assert (third.status_code, third.json()["error_type"]) == (402, "budget_spent")
    [of_alice] = me["budgets"]  # a user does not see how the team stands
    assert (of_alice["remaining"], of_alice["amount"]) == ("0.2", "1")
    assert of_alice["resets_at"].endswith("T00:00:00Z")
    assert Decimal(of_alice["spent"]) + Decimal(of_alice["reserved"]) == Decimal("0.8")
    assert shop.sim.calls(method="POST", has="fal-ai/dear") - before == 2
    for job in jobs:
        await settled(shop, job)
    assert (await spend(shop))["usd"] == 800_000


async def test_estimates_follow_the_input(shop: Desk) -> None:
    answer = await shop.submit("fal-ai/mine", input={"num_images": 3})
    small = await shop.submit("fal-ai/mine", input={"num_images": "1"})

    assert (answer.status_code, small.status_code) == (402, 202)
    assert answer.json()["error_type"] == "budget_spent"


async def test_unknown_price(shop: Desk) -> None:
    """403 on a budget in dollars; on one in units, or on none, it does not matter."""
    refused = await shop.submit("sim/unpriced/x")
    counted = {"authorization": f"Bearer {shop.gateway.token('bob', plan='counted')}"}
    free = {"authorization": f"Bearer {shop.gateway.token('carol', plan='free')}"}
    body = {"endpoint": "sim/unpriced/x", "input": {}}

    assert (refused.status_code, refused.json()["error_type"]) == (403, "price_unknown")
    for headers in (counted, free):
        answer = await shop.outside.post(f"{shop.gateway.url}/v1/jobs", json=body, headers=headers)
        assert answer.status_code == 202
        await settled(shop, await shop.job(answer.json()["id"]))
    assert shop.sim.calls(method="POST", has="sim/unpriced") == 2


async def test_prices_away(shop: Desk, fal: Simulator) -> None:
    """503 before fal is called, for what needs one; an override needs none."""
    fal.ask("POST", "prices?away=1")
    refused = await shop.submit("fal-ai/never-asked")
    known = await shop.submit("fal-ai/dear")

    assert (refused.status_code, refused.json()["error_type"]) == (503, "prices_unavailable")
    assert refused.headers["retry-after"] == "10"
    assert known.status_code == 202
    assert fal.calls(method="POST", has="fal-ai/never-asked") == 0


async def test_plan_without_budget_learns_its_costs_too(shop: Desk, fal: Simulator) -> None:
    fal.ask("POST", "price/sim/units/4", params={"unit_price": "0.1"})
    headers = {"authorization": f"Bearer {shop.gateway.token('carol', plan='free')}"}
    body = {"endpoint": "sim/units/4", "input": {}}
    answer = await shop.outside.post(f"{shop.gateway.url}/v1/jobs", json=body, headers=headers)

    job = await settled(shop, await shop.job(answer.json()["id"]))
    assert (job.price, job.cost) == ("", 400_000)
    assert (await spend(shop, "carol"))["usd"] == 400_000


async def test_healed_job_is_charged(shop: Desk) -> None:
    """One that Redis lost, with its reservation: made anew from its ticket."""
    job = await shop.opened("sim/fault/hold-queued")
    await shop.redis.flushdb()
    assert job.fal_id is not None
    shop.sim.ask("POST", f"end/{job.fal_id}?units=3")

    again = await eventually(lambda: _read(shop, job.id))
    again = await settled(shop, again)
    assert again.cost == 30_000
    assert await spend(shop) == {"held": 0, "held_units": 0, "usd": 30_000, "units": 3 * 10**6}


async def _read(desk: Desk, job_id: str) -> Job | None:
    return await desk.ledger.read(job_id)


async def test_direct_runs(shop: Desk, fal: Simulator) -> None:
    """Charged as jobs are; the answer tells its cost."""
    answer = await shop.http.post(f"/fal/run/{TWO_HALF}", json={})
    assert answer.status_code == 200
    assert answer.headers["x-gateway-cost"] == "0.07525"

    async def charged() -> bool:
        told = await spend(shop)
        return told == {"held": 0, "held_units": 0, "usd": 75_250, "units": 2_500_000}

    await eventually(charged)
    listed = (await shop.http.get("/v1/jobs")).json()
    assert listed["jobs"] == []


async def test_who_asks_for_what_has_no_price_is_counted(shop: Desk) -> None:
    """fal is asked for the price of each endpoint, by a key that all share."""
    token = shop.gateway.token("curious", plan="few")
    shop.http.headers["authorization"] = f"Bearer {token}"
    asked = shop.sim.calls(has="/pricing")
    answers = [await shop.submit(f"sim/unpriced/n{n}") for n in range(2)]
    answers.append(await shop.http.post("/fal/run/sim/unpriced/n2", json={}))
    answers.append(await shop.submit("sim/unpriced/n3"))

    assert [answer.status_code for answer in answers] == [403, 403, 429, 429]
    assert shop.sim.calls(has="/pricing") - asked <= 3
    assert not any((await spend(shop, "curious")).values())
