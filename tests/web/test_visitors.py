"""Whoever comes without a credential, where everybody may: known by a cookie, and by no more."""

import secrets
import time
from http.cookies import Morsel, SimpleCookie
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from gateway.core.model import Kind, Principal
from gateway.core.tokens import VISITOR_LIFETIME, Claims, Purpose, Seals
from tests.harness import SECRET, Gateway, token
from tests.web.conftest import ORIGIN
from tests.web.wire import problem, visitor

pytestmark = pytest.mark.anyio

BODY: Final = {"endpoint": "fal-ai/echo", "input": {}}


def address() -> str:
    """One of a private network that no other test comes from."""
    return f"172.{16 + secrets.randbelow(16)}.{secrets.randbelow(256)}.{secrets.randbelow(256)}"


def browser(gateway: Gateway, of: str | None = None, **headers: str) -> httpx.AsyncClient:
    """A browser with its own cookies, which comes from an address of its own."""
    return visitor(gateway.url, headers={"x-forwarded-for": of or address()} | headers)


def set_by(answer: httpx.Response) -> Morsel[str]:
    return SimpleCookie(answer.headers["set-cookie"])["fgw_visitor"]


def signed(**more: Any) -> str:
    now = int(time.time())
    name = secrets.token_hex(16)
    plain: dict[str, Any] = {
        "purpose": Purpose.VISITOR, "jti": name, "kid": "visitor",
        "principal": Principal("visitors", Kind.ANONYMOUS, name), "plan": "visitors",
        "issued_at": now, "expires_at": now + 3600,
    }  # fmt: skip
    return Seals([SECRET]).issue(Claims(**plain | more))


async def test_a_visitor_is_known_again_by_a_cookie(front: Gateway) -> None:
    async with browser(front) as one, browser(front) as other:
        first = await one.post("/v1/jobs", json=BODY)
        job = first.json()["id"]
        again = await one.get("/v1/jobs")
        foreign = await other.get(f"/v1/jobs/{job}")

    assert first.status_code == 202, first.text
    assert [each["id"] for each in again.json()["jobs"]] == [job]
    assert "set-cookie" not in again.headers
    problem(foreign, 404, "job_not_found")
    assert set_by(foreign).value != set_by(first).value


async def test_the_cookie_is_for_us_alone(front: Gateway) -> None:
    async with browser(front) as http:
        plain = set_by(await http.get("/v1/jobs"))
    async with browser(front, **{"x-forwarded-proto": "https"}) as http:
        secure = set_by(await http.get("/v1/jobs"))

    for cookie in (plain, secure):
        assert cookie["httponly"]
        assert cookie["samesite"].lower() == "strict"
        assert cookie["path"] == "/"
        assert cookie["domain"] == ""
        assert int(cookie["max-age"]) == VISITOR_LIFETIME
    assert secure["secure"]
    assert not plain["secure"]
    claims = Seals([SECRET]).read(Purpose.VISITOR, plain.value, time.time())
    assert claims.principal == Principal("visitors", Kind.ANONYMOUS, claims.jti)


OLD: Final = int(time.time()) - VISITOR_LIFETIME


@pytest.mark.parametrize(
    "cookie",
    [
        "", "x", "a.b", "a.b.c", "é", signed()[:-2], signed() + "=", "x" * 5000,
        token(), token(purpose=Purpose.SESSION), token(purpose=Purpose.PASS, lifetime=60),
        signed(issued_at=OLD - 900, expires_at=OLD - 900 + VISITOR_LIFETIME),
        f"{signed()}; fgw_visitor={signed()}",
    ],
)  # fmt: skip
async def test_a_bad_cookie_is_none(cookie: str, front: Gateway) -> None:
    raw = [(b"cookie", f"fgw_visitor={cookie}".encode()), (b"x-forwarded-for", address().encode())]
    async with visitor(front.url) as http:
        answer = await http.get("/v1/jobs", headers=raw)
        assert answer.status_code == 200
        new = set_by(answer).value
        good = await http.get("/v1/jobs", headers={"cookie": f"fgw_visitor={signed()}"})

    assert new != cookie
    assert good.status_code == 200
    assert "set-cookie" not in good.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer nonsense"},
        {"authorization": "Key fgw_unknown01_AAAAAAAAAAAAAAAAAAAAAAAA"},
        {"authorization": "Bearer a.b.c"},
        {"x-gateway-authorization": "x"},
        {"cookie": "fgw_session=nonsense"},
        {"cookie": f"fgw_session={signed()}"},
        {"authorization": f"Bearer {signed()}"},
    ],
)
async def test_a_bad_credential_is_not_passed_over(headers: dict[str, str], front: Gateway) -> None:
    """Nor is a visitor's cookie good as one."""
    async with browser(front) as http:
        await http.get("/v1/jobs")
        answer = await http.get("/v1/jobs", headers=headers)

    problem(answer, 401, "unauthenticated")
    assert "set-cookie" not in answer.headers


async def test_a_good_credential_goes_before_the_cookie(front: Gateway) -> None:
    async with browser(front) as http:
        await http.get("/v1/jobs")
        answer = await http.post(
            "/v1/session", headers={"authorization": f"Bearer {front.token('carol')}"}
        )

    assert answer.json()["principal"] == "user:carol"


