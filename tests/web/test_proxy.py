"""fal's own protocol over sockets: with the target in a header, and with the gateway as host."""

import asyncio
import json
import secrets
import time
from typing import Any, Final

import httpx
import pytest

from gateway.core import fal
from gateway.core.errors import GatewayError, InvalidTarget, MethodNotAllowed
from gateway.core.model import Kind, Principal
from gateway.core.target import Queue, parse_url
from tests.core import hostile_paths, hostile_targets
from tests.core.hostile_targets import Case
from tests.harness import CANARY, Gateway, Simulator
from tests.web.wire import (
    FORMS,
    PROXY_PATH,
    Answer,
    Form,
    ended,
    exchanged,
    problem,
    submitted,
    visitor,
    written,
)

pytestmark = pytest.mark.anyio

TARGET: Final = fal.TARGET_URL.encode()
JSON: Final = [(b"Content-Type", b"application/json"), (b"Content-Length", b"2")]


def own_endpoint() -> str:
    """One that no other test calls, so that the simulator's journal tells of this one."""
    return f"fal-ai/echo-{secrets.token_hex(6)}"


def at_fal(sim: Simulator, endpoint: str) -> list[dict[str, Any]]:
    return [call for call in sim.journal() if call["path"].startswith(f"/{endpoint}")]


