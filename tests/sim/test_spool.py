"""Open jobs over a restart of the simulator: fal would not forget them."""

import asyncio
import json
import logging
import stat
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from gateway.sim.faults import Fault
from gateway.sim.model import CANCELLED, Call, Job
from gateway.sim.spool import Kept, Spool
from tests.sim.conftest import KEY, OTHER_KEY, Fal, Receiver, simulator, until

pytestmark = pytest.mark.anyio

CLOSED = "http://127.0.0.1:1/nobody"
"""An address that takes no webhook."""


def id_of(job: str) -> str:
    return job.rsplit("/", 1)[1]


def files(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "jobs").iterdir()) if (data_dir / "jobs").exists() else []


def a_job(body: bytes = b"{}", fault: Fault | None = None) -> Job:
    return Job(Call("fal-ai/flux", "account", body, (("x-test", "1"),), fault, CLOSED, 60.0), 2)


async def left(data_dir: Path, endpoint: str, input: object = None, **query: str) -> str:
    """A job that is open when its simulator stops: it takes far too long there."""
    async with simulator(data_dir, forgets=False, pace=1000) as fal:
        return await fal.job(endpoint, input, **query)


@pytest.mark.parametrize("endpoint", ["fal-ai/flux/dev", "sim/fault/requeue"])
async def test_an_open_job_goes_on_after_a_restart(
    tmp_path: Path, receiver: Receiver, endpoint: str
) -> None:
    job = await left(tmp_path, endpoint, {"a": 2**64}, fal_webhook=receiver.url)
    async with simulator(tmp_path, forgets=False) as fal:
        first = (await fal.status(job)).json()
        result = await fal.result(job)
        (hook,) = await receiver.hooks(1)
        await until(lambda: not files(tmp_path))
    async with simulator(tmp_path) as fal:
        later = await fal.status(job)

    assert first["status"] in ("IN_QUEUE", "IN_PROGRESS")
    assert result.json() == {"echo": {"a": 2**64}, "endpoint": endpoint}
    assert json.loads(hook.body)["request_id"] == id_of(job)
    assert json.loads(hook.body)["payload"] == result.json()
    assert hook.headers["x-fal-webhook-request-id"] == id_of(job)
    assert later.status_code == 404


async def test_a_held_job_stays_held_and_its_owners(tmp_path: Path, receiver: Receiver) -> None:
    async with simulator(tmp_path, forgets=False) as fal:
        job = await fal.job("sim/fault/hold", fal_webhook=receiver.url)
        await fal.running(job)
    async with simulator(tmp_path) as fal:
        await fal.running(job)
        other = await fal.http.get(f"{job}/status", headers={"authorization": f"Key {OTHER_KEY}"})
        await fal.http.post(f"/_sim/end/{id_of(job)}", json={"made": 1})
        (hook,) = await receiver.hooks(1)

    assert other.status_code == 404
    assert json.loads(hook.body)["payload"] == {"made": 1}


@pytest.mark.parametrize("how", ["cancelled", "ended"])
async def test_an_end_from_outside_is_kept_until_its_webhook_is_taken(
    tmp_path: Path, receiver: Receiver, how: str
) -> None:
    receiver.answers = [503]
    async with simulator(tmp_path, forgets=False, pace=1000) as fal:
        job = await fal.job("sim/fault/hold", fal_webhook=receiver.url)
        if how == "cancelled":
            await fal.http.put(f"{job}/cancel")
        else:
            await fal.http.post(f"/_sim/end/{id_of(job)}?status=499", json={"detail": "x"})
        await receiver.hooks(1)
    async with simulator(tmp_path) as fal:
        refused, taken = await receiver.hooks(2)
        status = (await fal.status(job)).json()["status"]
        await until(lambda: not files(tmp_path))

    assert taken.body == refused.body
    assert json.loads(taken.body)["error"] == "Invalid status code: 499"
    assert status == "COMPLETED"