async def test_a_visitor_gets_no_credential_but_passes_for_own_jobs(front: Gateway) -> None:
    async with browser(front) as http:
        job = (await http.post("/v1/jobs", json=BODY)).json()["id"]
        problem(await http.post("/v1/tokens", json={}), 403, "forbidden")
        problem(await http.post("/v1/tokens/refresh"), 403, "forbidden")
        problem(await http.post("/v1/session"), 403, "forbidden")
        acting = await http.get("/v1/jobs", headers={"x-gateway-principal": "alice"})
        problem(acting, 403, "forbidden")
        problem(await http.get("/v1/events?scope=team"), 403, "forbidden")
        made = await http.post("/v1/stream-passes", json={"job": job})
        text = made.json()["pass"]
    async with browser(front) as stranger:
        asked = await stranger.post("/v1/stream-passes", json={"job": job})
        problem(asked, 404, "job_not_found")
        url = f"/v1/jobs/{job}/events?pass={text}"
        async with stranger.stream("GET", url) as answer:
            assert answer.status_code == 200


async def test_where_they_are_not_let_in_their_cookies_are_nothing(gateway: Gateway) -> None:
    async with visitor(gateway.url, headers={"cookie": f"fgw_visitor={signed()}"}) as http:
        answer = await http.get("/v1/jobs")

    problem(answer, 401, "unauthenticated")
    assert "set-cookie" not in answer.headers


# Other pages


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": f"{ORIGIN}.evil"},
        {"sec-fetch-site": "cross-site"}, {"origin": ORIGIN.replace("https", "http")},
    ],
)  # fmt: skip
@pytest.mark.parametrize("known", [True, False])
async def test_pages_of_others_submit_nothing(
    headers: dict[str, str], known: bool, front: Gateway
) -> None:
    async with browser(front) as http:
        if known:
            await http.get("/v1/jobs")
        for method, path in (
            ("POST", "/v1/jobs"), ("POST", "/fal/queue/fal-ai/echo"), ("POST", "/v1/stream-passes"),
        ):  # fmt: skip
            answer = await http.request(method, path, json=BODY, headers=headers)
            problem(answer, 403, "origin_not_allowed")
        listed = await http.get("/v1/jobs")

    assert listed.json()["jobs"] == []


@pytest.mark.parametrize("origin", [None, "own", ORIGIN])
async def test_pages_of_ours_do(origin: str | None, front: Gateway) -> None:
    origin = front.url if origin == "own" else origin
    headers = {} if origin is None else {"origin": origin}
    async with browser(front) as http:
        taken = await http.post("/v1/jobs", json=BODY, headers=headers)
        listed = await http.get("/v1/jobs", headers=headers)

    assert taken.status_code == 202
    assert len(listed.json()["jobs"]) == 1
    if origin == ORIGIN:
        assert listed.headers["access-control-allow-origin"] == ORIGIN
        assert listed.headers["access-control-allow-credentials"] == "true"


async def test_a_form_is_no_request_of_ours(front: Gateway) -> None:
    async with browser(front) as http:
        answer = await http.post(
            "/v1/jobs",
            content=b'{"endpoint":"fal-ai/echo"}',
            headers={"content-type": "text/plain"},
        )

    problem(answer, 415, "unsupported_media_type")


async def test_a_session_is_not_read_by_another_page(front: Gateway) -> None:
    """Cookies go along with what allowed pages ask, since visitors have one."""
    session = token("dora", purpose=Purpose.SESSION)
    async with browser(front, cookie=f"fgw_session={session}") as http:
        foreign = await http.get("/v1/jobs", headers={"origin": ORIGIN})
        own = await http.get("/v1/jobs", headers={"origin": front.url})
        plain = await http.get("/v1/jobs")

    problem(foreign, 403, "origin_not_allowed")
    assert (own.status_code, plain.status_code) == (200, 200)


# Caps


async def submitted(gateway: Gateway, of: str) -> int:
    """By somebody who is new."""
    async with browser(gateway, of) as http:
        return (await http.post("/v1/jobs", json=BODY)).status_code


async def test_all_of_one_address_share_its_cap(front: Gateway) -> None:
    here, there = address(), address()

    answers = [await submitted(front, here) for _ in range(7)]

    assert answers == [202] * 5 + [429] * 2
    assert await submitted(front, f"1.2.3.4, {here}") == 429
    assert await submitted(front, f"::ffff:{here}") == 429
    assert await submitted(front, there) == 202


async def test_a_household_of_ipv6_is_one_address(front: Gateway) -> None:
    network = f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}"

    answers = [
        await submitted(front, f"{network}:{secrets.token_hex(2)}::{number:x}")
        for number in range(1, 8)
    ]

    assert sorted(answers) == [202] * 5 + [429] * 2


async def test_those_who_only_look_leave_nothing_in_redis(front: Gateway, redis: Redis) -> None:
    async with browser(front) as http:
        await http.get("/v1/jobs")
    before = {key async for key in redis.scan_iter(count=1000)}

    for _ in range(150):
        async with browser(front) as http:
            await http.get("/v1/jobs")
            await http.post("/v1/jobs", json={"endpoint": "not/allowed", "input": {}})
            await http.get("/v1/jobs/0f8fad5b-d9cd-469f-a165-70867728950e")

    after = {key async for key in redis.scan_iter(count=1000)}
    assert len(after - before) < 75  # of jobs before; 150 visitors have left none
    assert await submitted(front, address()) == 202


async def test_refused_submits_leave_nothing_in_redis(front: Gateway, redis: Redis) -> None:
    here = address()
    for _ in range(6):
        await submitted(front, here)
    before = {key async for key in redis.scan_iter(count=1000)}

    assert [await submitted(front, here) for _ in range(60)] == [429] * 60

    after = {key async for key in redis.scan_iter(count=1000)}
    assert len(after - before) < 30
