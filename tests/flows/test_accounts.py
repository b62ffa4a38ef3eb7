"""Several accounts at fal: who goes where, what stays where, and what a refused key does."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any, Final

import pytest

from gateway.core.model import Job
from gateway.sim.access import account_id
from gateway.store import keys
from gateway.work import accounts
from tests.flows.desk import HELD, SEED, Desk, a_desk, database, envelope, eventually, signed
from tests.harness import CANARY, KEYS, SECRET, SIM_USER, Gateway, Running, Simulator

pytestmark = pytest.mark.anyio

SECOND: Final = "fk-second-2b6d4c1e:1f7a90c35be2448d9c06e1a7"
PINNED: Final = "fk-pinned-8e3f1a5c:6c2d0b94e7fa4413a85d3b9f"
USERS: Final = {"main": SIM_USER, "second": "user-second", "pinned": "user-pinned"}
AT_SIM: Final = {
    "main": account_id(CANARY), "second": account_id(SECOND), "pinned": account_id(PINNED)
}  # fmt: skip
CONFIG: Final = {
    "plans": {"default": {"endpoints": ["**"]}, "realtime": {"endpoints": ["fal-ai/fast-sdxl"],
                                                             "realtime_tokens": True}},
    "keys": [{"name": "other", "team": "other-team"}],
    "accounts": {
        "second": {"key": SECOND, "weight": 3, "user_id": USERS["second"]},
        "pinned": {"key": PINNED, "user_id": USERS["pinned"], "teams": ["other-team"]},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def accounts_sim(running: Running) -> Simulator:
    return running.simulator(
        seed=str(SEED), concurrency="500", key=[SECOND, PINNED],
        user_id=[USERS["second"], USERS["pinned"]],
    )  # fmt: skip


@pytest.fixture(scope="module")
def accounts_gateway(running: Running, accounts_sim: Simulator, redis_url: str) -> Gateway:
    env = {"GATEWAY_WORKERS": "2", "GATEWAY_FAL_PROBE_PAUSE": "0.2"}
    url = database(redis_url, 9)
    return running.gateway(accounts_sim, env=env, config=CONFIG, redis_url=url)


@pytest.fixture
async def desk(accounts_gateway: Gateway, accounts_sim: Simulator) -> AsyncGenerator[Desk]:
    """With every account in use, as if none had ever been out."""
    accounts_sim.ask("POST", "reset")
    async with a_desk(accounts_gateway, accounts_sim) as desk:
        async for due in desk.redis.scan_iter("fgw:{*}:due"):
            await desk.redis.delete(due)  # a look at an older job would take an account out too
        await asyncio.sleep(2 * accounts.TICK)  # each process has told what it had found out
        await eventually(lambda: in_use(desk))
        await desk.redis.delete(keys.ACCOUNTS_OUT)
        await asyncio.sleep(2 * accounts.TICK)
        yield desk


async def in_use(desk: Desk) -> bool:
    entries: Any = await desk.redis.hgetall(keys.ACCOUNTS_OUT)
    return all(b'"back"' in entry for entry in entries.values())


def lock(desk: Desk, name: str, **query: str) -> None:
    desk.sim.ask("POST", f"lock/{AT_SIM[name]}", params=query)


def unlock(desk: Desk, name: str) -> None:
    desk.sim.ask("POST", f"unlock/{AT_SIM[name]}")


def where(desk: Desk, job: Job) -> str:
    """The account that has a job, by fal's word."""
    (found,) = [one for one in desk.sim.ask("GET", "jobs") if one["request_id"] == job.fal_id]
    (name,) = [name for name, account in AT_SIM.items() if account == found["account"]]
    return name


async def opened_at(desk: Desk, name: str) -> Job:
    """A held job at that account."""
    for _ in range(100):
        job = await desk.opened()
        if job.account == name:
            return job
    raise AssertionError(f"no job went to {name}")


def submits(desk: Desk, name: str) -> list[int]:
    """The answers to the submits of an account."""
    return [
        call["status"]
        for call in desk.sim.journal()
        if call["method"] == "POST" and call["account"] == AT_SIM[name]
    ]


