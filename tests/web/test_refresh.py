"""Tokens that are exchanged for fresh ones: as long as was said, and for nothing more."""

import time
from hashlib import sha256
from typing import Any, Final

import pytest
from redis.asyncio import Redis

from gateway.core.tokens import MAX_LIFETIME, REFRESH_LIFETIME, Claims, Purpose, Seals
from gateway.store.revocations import Revocations
from tests.harness import KEYS, SECRET, Gateway, Running, Simulator, token
from tests.web.wire import problem, visitor

pytestmark = pytest.mark.anyio

JOB: Final = "0f8fad5b-d9cd-469f-a165-70867728950e"


def read(text: str) -> Claims:
    return Seals([SECRET]).read(Purpose.TOKEN, text, time.time())


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def old(*, age: int = 100, lifetime: int = 600, until: int = 3600, **more: Any) -> str:
    """A token issued some time ago, which may be refreshed."""
    now = int(time.time())
    return token(
        "refreshing", issued_at=now - age, expires_at=now - age + lifetime,
        refresh_until=now + until, **more,
    )  # fmt: skip


async def minted(front: Gateway, **wish: Any) -> Any:
    async with front.http(key="backend") as http:
        return await http.post("/v1/tokens", json=wish)


async def test_a_token_is_exchanged_for_the_same_with_more_time(front: Gateway) -> None:
    wish = {"user": "u", "plan": "narrow", "endpoints": ["fal-ai/echo"], "jobs": [JOB]}
    made = await minted(front, **wish, expires_in=60, refresh_for=3600)
    first = read(made.json()["token"])
    async with visitor(front.url, headers=bearer(made.json()["token"])) as http:
        answer = await http.post("/v1/tokens/refresh")
    second = read(answer.json()["token"])

    assert answer.status_code == 201
    assert made.json()["refresh_until"] == answer.json()["refresh_until"]
    assert first.refresh_until == first.issued_at + 3600
    for name in ("jti", "kid", "principal", "plan", "endpoints", "jobs", "refresh_until"):
        assert getattr(second, name) == getattr(first, name)
    assert second.expires_at - second.issued_at == 60
    assert second.since == first.issued_at


async def test_a_chain_goes_on_from_a_token_of_a_chain(front: Gateway) -> None:
    first = old(age=500)
    async with visitor(front.url) as http:
        answer = await http.post("/v1/tokens/refresh", headers=bearer(first), json={})
        again = await http.post("/v1/tokens/refresh", headers=bearer(answer.json()["token"]))

    last = read(again.json()["token"])
    assert last.since == read(first).issued_at
    assert last.expires_at - time.time() > 590
    assert last.jti == read(first).jti


async def test_it_never_goes_beyond_its_refresh_end(front: Gateway) -> None:
    near = old(age=300, lifetime=600, until=350)
    async with visitor(front.url) as http:
        answer = await http.post("/v1/tokens/refresh", headers=bearer(near))
        text = answer.json()["token"]
        ended = await http.post("/v1/tokens/refresh", headers=bearer(text))
        used = await http.get("/v1/jobs", headers=bearer(text))

    claims = read(text)
    assert claims.expires_at == claims.refresh_until == read(near).refresh_until
    body = problem(ended, 403, "forbidden")
    assert "refresh end" in body["detail"]
    assert used.status_code == 200


def tampered(text: str) -> str:
    """With another letter at its end, which may stand there."""
    return text[:-1] + ("E" if text.endswith("A") else "A")


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        (token("u"), 403, "forbidden"),
        (old(age=700, lifetime=600), 401, "unauthenticated"),
        (old(age=610, lifetime=600), 401, "unauthenticated"),
        (tampered(old()), 401, "unauthenticated"),
        (old(purpose=Purpose.SESSION), 401, "unauthenticated"),
        (old(purpose=Purpose.PASS), 401, "unauthenticated"),
    ],
)
async def test_what_cannot_be_refreshed_is_not(
    text: str, status: int, code: str, front: Gateway
) -> None:
    async with visitor(front.url) as http:
        problem(await http.post("/v1/tokens/refresh", headers=bearer(text)), status, code)
        good = await http.post("/v1/tokens/refresh", headers=bearer(old()))

    assert good.status_code == 201


async def test_only_a_token_is(front: Gateway) -> None:
    async with front.http(key="backend") as http:
        problem(await http.post("/v1/tokens/refresh"), 403, "forbidden")
        wide = await http.post("/v1/tokens/refresh", json={"plan": "default"})
        problem(wide, 400, "bad_body")
    session = old(purpose=Purpose.SESSION)
    page = {"cookie": f"fgw_session={session}", "origin": front.url}
    async with visitor(front.url, headers=page) as http:
        problem(await http.post("/v1/tokens/refresh"), 403, "forbidden")


