"""What each of fal's answers is taken for."""

import asyncio
import gzip
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import trustme

from gateway.core.errors import BadAnswer, KeyRefused, NotSent, OutcomeUnknown, Unavailable
from gateway.core.model import Progress, State
from gateway.upstream.answers import MAX_LOG, PENDING, Refusal, Result, Submitted
from gateway.upstream.fal import MAX_ANSWER, Fal, Timeouts
from gateway.upstream.session import Pools, pools, tls
from tests.upstream.conftest import (
    FAL_ID,
    KEY,
    Behaviour,
    Request,
    Server,
    always,
    client,
    hang,
    listening,
    reply,
)

pytestmark = pytest.mark.anyio

ENDPOINT = "fal-ai/stable-audio-25/audio-to-audio"
APP = "/queue.fal.run/fal-ai/stable-audio-25"
QUEUED = f'{{"status": "IN_QUEUE", "request_id": "{FAL_ID}", "queue_position": 2}}'.encode()
TAKEN = Submitted(FAL_ID, Progress(State.QUEUED, position=2))
SSE = {"content_type": "text/event-stream"}


async def submit(upstream: Fal, webhook: str | None = None) -> Submitted | Refusal:
    return await upstream.submit(ENDPOINT, b"{}", {}, webhook)


async def run(upstream: Fal, *, stream: bool = False) -> tuple[int, dict[str, str], bytes]:
    async with upstream.run(ENDPOINT, b"{}", {}, stream=stream) as answer:
        return answer.status, dict(answer.headers), b"".join([c async for c in answer.chunks])


async def heard(upstream: Fal) -> list[Progress]:
    async with upstream.status_stream(ENDPOINT, FAL_ID) as events:
        return [event async for event in events]


async def test_a_submit_goes_to_the_queue_with_a_webhook(upstream: Fal, server: Server) -> None:
    server.behave = always(reply(200, QUEUED))
    webhook = "https://gw.example/webhooks/fal/a.b-c_d?x=1&y=%2F+%25#"

    assert await submit(upstream, webhook) == TAKEN

    target = urlsplit(server.requests[0].path)
    assert target.path == f"{APP}/audio-to-audio"
    assert parse_qsl(target.query, strict_parsing=True) == [("fal_webhook", webhook)]


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_only_the_request_id_is_needed(upstream: Fal, server: Server, status: int) -> None:
    server.behave = always(reply(status, f'{{"request_id": "{FAL_ID}"}}'.encode()))

    assert await submit(upstream) == Submitted(FAL_ID, Progress(State.QUEUED))


@pytest.mark.parametrize(
    "answer",
    [
        *(reply(status, QUEUED) for status in (301, 302, 303, 307, 308, 408)),
        *(reply(status, QUEUED) for status in (500, 502, 503, 504, 599)),
        reply(200, b""),
        reply(200, b"<html>nginx</html>"),
        reply(200, b'{"status": "IN_QUEUE"}'),
        reply(200, b'{"request_id": 7}'),
        reply(200, b'{"request_id": "../../tokens"}'),
        reply(200, b'{"request_id": "' + b"a" * 65 + b'"}'),
        reply(200, b'{"logs": ' + b"[" * 100_000),
        reply(200, QUEUED[:-1] + b', "\xff": 1}'),
        reply(200, QUEUED + b" " * MAX_ANSWER),
        reply(200, gzip.compress(QUEUED), content_encoding="gzip"),
    ],
)
async def test_what_leaves_open_if_fal_took_the_job_is_unknown(
    upstream: Fal, server: Server, answer: bytes
) -> None:
    server.behave = always(answer)

    with pytest.raises(OutcomeUnknown):
        await submit(upstream)


@pytest.mark.parametrize("status", [400, 402, 404, 405, 409, 413, 422, 429, 499])
async def test_other_4xx_are_refusals(upstream: Fal, server: Server, status: int) -> None:
    server.behave = always(reply(status, b'{"detail": "no"}', retry_after="2", server="fal"))

    refusal = await submit(upstream)

    headers = {"content-type": "application/json", "retry-after": "2"}
    assert refusal == Refusal(status, headers, b'{"detail": "no"}')