async def test_jobs_are_shared_out_by_weight(desk: Desk) -> None:
    jobs = await asyncio.gather(*(desk.opened() for _ in range(80)))

    shares = Counter(job.account for job in jobs)
    assert set(shares) == {"main", "second"}
    assert 8 <= shares["main"] <= 34  # 20 of 80; beyond, once in 10,000 runs
    assert all(where(desk, job) == job.account for job in jobs[:20])


async def test_a_team_has_its_own_account(desk: Desk) -> None:
    async with desk.gateway.http(None, "other") as http:
        jobs = [await desk.of(http).opened() for _ in range(8)]

    assert {(job.account, where(desk, job)) for job in jobs} == {("pinned", "pinned")}


@pytest.mark.parametrize("name", ["main", "second"])
async def test_a_job_stays_with_its_account(desk: Desk, name: str) -> None:
    """Status, result and cancel are that account's: fal shows a job to no other."""
    held, other = await opened_at(desk, name), await opened_at(desk, name)

    desk.sim.ask("POST", f"end/{held.fal_id}", json={"made": held.id})
    status = await desk.http.get(f"/fal/queue/{HELD}/requests/{held.id}/status")
    await desk.ended(held.id)
    result = await desk.http.get(f"/v1/jobs/{held.id}/result")
    cancelled = await desk.http.post(f"/v1/jobs/{other.id}/cancel")
    ended = await desk.ended(other.id)

    assert status.status_code in {200, 202}
    assert result.json() == {"made": held.id}
    assert cancelled.status_code == 202
    assert ended["status"] == "cancelled"
    of_jobs = [c for c in desk.sim.journal() if f"{held.fal_id}" in c["path"]]
    of_jobs += [c for c in desk.sim.journal() if f"{other.fal_id}" in c["path"]]
    assert {call["account"] for call in of_jobs} == {AT_SIM[name]}


@pytest.mark.parametrize("status", ["401", "403"])
async def test_the_submit_that_meets_a_refused_key_goes_on_elsewhere(
    desk: Desk, status: str
) -> None:
    lock(desk, "second", status=status, everywhere="1")
    jobs: list[Job] = []

    for _ in range(30):
        jobs += [await desk.opened()]
        if submits(desk, "second"):
            break
    jobs += [await desk.opened() for _ in range(20)]

    assert {(job.account, where(desk, job)) for job in jobs} == {("main", "main")}
    # Each of the two processes asks it until it knows.
    refused = submits(desk, "second")
    assert set(refused) == {int(status)}
    assert len(refused) <= 4


async def test_a_job_is_where_it_was_asked_for_last(desk: Desk) -> None:
    """One account refuses it, and what became of it at the other nobody knows."""
    lock(desk, "second", status="403", everywhere="1")
    accounts = set()

    for _ in range(30):
        answer = await desk.submit("sim/fault/submit-500")
        assert answer.status_code == 500
        job = await desk.ledger.read(answer.json()["request_id"])
        assert job is not None
        accounts.add(job.account)
        if submits(desk, "second"):
            break

    assert 403 in submits(desk, "second")
    assert accounts == {"main"}


async def test_a_refused_account_is_out_everywhere_and_comes_back(desk: Desk) -> None:
    lock(desk, "second", everywhere="1")
    for _ in range(30):
        await desk.opened()
        if submits(desk, "second"):
            break
    assert 403 in submits(desk, "second")

    async def left_out() -> bool:
        before = len(submits(desk, "second"))
        await asyncio.gather(*(desk.opened() for _ in range(20)))
        return len(submits(desk, "second")) == before

    async def probed() -> bool:
        calls = [call for call in desk.sim.journal() if call["account"] == AT_SIM["second"]]
        return any(c["status"] == 403 and c["path"].startswith("/fal-ai/flux/req") for c in calls)

    await eventually(left_out, within=2)  # both processes know
    await eventually(probed)
    assert await left_out()
    assert "fal account second is out of use" in desk.gateway.log_lines()
    assert SECOND not in desk.gateway.log_lines()
    told = desk.gateway.log_lines().count("fal account second is out of use")
    unlock(desk, "second")

    await eventually(lambda: in_use(desk))
    assert (await opened_at(desk, "second")).fal_id
    assert "fal account second is in use again" in desk.gateway.log_lines()
    assert desk.gateway.log_lines().count("fal account second is out of use") == told


