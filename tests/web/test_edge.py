"""What holds for every request, whatever stands in it: bounds, headers, log lines, Host."""

import asyncio
import json
import re
import secrets
from typing import Any, Final

import httpx
import pytest

from gateway.core import fal
from tests.harness import KEYS, Gateway, wait_for
from tests.kernel import resident
from tests.web.wire import (
    PROXY_PATH,
    Answer,
    Line,
    connected,
    exchanged,
    problem,
    submitted,
    visitor,
    written,
)

pytestmark = pytest.mark.anyio


def bearer(gateway: Gateway) -> tuple[bytes, bytes]:
    return b"Authorization", f"Bearer {gateway.token()}".encode()


async def alive(gateway: Gateway) -> bool:
    async with gateway.http() as http:
        return (await http.get("/v1/jobs")).status_code == 200


# Bounds of a request's head


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-filler", b"x" * 66_000)],
        [(b"x" * 66_000, b"filler")],
        [(b"x-filler", b"x" * 660)] * 99,
        [(b"x-filler", b"x")] * 101,
        [(b"x-filler", b"")] * 5000,
        [(b"x-forwarded-for", b"127.0.0.1")] * 1000,
    ],
    ids=["one", "name", "many-long", "101", "5000", "forwarded"],
)
async def test_a_flood_of_headers_ends_the_connection(
    headers: list[tuple[bytes, bytes]], gateway: Gateway
) -> None:
    line = await connected(gateway.url)
    await line.send(written(b"GET", b"/v1/jobs", [bearer(gateway), *headers]))
    answer = await line.answer()
    closed = await line.closed()
    line.close()

    problem(answer.as_response(), 431, "headers_too_large")
    assert answer.headers["connection"] == "close"
    assert closed
    assert await alive(gateway)


async def test_as_many_headers_as_clients_send_are_read(gateway: Gateway) -> None:
    """98 of them and Host and a credential, 60 KiB in all."""
    headers = [bearer(gateway), *[(b"x-filler", b"x" * 600)] * 98]

    answer = await exchanged(gateway.url, written(b"GET", b"/v1/jobs", headers))

    assert answer.status == 200


async def test_who_sends_on_reads_the_refusal_all_the_same(gateway: Gateway) -> None:
    request = written(b"GET", b"/healthz", [(b"x-filler", b"x" * 500_000)])
    answer = await exchanged(gateway.url, request)

    assert answer.status == 431


ENDLESS: Final = {
    "address": (b"GET /", b"a" * 8192),
    "name": (b"GET /healthz HTTP/1.1\r\n", b"x" * 8192),
    "value": (b"GET /healthz HTTP/1.1\r\nx: ", b"x" * 8192),
    "headers": (b"GET /healthz HTTP/1.1\r\n", b"x: " + b"x" * 8187 + b"\r\n"),
    "empty headers": (b"GET /healthz HTTP/1.1\r\n", b"x:\r\n"),
    "before it": (b"", b"\r\n" * 4096),
    "trailers": (
        b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"x: x\r\n"
    ),
    "trailer": (
        b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: ", b"x" * 8192
    ),
    "chunk extension": (
        b"POST /v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", b"x" * 8192
    ),
}  # fmt: skip


async def test_a_flood_behind_another_request_is_not_taken(gateway: Gateway) -> None:
    """Not even when both come at once."""
    flood = written(b"GET", b"/healthz", [(b"x", b"")] * 101)
    line = await connected(gateway.direct)
    await line.send(written(b"GET", b"/healthz") + flood)
    rest = await line.reader.read()
    line.close()

    assert rest.count(b"HTTP/1.1 200 OK") <= 1
    assert await alive(gateway)


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_head_without_end_is_cut_after_little_of_it(kind: str, gateway: Gateway) -> None:
    """Nobody is asked who they are before their head is read."""
    begin, more = ENDLESS[kind]
    before = resident(gateway.process.pid)
    line = await connected(gateway.direct)
    await line.send(begin)
    sent = await sent_until_cut(line, more)
    line.close()

    assert sent < 32 * 2**20  # most of it in the buffers of the system
    assert resident(gateway.process.pid) < before + 4 * 2**20
    assert await alive(gateway)


