"""What bad input gets: one form of error, in one order of checks, and nothing sent to fal."""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncGenerator, Callable
from hashlib import sha256
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio import Redis

from gateway.core import fal
from gateway.core.model import JobRef, Kind, Principal
from gateway.core.tokens import Purpose
from gateway.store.server import own_redis
from tests.flows.desk import envelope, signed, ticket_url
from tests.harness import CANARY, KEYS, Files, Gateway, Running, Simulator, wait_for
from tests.web.wire import (
    FORMS,
    PROXY_PATH,
    Answer,
    Form,
    Line,
    connected,
    ended,
    exchanged,
    problem,
    submitted,
    visitor,
    written,
)

pytestmark = pytest.mark.anyio


def narrow(gateway: Gateway, **claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {gateway.token(plan='narrow', **claims)}"}


# The order of checks


TARGETS: Final = {
    "good": "https://queue.fal.run/fal-ai/echo",
    "outside": "https://queue.fal.run/fal-ai/other",
    "broken": "https://queue.fal.run/fal-ai//echo",
}
DEEP: Final = b"[" * 100_000
LARGE: Final = {"content-length": str(2**30)}
FORM: Final = {"content-type": "application/x-www-form-urlencoded"}
MULTIPART: Final = {"content-type": "multipart/form-data; boundary=x"}
JSON: Final = {"content-type": "application/json"}


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_checks_come_in_one_order(form: Form, gateway: Gateway, sim: Simulator) -> None:
    """401, 400 target, 405, 403 endpoint, 415, 413, 400 body: each request here fails at all that
    are still to come as well."""
    outside = f"fal-ai/other-{secrets.token_hex(4)}"
    steps: list[tuple[int, str, str, str, dict[str, str]]] = [
        (401, "unauthenticated", "GET", "a//b", {}),
        (400, "invalid_target", "GET", "a//b", narrow(gateway)),
        (405, "method_not_allowed", "GET", outside, narrow(gateway)),
        (403, "endpoint_not_allowed", "POST", outside, narrow(gateway)),
        (415, "unsupported_media_type", "POST", "fal-ai/echo", narrow(gateway)),
        (413, "body_too_large", "POST", "fal-ai/echo", narrow(gateway) | JSON),
    ]
    for status, code, method, path, headers in steps:
        answer = await declared_large(form, gateway, method, path, FORM | headers | LARGE)
        problem(answer, status, code)
    async with visitor(gateway.url, headers=narrow(gateway) | JSON) as http:
        deep = await form.ask(http, "POST", fal.QUEUE, "fal-ai/echo", content=DEEP)
        good = await form.ask(http, "POST", fal.QUEUE, "fal-ai/echo", content=b"{}")

    problem(deep, 400, "bad_body")
    assert good.status_code == 200
    assert sim.calls(has=outside) == 0


async def declared_large(
    form: Form, gateway: Gateway, method: str, path: str, headers: dict[str, str]
) -> httpx.Response:
    """The answer to a head that promises a gigabyte, of which nothing comes."""
    url = f"/fal/queue/{path}" if form.name == "host" else PROXY_PATH
    if form.name == "proxy":
        headers = headers | {fal.TARGET_URL: f"https://queue.fal.run/{path}"}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    line = await connected(gateway.url)
    try:
        async with asyncio.timeout(5):
            await line.send(written(method.encode(), url.encode(), pairs))
            return (await line.answer()).as_response()
    finally:
        line.close()


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_an_app_outside_the_plan_is_told_before_an_unknown_job(
    form: Form, gateway: Gateway
) -> None:
    """Else the two answers would tell which ids exist."""
    job = "0f8fad5b-d9cd-469f-a165-70867728950e"
    async with visitor(gateway.url, headers=narrow(gateway)) as http:
        outside = await form.ask(http, "GET", fal.QUEUE, f"fal-ai/other/requests/{job}")
        inside = await form.ask(http, "GET", fal.QUEUE, f"fal-ai/echo/requests/{job}")

    problem(outside, 403, "endpoint_not_allowed")
    problem(inside, 404, "job_not_found")


async def test_a_webhook_needs_a_plan_with_webhooks(gateway: Gateway, sim: Simulator) -> None:
    url = f"{sim.origin}/hook"
    async with visitor(gateway.url, headers=narrow(gateway)) as http:
        target = f"https://queue.fal.run/fal-ai/echo?fal_webhook={url.replace(':', '%3A')}"
        header = await http.post(PROXY_PATH, headers={fal.TARGET_URL: target}, json={})
        own = await http.post(
            "/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}, "webhook_url": url}
        )

    problem(header, 403, "webhook_not_allowed")
    problem(own, 403, "webhook_not_allowed")


async def test_an_unknown_route_is_told_in_the_same_form(gateway: Gateway) -> None:
    async with gateway.http() as http:
        for path in ("/nowhere", "/v1", "/api/fal", "/fal", "/v1/jobs/x/y/z", "/.env", "/metricsx"):
            problem(await http.get(path), 404, "not_found")


# Credentials


WRONG: Final = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Basic YTpi"},
    {"authorization": f"Digest {KEYS['backend']}"},
    {"authorization": f"Bearer {KEYS['backend'][:-1]}"},
    {"authorization": f"Bearer {KEYS['backend']}A"},
    {"authorization": f"Bearer {KEYS['backend'].upper()}"},
    {"authorization": f"Bearer {KEYS['backend']} {KEYS['backend']}"},
    {"authorization": f"Bearer {KEYS['backend']},Bearer {KEYS['backend']}"},
    {"authorization": "Bearer fgw_unknown001_AAAAAAAAAAAAAAAAAAAAAAAA"},
    {"authorization": "Bearer a.b.c"},
    {"authorization": "Bearer " + "x" * 5000},
    {"cookie": f"fgw_session={KEYS['backend']}"},
    {"cookie": "fgw_session="},
    {"cookie": "fgw_session=a; fgw_session=b"},
    {"x-api-key": KEYS["backend"]},
    {"x-gateway-authorization": "nonsense", "authorization": f"Bearer {KEYS['backend']}"},
    {"authorization": "Bearer nonsense", "cookie": "fgw_session=a"},
]


