"""Clients' own webhooks: fal's shape with our id, five attempts, and never to where it hurts."""

import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway.core.fal import QUEUE
from gateway.core.meters import nothing_asked
from gateway.core.model import End, Job, State, Where
from gateway.core.retry import deliver_after
from gateway.store import keys
from gateway.store.ledger import Opening
from gateway.work.loop import PER_HOST
from tests.flows.desk import HELD, Desk, database, envelope, eventually
from tests.flows.receivers import Receiver, Silent, receiving, silence
from tests.harness import CANARY, Running, free_port

pytestmark = pytest.mark.anyio

DONE = End(State.COMPLETED, 200, Where.STORED, b"{}")


async def arrived(receiver: Receiver, count: int = 1) -> bool:
    return len(receiver.came) >= count


async def note(desk: Desk, job: Job) -> str:
    """What is written of a job's delivery."""
    found: Any = await desk.redis.hget(_key(job), "note")
    return "" if found is None else found.decode()


async def due_in(desk: Desk, job: Job) -> float | None:
    """Seconds until a job's delivery is due again; None once it is done with."""
    score: Any = await desk.redis.zscore(keys.outbox(keys.shard_of_job(job.id)), f"dlv_{job.id}")
    return None if score is None else score / 1000 - time.time()


async def make_due(desk: Desk, job: Job) -> None:
    await desk.redis.zadd(keys.outbox(keys.shard_of_job(job.id)), {f"dlv_{job.id}": 0}, xx=True)
    await desk.redis.publish(keys.WAKE, keys.events(job.id))


def _key(job: Job) -> str:
    return keys.delivery(keys.shard_of_job(job.id), f"dlv_{job.id}")


async def test_a_good_end_in_fals_shape(desk: Desk) -> None:
    with receiving() as receiver:
        job = await desk.opened("fal-ai/echo", webhook_url=f"{receiver.url}/hook?a=1")
        await desk.ended(job.id)
        await eventually(lambda: arrived(receiver))
        await eventually(lambda: delivered(desk, job))

    [(path, headers, body)] = receiver.came
    assert path == "/hook?a=1"
    assert headers["content-type"] == "application/json"
    assert receiver.bodies == [
        {
            "request_id": job.id,
            "gateway_request_id": job.id,
            "status": "OK",
            "error": None,
            "payload": {"echo": {"prompt": "x"}, "endpoint": "fal-ai/echo"},
        }
    ]
    assert job.fal_id is not None
    assert job.fal_id not in body.decode()
    assert not {"authorization", "cookie"} & set(headers)
    assert CANARY not in str(headers)


async def delivered(desk: Desk, job: Job) -> bool:
    return await note(desk, job) == "delivered" and await due_in(desk, job) is None


async def test_a_failure_in_fals_shape(desk: Desk) -> None:
    with receiving() as receiver:
        target = f"https://{QUEUE}/sim/fault/fail-422?fal_webhook={receiver.url}"
        taken = await desk.http.post(
            "/api/fal/proxy", json={"prompt": "x"}, headers={"x-fal-target-url": target}
        )
        job_id = taken.json()["request_id"]
        await eventually(lambda: arrived(receiver))

    [body] = receiver.bodies
    assert (body["request_id"], body["status"]) == (job_id, "ERROR")
    assert body["error"]
    assert body["payload"]["detail"][0]["msg"] == "The simulator refuses this"


async def test_a_result_too_large_is_to_be_fetched(desk: Desk) -> None:
    with receiving() as receiver:
        job = await desk.opened(HELD, webhook_url=receiver.url)
        await desk.report(job, envelope(job.fal_id or "", "x" * (2 * 2**20)))
        await eventually(lambda: arrived(receiver))

    [body] = receiver.bodies
    assert body["payload"] is None
    assert body["payload_error"] == f"fetch the result at /v1/jobs/{job.id}/result"


@pytest.mark.parametrize("result", [b"<html>no JSON</html>", b'{"a": NaN}', b'{"cut', b"\xff"])
async def test_a_result_that_is_no_json_does_not_spoil_the_body(desk: Desk, result: bytes) -> None:
    """As the due loop may find it: fal passes on whatever an app wrote."""
    with receiving() as receiver:
        job = await desk.opened(HELD, webhook_url=receiver.url)
        await desk.ledger.end(job.ref, End(State.COMPLETED, 200, Where.STORED, result))
        await eventually(lambda: arrived(receiver))
    seen = await desk.http.get(f"/v1/jobs/{job.id}")
    raw = await desk.http.get(f"/v1/jobs/{job.id}/result")

    [body] = receiver.bodies
    assert (body["status"], body["payload"]) == ("OK", None)
    assert "payload_error" in body
    assert (seen.json()["status"], seen.json()["result"]) == ("completed", None)
    assert raw.content == result


async def test_five_attempts_with_growing_pauses(desk: Desk) -> None:
    with receiving(500) as receiver:
        job = await desk.opened(HELD, webhook_url=receiver.url)
        await desk.report(job)
        for attempt in range(5):
            await eventually(lambda n=attempt: arrived(receiver, n + 1))  # type: ignore[misc]
            await eventually(lambda n=attempt: written(desk, job, n + 1))  # type: ignore[misc]
            pause = await due_in(desk, job)
            least, most = deliver_after(attempt, 0.0), deliver_after(attempt, 1.0)
            if attempt == 4:
                assert pause is None
            else:
                assert pause is not None
                assert least - 2 < pause < most
                await make_due(desk, job)
        later = await desk.opened("fal-ai/echo", webhook_url=receiver.url)
        await eventually(lambda: arrived(receiver, 6))

    sent = [body["request_id"] for body in receiver.bodies]
    assert sent == [job.id] * 5 + [later.id]
    assert len({body for _, _, body in receiver.came[:5]}) == 1
    assert (await desk.job(job.id)).state is State.COMPLETED