async def test_every_account_is_refused(desk: Desk) -> None:
    """502, and the job has failed: fal has certainly not taken it."""
    for name in AT_SIM:
        lock(desk, name, everywhere="1")

    answers = [await desk.submit() for _ in range(3)]

    for answer in answers:
        assert answer.status_code == 502
        assert answer.json()["error_type"] == "upstream_key_refused"
    for name in AT_SIM:
        unlock(desk, name)
    assert (await desk.submit()).status_code == 202  # at once: where all are out, all are tried


async def test_one_endpoint_that_is_forbidden_closes_nothing(desk: Desk) -> None:
    """A client must not be able to take the accounts from all others."""
    for _ in range(4):
        assert (await desk.submit("sim/fault/submit-403-locked")).status_code == 502
        assert (await desk.submit()).status_code == 202


@pytest.mark.parametrize("door", ["upload", "run"])
async def test_calls_without_a_job_go_on_elsewhere_too(desk: Desk, door: str) -> None:
    lock(desk, "second", everywhere="1")
    path, body = {
        "upload": (
            "/fal/rest/storage/upload/initiate?storage_type=fal-cdn-v3",
            {"content_type": "image/png", "file_name": "a.png"},
        ),
        "run": ("/fal/run/fal-ai/echo", {"prompt": "x"}),
    }[door]

    for _ in range(6):
        answer = await desk.http.post(path, json=body)
        assert answer.status_code == 200, answer.text


async def test_a_webhook_is_of_the_account_that_has_the_job(desk: Desk) -> None:
    job = await opened_at(desk, "second")

    for user in (USERS["main"], USERS["pinned"], "somebody"):
        assert await desk.report(job, user=user) == 401
    assert not (await desk.job(job.id)).state.ended

    assert await desk.report(job, user=USERS["second"]) == 204
    assert (await desk.job(job.id)).state == "completed"


async def test_a_job_made_anew_may_be_any_accounts(desk: Desk) -> None:
    """Its ticket says whose it is, and its webhook at which account."""
    job = await opened_at(desk, "second")
    assert job.fal_id is not None
    body = envelope(job.fal_id)
    await desk.redis.delete(keys.job(job.id))

    stranger = await desk.post(job.ref, body, signed(body, job.fal_id, user="somebody"))
    own = await desk.post(job.ref, body, signed(body, job.fal_id, user=USERS["second"]))

    assert (stranger, own) == (401, 204)
    assert (await desk.job(job.id)).account == "second"


@pytest.fixture(scope="module")
def narrowed(running: Running, accounts_sim: Simulator, redis_url: str) -> Gateway:
    """A gateway beside the others, started again without the account `second`."""
    config: dict[str, Any] = {**CONFIG, "accounts": {"pinned": CONFIG["accounts"]["pinned"]}}  # type: ignore[index]
    url = database(redis_url, 9)
    return running.gateway(accounts_sim, config=config, redis_url=url)


async def test_a_job_whose_account_is_gone(desk: Desk, narrowed: Gateway) -> None:
    """Nobody can ask fal; its webhook is taken all the same."""
    job = await opened_at(desk, "second")
    assert job.fal_id is not None
    async with a_desk(narrowed, desk.sim) as without:
        seen = await without.http.get(f"/v1/jobs/{job.id}")
        cancelled = await without.http.post(f"/v1/jobs/{job.id}/cancel")
        body = envelope(job.fal_id)
        told = await without.post(job.ref, body, signed(body, job.fal_id, user=USERS["second"]))
        ended = await without.http.get(f"/v1/jobs/{job.id}")

    assert (seen.status_code, cancelled.status_code) == (200, 502)
    assert cancelled.json()["error_type"] == "upstream_unavailable"
    assert told == 204
    assert ended.json()["status"] == "completed"


def test_keys_are_made_up() -> None:
    assert len({CANARY, SECOND, PINNED, SECRET, *KEYS.values()}) == 4 + len(KEYS)