@pytest.mark.parametrize("headers", WRONG, ids=lambda headers: repr(headers)[:60])
async def test_without_a_good_credential_nothing_is_served(
    headers: dict[str, str], gateway: Gateway, sim: Simulator
) -> None:
    endpoint = f"fal-ai/echo-{secrets.token_hex(4)}"
    query = {"token": KEYS["backend"], "key": KEYS["backend"], "fal_jwt_token": KEYS["backend"]}
    async with visitor(gateway.url, headers=headers, params=query) as http:
        answers = [
            await http.get("/v1/jobs"),
            await http.get("/v1/events"),
            await http.post("/v1/tokens", json={}),
            await http.post("/v1/session"),
            await http.post("/v1/jobs", json={"endpoint": endpoint, "input": {}}),
            await http.post(f"/fal/run/{endpoint}", json={}),
            await http.post(
                PROXY_PATH, headers={fal.TARGET_URL: f"https://fal.run/{endpoint}"}, json={}
            ),
        ]
    async with gateway.http(key="backend") as good:
        run = await good.post(f"/fal/run/{endpoint}", json={})

    for answer in answers:
        problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert KEYS["backend"] not in answer.text
    assert run.status_code == 200
    assert sim.calls(has=endpoint) == 1


@pytest.mark.parametrize("name", ["authorization", "x-gateway-authorization"])
async def test_a_credential_sent_twice_is_none(name: str, gateway: Gateway) -> None:
    good = f"Bearer {gateway.token()}".encode()
    pairs = [(name.encode(), good), (name.title().encode(), good)]
    refused = await exchanged(gateway.url, written(b"GET", b"/v1/jobs", pairs))
    taken = await exchanged(gateway.url, written(b"GET", b"/v1/jobs", pairs[:1]))

    problem(refused.as_response(), 401, "unauthenticated")
    assert taken.status == 200


@pytest.mark.parametrize("scheme", ["Key", "Bearer", "key", "BEARER"])
async def test_every_scheme_that_clients_use_is_read(scheme: str, gateway: Gateway) -> None:
    for text in (KEYS["backend"], gateway.token()):
        async with visitor(gateway.url) as http:
            headers = {"authorization": f"{scheme} {text}"}
            assert (await http.get("/v1/jobs", headers=headers)).status_code == 200


