"""Routes that turn a credential into another: what they give, to whom, and what they refuse."""

import asyncio
import base64
import json
import time
from datetime import datetime
from http.cookies import SimpleCookie
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from gateway.core import fal
from gateway.core.tokens import MAX_LIFETIME, Purpose, Seals
from gateway.store import keys
from tests.harness import SECRET, Gateway, Running, Simulator
from tests.web.wire import FORMS, Form, problem, submitted, visitor

pytestmark = pytest.mark.anyio


def with_token(gateway: Gateway, text: str) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {text}"}
    return visitor(gateway.url, headers=headers)


async def minted(gateway: Gateway, **wish: Any) -> dict[str, Any]:
    async with gateway.http(key="backend") as http:
        answer = await http.post("/v1/tokens", json=wish)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def seconds_left(minted: dict[str, Any]) -> float:
    return datetime.fromisoformat(minted["expires_at"]).timestamp() - time.time()


# Tokens


async def test_a_token_is_for_a_user_for_an_hour(gateway: Gateway) -> None:
    token = await minted(gateway, user="user-9")
    async with with_token(gateway, token["token"]) as http:
        job_id = await submitted(http)
    async with gateway.http("user-9") as http:
        seen = await http.get(f"/v1/jobs/{job_id}")

    assert set(token) == {"token", "principal", "plan", "expires_at"}
    assert (token["principal"], token["plan"]) == ("user:user-9", "default")
    assert 3590 < seconds_left(token) <= 3601
    assert seen.status_code == 200


async def test_without_a_user_it_is_for_the_key_itself(gateway: Gateway) -> None:
    """Nothing that the key may do beyond submitting comes along."""
    token = await minted(gateway)
    async with with_token(gateway, token["token"]) as http:
        job_id = await submitted(http)
        again = await http.post("/v1/tokens", json={})
        acting = await http.get("/v1/jobs", headers={"x-gateway-principal": "u"})
    async with gateway.http(key="backend") as http:
        seen = await http.get(f"/v1/jobs/{job_id}")

    assert token["principal"] == "key:backend"
    assert seen.status_code == 200
    problem(again, 403, "forbidden")
    problem(acting, 403, "forbidden")


async def test_a_token_for_a_user_that_the_backend_acts_for(gateway: Gateway) -> None:
    async with gateway.http(key="backend") as http:
        answer = await http.post("/v1/tokens", headers={"x-gateway-principal": "user-10"})

    assert answer.json()["principal"] == "user:user-10"


@pytest.mark.parametrize("lifetime", [1, 60, MAX_LIFETIME])
async def test_a_token_lives_as_long_as_wished(lifetime: int, gateway: Gateway) -> None:
    left = seconds_left(await minted(gateway, user="u", expires_in=lifetime))

    assert lifetime - 10 < left <= lifetime + 1


@pytest.mark.parametrize("lifetime", [0, -1, MAX_LIFETIME + 1, 10**30, 1.5, "60", True, [], {}])
async def test_but_no_longer_than_a_day(lifetime: object, gateway: Gateway) -> None:
    async with gateway.http(key="backend") as http:
        problem(await http.post("/v1/tokens", json={"expires_in": lifetime}), 400, "bad_body")


@pytest.mark.parametrize("who", ["member", "reader", "alice"])
async def test_minting_needs_the_scope(who: str, gateway: Gateway) -> None:
    client = gateway.http(who) if who == "alice" else gateway.http(key=who)
    async with client as http:
        problem(await http.post("/v1/tokens", json={"user": "u"}), 403, "forbidden")


@pytest.mark.parametrize(
    "wish",
    [
        {"user": ""},
        {"user": "a b"},
        {"user": "x" * 129},
        {"user": "\ud800"},
        {"user": 1},
        {"user": ["u"]},
        {"endpoints": "fal-ai/flux"},
        {"endpoints": [1]},
        {"endpoints": ["../x"]},
        {"endpoints": ["fal-ai/flux?x"]},
        {"endpoints": ["a/requests/b"]},
        {"endpoints": ["fal-ai/***"]},
        {"endpoints": ["x" * 201]},
        {"endpoints": [f"a/b{n}" for n in range(101)]},
        {"endpoints": [f"fal-ai/{'x' * 100}{n}" for n in range(60)]},
        {"jobs": "x"},
        {"jobs": ["x"]},
        {"jobs": ["0F8FAD5B-D9CD-469F-A165-70867728950E"]},
        {"team": "other-team"},
        {"plan": 7},
        {"scopes": ["mint"]},
        {"typ": "session"},
        [],
        "x",
    ],
    ids=lambda wish: str(wish)[:40],
)
async def test_a_wish_out_of_form_is_refused(wish: object, gateway: Gateway) -> None:
    async with gateway.http(key="backend") as http:
        headers = {"content-type": "application/json"}
        content = json.dumps(wish).encode()  # half of a surrogate pair is written as its escape
        answer = await http.post("/v1/tokens", content=content, headers=headers)

    problem(answer, 400, "bad_body")