async def test_a_job_is_kept_until_its_webhook_is_given_up(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answers = [503, 302]  # a redirect is final
    async with simulator(tmp_path, pace=1) as fal:
        await fal.job("sim/fault/fast", fal_webhook=receiver.url)
        await receiver.hooks(1)
        assert len(files(tmp_path)) == 1
        await receiver.hooks(2)
        await until(lambda: not files(tmp_path))


async def test_a_start_deadline_counts_from_the_submit(tmp_path: Path) -> None:
    headers = {"x-fal-request-start-timeout": "0.3"}
    async with simulator(tmp_path, forgets=False, pace=1000) as fal:
        late = await submitted(fal, headers)
        timely = await submitted(fal, {"x-fal-request-start-timeout": "600"})
    await asyncio.sleep(0.3)  # the deadline itself passes
    async with simulator(tmp_path, pace=0.2) as fal:
        assert (await fal.result(late)).status_code == 504
        assert (await fal.result(timely)).status_code == 200


async def submitted(fal: Fal, headers: dict[str, str]) -> str:
    reply = await fal.http.post("/queue.fal.run/fal-ai/flux", json={}, headers=headers)
    return str(reply.json()["response_url"]).removeprefix("https:/")


async def test_files_are_their_owners_alone_and_hold_no_key(tmp_path: Path) -> None:
    await left(tmp_path, "sim/fault/echo-headers")
    (path,) = files(tmp_path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert b"Key" not in path.read_bytes()
    assert KEY.partition(":")[2].encode() not in path.read_bytes()


async def test_a_reset_forgets_the_files(tmp_path: Path) -> None:
    job = await left(tmp_path, "fal-ai/flux")
    async with simulator(tmp_path, forgets=False, pace=1000) as fal:
        assert (await fal.status(job)).status_code == 202
        await fal.http.post("/_sim/reset")
        assert files(tmp_path) == []
        other = await fal.job("fal-ai/flux")
    async with simulator(tmp_path) as fal:
        assert (await fal.status(job)).status_code == 404
        assert (await fal.result(other)).status_code == 200


async def test_no_more_jobs_come_back_than_there_is_room_for(tmp_path: Path) -> None:
    async with simulator(tmp_path, forgets=False, pace=1000) as fal:
        jobs = [await fal.job("fal-ai/flux") for _ in range(3)]
    async with simulator(tmp_path, max_jobs=2, pace=1000) as fal:
        assert len(files(tmp_path)) == 2
        found = [(await fal.status(job)).status_code for job in jobs]
        places = [(await fal.status(job)).json()["queue_position"] for job in jobs[:2]]

    assert found == [202, 202, 404]
    assert places == [2, 3]


async def test_room_that_an_ended_job_makes_takes_its_file_along(tmp_path: Path) -> None:
    async with simulator(tmp_path, max_jobs=1, pace=1) as fal:
        await fal.ended(await fal.job("sim/fault/fast", fal_webhook=CLOSED))
        job = await fal.job("sim/fault/hold")

        assert [path.stem for path in files(tmp_path)] == [id_of(job)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"zz":' + b"[" * 100_000,
        b'{"created_at": 1e999, "call": {}}',
        b'{"created_at": 1, "call": {"endpoint": "a/b", "account": "x", "body": "", "headers": [],'
        b' "fault": "no-such"}}',
    ],
    ids=["empty", "fields", "bytes", "deep", "number", "fault"],
)
def test_an_unreadable_file_is_dropped_and_the_others_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    spool, job = Spool(tmp_path), a_job()
    spool.keep(job)
    bad = tmp_path / f"{uuid4()}.json"
    bad.write_bytes(content)

    found = spool.found()

    assert [job_id for job_id, _ in found] == [job.id]
    assert list(tmp_path.iterdir()) == [tmp_path / f"{job.id}.json"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert bad.name in caplog.text


@pytest.mark.parametrize("name", ["{id}.draft", "name.json", "..json", ".json", "{id}"])
def test_a_file_with_another_name_is_dropped(tmp_path: Path, name: str) -> None:
    spool, job = Spool(tmp_path), a_job()
    spool.keep(job)
    whole = (tmp_path / f"{job.id}.json").read_bytes()
    (tmp_path / name.format(id=uuid4())).write_bytes(whole)

    assert [job_id for job_id, _ in spool.found()] == [job.id]
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_found_is_what_was_kept_but_for_headers(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "new")
    first, second = a_job(b"\x00\xff not JSON"), a_job(fault=Fault.HOLD)
    spool.keep(second)
    spool.keep(first, CANCELLED)

    (_, one), (_, two) = spool.found()

    call = Call("fal-ai/flux", "account", b"\x00\xff not JSON", (), None, CLOSED, 60.0)
    assert one == Kept(first.created_at, call, CANCELLED)
    assert (two.call.fault, two.outcome) == (Fault.HOLD, None)


async def test_a_job_that_cannot_be_kept_runs_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with simulator(tmp_path) as fal:
        (tmp_path / "jobs").write_text("no folder")
        answer: httpx.Response = await fal.result(await fal.job("fal-ai/flux"))

        assert answer.status_code == 200
        assert "is not kept" in caplog.text