@pytest.mark.parametrize("header", ["authorization", "x-gateway-authorization"])
async def test_a_fal_key_gets_a_message_that_helps(header: str, gateway: Gateway) -> None:
    """fal's client in Node sends FAL_KEY by itself. The message does not say it again."""
    key = "12345678-1234-1234-1234-123456789abc:0123456789abcdef0123456789abcdef"
    async with gateway.http(None) as http:
        for text in (key, CANARY):
            answer = await http.get("/v1/jobs", headers={header: f"Key {text}"})
            body = problem(answer, 401, "unauthenticated")
            assert "fal key" in body["detail"]
            assert text not in answer.text


# Bodies


TRAPS: Final[dict[str, bytes]] = {
    "brackets": b"[" * 100_000,
    "braces": b'{"a":' * 100_000,
    "closed-deep": b'{"a":' * 100 + b"1" + b"}" * 100,
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "text": b'"x"',
    "number": b"1",
    "nan": b'{"a":NaN}',
    "infinity": b'{"a":-Infinity}',
    "half": b'{"a":',
    "trailing": b"{} x",
    "two": b"{}{}",
    "comma": b'{"a":1,}',
    "single": b"{'a':1}",
    "comment": b"{/* */}",
    "bom": b"\xef\xbb\xbf{}",
    "utf-16": '{"a":1}'.encode("utf-16"),
    "utf-32": '{"a":1}'.encode("utf-32"),
    "not-utf-8": b'{"a":"\xff\xfe"}',
    "surrogate": b'{"a":"\\ud800"}',
    "control": b'{"a":"\n"}',
    "nul": b"\0",
    "form": b"a=b&c=d",
}
VERBATIM: Final[dict[str, bytes]] = {
    "digits": b'{"a":' + b"1" * 5000 + b"}",
    "exponent": b'{"a":1e999}',
    "twice": b'{"a":1,"a":2}',
    "spaces": b' \n{ "a" :\t1.50 }\r\n ',
    "escapes": b'{"\\u0061":"\\ud83d\\ude00\\/"}',
    "unicode": '{"a":"ä😀\u2028"}'.encode(),
}


async def posted(gateway: Gateway, path: str, body: bytes, target: str = "") -> httpx.Response:
    headers = {"content-type": "application/json"}
    if target:
        headers[fal.TARGET_URL] = target
    async with gateway.http(key="backend") as http:
        return await http.post(path, content=body, headers=headers)


@pytest.mark.parametrize("name", TRAPS)
async def test_a_body_that_is_no_json_object_is_refused(
    name: str, gateway: Gateway, sim: Simulator
) -> None:
    """On every route that reads one; never a 500. No body at all is what fal's client sends where
    there is no input."""
    endpoint = f"fal-ai/echo-{secrets.token_hex(4)}"
    body = TRAPS[name]
    routes = [
        ("/v1/jobs", ""),
        (f"/fal/queue/{endpoint}", ""),
        (f"/fal/run/{endpoint}", ""),
        (f"/fal/run/{endpoint}/stream", ""),
        (f"/fal/rest/storage/upload/initiate?{fal.UPLOAD_QUERY}", ""),
        ("/fal/rest/tokens/", ""),
        (PROXY_PATH, f"https://queue.fal.run/{endpoint}"),
        ("/v1/tokens", ""),
        ("/v1/stream-passes", ""),
    ]
    for path, target in routes:
        answer = await posted(gateway, path, body, target)
        if name == "empty" and path not in {"/v1/jobs"} and "/rest/" not in path:
            assert answer.status_code in {200, 201}
        elif len(body) > 8192 and answer.status_code == 413:
            problem(answer, 413, "body_too_large")  # a small form has a small bound
        else:
            problem(answer, 400, "bad_body")

    good = await posted(gateway, f"/fal/run/{endpoint}", b"{}")
    assert good.status_code == 200
    assert sim.calls(method="POST", has=endpoint) == (5 if name == "empty" else 1)


@pytest.mark.parametrize(
    "trap", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b'"\\ud800"', b"NaN"]
)
@pytest.mark.parametrize("field", ["input", "metadata"])
async def test_the_same_traps_within_a_submission(
    field: str, trap: bytes, gateway: Gateway
) -> None:
    other = b'"input":{},' if field == "metadata" else b""
    body = b'{"endpoint":"fal-ai/echo",' + other + b'"' + field.encode() + b'":' + trap + b"}"

    problem(await posted(gateway, "/v1/jobs", body), 400, "bad_body")


