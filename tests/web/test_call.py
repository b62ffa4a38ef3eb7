"""Who is calling, where no credential says so, or a cookie does: this machine, and our own page."""

import socket
from typing import Final

import httpx
import pytest

from gateway.core.tokens import Purpose
from tests.harness import Gateway, Running, Simulator
from tests.web.conftest import ORIGIN
from tests.web.wire import exchanged, problem, visitor, written

pytestmark = pytest.mark.anyio

BODY: Final = {"endpoint": "fal-ai/echo", "input": {}}


def nobody(gateway: Gateway, **headers: str) -> httpx.AsyncClient:
    """A program on this machine, without a credential."""
    return visitor(gateway.direct, headers=headers)


async def test_this_machine_needs_no_credential_where_it_is_let_in(local: Gateway) -> None:
    async with nobody(local) as http:
        taken = await http.post("/v1/jobs", json=BODY)
        listed = await http.get("/v1/jobs")
        refused = await http.post("/v1/tokens", json={})
    async with local.http() as other:
        foreign = await other.get(f"/v1/jobs/{taken.json()['id']}")

    assert taken.status_code == 202
    assert taken.json()["id"] in [job["id"] for job in listed.json()["jobs"]]
    problem(refused, 403, "forbidden")
    problem(foreign, 404, "job_not_found")


async def test_elsewhere_it_does(gateway: Gateway) -> None:
    async with nobody(gateway) as http:
        problem(await http.get("/v1/jobs"), 401, "unauthenticated")


async def test_a_neighbour_is_not_this_machine(running: Running, sim: Simulator) -> None:
    """Its Host may say what it likes: the address that the connection comes from decides."""
    address = address_in_the_network()
    env = {"GATEWAY_ANONYMOUS": "loopback", "GATEWAY_HOST": "0.0.0.0"}
    gateway = running.gateway(sim, env=env)
    request = written(b"GET", b"/v1/jobs", [(b"Host", f"127.0.0.1:{gateway.port}".encode())])

    neighbour = await exchanged(f"http://{address}:{gateway.port}", request)
    here = await exchanged(gateway.direct, request)

    problem(neighbour.as_response(), 401, "unauthenticated")
    assert here.status == 200


