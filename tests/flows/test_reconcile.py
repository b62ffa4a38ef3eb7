"""Jobs that no webhook tells of: what the due loop finds out, and when it gives up."""

import time
from typing import Any

import anyio
import pytest

from gateway.core.model import Job, State
from gateway.flows.reconcile import MAX_AGE, QUIET
from gateway.store import keys
from tests.flows.desk import Desk, envelope, eventually

pytestmark = pytest.mark.anyio

LATE = 60.0
"""Seconds beyond an age, so that no clock can be in doubt."""


async def look_now(desk: Desk, job: Job) -> None:
    """Make a job due, and wait until the loop has looked at it."""
    before = (await desk.job(job.id)).asks
    await desk.redis.zadd(keys.due(keys.shard_of_job(job.id)), {job.id: 0}, xx=True)
    await desk.redis.publish(keys.WAKE, keys.events(job.id))
    await desk.until(job.id, lambda now: now.asks > before or now.state.ended)


async def age(desk: Desk, job: Job, **ago: float) -> None:
    """Let `created` or `sign` of a job be so many seconds ago."""
    for name, seconds in ago.items():
        written: Any = desk.redis.hset(
            keys.job(job.id), name, str(round((time.time() - seconds) * 1000))
        )
        await written


async def looks_at_its_results(desk: Desk, job: Job) -> int:
    return desk.sim.calls(method="GET", ends=f"/requests/{job.fal_id}")


async def test_a_lost_webhook_costs_seconds(desk: Desk) -> None:
    """Nobody watches: the loop asks after 5 s, and fetches the result once."""
    begun = time.monotonic()
    job = await desk.opened("sim/fault/no-webhook")

    ended = await desk.until(job.id, lambda now: now.state.ended)

    assert 4 < time.monotonic() - begun < 11
    assert ended.state is State.COMPLETED
    assert ended.end is not None
    assert ended.end.units == "1"
    result = await desk.http.get(f"/v1/jobs/{job.id}/result")
    assert result.json()["echo"] == {"prompt": "x"}
    assert await looks_at_its_results(desk, job) == 1
    assert (await desk.events(job.id)).count("job.completed") == 1


@pytest.mark.parametrize(
    ("fault", "state", "status"),
    [("fail-422", "failed", 422), ("fail-503", "failed", 503), ("timeout-504", "failed", 504),
     ("cancelled", "cancelled", 499)],
)  # fmt: skip
async def test_every_end_is_found_by_asking(
    pulling: Desk, fault: str, state: str, status: int
) -> None:
    """Without a public URL, and without a watcher: code, body and error type are fal's."""
    job = await pulling.opened(f"sim/fault/{fault}")

    ended = await pulling.until(job.id, lambda now: now.state.ended)
    result = await pulling.http.get(f"/v1/jobs/{job.id}/result")

    assert ended.end is not None
    assert (ended.state, ended.end.http_status) == (state, status)
    assert result.status_code == status
    assert "detail" in result.json()


async def test_pull_mode_end_to_end(pulling: Desk) -> None:
    """Watched: the status stream tells the end at once. fal is given no webhook."""
    target = "https://queue.fal.run/fal-ai/echo"
    http = pulling.http
    taken = await http.post("/api/fal/proxy", json={"n": 1}, headers={"x-fal-target-url": target})
    job_id = taken.json()["request_id"]
    url = f"{target}/requests/{job_id}"
    result = await http.get("/api/fal/proxy", headers={"x-fal-target-url": url})
    status = await http.get("/api/fal/proxy", headers={"x-fal-target-url": f"{url}/status"})

    job = await pulling.job(job_id)
    assert job.pull
    assert result.json() == {"echo": {"n": 1}, "endpoint": "fal-ai/echo"}
    assert status.json()["status"] == "COMPLETED"
    [told] = [j for j in pulling.sim.ask("GET", "jobs") if j["request_id"] == job.fal_id]
    assert told["webhook"] is None
    assert await looks_at_its_results(pulling, job) == 1