def clean(answer: httpx.Response) -> None:
    """What holds for every answer."""
    assert "no-store" in answer.headers["cache-control"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not {"set-cookie", "server", "via", "location", "link"} & set(answer.headers)


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_a_job_is_known_by_our_id_alone(form: Form, gateway: Gateway, sim: Simulator) -> None:
    """Submit, status, result, cancel: URLs in the form that the client speaks."""
    app = own_endpoint()
    async with gateway.http() as http:
        taken = await form.ask(http, "POST", fal.QUEUE, f"{app}/deep", json={"n": 1})
        job_id = taken.json()["request_id"]
        place = f"{app}/requests/{job_id}"
        status = await form.ask(http, "GET", fal.QUEUE, f"{place}/status?logs=1")
        result = await form.ask(http, "GET", fal.QUEUE, place)
        again = await form.ask(http, "GET", fal.QUEUE, f"{app}/deep/requests/{job_id}/response")
        done = await form.ask(http, "GET", fal.QUEUE, f"{place}/status")
        late = await form.ask(http, "PUT", fal.QUEUE, f"{place}/cancel")

    url = f"{form.base(gateway.url)}/{place}"
    for answer in (taken, status, done):
        body = answer.json()
        assert body["response_url"] == url
        assert body["status_url"] == f"{url}/status"
        assert body["cancel_url"] == f"{url}/cancel"
        assert body["request_id"] == job_id
    assert [taken.status_code, status.status_code, done.status_code] == [200, 202, 200]
    assert taken.json()["status"] == "IN_QUEUE"
    assert isinstance(taken.json()["queue_position"], int)
    assert taken.json()["logs"] is None
    assert isinstance(status.json()["logs"], list)
    assert done.json()["status"] == "COMPLETED"
    assert result.json() == {"echo": {"n": 1}, "endpoint": f"{app}/deep"}
    assert again.content == result.content
    assert (late.status_code, late.json()) == (400, {"status": "ALREADY_COMPLETED"})
    jobs = sim.ask("GET", "jobs")
    [fal_id] = [job["request_id"] for job in jobs if job["endpoint"] == f"{app}/deep"]
    for answer in (taken, status, result, again, done, late):
        clean(answer)
        assert answer.headers["x-fal-request-id"] == job_id
        assert answer.headers["content-type"] == "application/json"
        assert fal_id not in answer.text + str(answer.headers)


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_an_open_job_can_be_cancelled_and_is_not_fetched(
    form: Form, gateway: Gateway
) -> None:
    async with gateway.http() as http:
        taken = await form.ask(http, "POST", fal.QUEUE, "sim/fault/hold", json={})
        job_id = taken.json()["request_id"]
        place = f"sim/fault/requests/{job_id}"
        cancelled = await form.ask(http, "PUT", fal.QUEUE, f"{place}/cancel")
        job = await ended(http, job_id)
        result = await form.ask(http, "GET", fal.QUEUE, place)

    assert (cancelled.status_code, cancelled.json()) == (202, {"status": "CANCELLATION_REQUESTED"})
    assert job["status"] == "cancelled"
    assert result.status_code == 499


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_a_status_stream_tells_all_to_the_end(form: Form, gateway: Gateway) -> None:
    async with gateway.http() as http:
        taken = await form.ask(http, "POST", fal.QUEUE, "fal-ai/echo", json={})
        place = f"fal-ai/echo/requests/{taken.json()['request_id']}/status/stream?logs=1"
        stream = await form.ask(http, "GET", fal.QUEUE, place)

    clean(stream)
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.text.isascii()
    events = [
        json.loads(line.removeprefix("data: "))
        for line in stream.text.splitlines()
        if line.startswith("data: ")
    ]
    assert events[-1]["status"] == "COMPLETED"
    assert "event:" not in stream.text
    assert {event["response_url"] for event in events} == {
        f"{form.base(gateway.url)}/fal-ai/echo/requests/{taken.json()['request_id']}"
    }


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_a_run_and_a_stream_pass_through(form: Form, gateway: Gateway) -> None:
    async with gateway.http() as http:
        run = await form.ask(http, "POST", fal.RUN, "fal-ai/echo", json={"n": 2})
        stream = await form.ask(http, "POST", fal.RUN, "fal-ai/echo/stream", json={"n": 3})

    assert (run.status_code, run.json()["echo"]) == (200, {"n": 2})
    assert run.headers["content-type"] == "application/json"
    assert run.headers["x-fal-request-id"]
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.text.count("data: ") > 1
    for answer in (run, stream):
        clean(answer)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("path", ["initiate", "initiate-multipart"])
async def test_an_upload_gets_addresses(form: Form, path: str, gateway: Gateway) -> None:
    async with gateway.http() as http:
        answer = await form.ask(
            http, "POST", fal.REST, f"storage/upload/{path}?{fal.UPLOAD_QUERY}",
            json={"file_name": "clip.wav", "content_type": "audio/wav"},
        )  # fmt: skip

    assert answer.status_code == 200, answer.text
    clean(answer)
    assert set(answer.json()) == {"upload_url", "file_url"}


async def test_the_older_upload_address_is_its_twin(gateway: Gateway) -> None:
    async with gateway.http() as http:
        answer = await http.post(
            PROXY_PATH,
            headers={fal.TARGET_URL: "https://rest.alpha.fal.ai/storage/upload/initiate"},
            json={"file_name": "clip.wav", "content_type": "audio/wav"},
        )

    assert set(answer.json()) == {"upload_url", "file_url"}


@pytest.mark.parametrize("path", [PROXY_PATH, f"{PROXY_PATH}/", f"{PROXY_PATH}/fal-ai/any/path"])
async def test_the_proxy_answers_below_its_path_without_a_redirect(
    path: str, gateway: Gateway
) -> None:
    async with gateway.http() as http:
        answer = await http.post(
            path, headers={fal.TARGET_URL: "https://fal.run/fal-ai/echo"}, json={"n": 4}
        )

    assert answer.json()["echo"] == {"n": 4}


PASSED: Final = {
    "x-fal-queue-priority": "low",
    "x-fal-request-timeout": "120",
    "x-fal-request-start-timeout": "60.5",
    "x-fal-runner-hint": "warm-1",
}
KEPT_BACK: Final = {
    "x-fal-store-io": "0",
    "x-fal-no-retry": "1",
    "x-fal-retry-config": "{}",
    "x-fal-object-lifecycle": "{}",
    "x-fal-object-lifecycle-preference": "{}",
    "x-app-fal-disable-fallback": "1",
    "x-app-fal-can-disable-filter": "1",
    "x-fal-user-id": "somebody",
    "x-fal-cdn-token": "t",
    "x-fal-client-proxy": "@evil/proxy",
    "x-fal-webhook-request-id": "r",
    "x-fal-webhook-signature": "s",
    "x-fal-file-name": "f",
    "x-fal-billable-units": "0",
    "x-fal-runner-health-check": "1",
    "x-fal-anything-new": "1",
    "x_fal_queue_priority": "low",
    "cookie": "a=b; fgw_session=x",
    "x-api-key": "k",
    "x-gateway-principal-": "x",
    "x-forwarded-for": "1.2.3.4",
    "x-forwarded-host": "evil.example",
    "x-http-method-override": "DELETE",
    "proxy-authorization": "Basic x",
    "keep-alive": "1",
    "te": "trailers",
    "http2-settings": "x",
    "alt-svc": "clear",
    "range": "bytes=0-0",
    "if-none-match": "*",
    "accept-encoding": "gzip, br",
    "accept-language": "de",
    "origin": "https://page.example",
    "referer": "https://page.example/",
    "user-agent": "evil/1",
}
OURS: Final = {"host", "authorization", "accept", "accept-encoding", "content-type",
               "content-length", "user-agent"}  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("host", [fal.RUN, fal.QUEUE])
async def test_only_listed_headers_reach_fal(
    form: Form, host: str, gateway: Gateway, sim: Simulator
) -> None:
    endpoint = own_endpoint()
    async with gateway.http() as http:
        await form.ask(http, "POST", host, endpoint, json={}, headers=PASSED | KEPT_BACK)

    call = at_fal(sim, endpoint)[0]
    hint = f"{Principal('default', Kind.USER, 'alice').digest[:12]}-warm-1"
    assert call["fal_headers"] == PASSED | {"x-fal-runner-hint": hint}
    assert set(call["headers"]) <= OURS | set(PASSED)
    assert call["headers"].count("authorization") == 1
    assert call["authorized"]
    assert not call["cookie"]


@pytest.mark.parametrize(
    "credential", ["authorization", "x-gateway-authorization"], ids=["theirs", "ours"]
)
async def test_fal_sees_our_key_and_never_the_clients_credential(
    credential: str, gateway: Gateway, sim: Simulator
) -> None:
    """`echo-headers` sends back what fal got; the key in it is taken out of the answer."""
    token = gateway.token()
    async with visitor(gateway.url) as http:
        answer = await http.post(
            PROXY_PATH,
            headers={
                fal.TARGET_URL: "https://fal.run/sim/fault/echo-headers",
                "authorization": "Key evil",
                credential: f"Bearer {token}",
                "cookie": "secret=1",
                "user-agent": "evil/1",
            },
            json={},
        )

    assert answer.status_code == 200, answer.text
    told = answer.text.lower()
    assert "authorization" in told
    for secret in (CANARY, token, "evil", "secret=1"):
        assert secret.lower() not in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-fal-queue-priority", "high"),
        ("x-fal-queue-priority", "LOW"),
        ("x-fal-request-timeout", "0"),
        ("x-fal-request-timeout", "3601"),
        ("x-fal-request-timeout", "nan"),
        ("x-fal-request-start-timeout", "1e3"),
        ("x-fal-runner-hint", "a b"),
        ("x-fal-runner-hint", "x" * 65),
    ],
)
async def test_a_listed_header_out_of_form_is_refused(
    name: str, value: str, gateway: Gateway, sim: Simulator
) -> None:
    endpoint = own_endpoint()
    target = {fal.TARGET_URL: f"https://queue.fal.run/{endpoint}"}
    async with gateway.http() as http:
        refused = await http.post(PROXY_PATH, headers={**target, name: value}, json={})
        calls = len(at_fal(sim, endpoint))
        await http.post(PROXY_PATH, headers=target, json={})

    assert name in problem(refused, 400, "bad_body")["detail"]
    assert calls == 0
    assert len(at_fal(sim, endpoint)) == 1


