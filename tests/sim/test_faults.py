"""Faults of submits: rows 4, 24 and 31, and what no row names."""

import asyncio

import httpx
import pytest

from gateway.sim import faults
from gateway.sim.faults import DOES, Fault
from tests.sim.conftest import Fal, Receiver, until

pytestmark = pytest.mark.anyio


async def test_list(fal: Fal) -> None:
    """Every fault says what it does, and stands in the module's own table."""
    listed = await fal.sim("faults")

    assert {each["name"] for each in listed} == set(Fault)
    assert set(DOES) == set(Fault)
    assert [name for name in Fault if name not in (faults.__doc__ or "")] == []


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("submit-401", 401),
        ("submit-403", 403),
        ("submit-403-locked", 403),
        ("submit-404", 404),
        ("submit-408", 408),
        ("submit-422", 422),
        ("refuse-422-submit", 422),
        ("submit-429", 429),
        ("submit-500", 500),
        ("redirect/anything", 302),
    ],
)
async def test_refused_submit_makes_no_job(fal: Fal, fault: str, status: int) -> None:
    reply = await fal.submit(f"sim/fault/{fault}")

    assert reply.status_code == status
    assert status == 302 or reply.json()["detail"]
    assert await fal.sim("jobs") == []
    await fal.submit("fal-ai/flux")
    assert len(await fal.sim("jobs")) == 1


async def test_locked_account(fal: Fal) -> None:
    reply = await fal.submit("sim/fault/submit-403-locked")

    assert reply.json()["detail"].startswith("User is locked")


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_ingress_page(fal: Fal, status: int) -> None:
    reply = await fal.submit(f"sim/fault/submit-{status}-html")

    assert reply.status_code == status
    assert reply.headers["content-type"].startswith("text/html")
    assert "nginx" in reply.text
    assert "x-fal-request-id" not in reply.headers
    assert await fal.sim("jobs") == []


async def test_redirect_leads_to_where_the_journal_sees(fal: Fal) -> None:
    reply = await fal.submit("sim/fault/redirect")
    await fal.http.get(reply.headers["location"])

    assert [entry["host"] for entry in await fal.sim("journal")] == [
        "queue.fal.run",
        "elsewhere.example",
    ]


@pytest.mark.parametrize("fault", ["cut-after-body", "cut-mid-answer"])
async def test_cut_submit_leaves_a_job(fal: Fal, receiver: Receiver, fault: str) -> None:
    """The webhook tells of a job whose id its owner never learnt."""
    with pytest.raises(httpx.RemoteProtocolError):
        await fal.submit(f"sim/fault/{fault}", {"x": 1}, fal_webhook=receiver.url)

    await receiver.hooks(1)
    assert len(await fal.sim("jobs")) == 1


async def test_cut_comes_before_the_first_byte(fal: Fal) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        await fal.submit("sim/fault/cut-after-body")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        await fal.http.post("/fal.run/sim/fault/cut-after-body", json={})
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        await fal.http.post("/fal.run/sim/fault/cut-mid-answer", json={})


async def test_hang_leaves_a_job(fal: Fal, receiver: Receiver) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await fal.http.post(
            "/queue.fal.run/sim/fault/accept-then-hang",
            params={"fal_webhook": receiver.url},
            timeout=0.2,
        )

    await receiver.hooks(1)
    while (await fal.sim("connections"))["held"]:
        pass


async def test_reset_lets_a_hanging_call_go(fal: Fal) -> None:
    seen: list[int] = []

    async def submit() -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            await fal.submit("sim/fault/accept-then-hang")
        seen.append(1)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(submit())
        while not (await fal.sim("connections"))["held"]:
            pass
        await fal.http.post("/_sim/reset")
        await until(lambda: bool(seen))


@pytest.mark.parametrize(
    ("fault", "status"),
    [("unreadable-2xx", 200), ("no-request-id", 200), ("took-500", 500), ("took-504-html", 504)],
)
async def test_unusable_answer_leaves_a_job(
    fal: Fal, receiver: Receiver, fault: str, status: int
) -> None:
    reply = await fal.submit(f"sim/fault/{fault}", fal_webhook=receiver.url)

    assert reply.status_code == status
    assert "request_id" not in reply.text
    await receiver.hooks(1)


async def test_fast_job_is_running_in_the_first_answer(fal: Fal) -> None:
    assert (await fal.submit("sim/fault/fast")).json()["status"] == "IN_PROGRESS"


@pytest.mark.parametrize(("endpoint", "size"), [("big/1", 2**20), ("big", 20 * 2**20)])
async def test_big_result(fal: Fal, endpoint: str, size: int) -> None:
    job = await fal.job(f"sim/fault/{endpoint}")

    result = await fal.result(job)

    assert len(result.content) == size
    assert list(result.json()) == ["filler"]


async def test_each_answer_sets_a_cookie_of_its_own(fal: Fal) -> None:
    async with httpx.AsyncClient(base_url=fal.origin) as http:
        headers = {"authorization": fal.http.headers["authorization"]}
        calls = [
            await http.post("/queue.fal.run/sim/fault/set-cookie", headers=headers)
            for _ in range(2)
        ]
    cookies = {reply.headers["set-cookie"] for reply in calls}
    journal = await fal.sim("journal")

    assert len(cookies) == 2
    assert [entry["cookie"] for entry in journal] == [False, True]


async def test_echo_of_headers(fal: Fal) -> None:
    headers = {"x-canary": "yes"}
    run = await fal.http.post("/fal.run/sim/fault/echo-headers", json={}, headers=headers)
    job = await fal.job("sim/fault/echo-headers")
    queued = (await fal.result(job)).json()

    assert run.json()["headers"]["x-canary"] == "yes"
    assert run.json()["headers"]["authorization"] == fal.http.headers["authorization"]
    assert queued["headers"]["authorization"] == fal.http.headers["authorization"]
