"""Answers to a submit: what each says of whether fal has the job, and what becomes of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.flows.desk import Desk, a_desk, database, eventually
from tests.harness import Gateway, Running, Simulator, free_port, wait_for

pytestmark = pytest.mark.anyio

Door = Callable[[httpx.AsyncClient, str], Awaitable[httpx.Response]]


async def ours(http: httpx.AsyncClient, endpoint: str) -> httpx.Response:
    return await http.post("/v1/jobs", json={"endpoint": endpoint, "input": {"prompt": "x"}})


async def proxied(http: httpx.AsyncClient, endpoint: str) -> httpx.Response:
    target = {"x-fal-target-url": f"https://queue.fal.run/{endpoint}"}
    return await http.post("/api/fal/proxy", json={"prompt": "x"}, headers=target)


async def hosted(http: httpx.AsyncClient, endpoint: str) -> httpx.Response:
    return await http.post(f"/fal/queue/{endpoint}", json={"prompt": "x"})


DOORS: list[Door] = [ours, proxied, hosted]


async def the_job(http: httpx.AsyncClient) -> dict[str, Any]:
    """The one job that a caller has."""
    [job] = (await http.get("/v1/jobs")).json()["jobs"]
    return dict(job)


def user(door: Door, fault: str) -> str:
    """A caller with this one job."""
    return f"{door.__name__}-{fault}"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "fault",
    ["took-500", "took-504-html", "cut-after-body", "cut-mid-answer", "unreadable-2xx",
     "no-request-id"],
)  # fmt: skip
async def test_taken_by_fal_but_not_told_so(desk: Desk, door: Door, fault: str) -> None:
    """500 with the job's id, which nobody submits again, and its webhook heals it."""
    async with desk.gateway.http(user(door, fault)) as http:
        answer = await door(http, f"sim/fault/{fault}")
        told = answer.json()
        seen = await desk.of(http).ended(told["request_id"])
        listed = await the_job(http)

    assert answer.status_code == 500
    assert told["job_status"] == "unknown"
    assert answer.headers["x-fal-request-id"] == told["request_id"] == listed["id"]
    assert seen["status"] == "completed"
    assert seen["result"]["echo"] == {"prompt": "x"}
    assert await desk.events(listed["id"]) == ["job.created", "job.unknown", "job.completed"]
    assert desk.sim.calls(method="POST", ends=f"/sim/fault/{fault}") >= 1


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "fault",
    ["submit-408", "submit-500", "submit-502-html", "submit-503-html", "submit-504-html",
     "redirect"],
)  # fmt: skip
async def test_nobody_can_tell(desk: Desk, door: Door, fault: str) -> None:
    """fal has no job, but nothing proves it: the same answer, and the job stays unknown."""
    calls = desk.sim.calls(method="POST", ends=f"/sim/fault/{fault}")
    async with desk.gateway.http(user(door, fault)) as http:
        answer = await door(http, f"sim/fault/{fault}")
        listed = await the_job(http)
        status = await http.get(f"/fal/queue/sim/fault/requests/{listed['id']}/status")

    assert answer.status_code == 500
    assert answer.json()["job_status"] == "unknown"
    assert answer.json()["request_id"] == listed["id"]
    assert "nginx" not in answer.text
    assert listed["status"] == "unknown"
    assert status.status_code == 202
    assert (status.json()["status"], status.json()["queue_position"]) == ("IN_QUEUE", 0)
    assert desk.sim.calls(method="POST", ends=f"/sim/fault/{fault}") == calls + 1
    assert desk.sim.calls(has="/elsewhere.example") == 0


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("fault", "status"), [("submit-404", 404), ("submit-422", 422), ("submit-429", 429)]
)
async def test_fals_refusal_is_passed_on(desk: Desk, door: Door, fault: str, status: int) -> None:
    async with desk.gateway.http(user(door, fault)) as http:
        answer = await door(http, f"sim/fault/{fault}")
        listed = await the_job(http)
        result = await http.get(f"/v1/jobs/{listed['id']}/result")

    assert answer.status_code == status
    assert "detail" in answer.json()
    assert "job_status" not in answer.json()
    assert (listed["status"], listed["error"]["status"]) == ("failed", status)
    assert (result.status_code, result.json()) == (status, answer.json())
    assert await desk.events(listed["id"]) == ["job.created", "job.failed"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("fault", ["submit-401", "submit-403-locked"])
async def test_a_refused_key_is_our_matter(desk: Desk, door: Door, fault: str) -> None:
    """502, since fal has not got it; its words about our account are not for callers."""
    async with desk.gateway.http(user(door, fault)) as http:
        answer = await door(http, f"sim/fault/{fault}")
        listed = await the_job(http)

    assert answer.status_code == 502
    assert answer.json()["error_type"] == "upstream_key_refused"
    assert "locked" not in answer.text
    assert "credentials" not in answer.text
    assert listed["status"] == "failed"


async def test_fals_words_about_the_account_stay_here(desk: Desk) -> None:
    """The operator reads of it in the log."""
    async with desk.gateway.http("locked-out") as http:
        await ours(http, "sim/fault/submit-403-locked")

    wait_for(lambda: "upstream_key_refused" in desk.gateway.log_lines())


@pytest.fixture(scope="module")
def unreachable(running: Running, fal: Simulator, redis_url: str) -> Gateway:
    """A gateway whose fal does not listen."""
    nowhere = f'{{"queue.fal.run": "http://127.0.0.1:{free_port()}"}}'
    env = {"GATEWAY_FAL_ORIGINS": nowhere}
    return running.gateway(fal, env=env, redis_url=database(redis_url, 3))


@pytest.mark.parametrize("door", DOORS)
async def test_fal_is_not_reached(unreachable: Gateway, fal: Simulator, door: Door) -> None:
    async with a_desk(unreachable, fal, user(door, "refused")) as desk:
        answer = await door(desk.http, "fal-ai/echo")
        listed = await the_job(desk.http)
        events = await desk.events(listed["id"])
        status = await desk.http.get(f"/fal/queue/fal-ai/echo/requests/{listed['id']}/status")

    assert answer.status_code == 502
    assert answer.json()["error_type"] == "upstream_unreachable"
    assert answer.json()["request_id"] == listed["id"]
    assert "job_status" not in answer.json()
    assert listed["status"] == "failed"
    assert status.json()["status"] == "COMPLETED"
    assert status.json()["error_type"] == "upstream_unreachable"
    assert events == ["job.created", "job.failed"]


async def hanging(sim: Simulator, before: int) -> bool:
    return sim.calls(ends="/accept-then-hang") > before


async def test_no_free_connection_means_not_sent(running: Running, desk: Desk) -> None:
    """The one connection is taken by a submit that fal does not answer."""
    gateway = running.gateway(
        desk.sim, env={"GATEWAY_FAL_MAX_CALLS": "1"}, redis_url=desk.gateway.redis_url
    )
    before = desk.sim.calls(ends="/accept-then-hang")
    async with gateway.http("first") as first, gateway.http("second") as second:
        slow = asyncio.ensure_future(ours(first, "sim/fault/accept-then-hang"))
        await eventually(lambda: hanging(desk.sim, before))
        answer = await ours(second, "sim/fault/fast")
        listed = await the_job(second)
        slow.cancel()
        await asyncio.wait({slow})

    assert answer.status_code == 502
    assert answer.json()["error_type"] == "upstream_unreachable"
    assert listed["status"] == "failed"
    assert desk.sim.calls(ends="/sim/fault/fast") == 0
    gateway.process.kill()  # rather than wait for the answer that does not come


async def test_a_webhook_overtakes_an_answer_that_never_comes(running: Running, desk: Desk) -> None:
    """By the time that the wait ends, the webhook has proved that fal took the job."""
    gateway = running.gateway(
        desk.sim, env={"GATEWAY_FAL_SUBMIT_TIMEOUT": "1.5"}, redis_url=desk.gateway.redis_url
    )
    async with gateway.http("overtaken") as http:
        answer = await ours(http, "sim/fault/accept-then-hang")

    assert answer.status_code == 202
    assert answer.json()["status"] == "completed"
    assert await desk.events(answer.json()["id"]) == ["job.created", "job.completed"]


async def test_a_client_that_leaves_does_not_end_its_submit(desk: Desk) -> None:
    """Once sent, a submit runs to its end: the job is there, with fal's id."""
    async with desk.gateway.http("hasty") as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post(
                "/v1/jobs",
                json={"endpoint": "sim/fault/webhook-first", "input": {}},
                timeout=0.03,
            )
    async with desk.gateway.http("hasty") as http:
        listed = await the_job(http)
        seen = await desk.of(http).ended(listed["id"])

    assert seen["status"] == "completed"
    assert (await desk.job(listed["id"])).fal_id is not None