@pytest.mark.parametrize(
    "wish",
    [
        '{"user":"a","user":"b"}',
        '{"user":"a","\\u0075ser":"b"}',
        '{"endpoints":["fal-ai/echo"],"endpoints":null}',
        '{"jobs":[],"jobs":null}',
        '{"expires_in":NaN}',
        '{"expires_in":1e999}',
        '{"expires_in":-0}',
        '{"expires_in":-0.0}',
        '{"expires_in":60.0}',
        '{"expires_in":' + "9" * 400 + "}",
        '{"expires_in":' + "9" * 5000 + "}",
        '{"refresh_for":-1}',
        '{"refresh_for":1e999}',
        '{"plan":"\\ud800"}',
        '{"endpoints":["\\ud800/x"]}',
        '{"\\ud800":1}',
    ],
    ids=lambda wish: wish[:40],
)
async def test_a_wish_that_can_be_read_in_two_ways_is_refused(wish: str, gateway: Gateway) -> None:
    """A backend may put together what it sends, of what its user said."""
    headers = {"content-type": "application/json"}
    async with gateway.http(key="backend") as http:
        answer = await http.post("/v1/tokens", content=wish, headers=headers)
        twice = await http.post(
            "/v1/stream-passes", content='{"job":null,"job":null}', headers=headers
        )
        good = await http.post("/v1/tokens", content='{"expires_in":60}', headers=headers)

    if "plan" in wish:
        problem(answer, 403, "forbidden")
    else:
        problem(answer, 400, "bad_body")
    problem(twice, 400, "bad_body")
    assert good.status_code == 201


@pytest.fixture(scope="module")
def planned(running: Running, sim: Simulator) -> Gateway:
    """With keys on narrower plans that may mint."""
    plans = {
        "default": {"endpoints": []},
        "narrow": {"endpoints": ["fal-ai/flux/**", "fal-ai/echo"]},
        "realtime": {
            "endpoints": ["fal-ai/fast-sdxl", "a/twice", "b/twice", "c/part/of", "d/*"],
            "realtime_tokens": True,
        },
    }
    keys = [
        {"name": "backend", "plan": "narrow", "scopes": ["submit", "mint"]},
        {"name": "member", "plan": "realtime"},
        {"name": "reader", "scopes": ["read"]},
        {"name": "other", "team": "t", "scopes": ["submit"]},
    ]
    return running.gateway(sim, config={"plans": plans, "keys": keys})


async def test_a_token_grants_no_more_than_the_keys_plan(planned: Gateway) -> None:
    async with planned.http(key="backend") as http:
        outside = await http.post("/v1/tokens", json={"endpoints": ["fal-ai/other"]})
        below = await http.post("/v1/tokens", json={"user": "u", "endpoints": ["fal-ai/flux/dev"]})
        pattern = await http.post("/v1/tokens", json={"user": "u", "endpoints": ["**"]})
    async with with_token(planned, below.json()["token"]) as http:
        narrowed = await http.post("/fal/run/fal-ai/echo", json={})
        allowed = await http.post("/fal/run/fal-ai/flux/dev", json={})
    async with with_token(planned, pattern.json()["token"]) as http:
        beyond = await http.post("/fal/run/fal-ai/other", json={})
        within = await http.post("/fal/run/fal-ai/echo", json={})

    problem(outside, 403, "endpoint_not_allowed")
    assert below.json()["plan"] == "narrow"
    problem(narrowed, 403, "endpoint_not_allowed")
    problem(beyond, 403, "endpoint_not_allowed")
    assert allowed.status_code == within.status_code == 200


async def test_nothing_is_allowed_where_nothing_is_configured(planned: Gateway) -> None:
    async with planned.http(key="other") as http:
        problem(await http.post("/fal/run/fal-ai/echo", json={}), 403, "endpoint_not_allowed")


