"""Our own event streams: their form, who may hear what, and when they end."""

import secrets
import time
from functools import partial

import anyio
import httpx
import pytest
from redis.asyncio import Redis

from gateway.core.tokens import Purpose
from gateway.flows.authenticate import revocation_of
from gateway.store.revocations import Revocations
from tests.harness import Gateway, Running, Simulator
from tests.held import beside, held, log_line
from tests.listening import Ear, Heard, listen, numbers

pytestmark = pytest.mark.anyio

SECRET_PROMPT = "a prompt that stays between client and model"


def user() -> str:
    return f"user-{secrets.token_hex(6)}"


async def submitted(client: httpx.AsyncClient, prompt: str = SECRET_PROMPT) -> str:
    answer = await client.post(
        "/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {"prompt": prompt}}
    )
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


async def test_a_job_is_told_from_its_start_to_its_end_in_order(gateway: Gateway) -> None:
    async with gateway.http(user()) as client:
        job_id = await submitted(client)
        async with listen(client, f"/v1/jobs/{job_id}/events") as ear:
            blocks = await ear.rest()
        result = await client.get(f"/v1/jobs/{job_id}/result")

    assert ear.response.headers["content-type"].startswith("text/event-stream")
    assert "no-store" in ear.response.headers["cache-control"]
    assert ear.response.headers["x-accel-buffering"] == "no"
    assert 500 <= int(blocks[0].field("retry") or 0) <= 2500
    events = [block for block in blocks if block.data is not None]
    types = [event.type for event in events]
    assert types[0] == "job.created"
    assert types[-1] == "job.completed"
    assert types.index("job.queued") < types.index("job.started") < types.index("job.log")
    assert numbers(events) == sorted(set(numbers(events)))
    assert all(event.data["id"] == job_id and event.data["type"] == event.type for event in events)
    assert result.json()["echo"]["prompt"] == SECRET_PROMPT
    assert all(SECRET_PROMPT not in event.raw for event in events)


async def test_what_happens_after_an_early_end_is_told_to_who_comes_again(
    gateway: Gateway,
) -> None:
    """A stream tells its place before anything has happened: its first event may come later."""
    async with gateway.http(user()) as client:
        async with listen(client, "/v1/events") as ear:
            first = await ear.block()
        assert first is not None
        job_id = await submitted(client)
        again = {"last-event-id": str(first.id)}
        async with listen(client, "/v1/events", again) as ear:
            event = await ear.event()

    assert event is not None
    assert (event.type, event.data["id"]) == ("job.created", job_id)


async def test_all_of_ones_own_jobs_are_told_without_logs(gateway: Gateway) -> None:
    alice, bob = user(), user()
    async with (
        gateway.http(alice) as client,
        gateway.http(bob) as other,
        listen(client, "/v1/events") as ear,
    ):
        first = await ear.block()
        theirs = await submitted(other)
        mine = [await submitted(client), await submitted(client)]
        heard: list[Heard] = []
        while len([event for event in heard if event.type == "job.completed"]) < 2:
            event = await ear.event()
            assert event is not None
            heard.append(event)

    assert first is not None
    assert first.field("retry") is not None
    assert {event.data["id"] for event in heard} == set(mine)
    assert theirs not in mine
    assert all(event.type != "job.log" for event in heard)
    assert numbers(heard) == sorted(set(numbers(heard)))


async def test_a_reader_hears_the_whole_team_and_others_may_not(gateway: Gateway) -> None:
    async with gateway.http(key="reader") as reader, gateway.http(user()) as client:
        async with listen(reader, "/v1/events?scope=team") as ear:
            await ear.block()
            job_id = await submitted(client)
            heard = []
            while ("job.completed", job_id) not in heard:
                event = await ear.event()
                assert event is not None
                heard.append((event.type, event.data["id"]))
        refused = await client.get("/v1/events?scope=team")
    async with gateway.http(key="other") as stranger:
        foreign = await stranger.get(f"/v1/jobs/{job_id}/events")

    assert refused.status_code == 403
    assert foreign.status_code == 404