async def sent_until_cut(line: Line, data: bytes) -> int:
    """How many bytes can be sent, the same ones again and again."""
    sent = 0
    async with asyncio.timeout(10):
        try:
            while True:
                await line.send(data)
                sent += len(data)
        except ConnectionError:
            return sent


async def test_what_comes_behind_a_refused_head_is_not_read(gateway: Gateway) -> None:
    flood = written(b"GET", b"/healthz", [(b"x-filler", b"x" * 66_000)])
    line = await connected(gateway.url)
    await line.send(flood + written(b"GET", b"/healthz"))
    answer = await line.answer()
    closed = await line.closed()
    line.close()

    assert answer.status == 431
    assert closed


BROKEN: Final = [
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nx: \x00\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nx: a\rb\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nx y: 1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET @evil.example/x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PO ST /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    b"post /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    b"M" * 8192 + b" /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n",
    b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n{   }",
    b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\n{}",
    b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 2\r\n\r\n0\r\n\r\n",
    b"POST /v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cow\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("raw", BROKEN, ids=lambda raw: repr(raw[:60]))
async def test_what_is_no_http_is_refused_and_the_connection_closed(
    raw: bytes, gateway: Gateway
) -> None:
    line = await connected(gateway.url)
    await line.send(raw)
    answer = await line.answer()
    closed = await line.closed()
    line.close()

    assert answer.status == 400
    assert closed
    assert await alive(gateway)


@pytest.mark.parametrize(
    "chunks",
    [b"1\n{\n", b"FFFFFFFFFFFFFFFFF\r\n{}", b"zz\r\n{}\r\n", b"-1\r\n{}\r\n", b"0x2\r\n{}\r\n"],
)
async def test_broken_chunks_make_no_job(chunks: bytes, gateway: Gateway) -> None:
    headers = [
        bearer(gateway),
        (b"Content-Type", b"application/json"),
        (b"Transfer-Encoding", b"chunked"),
        (fal.TARGET_URL.encode(), b"https://fal.run/fal-ai/echo"),
    ]
    line = await connected(gateway.url)
    await line.send(written(b"POST", PROXY_PATH.encode(), headers, chunks))
    answer = await line.answer()
    line.close()

    assert answer.status == 400
    assert await alive(gateway)


# Every answer


async def paths(gateway: Gateway) -> list[tuple[str, str]]:
    async with gateway.http() as http:
        job_id = await submitted(http)
    return [
        ("GET", "/v1/jobs"),
        ("GET", "/v1/jobs?x=.css"),
        ("GET", f"/v1/jobs/{job_id}"),
        ("GET", f"/v1/jobs/{job_id}/result"),
        ("GET", f"/v1/jobs/{job_id}/result/abc.js"),
        ("GET", f"/v1/jobs/{job_id}/events"),
        ("POST", f"/v1/jobs/{job_id}/cancel"),
        ("GET", f"/fal/queue/fal-ai/echo/requests/{job_id}"),
        ("GET", f"/fal/queue/fal-ai/echo/requests/{job_id}/status"),
        ("GET", f"/fal/queue/fal-ai/echo/requests/{job_id}/status/stream"),
        ("POST", "/fal/run/fal-ai/echo"),
        ("POST", "/fal/run/sim/fault/submit-422"),
        ("POST", "/fal/queue/sim/fault/submit-422"),
        ("GET", PROXY_PATH),
        ("POST", "/v1/session"),
        ("DELETE", "/v1/session"),
        ("POST", "/v1/stream-passes"),
        ("POST", "/v1/tokens"),
        ("GET", "/v1/tokens"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/nowhere"),
        ("GET", "/"),
        ("POST", "/webhooks/fal/nothing"),
        ("OPTIONS", "/v1/jobs"),
        ("HEAD", "/v1/jobs"),
    ]


@pytest.mark.parametrize("known", [True, False])
async def test_no_answer_is_kept_or_sniffed(known: bool, gateway: Gateway) -> None:
    seen = set()
    calls = await paths(gateway)
    async with gateway.http("alice" if known else None) as http:
        for method, path in calls:
            answer = await http.request(method, path, json={} if method == "POST" else None)
            seen.add(answer.status_code)
            assert "no-store" in answer.headers["cache-control"], path
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
            assert "server" not in answer.headers
            kind = answer.headers.get("content-type", "application/json").partition(";")[0]
            assert kind in {"application/json", "text/event-stream"}, path

    assert seen >= ({200, 404, 405, 422} if known else {200, 401, 404})


@pytest.mark.parametrize("path", ["/v1/jobs/", "/healthz/", "/webhooks/fal/", "/v1/", "//healthz"])
async def test_the_gateway_never_redirects(path: str, gateway: Gateway) -> None:
    """A Location would be made of the Host that the client sent."""
    headers = [bearer(gateway), (b"Host", b"evil.example")]

    answer = await exchanged(gateway.url, written(b"GET", path.encode(), headers))

    problem(answer.as_response(), 404, "not_found")
    assert "evil" not in str(answer)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/jobs", {"GET", "HEAD", "POST"}),
        ("PUT", "/v1/session", {"POST", "DELETE"}),
        ("GET", "/v1/tokens", {"POST"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("GET", "/webhooks/fal/x", {"POST"}),
    ],
)
async def test_a_wrong_method_is_told_all_the_right_ones(
    method: str, path: str, allow: set[str], gateway: Gateway
) -> None:
    async with gateway.http() as http:
        answer = await http.request(method, path)

    problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allow


async def test_what_fal_calls_html_comes_back_as_bytes(gateway: Gateway) -> None:
    async with gateway.http() as http:
        answer = await http.post("/fal/run/sim/fault/unreadable-2xx", json={})

    assert b"<html>" in answer.content
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


# Host, and what proxies add


TRICKS: Final = [
    b"evil/admin?",
    b"a@b",
    b"evil.example#",
    b"a b",
    b"a,b",
    b"[::1",
    b"a:99999999",
    b"a:",
    b"http://a",
    b"",
    b"a\\b",
    b"\xe4",
]


@pytest.mark.parametrize("host", TRICKS)
async def test_a_host_that_is_none_gets_into_no_url(host: bytes, local: Gateway) -> None:
    """`local` has no address but the Host of the request, which must be host[:port]."""
    headers = [bearer(local), (b"Content-Type", b"application/json"), (b"Content-Length", b"2")]
    request = written(b"POST", b"/fal/queue/fal-ai/echo", [(b"Host", host), *headers], b"{}")
    refused = await exchanged(local.url, request)
    right = [(b"Host", b"Gateway.example:8443"), *headers]
    taken = await exchanged(local.url, written(b"POST", b"/fal/queue/fal-ai/echo", right, b"{}"))

    problem(refused.as_response(), 400, "invalid_target")
    assert taken.status == 200
    url = json.loads(taken.body)["status_url"]
    assert url.startswith("http://Gateway.example:8443/fal/queue/fal-ai/echo/requests/")


async def test_two_hosts_are_none(local: Gateway) -> None:
    headers = [(b"Host", b"a.example"), (b"Host", b"b.example"), bearer(local)]

    answer = await exchanged(local.url, written(b"POST", b"/fal/queue/a/b", headers))

    problem(answer.as_response(), 400, "invalid_target")


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https"},
        {"forwarded": "host=evil.example;proto=https", "x-forwarded-port": "444"},
        {"x-original-url": "/healthz", "x-rewrite-url": "/healthz", "x-forwarded-uri": "/healthz"},
        {"x-forwarded-prefix": "/evil", "x-script-name": "/evil"},
    ],
)
async def test_urls_in_answers_are_the_configured_ones(
    headers: dict[str, str], gateway: Gateway
) -> None:
    async with gateway.http() as http:
        answer = await http.post("/fal/queue/fal-ai/echo", json={}, headers=headers)

    assert answer.status_code == 200
    assert answer.json()["response_url"].startswith(f"{gateway.url}/fal/queue/fal-ai/echo/")
    assert "evil" not in answer.text