@pytest.mark.parametrize("hop", ["x-fal-runner-hint", "X-Fal-Runner-Hint, authorization, close"])
async def test_what_connection_names_goes_no_further(
    hop: str, gateway: Gateway, sim: Simulator
) -> None:
    endpoint = own_endpoint()
    async with gateway.http() as http:
        answer = await http.post(
            PROXY_PATH,
            headers={
                fal.TARGET_URL: f"https://fal.run/{endpoint}",
                "connection": hop,
                **PASSED,
            },
            json={},
        )

    assert answer.status_code == 200
    [call] = at_fal(sim, endpoint)
    assert "x-fal-runner-hint" not in call["fal_headers"]
    assert call["fal_headers"]["x-fal-queue-priority"] == "low"
    assert call["authorized"]


async def test_fals_cookies_come_back_to_nobody(gateway: Gateway, sim: Simulator) -> None:
    """Neither in an answer, nor with the next caller's call."""
    endpoint = f"sim/fault/set-cookie/{secrets.token_hex(6)}"
    for user in ("alice", "bob"):
        async with gateway.http(user) as http:
            run = await http.post(
                PROXY_PATH, headers={fal.TARGET_URL: f"https://fal.run/{endpoint}"}, json={}
            )
            job_id = await submitted(http, endpoint)
            await ended(http, job_id)
            result = await http.get(f"/v1/jobs/{job_id}/result")
        assert run.status_code == result.status_code == 200
        clean(run)
        clean(result)

    calls = at_fal(sim, endpoint)
    assert len(calls) >= 4
    assert not any(call["cookie"] for call in calls)


