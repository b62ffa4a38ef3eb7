"""Pages of other origins, over sockets: only those that are configured, letter by letter."""

from typing import Final

import pytest

from gateway.core import fal
from tests.harness import Gateway, Running
from tests.web.conftest import ORIGIN
from tests.web.wire import PROXY_PATH, problem, visitor

pytestmark = pytest.mark.anyio

STRANGERS: Final = [
    "https://evil.example",
    "null",
    "https://app.example.evil.example",
    "https://appXexample",
    "https://evil-app.example",
    "https://APP.example",
    "HTTPS://app.example",
    "https://app.example.",
    "https://app.example:443",
    "https://app.example:8443",
    "https://app.example/",
    "http://app.example",
    "https://app.example, https://evil.example",
    "https://app.example https://evil.example",
    "https://user@app.example",
    "*",
    "",
    "file://",
]
GRANTS: Final = ("access-control-allow-origin", "access-control-allow-credentials")


def preflight(origin: str, method: str = "POST", headers: str = "") -> dict[str, str]:
    wanted = {"origin": origin, "access-control-request-method": method}
    return wanted | ({"access-control-request-headers": headers} if headers else {})


@pytest.mark.parametrize("path", [PROXY_PATH, "/v1/jobs", "/fal/queue/fal-ai/echo"])
async def test_a_preflight_of_our_page_is_granted_and_remembered(path: str, local: Gateway) -> None:
    """With every header that fal's browser clients send, before any credential."""
    names = (
        "authorization,content-type,x-fal-target-url,x-fal-queue-priority,x-fal-request-timeout,"
        "x-fal-runner-hint,x-fal-object-lifecycle,x-gateway-authorization,last-event-id"
    )
    async with local.http(None) as http:
        answer = await http.options(path, headers=preflight(ORIGIN, headers=names))

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in answer.headers
    assert int(answer.headers["access-control-max-age"]) >= 600
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert set(names.split(",")) <= {name.strip() for name in allowed.split(",")}
    assert "origin" in answer.headers["vary"].lower()


@pytest.mark.parametrize("origin", STRANGERS)
async def test_a_preflight_of_another_page_is_not(origin: str, local: Gateway) -> None:
    async with local.http(None) as http:
        answer = await http.options(PROXY_PATH, headers=preflight(origin))

    assert not any(name in answer.headers for name in GRANTS)
    assert answer.status_code in {400, 401}


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "BREW"])
async def test_a_preflight_for_another_method_fails(method: str, local: Gateway) -> None:
    async with local.http(None) as http:
        answer = await http.options(PROXY_PATH, headers=preflight(ORIGIN, method))

    assert answer.status_code == 400


async def test_a_preflight_for_other_headers_fails(local: Gateway) -> None:
    async with local.http(None) as http:
        answer = await http.options(PROXY_PATH, headers=preflight(ORIGIN, headers="x-evil"))

    assert answer.status_code == 400


async def test_our_page_may_read_answers_and_errors(local: Gateway) -> None:
    """And the headers of fal's that its client looks at."""
    async with local.http() as http:
        taken = await http.post(
            PROXY_PATH,
            headers={"origin": ORIGIN, fal.TARGET_URL: "https://queue.fal.run/fal-ai/echo"},
            json={},
        )
        refused = await http.post(PROXY_PATH, headers={"origin": ORIGIN}, json={})
    async with local.http("x") as http:
        http.headers["authorization"] = "Bearer nonsense"
        unknown = await http.get("/v1/jobs", headers={"origin": ORIGIN})

    assert taken.status_code == 200
    problem(refused, 400, "invalid_target")
    problem(unknown, 401, "unauthenticated")
    for answer in (taken, refused, unknown):
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "access-control-allow-credentials" not in answer.headers
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert {"x-fal-request-id", "x-fal-error-type", "retry-after"} <= {
            name.strip() for name in exposed.split(",")
        }
        assert "origin" in answer.headers["vary"].lower()


@pytest.mark.parametrize("origin", STRANGERS)
async def test_another_page_may_not(origin: str, local: Gateway) -> None:
    """A cookie along with it makes no difference."""
    headers = {"origin": origin, "cookie": "a=b"}
    async with local.http() as http:
        answers = [
            await http.get("/v1/jobs", headers=headers),
            await http.get("/nowhere", headers=headers),
            await http.get("/healthz", headers=headers),
        ]
        ours = await http.get("/v1/jobs", headers={"origin": ORIGIN})

    for answer in answers:
        assert not any(name in answer.headers for name in GRANTS)
    assert ours.headers["access-control-allow-origin"] == ORIGIN


async def test_without_origins_no_page_may(gateway: Gateway) -> None:
    async with gateway.http() as http:
        asked = await http.options(PROXY_PATH, headers=preflight(ORIGIN))
        read = await http.get("/v1/jobs", headers={"origin": ORIGIN})

    for answer in (asked, read):
        assert not any(name in answer.headers for name in GRANTS)
    assert read.status_code == 200


@pytest.mark.parametrize("origins", ["*", "https://app.example/", "app.example", "null"])
def test_an_origin_that_is_none_stops_the_start(origins: str, running: Running) -> None:
    gateway = running.gateway(
        None, env={"GATEWAY_CORS_ORIGINS": origins, "GATEWAY_PUBLIC_URL": ""}, start=False
    )
    gateway.process.start()

    assert gateway.process.popen is not None
    assert gateway.process.popen.wait(20) != 0
    assert "CORS_ORIGINS" in gateway.log_lines()


async def test_an_answer_without_an_origin_has_no_grant(local: Gateway) -> None:
    async with visitor(local.url) as http:
        answer = await http.get("/healthz")

    assert not any(name in answer.headers for name in GRANTS)
