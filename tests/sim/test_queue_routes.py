"""submit, status, result, cancel: rows 1-20 and 24 of what fal is known to do."""

import json
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.sim.conftest import KEY, OTHER_KEY, Fal, Receiver, simulator

pytestmark = pytest.mark.anyio


async def test_submit_answers_with_the_urls_of_the_job(fal: Fal) -> None:
    reply = await fal.submit("fal-ai/flux/dev", {"prompt": "a dog"})

    body = reply.json()
    url = f"https://queue.fal.run/fal-ai/flux/requests/{body['request_id']}"
    assert reply.status_code == 200
    assert reply.headers["x-fal-request-id"] == body["request_id"]
    assert body["status"] == "IN_QUEUE"
    assert body["queue_position"] == 2
    assert body["response_url"] == url
    assert body["status_url"] == f"{url}/status"
    assert body["cancel_url"] == f"{url}/cancel"


async def test_namespace_is_part_of_the_app(fal: Fal) -> None:
    job = await fal.job("workflows/someone/flow/deep")

    assert "/workflows/someone/flow/requests/" in job
    assert (await fal.ended(job)).status_code == 200


@pytest.mark.parametrize("authorization", ["", "Key", "Key nobody:x", f"Bearer {KEY}"])
@pytest.mark.parametrize(
    "path",
    [
        "queue.fal.run/fal-ai/flux",
        "fal.run/fal-ai/flux",
        "fal.run/fal-ai/flux/stream",
        "rest.fal.ai/storage/upload/initiate",
        "rest.fal.ai/tokens/",
        "rest.alpha.fal.ai/tokens/",
    ],
)
async def test_bad_key_is_401(fal: Fal, path: str, authorization: str) -> None:
    async with httpx.AsyncClient(base_url=fal.origin) as http:
        headers = {"authorization": authorization} if authorization else {}
        reply = await http.post(f"/{path}", json={}, headers=headers)

    assert (reply.status_code, list(reply.json())) == (401, ["detail"])


async def test_any_key_is_good_where_none_are_named(tmp_path: Path) -> None:
    async with simulator(tmp_path, keys=None) as fal:
        good = await fal.http.post(
            "/queue.fal.run/a/b", json={}, headers={"authorization": "Key whatever"}
        )
        bad = await fal.http.post("/queue.fal.run/a/b", headers={"authorization": "Key"})

    assert (good.status_code, bad.status_code) == (200, 401)


@pytest.mark.parametrize("endpoint", ["unknown/app", "single", "sim/fault/no-such", "a//b"])
async def test_unknown_application_is_404(fal: Fal, endpoint: str) -> None:
    reply = await fal.submit(endpoint)

    assert reply.status_code == 404
    assert reply.json()["detail"].startswith('Application "')


async def test_queue_length_limit(fal: Fal) -> None:
    """fal counts those who wait: the first finds nobody there."""
    endpoint = "sim/fault/hold-queued"
    first = await fal.submit(endpoint, fal_max_queue_length="0")
    second = await fal.submit(endpoint, fal_max_queue_length="0")
    roomy = await fal.submit(endpoint, fal_max_queue_length="5")

    assert [each.status_code for each in (first, second, roomy)] == [200, 429, 200]


async def test_course_of_a_job(tmp_path: Path) -> None:
    """202 with falling positions, 202 with growing logs, 200 at the end."""
    positions: list[int] = []
    logs: list[int] = []
    async with simulator(tmp_path, pace=0.3) as fal:
        job = await fal.job("fal-ai/flux/dev", {"n": 1})
        while (reply := await fal.status(job, logs=True)).status_code == 202:
            body = reply.json()
            if body["status"] == "IN_QUEUE":
                positions.append(body["queue_position"])
            else:
                logs.append(len(body["logs"]))
        result = await fal.http.get(job)

    assert sorted(set(positions), reverse=True) == list(dict.fromkeys(positions))
    assert positions[0] == 2
    assert len(set(positions)) > 1
    assert logs == sorted(logs)
    assert {"message", "timestamp", "level", "source"} <= set(reply.json()["logs"][0])
    assert len(reply.json()["logs"]) in range(5, 9)
    assert reply.status_code == 200
    assert reply.json()["metrics"]["inference_time"] > 0.2
    assert result.json() == {"echo": {"n": 1}, "endpoint": "fal-ai/flux/dev"}
    assert result.headers["x-fal-billable-units"] == "1"
    assert result.headers["x-fal-request-id"] == job.rsplit("/", 1)[1]


async def test_logs_only_where_asked_for(fal: Fal) -> None:
    job = await fal.job("fal-ai/flux")
    await fal.ended(job)

    assert (await fal.status(job)).json()["logs"] is None
    assert (await fal.http.get(f"{job}/status?logs=true")).json()["logs"]


