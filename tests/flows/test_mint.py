"""What a minted credential says, read with the secret that signed it."""

import time
from typing import Any

import httpx
import pytest

from gateway.core.credentials import key_id
from gateway.core.model import Kind, Principal
from gateway.core.tokens import Claims, Purpose, Seals
from tests.harness import CONFIG, KEYS, SECRET, Gateway, Running, Simulator
from tests.web.wire import visitor

pytestmark = pytest.mark.anyio

JOB = "0f8fad5b-d9cd-469f-a165-70867728950e"


def read(purpose: Purpose, text: str) -> Claims:
    return Seals([SECRET]).read(purpose, text, time.time())


async def made(http: httpx.AsyncClient, path: str, name: str, wish: Any = None) -> str:
    answer = await http.post(path, json=wish or {})
    assert answer.status_code == 201, answer.text
    text: str = answer.json()[name]
    return text


async def test_a_token_says_for_whom_by_whom_and_for_what(gateway: Gateway) -> None:
    wish = {"user": "u-1", "endpoints": ["fal-ai/echo"], "jobs": [JOB], "expires_in": 60}
    async with gateway.http(key="backend") as http:
        claims = read(Purpose.TOKEN, await made(http, "/v1/tokens", "token", wish))

    assert claims.principal == Principal("default", Kind.USER, "u-1")
    assert claims.kid == key_id(KEYS["backend"])
    assert claims.plan == "default"
    assert claims.endpoints == ("fal-ai/echo",)
    assert claims.jobs == frozenset({JOB})
    assert claims.expires_at - claims.issued_at == 60
    assert abs(claims.issued_at - time.time()) < 10
    assert claims.parents == ()


async def test_no_two_tokens_are_the_same(gateway: Gateway) -> None:
    async with gateway.http(key="backend") as http:
        texts = [await made(http, "/v1/tokens", "token", {"user": "u"}) for _ in range(5)]

    assert len({read(Purpose.TOKEN, text).jti for text in texts}) == 5


async def test_what_comes_from_a_token_is_as_narrow_and_goes_with_it(gateway: Gateway) -> None:
    """A pass from a session from a token: the narrowing of each, and the names of all."""
    token = gateway.token("narrowed", endpoints=("a/b",), jobs=frozenset({JOB}), lifetime=300)
    of_token = read(Purpose.TOKEN, token)
    async with visitor(gateway.url) as http:
        answer = await http.post("/v1/session", headers={"authorization": f"Bearer {token}"})
        cookie = answer.cookies["fgw_session"]
        answer = await http.post("/v1/stream-passes", headers={"origin": gateway.url})
    session = read(Purpose.SESSION, cookie)
    passing = read(Purpose.PASS, answer.json()["pass"])

    for claims in (session, passing):
        assert claims.principal == of_token.principal
        assert claims.kid == of_token.kid
        assert claims.endpoints == ("a/b",)
        assert claims.jobs == frozenset({JOB})
        assert claims.expires_at <= of_token.expires_at
    assert session.parents == (of_token.jti,)
    assert passing.parents == (session.jti, of_token.jti)


async def test_a_session_of_a_session_of_a_session_ends_somewhere(gateway: Gateway) -> None:
    """Each names all before it, so they get too long in the end; and that is no error of ours."""
    async with gateway.http("nested") as http:
        answer = await http.post("/v1/session")
        http.headers.pop("authorization")
        for _ in range(100):
            headers = {"cookie": f"fgw_session={answer.cookies['fgw_session']}"}
            http.cookies.clear()
            answer = await http.post("/v1/session", headers=headers | {"origin": gateway.url})
            if answer.status_code != 201:
                break

    assert answer.status_code == 400
    assert answer.json()["error_type"] == "bad_body"


async def test_nothing_is_worth_more_than_what_it_came_from(
    running: Running, sim: Simulator
) -> None:
    """A key that may only read has sessions and passes that may only read."""
    reading = {"plans": CONFIG["plans"], "keys": [{"name": "reader", "scopes": ["read"]}]}
    gateway = running.gateway(sim, config=reading)
    wish = {"endpoint": "fal-ai/echo", "input": {}}
    async with gateway.http(key="reader") as http, gateway.http() as alice:
        with_key = await http.post("/v1/jobs", json=wish)
        cookie = (await http.post("/v1/session")).cookies["fgw_session"]
        job = (await alice.post("/v1/jobs", json=wish)).json()["id"]
        text = await made(http, "/v1/stream-passes", "pass", {"job": job})
    async with gateway.http(user=None) as visitor:
        visitor.cookies.set("fgw_session", cookie)
        with_cookie = await visitor.post("/v1/jobs", json=wish, headers={"origin": gateway.url})
        seen = await visitor.get(f"/v1/jobs/{job}")
        visitor.cookies.clear()
        stream = await visitor.get(f"/v1/jobs/{job}/events?pass={text}")

    assert (with_key.status_code, with_cookie.status_code) == (403, 403)
    assert seen.status_code == 200
    assert "job.created" in stream.text


async def test_a_token_for_single_jobs_makes_no_new_ones(gateway: Gateway) -> None:
    headers = {"authorization": f"Bearer {gateway.token(jobs=frozenset({JOB}))}"}
    async with gateway.http(user=None) as http:
        answer = await http.post(
            "/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}}, headers=headers
        )

    assert answer.status_code == 403


async def test_a_token_that_has_run_out_is_not_handed_on(gateway: Gateway) -> None:
    """It is still taken for a moment, for the sake of skewed clocks."""
    now = int(time.time())
    late = gateway.token(issued_at=now - 100, expires_at=now - 5)
    async with gateway.http(user=None) as http:
        headers = {"authorization": f"Bearer {late}"}
        read = await http.get("/v1/jobs", headers=headers)
        session = await http.post("/v1/session", headers=headers)

    assert (read.status_code, session.status_code) == (200, 401)