async def test_a_refusal_is_certain_without_its_reason(upstream: Fal, server: Server) -> None:
    async def behave(request: Request) -> None:
        await request.send(reply(422, b'{"detail": "no"}')[:-4])
        request.writer.close()

    server.behave = behave

    refusal = await submit(upstream)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.body) == (422, b"")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_told_without_fals_words(
    upstream: Fal, server: Server, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.behave = always(reply(status, f'{{"detail": "Key {KEY} is locked"}}'.encode()))

    for call in (
        submit(upstream),
        upstream.status(ENDPOINT, FAL_ID),
        heard(upstream),
        upstream.result(ENDPOINT, FAL_ID, 100),
        upstream.cancel(ENDPOINT, FAL_ID),
        run(upstream),
        upstream.initiate_upload(False, "image/png", "a.png"),
        upstream.realtime_token("flux", 60),
    ):
        with pytest.raises(KeyRefused) as refused:
            await call
        assert "locked" not in str(refused.value)
    assert "fal refuses our key" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("detail", "locked"),
    [
        ("User is locked. Reason: Exhausted balance.", True),
        ("Your account has been LOCKED", True),
        ("Access denied", False),
        ('Cannot access application "acme/locked". Authentication is required.', False),
        ("Cannot access application acme/user/locked", False),
        ("The user may not use is/locked-model", False),
    ],
)
async def test_that_the_account_is_locked_no_name_of_an_endpoint_can_say(
    upstream: Fal, server: Server, detail: str, locked: bool
) -> None:
    server.behave = always(reply(403, json.dumps({"detail": detail}).encode()))

    with pytest.raises(KeyRefused) as refused:
        await submit(upstream)

    assert refused.value.locked is locked


async def test_a_refusal_is_certain_although_its_reason_never_comes(
    out: Pools, server: Server
) -> None:
    """The job would be of unknown outcome otherwise, for hours."""
    upstream = client(out, server.origin, timeouts=Timeouts(submit=5, reason=0.2))
    stalls = {"content_length": "99"}

    async def stalled(status: int) -> Submitted | Refusal:
        async def behave(request: Request) -> None:
            request.writer.write(reply(status, b"{", **stalls))
            await hang(request)

        server.behave = behave
        return await submit(upstream)

    assert await stalled(422) == Refusal(422, JSON, b"")
    with pytest.raises(KeyRefused):
        await stalled(403)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_that_is_an_apps_own_is_not_our_keys(
    upstream: Fal, server: Server, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.behave = always(reply(status, x_fal_request_id=FAL_ID))

    for call in (upstream.status(ENDPOINT, FAL_ID), upstream.cancel(ENDPOINT, FAL_ID)):
        with pytest.raises(Unavailable):
            await call
    assert "refuses our key" not in caplog.text

    server.behave = always(reply(status))
    with pytest.raises(KeyRefused):
        await upstream.status(ENDPOINT, FAL_ID)


async def test_redirects_are_not_followed(upstream: Fal, server: Server) -> None:
    async with listening() as elsewhere:
        server.behave = always(reply(307, b"", location=f"{elsewhere.origin}/steal"))

        for call in (
            upstream.status(ENDPOINT, FAL_ID),
            upstream.result(ENDPOINT, FAL_ID, 100),
            upstream.cancel(ENDPOINT, FAL_ID),
            run(upstream),
            upstream.initiate_upload(True, "image/png", "a.png"),
            upstream.realtime_token("flux", 60),
        ):
            with pytest.raises(BadAnswer):
                await call

    assert elsewhere.connections == 0
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("status", "body", "progress"),
    [
        (202, QUEUED, Progress(State.QUEUED, position=2)),
        (
            202,
            b'{"status":"IN_PROGRESS","logs":[{"message":\n "a", "n": 1.0}, "b", 7, null, []]}',
            Progress(State.RUNNING, logs=(b'{"message":"a"}', b'{"message":"b"}')),
        ),
        (202, b'{"status":"IN_PROGRESS","logs":null}', Progress(State.RUNNING)),
        (200, b'{"status":"COMPLETED","metrics":{}}', Progress(State.RUNNING, completed=True)),
        (
            200,
            b'{"status":"COMPLETED","error":"timed out","error_type":"request_timeout"}',
            Progress(
                State.RUNNING, completed=True, error="timed out", error_type="request_timeout"
            ),
        ),
        (
            200,
            b'{"status":"COMPLETED","error":{"a":1},"queue_position":-1,"logs":"none"}',
            Progress(State.RUNNING, completed=True),
        ),
        (404, b'{"status":"NOT_FOUND"}', None),
    ],
)
async def test_status(
    upstream: Fal, server: Server, status: int, body: bytes, progress: Progress | None
) -> None:
    server.behave = always(reply(status, body))

    assert await upstream.status(ENDPOINT, FAL_ID) == progress
    assert server.requests[0].line == f"GET {APP}/requests/{FAL_ID}/status?logs=1 HTTP/1.1"


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b'{"status":"FAILED"}'),
        reply(200, b'{"status":["COMPLETED"]}'),
        reply(200, b"null"),
        reply(200, QUEUED + b" " * MAX_ANSWER),
        reply(500, QUEUED),
        reply(429),
        reply(502, b"<html>nginx</html>", content_type="text/html"),
    ],
)
async def test_a_status_that_says_nothing(upstream: Fal, server: Server, answer: bytes) -> None:
    server.behave = always(answer)

    with pytest.raises(Unavailable):
        await upstream.status(ENDPOINT, FAL_ID)