async def test_pull_mode_without_a_watcher(pulling: Desk) -> None:
    begun = time.monotonic()
    job = await pulling.opened("fal-ai/echo")

    ended = await pulling.until(job.id, lambda now: now.state.ended)

    assert ended.state is State.COMPLETED
    assert time.monotonic() - begun < 6
    assert pulling.sim.calls(has=f"/{job.fal_id}/status/stream") == 0
    assert await looks_at_its_results(pulling, job) == 1


@pytest.mark.parametrize("quiet", [0.0, QUIET - LATE])
async def test_an_unknown_job_without_a_word_stays_unknown(desk: Desk, quiet: float) -> None:
    job = await unknown(desk)
    await age(desk, job, created=quiet, sign=quiet)

    await look_now(desk, job)

    assert (await desk.job(job.id)).state is State.UNKNOWN
    assert await desk.events(job.id) == ["job.created", "job.unknown"]


async def test_an_unknown_job_is_given_up_after_three_hours(desk: Desk) -> None:
    job = await unknown(desk)
    await age(desk, job, created=QUIET + LATE, sign=QUIET + LATE)

    await look_now(desk, job)
    result = await desk.http.get(f"/fal/queue/sim/fault/requests/{job.id}")

    assert (await desk.job(job.id)).state is State.EXPIRED
    assert await desk.events(job.id) == ["job.created", "job.unknown", "job.expired"]
    assert (result.status_code, result.json()["error_type"]) == (410, "job_expired")
    assert await desk.redis.zscore(keys.due(keys.shard_of_job(job.id)), job.id) is None


async def unknown(desk: Desk) -> Job:
    answer = await desk.submit("sim/fault/submit-500")
    assert answer.status_code == 500
    return await desk.job(answer.json()["request_id"])


async def test_a_crashed_submit_becomes_unknown_after_its_deadline(desk: Desk) -> None:
    """As a worker leaves it that was killed before it heard from fal."""
    job = await desk.opened()
    forgotten: Any = desk.redis.hdel(keys.job(job.id), "fal_id")
    await forgotten

    await look_now(desk, job)

    assert (await desk.job(job.id)).state is State.UNKNOWN
    assert await desk.report(job) == 204
    assert (await desk.job(job.id)).state is State.COMPLETED


@pytest.mark.parametrize(
    ("quiet", "state"), [(QUIET - LATE, State.QUEUED), (QUIET + LATE, State.EXPIRED)]
)
async def test_a_404_from_fal_is_an_end_only_after_long_silence(
    desk: Desk, quiet: float, state: State
) -> None:
    job = await desk.opened()
    nobody_knows: Any = desk.redis.hset(keys.job(job.id), "fal_id", "00000000-gone")
    await nobody_knows
    await age(desk, job, created=quiet, sign=quiet)

    await look_now(desk, job)

    assert (await desk.job(job.id)).state is state
    assert desk.sim.calls(ends="/requests/00000000-gone/status") >= 1


async def test_a_job_that_fal_knows_lives_on_in_silence(desk: Desk) -> None:
    """Each answer of fal's is a sign of life."""
    job = await desk.opened()
    await age(desk, job, created=QUIET + LATE, sign=QUIET + LATE)

    await look_now(desk, job)

    now = await desk.job(job.id)
    assert now.state is State.QUEUED
    assert time.time() - now.last_sign_at < LATE


async def test_no_job_outlives_its_maximum_age(desk: Desk) -> None:
    """fal knows it, and it stands in its queue since yesterday."""
    job = await desk.opened()
    await age(desk, job, created=MAX_AGE + LATE)

    await look_now(desk, job)

    assert (await desk.job(job.id)).state is State.EXPIRED


async def test_a_cancel_is_asked_for_again(desk: Desk) -> None:
    """The first one got lost on its way to fal."""
    job = await desk.opened()
    wanted: Any = desk.redis.hset(keys.job(job.id), "cancel", 1)
    await wanted

    await look_now(desk, job)
    ended = await desk.until(job.id, lambda now: now.state.ended)

    assert ended.state is State.CANCELLED
    assert desk.sim.calls(method="PUT", ends=f"/{job.fal_id}/cancel") == 1