async def test_a_key_that_may_only_read_submits_nothing(planned: Gateway) -> None:
    async with planned.http(key="reader") as http:
        body = {"endpoint": "fal-ai/echo", "input": {}}
        upload = {"file_name": "a.wav", "content_type": "audio/wav"}
        for path, content in (
            ("/v1/jobs", body),
            ("/fal/queue/fal-ai/echo", {}),
            ("/fal/run/fal-ai/echo", {}),
            (f"/fal/rest/storage/upload/initiate?{fal.UPLOAD_QUERY}", upload),
            ("/fal/rest/tokens/", {"allowed_apps": ["fast-sdxl"]}),
        ):
            problem(await http.post(path, json=content), 403, "forbidden")
        listed = await http.get("/v1/jobs", params={"scope": "team"})

    assert listed.status_code == 200


# Sessions


def cookie_of(answer: httpx.Response) -> Any:
    cookies: Any = SimpleCookie(answer.headers["set-cookie"])
    return cookies["fgw_session"]


async def test_a_session_is_a_cookie_for_our_pages_alone(gateway: Gateway) -> None:
    async with gateway.http("carol") as http:
        answer = await http.post("/v1/session")
        job_id = await submitted(http)
    cookie = cookie_of(answer)
    async with visitor(gateway.url) as browser:
        headers = {"cookie": f"fgw_session={cookie.value}"}
        seen = await browser.get(f"/v1/jobs/{job_id}", headers=headers)

    assert answer.status_code == 201
    assert answer.json()["principal"] == "user:carol"
    assert cookie.value not in answer.text
    assert cookie["httponly"]
    assert cookie["samesite"].lower() == "strict"
    assert not cookie["secure"]  # over plain http on this machine a browser would not keep it
    assert not cookie["domain"]
    assert cookie["path"] == "/"
    assert 0 < int(cookie["max-age"]) <= 3600
    assert seen.status_code == 200


async def test_a_session_ends_with_its_credential(gateway: Gateway) -> None:
    async with with_token(gateway, gateway.token("dave", lifetime=100)) as http:
        cookie = cookie_of(await http.post("/v1/session"))
    async with gateway.http(key="member") as http:
        of_key = cookie_of(await http.post("/v1/session"))

    assert 90 < int(cookie["max-age"]) <= 100
    assert int(of_key["max-age"]) == MAX_LIFETIME
    claims = Seals([SECRET]).read(Purpose.SESSION, cookie.value, time.time())
    assert claims.expires_at - time.time() <= 100
    assert claims.parents


@pytest.mark.parametrize("other_page", [True, False])
async def test_signing_out_ends_the_cookie_for_good(other_page: bool, gateway: Gateway) -> None:
    async with gateway.http("erin") as http:
        text = cookie_of(await http.post("/v1/session")).value
    headers = {"cookie": f"fgw_session={text}"}
    async with visitor(gateway.url, headers=headers) as browser:
        if other_page:
            refused = await browser.delete(
                "/v1/session", headers={"origin": "https://evil.example"}
            )
            problem(refused, 403, "origin_not_allowed")
            assert (await browser.get("/v1/jobs")).status_code == 200
            return
        out = await browser.delete("/v1/session", headers={"origin": gateway.url})
        after = await browser.get("/v1/jobs")
    async with gateway.http("erin") as http:
        token_still = await http.get("/v1/jobs")

    assert out.status_code == 204
    gone = cookie_of(out)
    assert gone.value == ""
    assert gone["httponly"]
    problem(after, 401, "unauthenticated")
    assert token_still.status_code == 200


async def test_signing_out_is_remembered_no_longer_than_a_session_lives(
    gateway: Gateway, redis: Redis
) -> None:
    async with gateway.http("frank") as http:
        text = cookie_of(await http.post("/v1/session")).value
    jti = Seals([SECRET]).read(Purpose.SESSION, text, time.time()).jti
    page = {"cookie": f"fgw_session={text}", "origin": gateway.url}
    async with visitor(gateway.url, headers=page) as browser:
        out = await browser.delete("/v1/session")

    until: Any = await redis.zscore(keys.REVOKED_UNTIL, f"jti:{jti}")
    assert out.status_code == 204
    assert MAX_LIFETIME < until - time.time() < MAX_LIFETIME + 120


@pytest.fixture(scope="module")
def behind(running: Running, sim: Simulator) -> Gateway:
    """Behind a proxy on this machine that ends TLS."""
    return running.gateway(
        sim,
        env={"GATEWAY_TRUSTED_PROXIES": "127.0.0.1", "GATEWAY_CLIENT_URL": "https://gw.example"},
    )