async def test_routing_goes_by_the_path_alone(gateway: Gateway) -> None:
    """Neither an absolute request line nor Host opens another route."""
    absolute = written(b"GET", b"http://evil.example/v1/jobs", [(b"Host", b"a/healthz?")])
    refused = await exchanged(gateway.url, absolute)
    headers = [bearer(gateway), (b"Host", b"a/healthz?")]
    taken = await exchanged(gateway.url, written(b"GET", b"/v1/jobs", headers))

    problem(refused.as_response(), 401, "unauthenticated")
    assert json.loads(taken.body)["jobs"] is not None


# The log


HOSTILE: Final = "\x1b[2J\x1b[1;1Hfake%s%n{0.__class__}\u2028x"


async def logged(gateway: Gateway, answer: Answer | httpx.Response) -> str:
    """The one line that is written of a request."""
    mark = answer.headers["x-request-id"]

    def lines() -> list[str]:
        return [line for line in gateway.log_lines().splitlines() if mark in line]

    wait_for(lines)
    [line] = [line for line in lines() if re.search(r"\bms\b", line)]
    return line


@pytest.mark.parametrize("place", ["path", "agent", "query", "ticket", "endpoint", "id", "actor"])
@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_stranger_writes_no_line_of_the_log(
    place: str, form: str, gateway: Gateway, local: Gateway
) -> None:
    mark = secrets.token_hex(8)
    logging = gateway if form == "text" else local
    hostile = f"{mark}\r\nINFO admin signed in{HOSTILE}".encode()
    escaped = "".join(f"%{byte:02X}" for byte in hostile).encode()
    header = re.sub(rb"[\r\n\x1b]+", b"\t", hostile)  # with these, the parser refuses it
    headers, path = [bearer(logging)], b"/v1/jobs"
    match place:
        case "path":
            path = b"/" + escaped
        case "agent":
            headers.append((b"User-Agent", header))
        case "query":
            path += b"?before=" + escaped
        case "ticket":
            path = b"/webhooks/fal/" + escaped
        case "endpoint":
            path = b"/fal/run/" + escaped
        case "id":
            path = b"/v1/jobs/" + escaped
        case _:
            headers.append((b"X-Gateway-Principal", header))
    method = b"POST" if place in {"ticket", "endpoint"} else b"GET"

    answer = await exchanged(logging.url, written(method, path, headers))
    line = await logged(logging, answer)

    whole = logging.log_lines()
    assert mark not in whole
    assert "admin signed in" not in whole
    assert "\x1b" not in whole
    assert line.isascii()
    if form == "json":
        assert json.loads(line)["status"] == answer.status


