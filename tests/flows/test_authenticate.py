"""Which credentials are taken: in one exact form, in their time, until they are taken back."""

import asyncio
import secrets
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from os import kill
from typing import Final

import httpx
import pytest
from itsdangerous import Signer, TimestampSigner, URLSafeSerializer, URLSafeTimedSerializer

from gateway.core.credentials import key_id
from gateway.core.tokens import SKEW, Purpose, Seals
from gateway.store.connect import commands
from gateway.store.revocations import Revocations
from tests.harness import KEYS, SECRET, Gateway, Running, Simulator, token
from tests.web.wire import visitor

pytestmark = pytest.mark.anyio

OLD: Final = "the secret before of the tests that is long enough"
NEW: Final = "the secret after of the tests that is long enough"


async def status(gateway: Gateway, text: str, where: str = "header") -> int:
    headers = {"authorization": f"Bearer {text}"}
    if where == "cookie":
        headers = {"cookie": f"fgw_session={text}"}
    async with visitor(gateway.url) as http:
        return (await http.get("/v1/jobs", headers=headers)).status_code


# Form


async def test_every_changed_letter_is_noticed(gateway: Gateway) -> None:
    """In the signature, of which a decoder would take many texts, and all over the claims."""
    good = token(jti="0" * 32)
    flipped = [
        good[:at] + chr(ord(good[at]) ^ bit) + good[at + 1 :]
        for at in range(len(good))
        for bit in ((1, 2) if at > len(good) - 48 or at % 4 == 0 else ())
    ]
    cut = [good[:-length] for length in (1, 2, 5, 43)] + [good[1:], good.rpartition(".")[0]]
    candidates = [text for text in (*flipped, *cut) if text.isprintable() and " " not in text]
    async with visitor(gateway.url) as http:
        found = set()
        for text in candidates:
            headers = {"authorization": f"Bearer {text}"}
            found.add((await http.get("/v1/jobs", headers=headers)).status_code)

    assert len(candidates) > 150
    assert found == {401}
    assert await status(gateway, good) == 200


@pytest.mark.parametrize(
    "suffix", ["=", "==", "====", "!!!!", "****", ".", ".x", "A", "AAAA", "%3D", "~", ","]
)
async def test_nothing_may_follow(suffix: str, gateway: Gateway) -> None:
    good = token()

    assert await status(gateway, good + suffix) == 401
    assert await status(gateway, suffix + good) == 401
    assert await status(gateway, good) == 200


@pytest.mark.parametrize("where", ["header", "cookie"])
async def test_bytes_that_are_no_text_are_no_credential(where: str, gateway: Gateway) -> None:
    name, start = (
        (b"authorization", b"Bearer ") if where == "header" else (b"cookie", b"fgw_session=")
    )
    async with visitor(gateway.url) as http:
        for raw in (b"\xff\xfe", "é".encode(), b"." * 4000, b"a.\xc3\xa9", b".eJw.x", b"..."):
            answer = await http.get("/v1/jobs", headers=[(name, start + raw)])
            assert answer.status_code == 401


def forgeries() -> list[str]:
    """Texts that are signed, with the right secret, in another way."""
    payload = token().rpartition(".")[0].encode()
    claims = {"typ": "token", "principal": "user:alice", "team": "default"}
    return [
        Signer(SECRET).sign(payload).decode(),
        Signer(SECRET, salt="fal-gateway.token").sign(payload).decode(),
        Signer(SECRET, salt="fal-gateway.ticket", key_derivation="hmac").sign(payload).decode(),
        Signer("x" * 40, salt="fal-gateway.token", key_derivation="hmac").sign(payload).decode(),
        TimestampSigner(SECRET, salt="fal-gateway.token").sign(payload).decode(),
        str(URLSafeSerializer(SECRET, salt="fal-gateway.token").dumps(claims)),
        str(URLSafeTimedSerializer(SECRET).dumps(claims)),
        "eyJhbGciOiJub25lIn0." + payload.decode() + ".",
        payload.decode() + ".",
    ]


async def test_signed_in_another_way_is_not_signed(gateway: Gateway) -> None:
    for text in forgeries():
        assert await status(gateway, text) == 401
        assert await status(gateway, text, "cookie") == 401

    assert await status(gateway, token()) == 200


# Time