def address_in_the_network() -> str:
    """An address of this machine's that is not loopback. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        address: str = sock.getsockname()[0]
        return address


async def test_a_bad_credential_is_not_passed_over_for_being_here(local: Gateway) -> None:
    async with nobody(local, authorization="Bearer nonsense") as http:
        problem(await http.get("/v1/jobs"), 401, "unauthenticated")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "127.0.0.1"},
        {"x-forwarded-for": ""},
        {"X-Forwarded-For": "1.2.3.4"},
        {"forwarded": 'for="[::1]"'},
        {"x-real-ip": "127.0.0.1"},
        {"via": "1.1 proxy"},
        {"x-forwarded-proto": "https"},
        {"x-forwarded-host": "127.0.0.1"},
        {"x-forwarded-port": "80"},
        {"x-forwarded-server": "a"},
        {"cf-connecting-ip": "127.0.0.1"},
        {"true-client-ip": "127.0.0.1"},
        {"x-client-ip": "127.0.0.1"},
        {"x-cluster-client-ip": "127.0.0.1"},
        {"x-original-forwarded-for": "127.0.0.1"},
    ],
    ids=repr,
)
async def test_what_a_proxy_passes_on_is_not_from_here(
    headers: dict[str, str], local: Gateway
) -> None:
    """A proxy on this machine makes all the world come from it."""
    async with nobody(local) as http:
        problem(await http.get("/v1/jobs", headers=headers), 401, "unauthenticated")
        assert (await http.get("/v1/jobs")).status_code == 200


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("127.0.0.1:@", True),
        ("localhost:@", True),
        ("[::1]:@", True),
        ("127.0.0.1", False),
        ("127.0.0.1:1", False),
        ("localhost", False),
        ("LOCALHOST:@", False),
        ("127.1:@", False),
        ("localhost.:@", False),
        ("rebound.example:@", False),
        ("rebound.example", False),
        ("", False),
        ("127.0.0.1:@, evil.example", False),
        ("127.0.0.1:@\r\nHost: evil.example", False),
    ],
)
async def test_being_here_shows_in_the_host(host: str, good: bool, local: Gateway) -> None:
    """A page that has its name resolve to this machine sends its own name along. `@`: our port."""
    value = host.replace("@", str(local.port)).encode()

    answer = await exchanged(local.direct, written(b"GET", b"/v1/jobs", [(b"Host", value)]))

    assert answer.status == (200 if good else 401)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "", "http://@evil"],
)
async def test_another_page_makes_no_jobs_through_this_machines_browser(
    origin: str, local: Gateway
) -> None:
    """Whatever it sends to get past a preflight."""
    async with nobody(local) as http:
        for kind in ("text/plain", "application/json", "application/x-www-form-urlencoded"):
            headers = {"origin": origin, "content-type": kind}
            content = b'{"endpoint":"fal-ai/echo","input":{}}'
            for path in ("/v1/jobs", "/fal/run/fal-ai/echo", "/v1/session", "/v1/stream-passes"):
                refused = await http.post(path, content=content, headers=headers)
                problem(refused, 403, "origin_not_allowed")
        refused = await http.delete("/v1/session", headers={"origin": origin})
        problem(refused, 403, "origin_not_allowed")
        for own in (local.direct, ORIGIN):
            taken = await http.post("/v1/jobs", json=BODY, headers={"origin": own})
            assert taken.status_code == 202


def test_letting_this_machine_in_does_not_go_with_an_address_in_the_world(
    running: Running, sim: Simulator
) -> None:
    gateway = running.gateway(
        sim,
        env={"GATEWAY_ANONYMOUS": "loopback", "GATEWAY_PUBLIC_URL": "https://gw.example"},
        start=False,
    )
    gateway.process.start()

    assert gateway.process.popen is not None
    assert gateway.process.popen.wait(20) != 0
    assert "anonymous" in gateway.log_lines().lower()


# Cookies


def session(gateway: Gateway) -> httpx.AsyncClient:
    """Our own page in a browser that has signed in."""
    text = gateway.token("browser", purpose=Purpose.SESSION)
    return visitor(gateway.url, headers={"cookie": f"fgw_session={text}"})


UNSAFE: Final = [
    ("POST", "/v1/jobs"),
    ("POST", "/v1/jobs/0f8fad5b-d9cd-469f-a165-70867728950e/cancel"),
    ("POST", "/v1/session"),
    ("DELETE", "/v1/session"),
    ("POST", "/v1/stream-passes"),
    ("POST", "/v1/tokens"),
    ("POST", "/fal/run/fal-ai/echo"),
    ("POST", "/fal/queue/fal-ai/echo"),
    ("PUT", "/fal/queue/fal-ai/echo/requests/0f8fad5b-d9cd-469f-a165-70867728950e/cancel"),
    ("POST", "/api/fal/proxy"),
]


@pytest.mark.parametrize(("method", "path"), UNSAFE)
@pytest.mark.parametrize(
    "origin",
    [None, "https://evil.example", "null", "", "http://127.0.0.1", "@/", "@.evil.example", ORIGIN],
)
async def test_a_cookie_does_nothing_unsafe_for_another_page(
    origin: str | None, method: str, path: str, gateway: Gateway
) -> None:
    headers = {} if origin is None else {"origin": origin.replace("@", gateway.url)}
    headers |= {"sec-fetch-site": "same-origin"}
    async with session(gateway) as http:
        problem(await http.request(method, path, headers=headers), 403, "origin_not_allowed")


async def test_a_cookie_serves_our_own_page(gateway: Gateway) -> None:
    """And reads without an Origin, as an EventSource does; another page reads nothing with it."""
    async with session(gateway) as http:
        taken = await http.post("/v1/jobs", json=BODY, headers={"origin": gateway.url})
        read = await http.get(f"/v1/jobs/{taken.json()['id']}")
        foreign = await http.get("/v1/jobs", headers={"origin": "https://evil.example"})

    assert taken.status_code == 202
    assert read.status_code == 200
    problem(foreign, 403, "origin_not_allowed")
    assert "access-control-allow-origin" not in foreign.headers


async def test_two_origins_are_none(gateway: Gateway) -> None:
    text = gateway.token("browser", purpose=Purpose.SESSION)
    origin = (b"Origin", gateway.url.encode())
    headers = [(b"Cookie", f"fgw_session={text}".encode()), origin, origin]

    answer = await exchanged(gateway.url, written(b"POST", b"/v1/stream-passes", headers))

    problem(answer.as_response(), 403, "origin_not_allowed")


async def test_a_header_needs_no_origin(gateway: Gateway) -> None:
    """No other page can have a browser send it. It also decides before the cookie."""
    async with session(gateway) as http:
        http.headers["authorization"] = f"Bearer {gateway.token('header')}"
        taken = await http.post("/v1/jobs", json=BODY, headers={"origin": "https://evil.example"})
    async with gateway.http("header") as http:
        own = await http.get(f"/v1/jobs/{taken.json()['id']}")

    assert taken.status_code == 202
    assert own.status_code == 200


@pytest.mark.parametrize(
    "name", ["", "-", "a b", "a/b", "x" * 129, "ä", "a\tb", "user:1,user:2", ".a", "*"]
)
async def test_a_user_to_act_for_has_a_plain_name(name: str, gateway: Gateway) -> None:
    headers = [(b"x-gateway-principal", name.encode())]
    async with gateway.http(key="backend") as http:
        refused = await http.get("/v1/jobs", headers=headers)
        for good in ("user-42", "a@b.example", "x" * 128, "a:b+c_d.e"):
            taken = await http.get("/v1/jobs", headers={"x-gateway-principal": good})
            assert taken.status_code == 200

    problem(refused, 400, "bad_body")


async def test_one_cannot_act_for_two(gateway: Gateway) -> None:
    headers = [(b"x-gateway-principal", b"a"), (b"x-gateway-principal", b"b")]
    async with gateway.http(key="backend") as http:
        problem(await http.get("/v1/jobs", headers=headers), 400, "bad_body")


# Numbers and places in queries


@pytest.mark.parametrize("wait", ["-1", "61", "1e1", "nan", "inf", "", "x", "1" * 400, "0x1", "1 "])
async def test_a_wait_is_a_number_of_seconds(wait: str, gateway: Gateway) -> None:
    async with gateway.http() as http:
        taken = await http.post("/v1/jobs", json=BODY)
        path = f"/v1/jobs/{taken.json()['id']}"
        refused = await http.get(path, params={"wait": wait})
        for good in ("0", "0.5", "60"):
            assert (await http.get(path, params={"wait": good})).status_code == 200

    problem(refused, 400, "bad_body")


@pytest.mark.parametrize("after", ["1", "-1-0", "01-0", "1-1", "x", "1" * 20 + "-0", "*", "+"])
@pytest.mark.parametrize("place", ["after", "last_event_id", "Last-Event-ID"])
async def test_a_place_is_an_events_id(place: str, after: str, gateway: Gateway) -> None:
    async with gateway.http() as http:
        job_id = (await http.post("/v1/jobs", json=BODY)).json()["id"]
        if place == "after":
            query = {"wait": "1", "after": after}
            refused = await http.get(f"/v1/jobs/{job_id}", params=query)
        elif place == "last_event_id":
            refused = await http.get(f"/v1/jobs/{job_id}/events", params={place: after})
        else:
            refused = await http.get(f"/v1/jobs/{job_id}/events", headers={place: after})

    problem(refused, 400, "bad_body")