LINE = b'{"timestamp":"2026-01-01T00:00:00Z","level":"WARN","message":"hi"}'


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (b'{"message":"hi","level":"WARN","timestamp":"2026-01-01T00:00:00Z"}', LINE),
        (LINE[:-1] + b',"source":"USER"}', LINE),
        (LINE[:-1] + b',"source":"WORKER","labels":{"level":"ERROR","b":1}}', LINE),
        (LINE[:-1] + b',"labels":{"b":1,"level":"ERROR"}}', LINE),
        (LINE.replace(b'"level":"WARN",', b'"labels":{"level":"WARN"},'), LINE),
        (b'{"message":{"a":[1, 2]}}', b'{"message":"{\\"a\\":[1,2]}"}'),
        (b'{"labels":["WARN"]}', b'{"message":""}'),
        (b'"' + b"x" * 10_000 + b'"', b'{"message":"' + b"x" * MAX_LOG + b'"}'),
        (
            b'{"message":"a' + "\u00e9".encode() * 5000 + b'"}',
            b'{"message":"a' + "\u00e9".encode() * 4095 + b'"}',
        ),
        (
            b'{"message":"","level":"' + b"x" * 99 + b'","timestamp":"' + b"1" * 99 + b'"}',
            b'{"timestamp":"' + b"1" * 64 + b'","level":"' + b"x" * 32 + b'","message":""}',
        ),
    ],
)
async def test_a_log_line_is_known_by_time_level_and_message(
    upstream: Fal, server: Server, entry: bytes, line: bytes
) -> None:
    server.behave = always(reply(202, b'{"status":"IN_PROGRESS","logs":[' + entry + b"]}"))

    assert await upstream.status(ENDPOINT, FAL_ID) == Progress(State.RUNNING, logs=(line,))


async def test_logs_that_are_too_long_are_left_out(upstream: Fal, server: Server) -> None:
    """Else a job with many lines would never be seen to end."""

    async def behave(request: Request) -> None:
        line = b'{"message":"' + b"x" * 1000 + b'"},'
        logs = line * 2000 if request.path.endswith("logs=1") else b""
        body = b'{"status":"COMPLETED","logs":[' + logs.removesuffix(b",") + b"]}"
        await request.send(reply(200, body))

    server.behave = behave

    assert await upstream.status(ENDPOINT, FAL_ID) == Progress(State.RUNNING, completed=True)
    assert [request.path[-7:] for request in server.requests] == ["?logs=1", "?logs=0"]