@pytest.mark.parametrize(
    ("issued", "lifetime", "good"),
    [
        (-3600, 3600 - SKEW - 2, False),
        (-3600, 3600 - SKEW + 10, True),
        (-3600, 3600 + 60, True),
        (SKEW - 10, 3600, True),
        (SKEW + 10, 3600, False),
        (3600, 3600, False),
        (-86_400, 86_400, True),
        (-86_400 - SKEW - 2, 86_400, False),
    ],
)
async def test_a_credential_has_its_time(
    issued: int, lifetime: int, good: bool, gateway: Gateway
) -> None:
    """Clocks of two machines may differ by half a minute, and no more."""
    begun = int(time.time()) + issued
    text = token(issued_at=begun, expires_at=begun + lifetime)

    assert await status(gateway, text) == (200 if good else 401)


@pytest.mark.parametrize("purpose", [Purpose.TOKEN, Purpose.SESSION])
async def test_nothing_lives_longer_than_a_day(purpose: Purpose) -> None:
    with pytest.raises(ValueError, match="lifetime"):
        token(purpose=purpose, lifetime=86_401)


async def test_an_unknown_plan_is_no_plan(gateway: Gateway) -> None:
    assert await status(gateway, token(plan="removed")) == 401
    assert await status(gateway, token(plan="narrow")) == 200


# Rotation


@pytest.fixture(scope="module")
def rotated(running: Running, sim: Simulator) -> Gateway:
    return running.gateway(sim, env={"GATEWAY_SECRET_KEYS": f"{OLD},{NEW}"})


def sealed(secret: str, purpose: Purpose = Purpose.TOKEN) -> str:
    claims = Seals([SECRET]).read(purpose, token(purpose=purpose), time.time())
    return Seals([secret]).issue(claims)


async def test_what_the_old_secret_signed_is_still_good(rotated: Gateway) -> None:
    for secret in (OLD, NEW):
        assert await status(rotated, sealed(secret)) == 200
        assert await status(rotated, sealed(secret, Purpose.SESSION), "cookie") == 200
    assert await status(rotated, sealed(SECRET)) == 401


async def test_the_new_secret_signs(rotated: Gateway) -> None:
    async with rotated.http(key="backend") as http:
        text = (await http.post("/v1/tokens", json={"user": "u"})).json()["token"]

    assert Seals([NEW]).read(Purpose.TOKEN, text, time.time()).principal.name == "u"
    assert await status(rotated, text) == 200


@pytest.mark.parametrize("given", ["short", f"{OLD},short", ","])
def test_a_weak_secret_stops_the_start(given: str, running: Running) -> None:
    env = {"GATEWAY_SECRET_KEYS": given, "GATEWAY_PUBLIC_URL": ""}
    gateway = running.gateway(None, env=env, start=False)
    gateway.process.start()

    assert gateway.process.popen is not None
    assert gateway.process.popen.wait(20) != 0
    assert "SECRET_KEYS" in gateway.log_lines()
    assert OLD not in gateway.log_lines()


# Revocation, in both of two workers


@asynccontextmanager
async def both_workers(
    pair: Gateway, headers: dict[str, str]
) -> AsyncGenerator[list[httpx.AsyncClient]]:
    """A client with one connection to each: it is made while the other one stands still."""
    workers = pair.workers()
    assert len(workers) == 2
    async with AsyncExitStack() as stack:
        clients = []
        for paused in workers:
            client = visitor(pair.url, headers=headers,
                limits=httpx.Limits(max_connections=1, keepalive_expiry=60),
            )  # fmt: skip
            clients.append(await stack.enter_async_context(client))
            kill(paused, signal.SIGSTOP)
            try:
                assert (await client.get("/healthz")).status_code == 200
            finally:
                kill(paused, signal.SIGCONT)
        yield clients


async def taken_back(gateway: Gateway, names: list[str], before: float) -> None:
    """What was issued under `names` before `before` is revoked, as by another process."""
    async with commands(gateway.redis_url) as redis:
        await Revocations(redis).revoke(names, before)


async def refused_within(clients: list[httpx.AsyncClient], path: str, seconds: float) -> None:
    """Every client is refused from some moment within `seconds` on."""
    deadline = time.monotonic() + seconds
    for client in clients:
        while (await client.get(path)).status_code != 401:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("name", ["jti", "principal", "key"])