async def test_over_https_the_cookie_is_secure(behind: Gateway) -> None:
    async with behind.http() as http:
        headers = {"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.1"}
        answer = await http.post("/v1/session", headers=headers)
        text = cookie_of(answer).value
        taken = await http.post("/fal/queue/fal-ai/echo", json={}, headers=headers)
    async with visitor(behind.url) as browser:
        page = {"cookie": f"fgw_session={text}", "origin": "https://gw.example"}
        out = await browser.delete("/v1/session", headers=page | headers)

    assert cookie_of(answer)["secure"]
    assert taken.json()["status_url"].startswith("https://gw.example/fal/queue/")
    assert out.status_code == 204


async def test_a_proxy_that_is_not_known_says_nothing_of_tls(gateway: Gateway) -> None:
    async with gateway.http() as http:
        answer = await http.post("/v1/session", headers={"x-forwarded-proto": "https"})

    assert not cookie_of(answer)["secure"]


# Stream passes


@pytest.mark.parametrize("job", ["x", "", 1, [], "0F8FAD5B-D9CD-469F-A165-70867728950E"])
async def test_a_stream_pass_is_for_a_job_by_its_id(job: object, gateway: Gateway) -> None:
    async with gateway.http() as http:
        problem(await http.post("/v1/stream-passes", json={"job": job}), 400, "bad_body")


async def test_a_stream_pass_is_good_for_ten_minutes_at_most(gateway: Gateway) -> None:
    async with gateway.http() as http:
        long = (await http.post("/v1/stream-passes", json={})).json()
    async with with_token(gateway, gateway.token(lifetime=60)) as http:
        short = (await http.post("/v1/stream-passes")).json()

    assert 590 < seconds_left(long) <= 601
    assert 50 < seconds_left(short) <= 61


# What fal gives: upload addresses and realtime tokens


UPLOAD: Final = f"storage/upload/initiate?{fal.UPLOAD_QUERY}"
CLIP: Final = {"file_name": "clip.wav", "content_type": "audio/wav"}


@pytest.mark.parametrize(
    "change",
    [
        {"file_name": "../../x"},
        {"file_name": "a/b"},
        {"file_name": "a\\b"},
        {"file_name": "."},
        {"file_name": ".."},
        {"file_name": ""},
        {"file_name": "x" * 256},
        {"file_name": "a\0b"},
        {"file_name": "a\r\nb"},
        {"file_name": "a\u202eb"},
        {"file_name": 1},
        {"file_name": None},
        {"content_type": ""},
        {"content_type": "audio"},
        {"content_type": "audio/"},
        {"content_type": "/wav"},
        {"content_type": "audio/wav\r\nx: y"},
        {"content_type": "audio/wav\0"},
        {"content_type": "audio wav/x"},
        {"content_type": "<script>/x"},
        {"content_type": "a/" + "x" * 126},
        {"content_type": ["audio/wav"]},
        {"content_type": None},
    ],
    ids=lambda change: ascii(change)[:50],
)
@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_a_file_to_upload_has_a_plain_name_and_a_media_type(
    form: Form, change: dict[str, Any], gateway: Gateway
) -> None:
    async with gateway.http() as http:
        refused = await form.ask(http, "POST", fal.REST, UPLOAD, json=CLIP | change)

    problem(refused, 400, "bad_body")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Grüße, Ångström (1).wav", "audio/wav"),
        ("x" * 255, "audio/webm;codecs=opus"),
        ("1732280000.bin", "application/octet-stream"),
        ("a.svg", "image/svg+xml"),
        ("b", "application/vnd.a-b.c; charset=utf-8"),
    ],
)
async def test_names_and_types_that_browsers_send_pass(
    name: str, kind: str, gateway: Gateway
) -> None:
    async with gateway.http() as http:
        answer = await FORMS[1].ask(
            http, "POST", fal.REST, UPLOAD, json={"file_name": name, "content_type": kind}
        )

    assert answer.status_code == 200, answer.text


async def realtime(http: httpx.AsyncClient, body: bytes | dict[str, Any]) -> httpx.Response:
    if isinstance(body, dict):
        return await http.post("/fal/rest/tokens/", json=body)
    headers = {"content-type": "application/json"}
    return await http.post("/fal/rest/tokens/", content=body, headers=headers)


@pytest.mark.parametrize(
    ("wished", "lifetime"), [(None, 120), (60, 60), (120, 120), (31536000, 120)]
)
async def test_a_realtime_token_is_for_one_app_and_short(
    wished: int | None, lifetime: int, planned: Gateway, sim: Simulator
) -> None:
    """The body is built anew: `permissions` and the like do not reach fal."""
    body: dict[str, Any] = {"allowed_apps": ["fast-sdxl"], "permissions": ["all"]}
    if wished is not None:
        body["token_expiration"] = wished
    async with planned.http(key="member") as http:
        answer = await realtime(http, body)

    assert answer.status_code == 200, answer.text
    claims = answer.json().split(".")[1]
    told = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert told["apps"] == ["fast-sdxl"]
    assert lifetime - 10 < told["exp"] - time.time() <= lifetime + 1