async def written(desk: Desk, job: Job, attempts: int) -> bool:
    found: Any = await desk.redis.hget(_key(job), "attempt")
    return bool(found == str(attempts).encode())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 404, 410, 503])
async def test_what_is_no_2xx_is_tried_again(desk: Desk, status: int) -> None:
    """A redirect too: its place is never called."""
    with receiving() as elsewhere, receiving(status, 204, location=elsewhere.url) as receiver:
        job = await desk.opened(HELD, webhook_url=receiver.url)
        await desk.report(job)
        await eventually(lambda: written(desk, job, 1))
        before = await note(desk, job)
        await make_due(desk, job)
        await eventually(lambda: delivered(desk, job))

    assert before == f"status {status}"
    assert len(receiver.came) == 2
    assert elsewhere.came == []


async def test_a_refused_submit_is_answered_and_not_delivered(desk: Desk) -> None:
    """The client has fal's answer, and no id that a delivery could speak of."""
    with receiving() as receiver:
        refused = await desk.submit("sim/fault/submit-422", webhook_url=receiver.url)
        taken = await desk.opened("fal-ai/echo", webhook_url=receiver.url)
        await eventually(lambda: arrived(receiver))
        await eventually(lambda: delivered(desk, taken))

    assert refused.status_code == 422
    assert [body["request_id"] for body in receiver.bodies] == [taken.id]


async def test_nobody_listens_yet(desk: Desk) -> None:
    job = await desk.opened(HELD, webhook_url=f"http://127.0.0.1:{free_port()}/")
    await desk.report(job)

    await eventually(lambda: written(desk, job, 1))

    pause = await due_in(desk, job)
    assert pause is not None
    assert pause > 2


async def test_a_silent_receiver_holds_up_nobody_else(pulling: Desk) -> None:
    """It has four deliveries at most; the others lose no attempt. Jobs are asked about as ever."""
    with silence() as silent, receiving() as receiver:
        hook = f"http://127.0.0.1:{silent.port}/"
        stuck = [await pulling.opened(HELD, webhook_url=hook) for _ in range(45)]
        for job in stuck:
            await pulling.ledger.end(job.ref, DONE)
        await eventually(lambda: held(silent, PER_HOST))

        begun = time.monotonic()
        asked = await pulling.opened("fal-ai/echo")
        await pulling.until(asked.id, lambda now: now.state.ended)
        told = await pulling.opened(
            HELD, webhook_url=receiver.url.replace("127.0.0.1", "localhost")
        )
        await pulling.ledger.end(told.ref, DONE)
        await eventually(lambda: arrived(receiver))
        took = time.monotonic() - begun

        attempts = [await pulling.redis.hget(_key(job), "attempt") for job in stuck]
        await pulling.redis.delete(keys.outbox(keys.shard_of_job(told.id)))

    assert took < 6
    assert attempts == [b"0"] * len(stuck)
    assert len(silent.callers) == PER_HOST


async def held(silent: Silent, count: int) -> bool:
    return len(silent.callers) >= count


async def test_a_crowd_for_one_receiver_is_told_soon(desk: Desk) -> None:
    """A receiver that answers is given the next as soon as it has."""
    with receiving() as receiver:
        one = (await desk.opened()).ref
        crowd = [replace(one, id=f"{one.id[:24]}{n:012x}") for n in range(400)]
        for ref in crowd:
            await desk.ledger.open(
                ref, Opening(60.0, pull=False, webhook=receiver.url), nothing_asked(0.0)
            )
            await desk.ledger.end(ref, DONE)
        begun = time.monotonic()
        await eventually(lambda: arrived(receiver, len(crowd)))
        took = time.monotonic() - begun

    assert took < 6
    told = sorted(body["request_id"] for body in receiver.bodies)
    assert told == sorted(ref.id for ref in crowd)


async def test_the_end_is_there_before_its_delivery(desk: Desk) -> None:
    """Whoever is told finds the job ended: the entry is written by the script of the end."""
    with receiving(500) as receiver:
        job = await desk.opened(HELD, webhook_url=receiver.url)
        await desk.report(job)
        again = [await desk.report(job) for _ in range(3)]
        await eventually(lambda: written(desk, job, 1))

    assert again == [204] * 3
    assert len(receiver.came) == 1


async def test_loopback_is_for_the_simulator_alone(running: Running, redis_url: str) -> None:
    """Against the real fal, plain http and this machine are no place for a webhook."""
    gateway = running.gateway(None, redis_url=database(redis_url, 5))
    with receiving() as receiver:
        async with gateway.http() as http:
            ours = await http.post(
                "/v1/jobs",
                json={"endpoint": "fal-ai/echo", "input": {}, "webhook_url": receiver.url},
            )
            target = f"https://{QUEUE}/fal-ai/echo?fal_webhook={receiver.url}"
            theirs = await http.post(
                "/api/fal/proxy", json={}, headers={"x-fal-target-url": target}
            )

    assert [ours.status_code, theirs.status_code] == [400, 400]
    assert receiver.came == []


async def test_a_plan_without_client_webhooks(running: Running, desk: Desk) -> None:
    token = desk.gateway.token("no-hooks", plan="narrow")
    async with httpx.AsyncClient(base_url=desk.gateway.url) as http:
        answer = await http.post(
            "/v1/jobs",
            json={"endpoint": "fal-ai/echo", "input": {}, "webhook_url": "https://example.com/"},
            headers={"authorization": f"Bearer {token}"},
        )

    assert answer.status_code == 403
    assert answer.json()["error_type"] == "webhook_not_allowed"