async def test_an_answer_that_drips_is_given_up(out: Pools, server: Server) -> None:
    async def drip(request: Request) -> None:
        await request.send(reply(200, QUEUED)[: -len(QUEUED)])
        for byte in QUEUED:
            await request.send(bytes([byte]))
            await asyncio.sleep(0.05)

    server.behave = drip

    with pytest.raises(Unavailable):
        await client(out, server.origin, timeouts=Timeouts(call=0.3)).status(ENDPOINT, FAL_ID)


def events(*parts: bytes) -> Behaviour:
    async def behave(request: Request) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        await request.send(head + b"transfer-encoding: chunked\r\n\r\n")
        for part in parts:
            await request.send(b"%x\r\n%s\r\n" % (len(part), part))
        await request.send(b"0\r\n\r\n")

    return behave


async def test_a_status_stream_ends_with_the_job(upstream: Fal, server: Server) -> None:
    server.behave = events(
        b'data: {"status":"IN_QUEUE","queue_position":1}\n\n: keepalive\n\ndata: {"stat',
        b'us":"IN_PROGRESS","logs":[{"message":"\xc3',
        b'\xa9"}]}\r\n\r\n',
        b'event: x\nid: 7\ndata:{"status":"COMPLETED"}\n\ndata: {"status":"IN_QUEUE"}\n\n',
    )

    assert await heard(upstream) == [
        Progress(State.QUEUED, position=1),
        Progress(State.RUNNING, logs=('{"message":"é"}'.encode(),)),
        Progress(State.RUNNING, completed=True),
    ]
    assert server.requests[0].line == f"GET {APP}/requests/{FAL_ID}/status/stream?logs=1 HTTP/1.1"
    assert server.requests[0].headers["accept"] == "text/event-stream"


async def test_events_come_as_they_happen(upstream: Fal, server: Server) -> None:
    told = asyncio.Event()

    async def behave(request: Request) -> None:
        await request.send(reply(200, b"", content_length="200", **SSE))
        await request.send(b'data: {"status":"IN_QUEUE"}\n\n')
        await told.wait()
        await request.send(b'data: {"status":"COMPLETED"}\n\n')

    server.behave = behave
    async with upstream.status_stream(ENDPOINT, FAL_ID) as stream:
        assert await anext(stream) == Progress(State.QUEUED)
        told.set()
        assert (await anext(stream)).completed


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(events(b'data: {"status":"IN_QUEUE"}\n\n'), id="ends before the job"),
        pytest.param(events(b'data: {"status":"COMPLETED"}\n'), id="ends within an event"),
        pytest.param(events(b"data: nonsense\n\n"), id="not JSON"),
        pytest.param(events(b"data: " + b"x" * 2**20 + b"\n\n"), id="an endless event"),
        pytest.param(events(*[b"x" * 2**18] * 9), id="an endless line"),
        pytest.param(always(reply(200, QUEUED)), id="not a stream"),
        pytest.param(always(reply(404, b'{"status":"NOT_FOUND"}')), id="unknown"),
    ],
)
async def test_a_status_stream_that_does_not_end_well(
    upstream: Fal, server: Server, behave: Behaviour
) -> None:
    server.behave = behave

    with pytest.raises(Unavailable):
        await heard(upstream)