@pytest.mark.parametrize(
    "app", ["*", "**", "flux", "fal-ai/fast-sdxl", "twice", "part", "of", "x", "", "FAST-SDXL"]
)
async def test_no_realtime_token_for_other_apps(app: str, planned: Gateway, sim: Simulator) -> None:
    """`twice` stands for two apps, `part` for one that is allowed in part."""
    before = sim.calls(ends="/tokens")
    async with planned.http(key="member") as http:
        refused = await realtime(http, {"allowed_apps": [app]})

    problem(refused, 403, "realtime_not_allowed")
    assert sim.calls(ends="/tokens") == before


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"allowed_apps":[]}',
        b'{"allowed_apps":["fast-sdxl","fast-sdxl"]}',
        b'{"allowed_apps":[["fast-sdxl"]]}',
        b'{"allowed_apps":"fast-sdxl"}',
        b'{"allowed_apps":["fast-sdxl"],"allowed_apps":["*"]}',
        b'{"allowed_apps":["fast-sdxl"],"token_expiration":"60"}',
        b'{"allowed_apps":["fast-sdxl"],"token_expiration":-1}',
        b'{"allowed_apps":["fast-sdxl"],"token_expiration":0}',
        b'{"allowed_apps":["fast-sdxl"],"token_expiration":1e9}',
        b'{"allowed_apps":["fast-sdxl"],"token_expiration":NaN}',
        b'{"allowed_apps":["fast-sdxl"],"token_expiration":true}',
    ],
)
async def test_a_wish_for_a_realtime_token_has_one_form(body: bytes, planned: Gateway) -> None:
    async with planned.http(key="member") as http:
        problem(await realtime(http, body), 400, "bad_body")


async def test_realtime_tokens_are_off_by_default(gateway: Gateway, planned: Gateway) -> None:
    for somewhere, key in ((gateway, "member"), (planned, "backend")):
        async with somewhere.http(key=key) as http:
            refused = await realtime(http, {"allowed_apps": ["echo"]})
            problem(refused, 403, "realtime_not_allowed")


# Pages of the list


async def test_every_job_is_listed_once(gateway: Gateway) -> None:
    """Though many begin in the same millisecond, and pages end between them."""
    async with gateway.http("pages") as http:
        made = await asyncio.gather(*(submitted(http, "sim/fault/fast") for _ in range(23)))
        for size in (1, 4, 23, 100):
            listed: list[dict[str, Any]] = []
            query: dict[str, Any] = {"limit": size}
            while True:
                page = (await http.get("/v1/jobs", params=query)).json()
                assert len(page["jobs"]) <= size
                listed += page["jobs"]
                if page["next"] is None:
                    break
                query["before"] = page["next"]
            assert sorted(job["id"] for job in listed) == sorted(made)
            times = [job["created_at"] for job in listed]
            assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("limit", ["-1", "101", "x", "1e1", "", "1" * 400])
async def test_a_page_has_at_most_a_hundred(limit: str, gateway: Gateway) -> None:
    async with gateway.http() as http:
        problem(await http.get("/v1/jobs", params={"limit": limit}), 400, "bad_body")


@pytest.mark.parametrize("before", ["", "x", "1", "-1", "1-x", "inf", "1" * 400, "(1", "1-0"])
async def test_a_page_begins_where_another_ended(before: str, gateway: Gateway) -> None:
    async with gateway.http() as http:
        problem(await http.get("/v1/jobs", params={"before": before}), 400, "bad_body")


async def test_metadata_comes_back_as_it_went(gateway: Gateway) -> None:
    raw = b'{ "n": 1.50, "big": 12345678901234567890123, "u": "\\u00e4\xc3\xa4", "a": [ ] }'
    body = b'{"endpoint":"fal-ai/echo","input":{},"metadata":' + raw + b"}"
    async with gateway.http() as http:
        headers = {"content-type": "application/json"}
        taken = await http.post("/v1/jobs", content=body, headers=headers)
        read = await http.get(f"/v1/jobs/{taken.json()['id']}")
        large = b'{"endpoint":"fal-ai/echo","input":{},"metadata":"' + b"x" * 4096 + b'"}'
        refused = await http.post("/v1/jobs", content=large, headers=headers)

    assert b'"metadata":' + raw in taken.content
    assert b'"metadata":' + raw in read.content
    problem(refused, 400, "bad_body")