async def test_no_more_than_concurrency_run_at_once(fal: Fal) -> None:
    """The third waits behind two that hold; another account does not."""
    held = [await fal.job("sim/fault/hold") for _ in range(2)]
    for job in held:
        await fal.running(job)
    third = await fal.job("fal-ai/flux")
    others = {"authorization": f"Key {OTHER_KEY}"}
    other = await fal.http.post("/queue.fal.run/fal-ai/flux", headers=others)
    other_job = str(other.json()["response_url"]).removeprefix("https:/")

    while (await fal.http.get(other_job, headers=others)).status_code != 200:
        pass
    assert (await fal.status(third)).json()["status"] == "IN_QUEUE"

    await fal.http.post(f"/_sim/end/{held[0].rsplit('/', 1)[1]}", json={"seed": 1})
    assert (await fal.result(third)).status_code == 200
    assert (await fal.http.get(held[0])).json() == {"seed": 1}


async def test_requeue_goes_back_to_the_queue(tmp_path: Path) -> None:
    seen: list[str] = []
    async with simulator(tmp_path, pace=0.3) as fal:
        job = await fal.job("sim/fault/requeue")
        while not seen or seen[-1] != "COMPLETED":
            status = (await fal.status(job)).json()["status"]
            if [status] != seen[-1:]:
                seen.append(status)

    assert seen == ["IN_QUEUE", "IN_PROGRESS", "IN_QUEUE", "IN_PROGRESS", "COMPLETED"]


@pytest.mark.parametrize(
    ("method", "suffix"),
    [
        ("GET", "/status"),
        ("GET", "/status/stream"),
        ("GET", ""),
        ("GET", "/response"),
        ("PUT", "/cancel"),
    ],
)
async def test_unknown_or_foreign_job_is_not_found(fal: Fal, method: str, suffix: str) -> None:
    job = await fal.job("fal-ai/flux")
    unknown = await fal.http.request(
        method, f"/queue.fal.run/fal-ai/flux/requests/{uuid4()}{suffix}"
    )
    foreign = await fal.http.request(
        method, f"{job}{suffix}", headers={"authorization": f"Key {OTHER_KEY}"}
    )
    elsewhere = await fal.http.request(method, f"{job}{suffix}".replace("/flux/", "/other/"))

    for reply in (unknown, foreign, elsewhere):
        assert (reply.status_code, reply.json()) == (404, {"status": "NOT_FOUND"})
    assert (await fal.status(job)).status_code in (200, 202)


async def test_result_of_an_open_job_is_400(fal: Fal) -> None:
    job = await fal.job("sim/fault/hold")

    reply = await fal.http.get(job)

    assert reply.status_code == 400
    assert reply.json() == {"detail": "Request is still in progress"}


async def test_full_id_and_response_suffix_work_as_well(fal: Fal) -> None:
    job = await fal.job("fal-ai/flux/dev")
    await fal.ended(job)

    full = job.replace("/flux/", "/flux/dev/")
    assert (await fal.http.get(f"{full}/response")).json() == (await fal.http.get(job)).json()


async def test_validation_failure_shows_in_the_result_alone(fal: Fal) -> None:
    job = await fal.job("sim/fault/fail-422")
    status = (await fal.ended(job)).json()
    result = await fal.http.get(job)

    assert not {"error", "error_type"} & set(status)
    assert result.status_code == 422
    assert set(result.json()["detail"][0]) >= {"loc", "msg", "type", "url", "input"}
    assert result.headers["x-fal-billable-units"] == "0"


async def test_infrastructure_failure_shows_in_the_status(fal: Fal) -> None:
    job = await fal.job("sim/fault/fail-503")
    status = (await fal.ended(job)).json()
    result = await fal.http.get(job)

    assert status["error_type"] == "runner_connection_error"
    assert status["error"]
    assert result.status_code == 503
    assert result.headers["x-fal-error-type"] == "runner_connection_error"


@pytest.mark.parametrize("header", ["x-fal-request-timeout", "x-fal-request-start-timeout"])
async def test_start_deadline(fal: Fal, header: str) -> None:
    """Ends with 504 what has not started in time; what has, goes on."""
    for _ in range(2):
        await fal.running(await fal.job("sim/fault/hold"))
    reply = await fal.http.post("/queue.fal.run/fal-ai/flux", headers={header: "0.15"})
    job = str(reply.json()["response_url"]).removeprefix("https:/")

    result = await fal.result(job)

    assert result.status_code == 504
    assert result.json()["error_type"] == "request_timeout"
    assert result.headers["x-fal-request-timeout-type"] == "user"
    assert result.headers["x-fal-error-type"] == "request_timeout"
    assert (await fal.ended(job)).json()["error_type"] == "request_timeout"


async def test_timeout_504_needs_no_deadline(fal: Fal) -> None:
    result = await fal.result(await fal.job("sim/fault/timeout-504"))

    assert (result.status_code, result.headers["x-fal-request-timeout-type"]) == (504, "user")