async def test_a_silent_status_stream_is_given_up(out: Pools, server: Server) -> None:
    async def behave(request: Request) -> None:
        await request.send(reply(200, b"", content_length="200", **SSE))
        await hang(request)

    server.behave = behave

    with pytest.raises(Unavailable):
        await heard(client(out, server.origin, timeouts=Timeouts(idle=0.2)))


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (reply(200, b'{"seed": 1.0}'), Result(200, JSON, b'{"seed": 1.0}')),
        (reply(200, b"x" * 100), Result(200, JSON, b"x" * 100)),
        (reply(200, b"x" * 101), Result(200, JSON, None)),
        (
            reply(422, b'{"detail": []}', x_fal_billable_units="0", via="1.1 fal"),
            Result(422, JSON | {"x-fal-billable-units": "0"}, b'{"detail": []}'),
        ),
        (
            reply(504, b"{}", x_fal_request_timeout_type="user", x_fal_request_id=FAL_ID),
            Result(
                504,
                JSON | {"x-fal-request-timeout-type": "user", "x-fal-request-id": FAL_ID},
                b"{}",
            ),
        ),
        (
            reply(404, b'{"detail": "Path /x not found"}', x_fal_billable_units="0"),
            Result(404, JSON | {"x-fal-billable-units": "0"}, b'{"detail": "Path /x not found"}'),
        ),
        *(
            (
                reply(status, b"{}", x_fal_request_id=FAL_ID),
                Result(status, JSON | {"x-fal-request-id": FAL_ID}, b"{}"),
            )
            for status in (401, 403)
        ),
        (reply(400, b'{"detail": "bad"}'), Result(400, JSON, b'{"detail": "bad"}')),
        (reply(400, b'{"detail": "Request is still in progress"}'), PENDING),
        (reply(202, QUEUED), PENDING),
        (reply(404, b'{"status":"NOT_FOUND"}'), None),
        (reply(404, b"<html>"), None),
    ],
)
async def test_result(upstream: Fal, server: Server, answer: bytes, result: Any) -> None:
    server.behave = always(answer)

    assert await upstream.result(ENDPOINT, FAL_ID, 100) == result
    assert server.requests[0].line == f"GET {APP}/requests/{FAL_ID} HTTP/1.1"


@pytest.mark.parametrize(
    "answer",
    [
        reply(502, b"<html>nginx</html>", content_type="text/html"),
        reply(500, b'{"detail": "Internal Server Error"}'),
        reply(429, b"{}"),
        reply(408, b"{}"),
        b'HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{"audio": {"url": "https://v3',
    ],
)
async def test_what_fals_servers_say_is_no_result(
    upstream: Fal, server: Server, answer: bytes
) -> None:
    async def behave(request: Request) -> None:
        await request.send(answer)
        request.writer.close()

    server.behave = behave

    with pytest.raises(Unavailable):
        await upstream.result(ENDPOINT, FAL_ID, 1000)


async def test_encoded_answers_are_refused(upstream: Fal, server: Server) -> None:
    """Nobody asked for them, and what they unfold to is not bounded."""
    server.behave = always(reply(200, gzip.compress(b"x" * 10**6), content_encoding="gzip"))

    for call in (upstream.result(ENDPOINT, FAL_ID, 10**7), run(upstream)):
        with pytest.raises(BadAnswer):
            await call


async def test_a_large_result_is_not_read_to_its_end(upstream: Fal, server: Server) -> None:
    closed = asyncio.Event()

    async def behave(request: Request) -> None:
        await request.send(reply(200, b"", content_length=str(2**40)))
        try:
            while True:
                await request.send(b"x" * 2**16)
        finally:
            closed.set()

    server.behave = behave

    assert await upstream.result(ENDPOINT, FAL_ID, 2**20) == Result(200, JSON, None)
    async with asyncio.timeout(5):
        await closed.wait()


async def test_a_large_result_is_passed_through(upstream: Fal, server: Server) -> None:
    server.behave = always(reply(200, b"x" * 3 * 2**20))

    async with upstream.stream_result(ENDPOINT, FAL_ID) as answer:
        sizes = [len(chunk) async for chunk in answer.chunks]

    assert (answer.status, answer.headers) == (200, JSON)
    assert sum(sizes) == 3 * 2**20
    assert max(sizes) <= 2**18


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (202, b'{"status":"CANCELLATION_REQUESTED"}', True),
        (200, b'{"success":true}', True),
        (204, b"", True),
        (400, b'{"status":"ALREADY_COMPLETED"}', False),
        (404, b'{"status":"NOT_FOUND"}', None),
    ],
)
async def test_cancel(
    upstream: Fal, server: Server, status: int, body: bytes, outcome: bool | None
) -> None:
    server.behave = always(reply(status, body))

    assert await upstream.cancel(ENDPOINT, FAL_ID) is outcome
    assert server.requests[0].line == f"PUT {APP}/requests/{FAL_ID}/cancel HTTP/1.1"