async def test_a_result_that_is_gone_is_told_as_gone(desk: Desk) -> None:
    """fal completed the job, and no longer has its result: the end is known, the body is not."""
    job = await desk.opened("sim/fault/payload-lost")

    await desk.until(job.id, lambda now: now.end is not None)
    result = await desk.http.get(f"/v1/jobs/{job.id}/result")

    assert (await desk.job(job.id)).state is State.COMPLETED
    assert (result.status_code, result.json()["error_type"]) == (410, "result_gone")


async def test_a_result_that_fal_has_dropped_is_not_asked_for_in_a_loop(pulling: Desk) -> None:
    """fal says COMPLETED for ever, and knows no result: whoever polls must not make us ask at
    once again, and fal's word is no sign of life any more."""
    job = await pulling.opened("sim/fault/result-404")
    await pulling.until(job.id, lambda now: now.state is State.RUNNING)
    streams = pulling.sim.calls(ends=f"/{job.fal_id}/status/stream")
    begun = time.monotonic()
    while time.monotonic() < begun + 5:
        await pulling.http.get(f"/v1/jobs/{job.id}")
        await anyio.sleep(0.2)

    asked = pulling.sim.calls(ends=f"/{job.fal_id}/status/stream") - streams
    assert 1 <= asked <= 3
    await age(pulling, job, sign=QUIET + LATE)
    await look_now(pulling, job)
    assert (await pulling.job(job.id)).state is State.EXPIRED


async def test_shards_that_redis_has_lost_are_said_again(pulling: Desk) -> None:
    """Without them no due loop would ever look at these jobs."""
    await pulling.opened("sim/fault/fast")
    forgotten: Any = pulling.redis.delete(keys.SHARDS)
    await forgotten

    job = await pulling.opened("sim/fault/fast")

    assert (await pulling.until(job.id, lambda now: now.state.ended)).state is State.COMPLETED


async def test_a_shard_is_looked_into_once_others_tell_of_it(desk: Desk) -> None:
    """Of one that nobody uses, only they can have told."""
    kwargs: Any = desk.redis.connection_pool.connection_kwargs
    seen = None

    async with desk.redis.monitor() as asked:
        await desk.redis.publish(keys.WAKE, keys.events("ab000000-0000-4000-8000-000000000000"))
        with anyio.fail_after(5):
            while seen != (kwargs.get("db", 0), f"ZRANGE {keys.due('ab')} 0 0 WITHSCORES"):
                command: Any = await asked.next_command()
                seen = command["db"], command["command"]


async def test_a_cancel_is_asked_for_again_while_somebody_watches(desk: Desk) -> None:
    """Though their status stream keeps the loop from asking for anything else."""
    job = await desk.opened()
    await desk.http.get(f"/v1/jobs/{job.id}")
    await eventually(lambda: desk.redis.exists(keys.watch(job.id)))
    wanted: Any = desk.redis.hset(keys.job(job.id), "cancel", 1)
    await wanted

    await look_now(desk, job)

    assert (await desk.until(job.id, lambda now: now.state.ended)).state is State.CANCELLED


async def test_an_end_of_a_webhook_that_told_too_little_gets_its_body(desk: Desk) -> None:
    """An error without a status in its words: what fal has to say of it is fetched."""
    job = await desk.opened("sim/fault/fail-422")
    assert job.fal_id is not None
    body = envelope(job.fal_id, status="ERROR", error="it went wrong", payload=None)
    body = body.replace(b'"payload": {"made": "%s"}' % job.fal_id.encode(), b'"payload": null')
    assert await desk.report(job, body) == 204

    ended = await desk.until(job.id, lambda now: now.end is not None and now.end.settled)
    result = await desk.http.get(f"/v1/jobs/{job.id}/result")

    assert ended.state is State.FAILED
    assert result.status_code == 422
    assert result.json()["detail"]