async def test_nothing_is_silent_for_longer_than_nine_seconds(
    wide: Gateway, wide_sim: Simulator, wide_redis: Redis
) -> None:
    """Of either kind of stream; also while a job logs, which the stream of all jobs leaves out."""
    silences: dict[str, float] = {}

    async def hear(name: str, ear: Ear) -> None:
        """Time to the first comment since anything else was heard."""
        before = time.monotonic()
        while (block := await ear.block(20)) and not block.comment:
            before = block.at
        silences[name] = time.monotonic() - before

    async with (
        wide.http(user()) as client,
        held(client, wide_sim) as job,
        held(client, wide_sim) as chatty,
        listen(client, f"/v1/jobs/{job.id}/events") as own,
        listen(client, "/v1/events") as every,
        listen(client, f"{job.status}/stream?logs=1") as form,
        anyio.create_task_group() as tasks,
    ):
        for name, ear in (("own", own), ("every", every), ("form", form)):
            tasks.start_soon(hear, name, ear)
        count = 0
        while len(silences) < 3:
            count += 1
            await log_line(wide_redis, chatty, f"line {count}")
            await anyio.sleep(0.5)

    assert all(6.0 < silence <= 9.0 for silence in silences.values()), silences


@pytest.mark.parametrize("how", ["header", "query"])
async def test_a_job_that_has_ended_is_told_once_more_then_204(gateway: Gateway, how: str) -> None:
    """An EventSource comes again after the end; 204 tells it to stay away."""
    async with gateway.http(user()) as client:
        job_id = await submitted(client)
        path = f"/v1/jobs/{job_id}/events"
        async with listen(client, path) as ear:
            events = [block for block in await ear.rest() if block.data is not None]
        last, before = str(events[-1].id), str(events[-2].id)

        async def come(after: str) -> httpx.Response:
            if how == "header":
                return await client.get(path, headers={"last-event-id": after})
            return await client.get(f"{path}?last_event_id={after}")

        again, close = await come(last), await come(before)

    assert again.status_code == 204
    assert again.content == b""
    assert close.status_code == 200
    assert f"id: {last}" in close.text
    assert close.text.count("event: ") == 1


@pytest.mark.parametrize("place", ["1", "1-1", "-1-0", "1-0 ", "x", "9" * 17 + "-0", "1-0\u0661"])
async def test_a_place_that_is_none_is_refused(gateway: Gateway, place: str) -> None:
    async with gateway.http(user()) as client:
        refused = await client.get("/v1/events", params={"last_event_id": place})

    assert refused.status_code == 400
    assert refused.json()["error_type"] == "bad_body"


async def test_a_stream_pass_opens_streams_and_nothing_else_and_is_never_logged(
    running: Running, sim: Simulator
) -> None:
    gateway = running.gateway(sim, env={"GATEWAY_LOG_LEVEL": "debug"})
    async with gateway.http(user()) as client, gateway.http(None) as nobody:
        job_id = await submitted(client)
        other_id = await submitted(client)
        one = (await client.post("/v1/stream-passes", json={"job": job_id})).json()["pass"]
        every = (await client.post("/v1/stream-passes")).json()["pass"]
        async with listen(nobody, f"/v1/jobs/{job_id}/events?pass={one}") as ear:
            events = [block for block in await ear.rest() if block.data is not None]
        async with listen(nobody, f"/v1/events?pass={every}&last_event_id=1-0") as ear:
            heard = await ear.until("job.completed")
        foreign = await nobody.get(f"/v1/jobs/{other_id}/events?pass={one}")
        whole = await nobody.get(f"/v1/events?pass={one}")
        elsewhere = await nobody.get(f"/v1/jobs/{job_id}?pass={every}")
        twice = await nobody.get(f"/v1/jobs/{job_id}/events?pass={one}&pass={every}")
        headers = {"authorization": f"Bearer {every}"}
        in_header = await nobody.get(f"/v1/jobs/{job_id}", headers=headers)

    assert events[-1].type == "job.completed"
    assert heard
    assert [foreign.status_code, whole.status_code] == [404, 403]
    assert [elsewhere.status_code, twice.status_code, in_header.status_code] == [401, 401, 401]
    assert gateway.process.stop() == 0
    log = gateway.log_lines()
    assert one not in log
    assert every not in log
    assert "GET /v1/jobs/{id}/events 200" in log


async def test_a_stream_ends_when_its_credential_expires(
    wide: Gateway, wide_sim: Simulator
) -> None:
    name = user()
    async with wide.http(name) as client, held(client, wide_sim) as job:
        passing = wide.token(name, purpose=Purpose.PASS, lifetime=3)
        path = f"/v1/jobs/{job.id}/events?pass={passing}"
        async with wide.http(None) as nobody, listen(nobody, path) as ear:
            began = time.monotonic()
            blocks = await ear.rest()
        later = await client.get(f"/v1/jobs/{job.id}")

    assert 1.0 < time.monotonic() - began < 7.0
    assert blocks[-1].field("retry") is not None
    assert later.json()["status"] == "running"


