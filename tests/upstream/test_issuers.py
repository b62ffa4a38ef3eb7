"""Keys of issuers: fetched rarely, kept for a day, never taken from elsewhere."""

import asyncio
import json
import time
from typing import Any, Final

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from gateway.core.errors import KeysUnavailable, Unauthenticated
from gateway.core.jwts import Issuer
from gateway.upstream.issuers import EAGER, FRESH, MAX_AGE, MAX_SET, PAUSE, IssuerKeys, Issuers
from gateway.upstream.session import Pools
from tests.upstream.conftest import Behaviour, Request, Server, always, hang, listening, reply

pytestmark = pytest.mark.anyio

AUDIENCE: Final = "https://gw.example"
OLD: Final = ec.generate_private_key(ec.SECP256R1())
NEW: Final = ec.generate_private_key(ec.SECP256R1())


def jwks(**keys: ec.EllipticCurvePrivateKey) -> bytes:
    entries = []
    for kid, key in keys.items():
        made = json.loads(ECAlgorithm.to_jwk(key.public_key()))
        entries.append(made if kid == "nameless" else {**made, "kid": kid})
    return json.dumps({"keys": entries}).encode()


FIRST: Final = reply(200, jwks(old=OLD))
BOTH: Final = reply(200, jwks(old=OLD, new=NEW))


def issuer(server: Server | None = None, **more: Any) -> Issuer:
    return Issuer(
        name=more.pop("name", "login"),
        issuer=more.pop("issuer", "https://login.example"),
        audience=AUDIENCE,
        algorithms=frozenset({"ES256"}),
        jwks_url=None if server is None else f"{server.origin}/jwks.json",
        **more,
    )


def signed(key: ec.EllipticCurvePrivateKey, kid: str | None = None, **said: Any) -> str:
    now = int(time.time())
    plain = {
        "iss": "https://login.example", "aud": AUDIENCE, "sub": "alice", "iat": now,
        "exp": now + 600,
    }  # fmt: skip
    headers = {} if kid is None else {"kid": kid}
    return pyjwt.encode(plain | said, key, "ES256", headers=headers)


@pytest.fixture
def keys(out: Pools, server: Server) -> IssuerKeys:
    return IssuerKeys(out, issuer(server))


async def kids(keys: IssuerKeys, kid: str | None, now: float) -> list[str | None]:
    return [key.kid for key in await keys.named(kid, now)]


async def test_keys_are_fetched_once_and_without_ours(keys: IssuerKeys, server: Server) -> None:
    server.behave = always(FIRST)

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(kids(keys, "old", 1000.0)) for _ in range(20)]

    assert [task.result() for task in asked] == [["old"]] * 20
    assert await kids(keys, None, 1000.0 + FRESH) == ["old"]
    [request] = server.requests
    assert request.line == "GET /jwks.json HTTP/1.1"
    assert "authorization" not in request.headers


async def test_unknown_names_cause_one_look_a_minute(keys: IssuerKeys, server: Server) -> None:
    server.behave = always(FIRST)
    await keys.named("old", 0.0)

    for number in range(10_000):
        assert await keys.named(f"../../{number}", number * (PAUSE - 1) / 10_000) == []
    assert len(server.requests) == 1

    server.behave = always(BOTH)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(kids(keys, "new", PAUSE)) for _ in range(100)]
    assert [task.result() for task in asked] == [["new"]] * 100
    assert len(server.requests) == 2


async def test_a_known_name_does_not_wait_for_a_slow_issuer(
    keys: IssuerKeys, server: Server
) -> None:
    server.behave = always(FIRST)
    await keys.named("old", 0.0)
    server.behave = hang

    async with asyncio.timeout(3), asyncio.TaskGroup() as tasks:
        stuck = tasks.create_task(keys.named("new", FRESH + 1))
        await server.got(2)
        assert await kids(keys, "old", FRESH + 1) == ["old"]
        stuck.cancel()


async def reset(request: Request) -> None:
    request.cut()


@pytest.mark.parametrize(
    "behave",
    [
        always(reply(500, jwks(new=NEW))),
        always(reply(200, b"<html>captive portal</html>")),
        always(reply(200, b'{"keys": []}')),
        always(reply(200, b'{"keys": [{"kty": "oct", "k": "AAAA", "kid": "old"}]}')),
        always(reply(200, jwks(new=NEW) + b" " * MAX_SET)),
        reset,
    ],
)
async def test_old_keys_are_kept_for_a_day_while_the_issuer_is_away(
    keys: IssuerKeys, server: Server, behave: Behaviour
) -> None:
    server.behave = always(FIRST)
    await keys.named("old", 0.0)
    server.behave = behave

    assert await kids(keys, "old", FRESH + 1) == ["old"]
    assert await kids(keys, "old", MAX_AGE) == ["old"]
    with pytest.raises(KeysUnavailable):
        await keys.named("old", MAX_AGE + PAUSE + 1)

    server.behave = always(BOTH)
    assert await kids(keys, "new", MAX_AGE + 2 * PAUSE + 1) == ["new"]


async def test_without_keys_there_is_no_answer(keys: IssuerKeys, server: Server) -> None:
    server.behave = always(reply(503))

    for second in (0.0, 1.0, EAGER - 1):
        with pytest.raises(KeysUnavailable):
            await keys.named("old", second)
    assert len(server.requests) == 1

    server.behave = always(FIRST)
    assert await kids(keys, "old", EAGER) == ["old"]