@pytest.mark.parametrize("status", [400, 409, 500, 503])
async def test_a_cancel_that_fails(upstream: Fal, server: Server, status: int) -> None:
    server.behave = always(reply(status, b'{"detail": "?"}'))

    with pytest.raises(Unavailable):
        await upstream.cancel(ENDPOINT, FAL_ID)


async def test_namespaces_count_as_one_more_segment(upstream: Fal, server: Server) -> None:
    await upstream.cancel("workflows/someone/flow/deep", FAL_ID)

    path = f"/queue.fal.run/workflows/someone/flow/requests/{FAL_ID}/cancel"
    assert server.requests[0].path == path


@pytest.mark.parametrize("status", [200, 401, 403, 422, 429])
async def test_a_run_gives_fals_answer(upstream: Fal, server: Server, status: int) -> None:
    server.behave = always(reply(status, b'{"a": 1}', x_fal_request_id=FAL_ID, set_cookie="a=b"))

    assert await run(upstream) == (status, JSON | {"x-fal-request-id": FAL_ID}, b'{"a": 1}')
    assert server.requests[0].line == f"POST /fal.run/{ENDPOINT} HTTP/1.1"
    assert server.requests[0].headers["accept"] == "application/json"


async def test_a_run_is_streamed_as_it_comes(upstream: Fal, server: Server) -> None:
    more = asyncio.Event()

    async def behave(request: Request) -> None:
        await request.send(reply(200, b"", content_length="26", **SSE))
        await request.send(b'data: {"n":1}')
        await request.send(b"\n\n")
        await more.wait()
        await request.send(b"data: done\n"[:11])

    server.behave = behave
    async with upstream.run(ENDPOINT, b"{}", {}, stream=True) as answer:
        first = b""
        while not first.endswith(b"\n\n"):
            first += await anext(answer.chunks)
        assert first == b'data: {"n":1}\n\n'
        more.set()
        assert b"".join([chunk async for chunk in answer.chunks]) == b"data: done\n"

    assert server.requests[0].path == f"/fal.run/{ENDPOINT}/stream"
    assert server.requests[0].headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_a_run_that_fals_servers_failed_is_unknown(
    upstream: Fal, server: Server, status: int
) -> None:
    server.behave = always(reply(status, b"<html>nginx</html>"))

    with pytest.raises(OutcomeUnknown):
        await run(upstream)

    server.behave = always(reply(status, b"{}", x_fal_request_id=FAL_ID))
    assert (await run(upstream))[0] == status


async def test_a_run_cut_before_its_answer_is_unknown(upstream: Fal, server: Server) -> None:
    async def behave(request: Request) -> None:
        request.cut()

    server.behave = behave

    with pytest.raises(OutcomeUnknown):
        await run(upstream)


async def test_a_run_cut_within_its_answer_is_told_after_what_came(
    upstream: Fal, server: Server
) -> None:
    async def behave(request: Request) -> None:
        await request.send(reply(200, b"half of i", content_length="18"))
        request.writer.close()

    server.behave = behave
    got = b""
    async with upstream.run(ENDPOINT, b"{}", {}, stream=False) as answer:
        while len(got) < 9:
            got += await anext(answer.chunks)
        with pytest.raises(Unavailable):
            await anext(answer.chunks)

    assert got == b"half of i"


async def test_errors_of_who_reads_a_run_are_its_own(upstream: Fal, server: Server) -> None:
    """A client that goes away raises an OSError too, and is not fal."""
    server.behave = always(reply(200, b"{}"))

    with pytest.raises(BrokenPipeError):
        async with upstream.run(ENDPOINT, b"{}", {}, stream=False):
            raise BrokenPipeError


async def test_a_run_that_drips_is_given_up(out: Pools, server: Server) -> None:
    async def drip(request: Request) -> None:
        await request.send(reply(200, b"", content_length="1000"))
        while True:
            await request.send(b"x")
            await asyncio.sleep(0.02)

    server.behave = drip

    with pytest.raises(Unavailable):
        await run(client(out, server.origin, timeouts=Timeouts(run=0.3)))


