"""fal's public keys: fetched rarely, kept for a day, never guessed."""

import asyncio
import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.core.errors import KeysUnavailable
from gateway.upstream.keys import EAGER, FRESH, MAX_AGE, MAX_SET, PAUSE, FalKeys
from gateway.upstream.session import Pools
from tests.upstream.conftest import Behaviour, Request, Server, always, listening, reply

pytestmark = pytest.mark.anyio


def public(seed: int) -> Ed25519PublicKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32).public_key()


def jwks(*keys: Ed25519PublicKey) -> bytes:
    texts = [base64.urlsafe_b64encode(key.public_bytes_raw()).rstrip(b"=").decode() for key in keys]
    return json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x} for x in texts]}).encode()


OLD, NEW = public(1), public(2)
FIRST, BOTH = reply(200, jwks(OLD)), reply(200, jwks(OLD, NEW))


@pytest.fixture
def keys(out: Pools, server: Server) -> FalKeys:
    return FalKeys(out, {"rest.fal.ai": f"{server.origin}/rest.fal.ai"})


async def test_keys_are_fetched_once_and_without_ours(keys: FalKeys, server: Server) -> None:
    server.behave = always(FIRST)

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(keys.current(1000.0)) for _ in range(10)]

    assert [task.result() for task in asked] == [(OLD,)] * 10
    assert await keys.current(1000.0 + FRESH) == (OLD,)
    [request] = server.requests
    assert request.line == "GET /rest.fal.ai/.well-known/jwks.json HTTP/1.1"
    assert "authorization" not in request.headers


async def test_a_new_key_is_found_at_most_once_a_minute(keys: FalKeys, server: Server) -> None:
    server.behave = always(FIRST)
    await keys.current(0.0)
    server.behave = always(BOTH)

    for second in range(0, int(PAUSE), 7):
        assert await keys.refetched(float(second)) == (OLD,)
    assert len(server.requests) == 1

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(keys.refetched(PAUSE)) for _ in range(100)]
    assert [task.result() for task in asked] == [(OLD, NEW)] * 100
    assert len(server.requests) == 2


async def reset(request: Request) -> None:
    request.cut()


@pytest.mark.parametrize(
    "behave",
    [
        always(reply(500, jwks(NEW))),
        always(reply(200, b"<html>captive portal</html>")),
        always(reply(200, b'{"keys": []}')),
        always(reply(200, jwks(NEW) + b" " * MAX_SET)),
        reset,
    ],
)
async def test_old_keys_are_kept_for_a_day_while_fal_is_away(
    keys: FalKeys, server: Server, behave: Behaviour
) -> None:
    server.behave = always(FIRST)
    await keys.current(0.0)
    server.behave = behave

    assert await keys.current(FRESH + 1) == (OLD,)
    assert await keys.refetched(MAX_AGE) == (OLD,)
    with pytest.raises(KeysUnavailable):
        await keys.current(MAX_AGE + PAUSE + 1)

    server.behave = always(BOTH)
    assert await keys.current(MAX_AGE + 2 * PAUSE + 1) == (OLD, NEW)


async def test_without_keys_there_is_no_answer(keys: FalKeys, server: Server) -> None:
    server.behave = always(reply(503))

    for second in (0.0, 1.0, EAGER - 1):
        with pytest.raises(KeysUnavailable):
            await keys.current(second)
    assert len(server.requests) == 1

    server.behave = always(FIRST)
    assert await keys.current(EAGER) == (OLD,)


async def test_keys_do_not_come_from_elsewhere(keys: FalKeys, server: Server) -> None:
    async with listening(always(reply(200, jwks(NEW)))) as elsewhere:
        server.behave = always(reply(302, b"", location=f"{elsewhere.origin}/jwks.json"))

        with pytest.raises(KeysUnavailable):
            await keys.current(0.0)

    assert elsewhere.connections == 0
    assert len(server.requests) == 1