@pytest.mark.parametrize("what", ["jti", "key", "principal"])
async def test_to_revoke_the_first_ends_all_of_a_chain(
    what: str, front: Gateway, redis: Redis
) -> None:
    """Even one that was fetched while the revocation was on its way."""
    first = old(kid=f"kid{what}", jti=f"chain-{what}")
    async with visitor(front.url) as http:
        answer = await http.post("/v1/tokens/refresh", headers=bearer(first))
        second = answer.json()["token"]
        session = await http.post("/v1/session", headers=bearer(second))
        cookie = {"cookie": f"fgw_session={session.cookies['fgw_session']}"}
        http.cookies.clear()
        names = {
            "jti": f"jti:chain-{what}", "key": f"key:kid{what}",
            "principal": "principal:default/user:refreshing",
        }  # fmt: skip
        await Revocations(redis).revoke([names[what]], time.time() - 50)

        async def statuses() -> set[int]:
            found = set()
            for headers in (bearer(first), bearer(second), cookie):
                found.add((await http.get("/v1/jobs", headers=headers)).status_code)
            return found

        deadline = time.monotonic() + 2
        while await statuses() != {401} and time.monotonic() < deadline:
            pass
        assert await statuses() == {401}
        dead = await http.post("/v1/tokens/refresh", headers=bearer(second))
        problem(dead, 401, "unauthenticated")
        fresh = await http.get("/v1/jobs", headers=bearer(token("refreshing")))

    assert fresh.status_code == 200


@pytest.mark.parametrize(
    "wish",
    [
        {"refresh_for": -1}, {"refresh_for": True}, {"refresh_for": "60"}, {"refresh_for": 1.5},
        {"refresh_for": None}, {"refresh_for": REFRESH_LIFETIME + 1},
        {"refresh_for": 3600, "expires_in": 3600}, {"refresh_for": 10**30}, {"plan": 5},
    ],
)  # fmt: skip
async def test_a_wish_out_of_bounds_is_refused(wish: dict[str, Any], front: Gateway) -> None:
    problem(await minted(front, **wish), 400, "bad_body")


async def test_the_longest_chain_is_of_a_month(front: Gateway) -> None:
    made = await minted(front, user="u", expires_in=MAX_LIFETIME, refresh_for=REFRESH_LIFETIME)

    claims = read(made.json()["token"])
    assert claims.refresh_until == claims.issued_at + REFRESH_LIFETIME
    assert claims.expires_at == claims.issued_at + MAX_LIFETIME


# Plans


async def test_a_token_gets_a_plan_that_its_key_grants(front: Gateway) -> None:
    made = await minted(front, user="u", plan="narrow")
    text = made.json()["token"]
    async with visitor(front.url, headers=bearer(text)) as http:
        refused = await http.post("/v1/jobs", json={"endpoint": "fal-ai/x", "input": {}})
        taken = await http.post("/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}})

    assert made.json()["plan"] == "narrow"
    problem(refused, 403, "endpoint_not_allowed")
    assert taken.status_code == 202


@pytest.mark.parametrize("plan", ["visitors", "unknown", "", "NARROW"])
async def test_and_no_other(plan: str, front: Gateway) -> None:
    problem(await minted(front, plan=plan), 403, "forbidden")
    assert (await minted(front, plan="default")).status_code == 201


@pytest.mark.parametrize(
    ("plan", "pattern", "status"),
    [
        ("narrow", "fal-ai/flux/**", 201), ("narrow", "fal-ai/*", 201), ("narrow", "**", 201),
        ("narrow", "fal-ai/flux/*/edit", 201), ("narrow", "*/echo", 201),
        ("narrow", "fal-ai/fluxx/**", 403), ("narrow", "other/**", 403),
        ("narrow", "fal-ai/echo/*", 403), ("narrow", "fal-ai/sdxl", 403),
        ("default", "fal-ai/sdxl", 201), ("default", "other/*", 403),
    ],
)  # fmt: skip
async def test_endpoints_must_be_some_of_the_plans(
    plan: str, pattern: str, status: int, front: Gateway
) -> None:
    answer = await minted(front, plan=plan, endpoints=[pattern])

    assert answer.status_code == status, answer.text
    if status == 403:
        problem(answer, 403, "endpoint_not_allowed")


@pytest.mark.parametrize("told", [True, False])
async def test_a_key_that_is_taken_out_of_the_settings_takes_its_tokens_along(
    told: bool, running: Running, sim: Simulator
) -> None:
    """If those that are left tell who they are: it could be one of them that does not."""
    going, staying = (f"fgw_{name}_{'A' * 24}" for name in ("going00001", "staying001"))
    silent = {"name": "silent", "hash": f"sha256:{sha256(KEYS['other'].encode()).hexdigest()}"}
    keys = [{**silent, "id": "other0001"} if told else silent]
    config = {"plans": {"default": {"endpoints": ["**"]}}, "keys": keys}
    tokens = {}
    before = running.gateway(sim, config=config, env={"GATEWAY_API_KEYS": f"{going},{staying}"})
    for key in (going, staying):
        async with visitor(before.url, headers=bearer(key)) as http:
            made = await http.post("/v1/tokens", json={"expires_in": 60, "refresh_for": 3600})
            tokens[key] = made.json()["token"]
    before.process.stop()
    after = running.gateway(sim, config=config, env={"GATEWAY_API_KEYS": staying})

    async with visitor(after.url) as http:
        for key, status in ((staying, 201), (going, 401 if told else 201)):
            answer = await http.post("/v1/tokens/refresh", headers=bearer(tokens[key]))
            assert answer.status_code == status