@pytest.mark.parametrize("name", VERBATIM)
async def test_a_right_body_reaches_fal_byte_for_byte(
    name: str, gateway: Gateway, sim: Simulator
) -> None:
    endpoint = f"fal-ai/echo-{secrets.token_hex(4)}"
    body = VERBATIM[name]
    for path in (f"/fal/run/{endpoint}", f"/fal/queue/{endpoint}"):
        answer = await posted(gateway, path, body)
        assert answer.status_code in {200, 422}  # the simulator, too, has its bounds
    inner = b'{"endpoint":"%s","input":%s}' % (endpoint.encode(), body)
    taken = await posted(gateway, "/v1/jobs", inner)
    assert taken.status_code == 202, taken.text

    calls = [call for call in sim.journal() if endpoint in call["path"] and call["length"]]
    assert len(calls) == 3
    assert {call["sha256"] for call in calls} <= {
        sha256(body).hexdigest(), sha256(body.strip()).hexdigest(),
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/json",
        "application/octet-stream",
        "",
        "json",
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs",
        "/v1/tokens",
        "/v1/stream-passes",
        "/fal/queue/fal-ai/echo",
        "/fal/run/fal-ai/echo",
        f"/fal/rest/storage/upload/initiate?{fal.UPLOAD_QUERY}",
        "/fal/rest/tokens/",
    ],
)
async def test_what_is_not_called_json_is_not_read(path: str, kind: str, gateway: Gateway) -> None:
    body = b'{"endpoint":"fal-ai/echo","input":{}}'
    async with gateway.http(key="backend") as http:
        answer = await http.post(path, content=body, headers={"content-type": kind})

    problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("size", [65_536, 65_537])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_may_have_its_bound_and_not_one_byte_more(
    size: int, chunked: bool, local: Gateway, sim: Simulator
) -> None:
    endpoint = f"fal-ai/echo-{secrets.token_hex(4)}"
    body = b'{"a":"' + b"x" * (size - 8) + b'"}'

    async def pieces() -> AsyncGenerator[bytes]:
        for at in range(0, len(body), 10_000):
            yield body[at : at + 10_000]

    async with local.http() as http:
        answer = await http.post(
            f"/fal/run/{endpoint}", content=pieces() if chunked else body,
            headers={"content-type": "application/json"},
        )  # fmt: skip

    if size == 65_536:
        assert answer.status_code == 200
    else:
        problem(answer, 413, "body_too_large")
    assert sim.calls(has=endpoint) == (1 if size == 65_536 else 0)


async def test_an_endless_body_is_refused_while_it_comes(local: Gateway) -> None:
    """The answer is there although the client has not ended, and never will."""
    line = await opened_post(local, (b"Transfer-Encoding", b"chunked"))
    chunk = b"2000\r\n" + b" " * 8192 + b"\r\n"
    for _ in range(12):
        await line.send(chunk)
    answer = await line.answer()
    line.close()

    problem(answer.as_response(), 413, "body_too_large")
    async with local.http() as http:
        assert (await http.post("/fal/run/fal-ai/echo", json={})).status_code == 200


async def opened_post(gateway: Gateway, *more: tuple[bytes, bytes], user: str = "alice") -> Line:
    """A connection on which the head of a run has been sent."""
    line = await connected(gateway.url)
    headers = [
        (b"Authorization", f"Bearer {gateway.token(user)}".encode()),
        (b"Content-Type", b"application/json"),
        *more,
    ]
    await line.send(written(b"POST", b"/fal/run/fal-ai/echo", headers))
    return line


async def begun_post(gateway: Gateway, size: int = 60_000) -> Line:
    """The same for so many bytes, which the gateway has begun to wait for."""
    length = (b"Content-Length", str(size).encode())
    line = await opened_post(gateway, length, (b"Expect", b"100-continue"))
    assert (await line.answer()).status == 100
    return line


async def until_full(gateway: Gateway, size: int, user: str) -> Answer:
    """The refusal of a body of that size, once there is no room for it. Only its head is sent: a
    body would take up what the others' are to have."""
    length = (b"Content-Length", str(size).encode())
    async with asyncio.timeout(30):
        while True:
            line = await opened_post(gateway, length, (b"Expect", b"100-continue"), user=user)
            answer = await line.answer()
            line.close()
            if answer.status != 100:
                return answer