@pytest.mark.parametrize("fault", ["result-404", "payload-lost"])
async def test_result_can_be_gone(fal: Fal, fault: str) -> None:
    job = await fal.job(f"sim/fault/{fault}")

    assert (await fal.ended(job)).json()["status"] == "COMPLETED"
    assert (await fal.http.get(job)).status_code == 404


@pytest.mark.parametrize("fault", ["hold", "hold-queued"])
async def test_cancel(fal: Fal, fault: str) -> None:
    """Queued or running: accepted, then 499; a second one finds the job ended."""
    job = await fal.job(f"sim/fault/{fault}")
    if fault == "hold":
        await fal.running(job)

    first = await fal.http.put(f"{job}/cancel")
    result = await fal.result(job)
    second = await fal.http.put(f"{job}/cancel")

    assert (first.status_code, first.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    assert (result.status_code, result.json()["error_type"]) == (499, "client_cancelled")
    assert (second.status_code, second.json()) == (400, {"status": "ALREADY_COMPLETED"})


@pytest.mark.parametrize(
    ("fault", "body"),
    [("cancel-200-ok", {"status": "OK"}), ("cancel-200-success", {"success": True})],
)
async def test_cancel_in_other_words(fal: Fal, fault: str, body: object) -> None:
    job = await fal.job(f"sim/fault/{fault}")

    reply = await fal.http.put(f"{job}/cancel")

    assert (reply.status_code, reply.json()) == (200, body)
    assert (await fal.result(job)).status_code == 499


async def test_cancel_can_be_ignored(fal: Fal) -> None:
    job = await fal.job("sim/fault/cancel-ignored")

    assert (await fal.http.put(f"{job}/cancel")).status_code == 202
    assert (await fal.result(job)).status_code == 200


async def test_cancelled_by_itself(fal: Fal) -> None:
    assert (await fal.result(await fal.job("sim/fault/cancelled"))).status_code == 499


async def test_pending_result_as_202(fal: Fal) -> None:
    job = await fal.job("sim/fault/pending-202")

    reply = await fal.http.get(job)

    assert reply.status_code == 202
    assert reply.json()["status"] in ("IN_QUEUE", "IN_PROGRESS")
    assert (await fal.result(job)).status_code == 200


async def test_ingress_trouble_while_polling(fal: Fal) -> None:
    job = await fal.job("sim/fault/status-502-html")
    replies = [await fal.status(job) for _ in range(4)]

    assert [reply.status_code == 502 for reply in replies] == [True, False, True, False]
    assert "nginx" in replies[0].text
    assert "x-fal-request-id" not in replies[0].headers


async def test_ingress_trouble_while_fetching(fal: Fal) -> None:
    job = await fal.job("sim/fault/result-502-html")
    end = f"/_sim/end/{job.rsplit('/', 1)[1]}"
    assert (await fal.http.post(end, json={"seed": 1})).status_code == 200

    assert [(await fal.http.get(job)).status_code for _ in range(3)] == [502, 502, 200]


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff", '{"a": 1}'.encode("utf-16"), b"[NaN]", b"[" * 100_000, b"1" * 10_000],
    ids=["open", "no text", "utf-16", "nan", "deep", "long number"],
)
@pytest.mark.parametrize("endpoint", ["fal-ai/flux", "fal-ai/stable-audio-25/audio-to-audio"])
async def test_broken_input_fails_as_a_result(
    fal: Fal, receiver: Receiver, endpoint: str, body: bytes
) -> None:
    """The webhook says so, and a run as well."""
    reply = await fal.http.post(
        f"/queue.fal.run/{endpoint}", content=body, params={"fal_webhook": receiver.url}
    )
    run = await fal.http.post(f"/fal.run/{endpoint}", content=body)
    job = str(reply.json()["response_url"]).removeprefix("https:/")

    for result in (run, await fal.result(job)):
        assert (result.status_code, result.json()["detail"][0]["type"]) == (422, "json_invalid")
    assert json.loads((await receiver.hooks(1))[0].body)["status"] == "ERROR"


async def test_job_table_is_bounded(tmp_path: Path) -> None:
    """The oldest ended job makes room; where none has ended, a submit is refused."""
    async with simulator(tmp_path, max_jobs=2) as fal:
        first = await fal.job("sim/fault/fast")
        await fal.ended(first)
        held = await fal.job("sim/fault/hold")
        await fal.job("sim/fault/hold")
        full = await fal.submit("sim/fault/hold")

        assert full.status_code == 503
        assert (await fal.status(first)).status_code == 404
        assert (await fal.status(held)).status_code == 202
        await fal.http.put(f"{held}/cancel")
        assert (await fal.submit("sim/fault/hold")).status_code == 200


async def test_path_of_a_request_takes_no_post(fal: Fal) -> None:
    job = await fal.job("fal-ai/flux")

    assert (await fal.http.post(job, json={})).status_code == 405
    assert (await fal.http.post(f"{job}/cancel", json={})).status_code == 405
    assert (await fal.http.get("/queue.fal.run/fal-ai/flux")).status_code == 405
    assert (await fal.ended(job)).status_code == 200