async def test_a_redirect_of_fals_is_not_followed(gateway: Gateway, sim: Simulator) -> None:
    async with gateway.http() as http:
        answer = await http.post(
            PROXY_PATH, headers={fal.TARGET_URL: "https://fal.run/sim/fault/redirect"}, json={}
        )

    problem(answer, 502, "upstream_bad_answer")
    assert "location" not in answer.headers
    assert not any(call["host"] == "elsewhere.example" for call in sim.journal())
    assert sim.calls(has="sim/fault/redirect") >= 1


def pairs(gateway: Gateway, *targets: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    token = f"Bearer {gateway.token()}".encode()
    return [(b"Authorization", token), *targets, *JSON]


SUBMIT: Final = b"https://queue.fal.run/"
EVIL: Final = b"https://evil.example/a/b"


@pytest.mark.parametrize(
    "names",
    [
        [],
        [(TARGET, b""), (TARGET, b"@")],
        [(TARGET, b"@"), (TARGET, EVIL)],
        [(TARGET, EVIL), (TARGET, b"@")],
        [(TARGET, b"@"), (b"X-Fal-Target-URL", b"@")],
        [(TARGET, b"@, " + EVIL)],
        [(b"x_fal_target_url", b"@")],
        [(b"x-fal-target-urls", b"@")],
        [(b"x-fal-target-url ", b"@")],
        [(TARGET, b"@\r\n " + EVIL)],
        [(TARGET, b"@\x00")],
        [(TARGET, b"@\rx: y")],
    ],
)
async def test_there_must_be_exactly_one_target(
    names: list[tuple[bytes, bytes]], gateway: Gateway, sim: Simulator
) -> None:
    """`@` stands for a right one."""
    endpoint = own_endpoint()
    right = SUBMIT + endpoint.encode()

    headers = [(name, value.replace(b"@", right)) for name, value in names]
    query = b"?x-fal-target-url=" + right + b"&target_url=" + right
    body = b'{"target_url":"%s","_method":"PUT"}' % right
    request = [pair for pair in pairs(gateway, *headers) if pair[0] != b"Content-Length"]
    request.append((b"Content-Length", str(len(body)).encode()))
    path = PROXY_PATH.encode() + query
    refused = await exchanged(gateway.url, written(b"POST", path, request, body))
    calls = len(at_fal(sim, endpoint))
    good = pairs(gateway, (TARGET, right))
    taken = await exchanged(gateway.url, written(b"POST", PROXY_PATH.encode(), good, b"{}"))

    assert refused.status == 400
    assert calls == 0
    assert taken.status == 200
    assert len(at_fal(sim, endpoint)) == 1


async def test_no_header_changes_the_method(gateway: Gateway) -> None:
    async with gateway.http() as http:
        job_id = await submitted(http, "sim/fault/hold")
        target = f"https://queue.fal.run/sim/fault/requests/{job_id}/cancel"
        refused = await http.post(
            f"{PROXY_PATH}?_method=PUT",
            headers={
                fal.TARGET_URL: target,
                "x-http-method-override": "PUT",
                "x-http-method": "PUT",
                "x-method-override": "PUT",
            },
            json={"_method": "PUT"},
        )
        job = (await http.get(f"/v1/jobs/{job_id}")).json()
        await http.put(PROXY_PATH, headers={fal.TARGET_URL: target})

    problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == "PUT"
    assert job["cancel_requested"] is False


# The hostile lists


STRAY: Final = {b"\n", b"\r", b"\0"}
"""What no header can hold: the server's parser refuses the request, or reads another."""
UNKNOWN_METHODS: Final = {"post", "Post", "PO ST", "", " POST", "POST\n", "get", "put"}
TOO_LARGE: Final = 64 * 1024
ID: Final = hostile_targets.ID.encode()


def in_a_header(case: Case) -> int:
    """The status for a target in a header. There the white space around a value is not its own."""
    if case.method in UNKNOWN_METHODS or case.method.startswith("MX"):
        return 400
    if any(byte in case.target for byte in STRAY):
        return 400
    if len(case.target) > TOO_LARGE:
        return 431
    if (stripped := case.target.strip(b" \t")) == case.target:
        return status_of(case.verdict)
    try:
        return status_of(parse_url(case.method, stripped, loopback_webhooks=True))
    except GatewayError as error:
        return error.status


def in_a_path(case: Case) -> int:
    if case.method in UNKNOWN_METHODS:
        return 400
    return status_of(case.verdict)


def status_of(verdict: object) -> int:
    """A target that is right names a job that does not exist, or is left out below."""
    if isinstance(verdict, Queue):
        return 404
    errors: dict[str, type[GatewayError]] = {
        "InvalidTarget": InvalidTarget,
        "MethodNotAllowed": MethodNotAllowed,
    }
    return errors[verdict].status if isinstance(verdict, str) else 200


def hostile_on_a_line(case: Case, expected: int) -> bool:
    """Is it one that is to be refused as it comes over a socket?

    A line break ends a header or a path there, a `#` a path; with a simulator, webhooks on this
    machine are right.
    """
    here = b"=http://127.0.0.1" in case.target or b"=http://localhost" in case.target
    return expected != 200 and not here and b"\r\n" not in case.target


HEADER_CASES: Final = [
    (case, expected)
    for case in hostile_targets.CASES
    if hostile_on_a_line(case, expected := in_a_header(case))
]
PATH_CASES: Final = [
    (case, expected)
    for case in hostile_paths.CASES
    if hostile_on_a_line(case, expected := in_a_path(case)) and b"#" not in case.target
]


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_hostile_targets_get_their_verdict_and_never_reach_fal(
    form: Form, gateway: Gateway, sim: Simulator
) -> None:
    cases = PATH_CASES if form.name == "host" else HEADER_CASES
    assert len(cases) > (80 if form.name == "host" else 600)
    begun = time.time()
    gate = asyncio.Semaphore(24)

    async def judged(case: Case, expected: int) -> str | None:
        async with gate:
            answer = await exchanged(gateway.url, hostile(form, gateway, case))
        return None if right_answer(case, answer, expected) else f"{case}: {answer}"

    async with asyncio.TaskGroup() as tasks:
        verdicts = [tasks.create_task(judged(*case)) for case in cases]
    calls = [call for call in sim.journal() if call["at"] >= begun]
    async with gateway.http() as http:
        good = await form.ask(http, "POST", fal.QUEUE, own_endpoint(), json={})

    assert [verdict for task in verdicts if (verdict := task.result())] == []
    assert [call for call in calls if call["method"] == "POST"] == []
    assert [call for call in calls if hostile_targets.ID in call["path"]] == []
    assert good.status_code == 200
    late = [call for call in sim.journal() if call["at"] >= begun and call["method"] == "POST"]
    assert len(late) == 1


def hostile(form: Form, gateway: Gateway, case: Case) -> bytes:
    method = case.method.encode()
    if form.name == "host":
        return written(method, b"/fal/" + case.target, pairs(gateway), b"{}")
    headers = pairs(gateway, (TARGET, case.target))
    return written(method, PROXY_PATH.encode(), headers, b"{}")


def right_answer(case: Case, answer: Answer, expected: int) -> bool:
    """The status, and our own form of error wherever the server's parser let it through to us."""
    if answer.status == 431:  # before anything is parsed
        return len(case.target) > 60_000
    if answer.status != expected:
        return False
    if answer.headers["content-type"].startswith("text/plain"):
        return expected == 400 and answer.body == b"Invalid HTTP request received."
    if case.method == "HEAD":
        return answer.headers["x-fal-error-type"] != ""
    code = json.loads(answer.body)["error_type"]
    codes = {400: "invalid_target", 404: "job_not_found", 405: "method_not_allowed"}
    allowed = expected != 405 or answer.headers["allow"] == case.allow
    return allowed and code == codes.get(expected, "headers_too_large")