async def test_bodies_in_flight_are_bounded_and_free_again(local: Gateway) -> None:
    """`local` holds 64 KiB of them. While one client is slow, others are told to come again, and
    fal is not."""
    request = run_request(local, b'{"a":"' + b"x" * 9000 + b'"}', "bob")
    slow = await begun_post(local)
    await slow.send(b" " * 59_000)
    await until_full(local, 9_000, "bob")
    refused = await exchanged(local.url, request)
    told = await webhook_of_60_kb(local)
    await slow.send(b" " * 998 + b"{}")
    first = await slow.answer()
    slow.close()
    second = await exchanged(local.url, request)
    broken = await begun_post(local)
    await broken.send(b" " * 59_000)
    await until_full(local, 9_000, "bob")
    broken.close()
    third = await until(lambda: exchanged(local.url, request), 200)

    problem(refused.as_response(), 503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert told == 401  # once it has been read, and not before
    assert [first.status, second.status, third.status_code] == [200, 200, 200]


async def webhook_of_60_kb(gateway: Gateway) -> int:
    """What becomes of a webhook with a ticket of ours, signed by somebody else than fal."""
    ref = JobRef(str(uuid4()), Principal("default", Kind.USER, "alice"), "a/b", time.time())
    fal_id = str(uuid4())
    body = envelope(fal_id, "x" * 60_000)
    headers = signed(body, fal_id, key=Ed25519PrivateKey.generate())
    async with httpx.AsyncClient(timeout=30) as http:
        answer = await http.post(ticket_url(gateway, ref), content=body, headers=headers)
    return answer.status_code


async def test_who_announces_a_body_takes_no_room(local: Gateway) -> None:
    """Eight who send nothing, each as much as there is."""
    waiting = [await begun_post(local, 65_536) for _ in range(8)]
    run = await exchanged(local.url, run_request(local, b"{}" + b" " * 60_000))
    told = await webhook_of_60_kb(local)
    for line in waiting:
        line.close()

    assert run.status == 200
    assert told == 401  # once it has been read, and not before


async def test_one_caller_has_a_part_of_the_room(running: Running, sim: Simulator) -> None:
    env = {"GATEWAY_BODIES_MAX": "16384", "GATEWAY_BODIES_IN_FLIGHT": "65536"}
    gateway = running.gateway(sim, env=env)
    slow = await begun_post(gateway, 16_384)
    await slow.send(b" " * 16_000)
    refused = (await until_full(gateway, 999, "alice")).as_response()
    other = await exchanged(gateway.url, run_request(gateway, b"{}" + b" " * 16_000, "bob"))
    slow.close()

    problem(refused, 503, "overloaded")
    assert "yours" in refused.json()["detail"]
    assert other.status == 200


def run_request(gateway: Gateway, body: bytes, user: str = "alice") -> bytes:
    headers = [
        (b"Authorization", f"Bearer {gateway.token(user)}".encode()),
        (b"Content-Type", b"application/json"),
        (b"Content-Length", str(len(body)).encode()),
    ]
    return written(b"POST", b"/fal/run/fal-ai/echo", headers, body)


async def until(ask: Callable[[], Any], status: int) -> httpx.Response:
    """The first answer with this status."""
    async with asyncio.timeout(30):
        while True:
            answer = await ask()
            if answer.status == status:
                response: httpx.Response = answer.as_response()
                return response


# What fal, or Redis, does


async def test_fals_own_refusal_is_passed_on_and_the_job_has_failed(gateway: Gateway) -> None:
    async with gateway.http("refused") as http:
        answer = await http.post("/fal/queue/sim/fault/submit-422", json={})
        jobs = (await http.get("/v1/jobs")).json()["jobs"]

    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], list)
    assert [(job["status"], job["error"]["status"]) for job in jobs] == [("failed", 422)]


@pytest.mark.parametrize("fault", ["submit-401", "submit-403-locked"])
@pytest.mark.parametrize("host", [fal.QUEUE, fal.RUN])
async def test_trouble_with_our_key_is_not_the_callers(
    host: str, fault: str, gateway: Gateway
) -> None:
    async with gateway.http() as http:
        answer = await FORMS[1].ask(http, "POST", host, f"sim/fault/{fault}", json={})

    body = problem(answer, 502, "upstream_key_refused")
    assert "key" not in body["detail"].lower() or "account" in body["detail"].lower()