async def test_streams_end_when_their_credential_is_revoked(
    wide: Gateway, wide_sim: Simulator, wide_redis: Redis
) -> None:
    """The fal-form stream is cut: a clean end would be taken for the end of the job."""
    name = user()
    async with (
        wide.http(name) as client,
        held(client, wide_sim) as job,
        listen(client, f"/v1/jobs/{job.id}/events") as own,
        listen(client, f"{job.status}/stream") as form,
    ):
        await own.until("job.started")
        await form.until("IN_PROGRESS")
        names = [revocation_of("default", f"user:{name}")]
        await Revocations(wide_redis).revoke(names, time.time() + 60)
        await own.rest(5)
        with pytest.raises(httpx.RemoteProtocolError):
            await form.rest(5)
        refused = await client.get(f"/v1/jobs/{job.id}/events")

        assert refused.status_code == 401


async def test_a_principal_has_so_many_seats_for_streams(running: Running, sim: Simulator) -> None:
    gateway = running.gateway(sim, env={"GATEWAY_STREAMS_PER_PRINCIPAL": "2"})
    alice, bob = user(), user()
    async with (
        gateway.http(alice) as client,
        gateway.http(bob) as other,
        listen(client, "/v1/events"),
    ):
        async with listen(client, "/v1/events"), listen(other, "/v1/events"):
            refused = await client.get("/v1/events")
        await anyio.sleep(0.5)  # for the gateway to hear that one has gone
        async with listen(client, "/v1/events") as ear:
            again = await ear.block(30)

    assert refused.status_code == 429
    assert refused.json()["error_type"] == "limit_reached"
    assert int(refused.headers["retry-after"]) > 0
    assert again is not None


async def opened(client: httpx.AsyncClient, path: str) -> int:
    """The status of a stream, which is left at once."""
    async with client.stream("GET", path) as answer:
        return answer.status_code


async def test_whoever_waits_for_a_job_takes_a_seat_too(
    running: Running, wide_sim: Simulator
) -> None:
    """A long poll, a fal-form result of an open job, and a large result."""
    gateway = running.gateway(wide_sim, env={"GATEWAY_STREAMS_PER_PRINCIPAL": "1"})
    async with gateway.http(user()) as client, held(client, wide_sim) as job:
        answer = await client.post("/v1/jobs", json={"endpoint": "sim/fault/big/12", "input": {}})
        large = answer.json()["id"]
        await client.get(f"/v1/jobs/{large}?wait=20&after=999-0")
        waiting = [
            f"/v1/jobs/{job.id}?wait=20&after=999-0",
            job.status.removesuffix("/status"),
            f"/v1/jobs/{large}/result",
        ]
        async with listen(client, "/v1/events"):
            refused = [(await client.get(path)).status_code for path in waiting]
            state = await client.get(f"/v1/jobs/{job.id}")
        async with beside(partial(client.get, waiting[0])):
            with anyio.fail_after(10):  # until the poll has its seat
                while (status := await opened(client, "/v1/events")) == 200:
                    pass
            refused.append(status)
            job.end()
        good = [(await client.get(path)).status_code for path in waiting]

    assert refused == [429] * 4
    assert state.status_code == 200
    assert good == [200] * 3


@pytest.mark.parametrize(
    "text",
    [
        "a\n\nevent: done\ndata: x",
        "a\r\rid: 9-0",
        "a\u2028b\u2029c",
        "a\0b",
        "\ufeff: x",
        "\U0001f3b8",
    ],
)
async def test_what_a_model_logs_cannot_leave_its_event(
    wide: Gateway, wide_sim: Simulator, wide_redis: Redis, text: str
) -> None:
    name = user()
    async with wide.http(name) as client, held(client, wide_sim) as job:
        await log_line(wide_redis, job, text)
        async with (
            listen(client, f"/v1/jobs/{job.id}/events") as own,
            listen(client, f"{job.status}/stream?logs=1") as form,
        ):
            job.end()
            events = [block for block in await own.rest() if block.data is not None]
            states = [block for block in await form.rest() if not block.comment]

    logged = [event.data["log"]["message"] for event in events if event.type == "job.log"]
    told = [line["message"] for state in states for line in state.data["logs"]]
    assert text in logged
    assert text in told
    assert {event.type for event in events} <= {
        "job.created", "job.queued", "job.started", "job.log", "job.completed"
    }  # fmt: skip
    assert all(block.raw.isascii() for block in [*events, *states])
    assert all(state.type is None and state.id is None for state in states)