async def test_a_request_id_in_no_form_of_fals_is_left_out(upstream: Fal, server: Server) -> None:
    server.behave = always(reply(200, b"{}", x_fal_request_id="<script>"))

    assert await run(upstream) == (200, JSON, b"{}")


async def test_a_run_can_be_left(out: Pools, server: Server) -> None:
    """The connection is closed, not given to the next call with an answer half read."""

    async def behave(request: Request) -> None:
        await request.send(reply(200, b"", content_length=str(2**40)))
        while True:
            await request.send(b"x" * 2**16)

    server.behave = behave
    upstream = client(out, server.origin)
    async with upstream.run(ENDPOINT, b"{}", {}, stream=False) as answer:
        await anext(answer.chunks)

    server.behave = always(reply(200, b"{}"))
    assert (await run(upstream))[2] == b"{}"
    assert server.connections == 2


URLS = b'{"upload_url": "https://v3.fal.media/put?sig=a%2Fb", "file_url": "https://v3.fal.media/f"}'


@pytest.mark.parametrize(
    ("multipart", "path"),
    [(False, "/storage/upload/initiate"), (True, "/storage/upload/initiate-multipart")],
)
async def test_upload(upstream: Fal, server: Server, multipart: bool, path: str) -> None:
    server.behave = always(reply(200, URLS[:-1] + b', "extra": 1}'))

    answer = await upstream.initiate_upload(multipart, "image/png", 'a"b.png')

    assert answer == URLS.replace(b": ", b":").replace(b", ", b",")
    [request] = server.requests
    assert request.line == f"POST /rest.fal.ai{path}?storage_type=fal-cdn-v3 HTTP/1.1"
    assert request.body == b'{"content_type":"image/png","file_name":"a\\"b.png"}'


@pytest.mark.parametrize(
    "url",
    [
        "http://v3.fal.media/put",
        "ftp://v3.fal.media/put",
        "javascript:alert(1)",
        "//v3.fal.media/put",
        "https:///put",
        "https://user:pw@v3.fal.media/put",
        "https://v3.fal.media/a b",
        "https://v3.fal.media\\\\@evil.example/",
        "https://[::1/",
        "",
    ],
)
async def test_upload_addresses_must_be_https(upstream: Fal, server: Server, url: str) -> None:
    server.behave = always(reply(200, URLS.replace(b"https://v3.fal.media/f", url.encode())))

    with pytest.raises(BadAnswer):
        await upstream.initiate_upload(False, "image/png", "a.png")


async def test_the_simulator_may_take_uploads_without_tls(upstream: Fal, server: Server) -> None:
    urls = URLS.replace(b"https://v3.fal.media", b"http://127.0.0.1:9100")
    server.behave = always(reply(200, urls))

    assert isinstance(await upstream.initiate_upload(False, "image/png", "a.png"), bytes)