@pytest.mark.parametrize("fault", ["took-500", "took-504-html", "cut-after-body", "unreadable-2xx"])
@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_an_unknown_outcome_names_the_job_and_heals(
    form: Form, fault: str, gateway: Gateway
) -> None:
    """500, since fal's clients would send a 502, 503 or 504 again."""
    async with gateway.http() as http:
        answer = await form.ask(http, "POST", fal.QUEUE, f"sim/fault/{fault}", json={})
        body = problem(answer, 500, "outcome_unknown")
        job = await ended(http, body["request_id"])

    assert body["job_status"] == "unknown"
    assert answer.headers["x-fal-request-id"] == body["request_id"]
    assert job["status"] == "completed"


async def test_fal_out_of_reach_fails_the_job_for_certain(running: Running) -> None:
    sim = running.simulator()
    gateway = running.gateway(sim)
    sim.process.stop()
    async with gateway.http() as http:
        run = await http.post("/fal/run/fal-ai/echo", json={})
        submit = await http.post("/fal/queue/fal-ai/echo", json={})
        body = problem(submit, 502, "upstream_unreachable")
        job = (await http.get(f"/v1/jobs/{body['request_id']}")).json()

    problem(run, 502, "upstream_unreachable")
    assert job["status"] == "failed"
    assert job["error"]["type"] == "upstream_unreachable"


async def test_without_redis_nothing_is_begun(
    running: Running, files: Files, sim: Simulator
) -> None:
    """503 before fal is called, on every route that needs the ledger; runs go on for as long as
    the copy of the revocations is young. Then Redis is back, and all is well again."""
    endpoint = f"fal-ai/echo-{secrets.token_hex(4)}"
    with own_redis(files.folder("redis-away")) as url:
        gateway = running.gateway(sim, redis_url=url)
        async with Redis.from_url(url) as redis:
            pid = int((await redis.info("server"))["process_id"])
        async with gateway.http() as http:
            job_id = await submitted(http)
            await ended(http, job_id)
            os.kill(pid, signal.SIGSTOP)
            try:
                early = await http.post(f"/fal/run/{endpoint}", json={})
                status = f"/fal/queue/fal-ai/echo/requests/{job_id}/status"
                refused = await asyncio.gather(
                    http.post("/v1/jobs", json={"endpoint": endpoint, "input": {}}),
                    http.post(f"/fal/queue/{endpoint}", json={}),
                    http.get(f"/v1/jobs/{job_id}"),
                    http.get(f"/v1/jobs/{job_id}/result"),
                    http.get(status),
                    http.get("/v1/jobs"),
                    signed_out(gateway),
                )
                late = await run_until(http, endpoint, 503)
                alive = await http.get("/healthz")
                ready = await http.get("/readyz")
            finally:
                os.kill(pid, signal.SIGCONT)
            again = await run_until(http, endpoint, 200)
            wait_for(lambda: httpx.get(f"{gateway.url}/readyz").status_code == 200)
            kept = await http.get(f"/v1/jobs/{job_id}")

    assert early.status_code == 200
    for answer in (*refused, late):
        problem(answer, 503, "store_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    assert (alive.status_code, ready.status_code) == (200, 503)
    assert again.status_code == kept.status_code == 200
    assert sim.calls(has=endpoint, method="POST") >= 2
    assert not [
        call for call in sim.journal() if call["host"] == fal.QUEUE and endpoint in call["path"]
    ]


async def signed_out(gateway: Gateway) -> httpx.Response:
    """The answer to the end of a session, which has to be written down."""
    cookie = f"fgw_session={gateway.token(purpose=Purpose.SESSION)}"
    async with gateway.http(None) as http:
        headers = {"cookie": cookie, "origin": gateway.url}
        return await http.delete("/v1/session", headers=headers)


async def run_until(http: httpx.AsyncClient, endpoint: str, status: int) -> httpx.Response:
    async with asyncio.timeout(20):
        while True:
            answer = await http.post(f"/fal/run/{endpoint}", json={})
            if answer.status_code == status:
                return answer