async def test_keys_do_not_come_from_elsewhere(keys: IssuerKeys, server: Server) -> None:
    async with listening(always(reply(200, jwks(old=NEW)))) as elsewhere:
        server.behave = always(reply(302, b"", location=f"{elsewhere.origin}/jwks.json"))

        with pytest.raises(KeysUnavailable):
            await keys.named("old", 0.0)

    assert elsewhere.connections == 0
    assert len(server.requests) == 1


async def test_a_key_without_a_name_may_be_meant_by_any(out: Pools, server: Server) -> None:
    keys = IssuerKeys(out, issuer(server))
    server.behave = always(reply(200, jwks(nameless=OLD, new=NEW)))

    assert await kids(keys, "other", 0.0) == [None]
    assert await kids(keys, "new", 0.0) == ["new"]
    assert await kids(keys, None, 0.0) == [None, "new"]


# JWTs


async def test_a_verified_jwt_is_known_again(out: Pools, server: Server) -> None:
    server.behave = always(FIRST)
    issuers = Issuers(out, [issuer(server)], max=3)
    text = signed(OLD, "old")

    first = await issuers.bearer(text, time.time)
    assert await issuers.bearer(text, time.time) is first
    assert first.principal.name == "alice"
    for number in range(10):
        await issuers.bearer(signed(OLD, "old", sub=f"user-{number}"), time.time)
    assert len(issuers) == 3
    assert await issuers.bearer(text, time.time) is not first


async def test_what_is_known_ends_with_its_time(out: Pools, server: Server) -> None:
    server.behave = always(FIRST)
    issuers = Issuers(out, [issuer(server)])
    text = signed(OLD, "old")
    await issuers.bearer(text, time.time)

    with pytest.raises(Unauthenticated, match="expired"):
        await issuers.bearer(text, lambda: time.time() + 700)
    assert (await issuers.bearer(text, time.time)).principal.name == "alice"


async def test_a_bad_jwt_leaves_nothing_and_asks_nobody(out: Pools, server: Server) -> None:
    server.behave = always(FIRST)
    issuers = Issuers(out, [issuer(server)])

    for text in ("a.b.c", signed(OLD, "old", iss="https://evil.example"), "é.é.é", "\ud800.a.b"):
        with pytest.raises(Unauthenticated):
            await issuers.bearer(text, time.time)
    assert server.requests == []
    for text in (signed(NEW, "old"), signed(NEW, "new")):
        with pytest.raises(Unauthenticated):
            await issuers.bearer(text, time.time)
    assert len(issuers) == 0
    assert (await issuers.bearer(signed(OLD, "old"), time.time)).principal.name == "alice"
    assert len(server.requests) == 1


async def test_issuers_do_not_share_keys(out: Pools, server: Server) -> None:
    """Two with the same name for their keys."""
    server.behave = always(reply(200, jwks(k=OLD)))
    async with listening(always(reply(200, jwks(k=NEW)))) as second:
        other = issuer(second, name="other", issuer="https://other.example", prefix="other:")
        issuers = Issuers(out, [issuer(server), other])

        mine = await issuers.bearer(signed(OLD, "k"), time.time)
        theirs = await issuers.bearer(signed(NEW, "k", iss=other.issuer), time.time)
        for text in (signed(NEW, "k"), signed(OLD, "k", iss=other.issuer)):
            with pytest.raises(Unauthenticated):
                await issuers.bearer(text, time.time)

    assert (mine.principal.name, theirs.principal.name) == ("alice", "other:alice")


async def test_a_key_of_the_settings_needs_no_address(out: Pools) -> None:
    public = OLD.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    issuers = Issuers(out, [issuer(public_key=public.decode())])

    assert (await issuers.bearer(signed(OLD, "any"), time.time)).principal.name == "alice"
    with pytest.raises(Unauthenticated):
        await issuers.bearer(signed(NEW, "any"), time.time)


async def test_a_key_that_its_issuer_withdraws_is_good_for_no_jwt_that_was_seen_before(
    out: Pools, server: Server
) -> None:
    """Such as one that a thief had. Meanwhile, and while the issuer is away, nobody is asked."""
    begun = time.time()
    server.behave = always(BOTH)
    issuers = Issuers(out, [issuer(server)])
    stolen, good = (
        signed(key, kid, exp=int(begun) + 40_000) for key, kid in ((OLD, "old"), (NEW, "new"))
    )
    for text in (stolen, good, stolen, good):
        await issuers.bearer(text, lambda: begun)
    server.behave = always(reply(500))
    for text in (stolen, good):
        await issuers.bearer(text, lambda: begun + FRESH + 1)
    asked = len(server.requests)

    server.behave = always(reply(200, jwks(new=NEW)))
    await issuers.bearer(stolen, lambda: begun + 2 * FRESH - 1)
    assert (asked, len(server.requests)) == (2, 2)

    with pytest.raises(Unauthenticated):
        await issuers.bearer(stolen, lambda: begun + 2 * FRESH + 2)
    assert (await issuers.bearer(good, lambda: begun + 2 * FRESH + 2)).principal.name == "alice"