async def test_a_line_tells_the_request_and_no_secret(local: Gateway) -> None:
    """Route for path, caller for credential; not the query, the body, the key or the token."""
    token = local.token("logged")
    async with visitor(local.url) as http:
        answer = await http.post(
            "/v1/jobs?secret=in-the-query",
            headers={"authorization": f"Bearer {token}"},
            json={"endpoint": "fal-ai/echo", "input": {"prompt": "a secret prompt"}},
        )
        refused = await http.get("/v1/jobs", headers={"authorization": f"Key {KEYS['other']}x"})
        passing = await http.get("/v1/events", params={"pass": token})
    line: dict[str, Any] = json.loads(await logged(local, answer))
    await logged(local, refused)
    await logged(local, passing)

    job_id = answer.json()["id"]
    assert (line["route"], line["status"], line["job"]) == ("/v1/jobs", 202, job_id)
    assert line["caller"] == "default/user:logged"
    assert line["request"] == answer.headers["x-request-id"]
    whole = local.log_lines()
    for secret in (token, KEYS["other"], "in-the-query", "a secret prompt", "pass="):
        assert secret not in whole


async def test_a_ticket_is_logged_by_its_digest(gateway: Gateway) -> None:
    """Whoever reads the log must not be able to post to the address of a job."""
    ticket = f"ticket.{secrets.token_hex(16)}"
    async with gateway.http(None) as http:
        answer = await http.post(
            f"/webhooks/fal/{ticket}", json={}, headers={"referer": f"https://a/{ticket}"}
        )
    line = await logged(gateway, answer)

    assert answer.status_code == 401
    assert ticket not in answer.text + str(answer.headers)
    assert ticket not in gateway.log_lines()
    assert re.search(r"ticket=[0-9a-f]{8}\b", line)


async def test_open_routes_tell_nothing_of_the_set_up(gateway: Gateway) -> None:
    async with gateway.http(None) as http:
        told = [await http.get(path) for path in ("/healthz", "/readyz", "/nowhere", "/metrics")]

    for answer in told:
        for secret in ("redis", "unix", "fgw_", "127.0.0.1", "default", "plan"):
            assert secret not in answer.text.lower()
    assert [answer.status_code for answer in told[:2]] == [200, 200]