async def test_what_is_taken_back_is_refused_everywhere_within_a_second(
    name: str, pair: Gateway
) -> None:
    """A token by its own name, its principal's, and its key's. Others are not touched."""
    user, jti, kid = (secrets.token_hex(16) for _ in range(3))
    names = {"jti": jti, "principal": f"default/user:{user}", "key": kid}
    bearer = {"authorization": f"Bearer {token(user, jti=jti, kid=kid)}"}
    other = {"authorization": f"Bearer {token(f'{user}-b')}"}
    async with both_workers(pair, bearer) as clients:
        for client in clients:
            assert (await client.get("/v1/jobs")).status_code == 200
        await taken_back(pair, [f"{name}:{names[name]}"], time.time() + 1)
        await refused_within(clients, "/v1/jobs", 1.0)
        for client in clients:
            assert (await client.get("/v1/jobs", headers=other)).status_code == 200
            submit = await client.post("/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}})
            assert submit.status_code == 401


async def test_a_key_is_taken_back_with_all_that_came_from_it(
    running: Running, sim: Simulator
) -> None:
    """By its id; also the tokens, sessions and passes. A gateway of its own: keys are few."""
    key = f"fgw_{secrets.token_hex(8)}_{'E' * 24}"
    gateway = running.gateway(sim, env={"GATEWAY_API_KEYS": key})
    async with visitor(gateway.url) as http:
        bearer = {"authorization": f"Bearer {key}"}
        text = (await http.post("/v1/tokens", json={"user": "u"}, headers=bearer)).json()["token"]
        bearer = {"authorization": f"Bearer {text}"}
        passing = (await http.post("/v1/stream-passes", headers=bearer)).json()["pass"]
        cookie = (await http.post("/v1/session", headers=bearer)).cookies["fgw_session"]
        http.cookies.clear()
        assert await status(gateway, cookie, "cookie") == 200

        await taken_back(gateway, [f"key:{key_id(key)}"], time.time() + 1)

        for used, where in ((key, "header"), (text, "header"), (cookie, "cookie")):
            deadline = time.monotonic() + 1
            while await status(gateway, used, where) != 401:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
        refused = await http.get("/v1/events", params={"pass": passing})
        assert refused.status_code == 401
        assert await status(gateway, KEYS["backend"]) == 200


async def test_what_came_from_a_revoked_token_goes_with_it(pair: Gateway) -> None:
    jti = secrets.token_hex(16)
    bearer = {"authorization": f"Bearer {token('heir', jti=jti)}"}
    async with visitor(pair.url) as http:
        cookie = (await http.post("/v1/session", headers=bearer)).cookies["fgw_session"]
        http.cookies.clear()
        passing = (await http.post("/v1/stream-passes", headers=bearer)).json()["pass"]
    assert await status(pair, cookie, "cookie") == 200

    await taken_back(pair, [f"jti:{jti}"], time.time() + 1)

    async with both_workers(pair, {"cookie": f"fgw_session={cookie}"}) as clients:
        await refused_within(clients, "/v1/jobs", 1.0)
        for client in clients:
            refused = await client.get("/v1/events", params={"pass": passing})
            assert refused.status_code == 401


async def test_what_is_issued_after_is_good(pair: Gateway) -> None:
    """A person who is signed out everywhere can sign in again."""
    user = secrets.token_hex(8)
    now = int(time.time())
    before, after = token(user, issued_at=now - 10, expires_at=now + 60), token(user)

    await taken_back(pair, [f"principal:default/user:{user}"], now - 5)

    async with both_workers(pair, {"authorization": f"Bearer {before}"}) as clients:
        await refused_within(clients, "/v1/jobs", 1.0)
    assert await status(pair, after) == 200


@pytest.mark.parametrize("path", ["/v1/events", "job"])
async def test_open_streams_end_when_their_credential_is_taken_back(
    path: str, pair: Gateway
) -> None:
    """Within five seconds, in both workers; the job goes on, and its owner's next token sees it."""
    user, jti = secrets.token_hex(8), secrets.token_hex(16)
    bearer = {"authorization": f"Bearer {token(user, jti=jti)}"}
    async with both_workers(pair, bearer) as clients:
        body = {"endpoint": "sim/fault/hold", "input": {}}
        job_id = (await clients[0].post("/v1/jobs", json=body)).json()["id"]
        events = f"/v1/jobs/{job_id}/events" if path == "job" else path
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(client.stream("GET", events)) for client in clients
            ]
            assert [stream.status_code for stream in streams] == [200, 200]
            reading = [read_out(stream) for stream in streams]

            async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
                for each in reading:
                    tasks.create_task(each)
                await taken_back(pair, [f"jti:{jti}"], time.time() + 1)
    async with pair.http(user) as http:
        job = await http.get(f"/v1/jobs/{job_id}")
        await http.post(f"/v1/jobs/{job_id}/cancel")

    assert job.status_code == 200


async def read_out(stream: httpx.Response) -> None:
    try:
        async for _ in stream.aiter_bytes():
            pass
    except httpx.RemoteProtocolError:
        return
