"""The app's own users, by the word of an issuer that the settings name."""

import time
from typing import Any, Final

import httpx
import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from redis.asyncio import Redis

from gateway.store.revocations import Revocations
from tests.harness import Gateway, wait_for
from tests.web.conftest import AUDIENCE, LOGIN, LOGIN_KEY, login_pem
from tests.web.wire import problem, visitor

pytestmark = pytest.mark.anyio

BODY: Final = {"endpoint": "fal-ai/echo", "input": {}}


def signed(user: str = "alice", key: Any = LOGIN_KEY, algorithm: str = "ES256", **said: Any) -> str:
    now = int(time.time())
    plain = {"iss": LOGIN, "aud": AUDIENCE, "sub": user, "iat": now - 1, "exp": now + 600}
    return pyjwt.encode(plain | said, key, algorithm)


def bearer(text: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"authorization": f"{scheme} {text}"}


@pytest.mark.parametrize("scheme", ["Bearer", "Key", "bearer"])
async def test_a_user_signs_in_with_what_the_app_has_anyway(scheme: str, front: Gateway) -> None:
    async with visitor(front.url, headers=bearer(signed("jwt-user"), scheme)) as http:
        taken = await http.post("/v1/jobs", json=BODY)
        session = await http.post("/v1/session")
    async with front.http("jwt-user") as same, front.http("other") as other:
        seen = await same.get(f"/v1/jobs/{taken.json()['id']}")
        foreign = await other.get(f"/v1/jobs/{taken.json()['id']}")

    assert taken.status_code == 202
    assert session.json()["principal"] == "user:jwt-user"
    assert seen.status_code == 200
    problem(foreign, 404, "job_not_found")


async def test_it_grants_no_more_than_to_submit(front: Gateway) -> None:
    async with visitor(front.url, headers=bearer(signed(scopes=["mint", "read", "admin"]))) as http:
        problem(await http.post("/v1/tokens", json={}), 403, "forbidden")
        problem(await http.post("/v1/tokens/refresh"), 403, "forbidden")
        problem(await http.get("/v1/jobs?scope=team"), 403, "forbidden")
        acting = await http.get("/v1/jobs", headers={"x-gateway-principal": "bob"})
        problem(acting, 403, "forbidden")


async def test_its_claims_choose_among_what_is_allowed(front: Gateway) -> None:
    async with visitor(front.url) as http:
        narrow = bearer(signed(plan="narrow"))
        refused = await http.post("/v1/jobs", json=BODY | {"endpoint": "fal-ai/x"}, headers=narrow)
        taken = await http.post("/v1/jobs", json=BODY, headers=narrow)
        elsewhere = await http.post("/v1/jobs", json=BODY, headers=bearer(signed(org="o-7")))
        for said in ({"plan": "visitors"}, {"plan": "default"}, {"org": "other-team"}):
            answer = await http.get("/v1/jobs", headers=bearer(signed(**said)))
            problem(answer, 401, "unauthenticated")
    async with front.http("alice", key="other") as other:
        listed = await other.get("/v1/jobs?scope=team")

    problem(refused, 403, "endpoint_not_allowed")
    assert taken.status_code == 202
    assert elsewhere.json()["id"] in [job["id"] for job in listed.json()["jobs"]]


def bad() -> dict[str, str]:
    now = int(time.time())
    stranger = ec.generate_private_key(ec.SECP256R1())
    public = login_pem().replace("PUBLIC", "SECRET")  # PyJWT itself would not sign with a key
    return {
        "another's key": signed(key=stranger),
        "no signature": pyjwt.encode({"iss": LOGIN, "aud": AUDIENCE, "sub": "a"}, "", "none"),
        "a shared secret": signed(key=public, algorithm="HS256"),
        "another issuer": signed(iss="https://evil.example/"),
        "another audience": signed(aud="https://other.example"),
        "expired": signed(iat=now - 900, exp=now - 60),
        "not yet": signed(nbf=now + 120),
        "from the future": signed(iat=now + 120),
        "no user": signed(user=""),
        "changed": signed()[:-3] + "AAA",
        "huge": signed(pad="x" * 9000),
    }


@pytest.mark.parametrize("name", list(bad()))
async def test_what_is_not_right_is_refused(name: str, front: Gateway) -> None:
    async with visitor(front.url) as http:
        answer = await http.get("/v1/jobs", headers=bearer(bad()[name]))
        good = await http.get("/v1/jobs", headers=bearer(signed()))

    body = problem(answer, 401, "unauthenticated")
    assert bad()[name] not in body["detail"]
    assert good.status_code == 200


async def test_a_cookie_is_no_place_for_one(front: Gateway) -> None:
    async with visitor(front.url) as http:
        answer = await http.get("/v1/jobs", headers={"cookie": f"fgw_session={signed()}"})

    problem(answer, 401, "unauthenticated")


async def test_without_issuers_no_jwt_is_good(gateway: Gateway) -> None:
    async with visitor(gateway.url) as http:
        problem(await http.get("/v1/jobs", headers=bearer(signed())), 401, "unauthenticated")


@pytest.mark.parametrize(
    ("name", "user", "age"),
    [
        ("jti:iss:login:j-first", "first", 30),
        ("principal:default/user:second", "second", 30),
        ("key:iss:login", "third", 3000),
    ],
)
async def test_it_can_be_taken_back(
    name: str, user: str, age: int, front: Gateway, redis: Redis
) -> None:
    now = int(time.time())
    old = bearer(signed(user, jti=f"j-{user}", iat=now - age))
    new = bearer(signed(user, jti="another", iat=now))

    def status(headers: dict[str, str]) -> int:
        return httpx.get(f"{front.url}/v1/jobs", headers=headers).status_code

    async with visitor(front.url) as http:
        session = await http.post("/v1/session", headers=old)
    cookie = {"cookie": f"fgw_session={session.cookies['fgw_session']}"}
    assert status(cookie) == 200
    await Revocations(redis).revoke([name], now - age + 10)

    wait_for(lambda: status(old) == 401, within=2)
    assert status(cookie) == 401
    assert status(new) == 200