async def test_fal_itself_may_not(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    urls = URLS.replace(b"https://v3.fal.media", b"http://127.0.0.1:9100")
    async with (
        pools(context=tls(ca_file)) as out,
        listening(always(reply(200, urls)), context) as server,
    ):
        upstream = client(out, server.origin)
        with pytest.raises(BadAnswer):
            await upstream.initiate_upload(False, "image/png", "a.png")

        server.behave = always(reply(200, URLS))
        assert isinstance(await upstream.initiate_upload(False, "image/png", "a.png"), bytes)


async def test_a_refused_upload(upstream: Fal, server: Server) -> None:
    server.behave = always(reply(422, b'{"detail": "no"}'))

    refusal = await upstream.initiate_upload(False, "image/png", "a.png")

    assert refusal == Refusal(422, JSON, b'{"detail": "no"}')


@pytest.mark.parametrize("body", ['"{}"', '{{"detail": "{}"}}', '{{"token": "{}"}}'])
async def test_realtime_token(upstream: Fal, server: Server, body: str) -> None:
    token = "eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl-_"
    server.behave = always(reply(200, body.format(token).encode()))

    assert await upstream.realtime_token("flux", 120) == f'"{token}"'.encode()
    [request] = server.requests
    assert request.line == "POST /rest.fal.ai/tokens/ HTTP/1.1"
    assert request.body == b'{"allowed_apps":["flux"],"token_expiration":120}'


@pytest.mark.parametrize("body", [b"7", b"{}", b'""', b'"<script>"', b'{"token": null}', b"[]"])
async def test_no_realtime_token(upstream: Fal, server: Server, body: bytes) -> None:
    server.behave = always(reply(200, body))

    with pytest.raises(BadAnswer):
        await upstream.realtime_token("flux", 120)


ECHO = f'{{"status": "COMPLETED", "request_id": "{FAL_ID}", "error": "{KEY}", "detail": "{KEY}"}}'


async def test_our_key_never_comes_back(
    upstream: Fal, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """An upstream that echoes what it is sent, in every place where it may."""
    echo = {"x_fal_error_type": KEY, "retry_after": KEY, "x_fal_request_id": KEY}
    server.behave = always(reply(422, ECHO.encode(), **echo))
    told: list[object] = [await submit(upstream), await upstream.result(ENDPOINT, FAL_ID, 1000)]
    told += [await run(upstream), await upstream.initiate_upload(False, "a", "b")]
    server.behave = always(reply(200, ECHO.encode(), **echo))
    told += [await submit(upstream), await upstream.status(ENDPOINT, FAL_ID)]
    server.behave = events(b"data: " + ECHO[:90].encode(), ECHO[90:].encode() + b"\n\n")
    told += await heard(upstream)

    texts = [repr(thing) + repr(getattr(thing, "body", "")) for thing in told]
    assert len(texts) == 7
    assert not any(half in text for half in KEY.split(":") for text in texts)
    assert all("***" in text for text in texts if "Submitted" not in text)
    assert "held our key" in caplog.text
    assert KEY not in caplog.text


async def test_our_key_cut_in_two_never_comes_back(upstream: Fal, server: Server) -> None:
    async def behave(request: Request) -> None:
        body = f"data: you sent {KEY} to us\n\n".encode()
        await request.send(reply(200, b"", content_length=str(len(body)), **SSE))
        for byte in body:
            await request.send(bytes([byte]))
            await asyncio.sleep(0)

    server.behave = behave

    assert (await run(upstream, stream=True))[2] == b"data: you sent *** to us\n\n"


async def test_no_repr_shows_the_key(upstream: Fal) -> None:
    assert repr(upstream) == "Fal()"


@pytest.mark.parametrize(
    "origin", ["http://fal.example", "ftp://127.0.0.1", "fal.run", "http://127.0.0.1@evil.example"]
)
async def test_the_key_goes_over_tls_or_stays_here(out: Pools, origin: str) -> None:
    with pytest.raises(ValueError, match="https"):
        Fal(out, KEY, {"fal.run": origin}, Timeouts())


@pytest.mark.parametrize("endpoint", ["", "flux", "a/b/../c", "a/b/requests/c", "a/b?x=1", "a//b"])
async def test_only_endpoints_become_urls(upstream: Fal, server: Server, endpoint: str) -> None:
    """Whoever calls has checked this already. The key is worth a second look."""
    with pytest.raises(ValueError, match="endpoint"):
        await upstream.submit(endpoint, b"{}", {}, None)
    with pytest.raises(ValueError, match="request id"):
        await upstream.cancel(ENDPOINT, "../../x")

    assert server.requests == []
    assert await upstream.cancel(ENDPOINT, FAL_ID)


async def test_held_streams_do_not_starve_calls(server: Server) -> None:
    server.behave = events(b'data: {"status":"IN_QUEUE"}\n\n')
    async with pools(max_streams=1, wait=0.1) as out:
        upstream = client(out, server.origin)
        async with upstream.status_stream(ENDPOINT, FAL_ID):
            with pytest.raises(NotSent):
                await heard(upstream)

            server.behave = always(reply(200, QUEUED))
            assert await submit(upstream) == TAKEN
