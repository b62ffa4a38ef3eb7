"""Webhooks: rows 30 and 32. The checks here are written anew, from the description alone."""

import asyncio
import json
import time
from base64 import urlsafe_b64decode
from hashlib import sha256

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from gateway.sim.webhooks import Signed, deliverable, headers_of
from tests.sim.conftest import Fal, Hook, Receiver

pytestmark = pytest.mark.anyio


async def genuine(fal: Fal, hook: Hook, user: str = "sim-user") -> bool:
    """Whether a webhook is signed by a published key, now, for this account."""
    jwks = (await fal.http.get("/rest.fal.ai/.well-known/jwks.json")).json()
    lines = [hook.headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id")]
    stamp = hook.headers["x-fal-webhook-timestamp"]
    message = "\n".join([*lines, stamp, sha256(hook.body).hexdigest()]).encode()
    signature = bytes.fromhex(hook.headers["x-fal-webhook-signature"])
    keys = [urlsafe_b64decode(key["x"] + "=") for key in jwks["keys"]]
    fresh = abs(time.time() - int(stamp)) < 300
    return fresh and lines[1] == user and any(verifies(key, signature, message) for key in keys)


def verifies(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def id_of(job: str) -> str:
    return job.rsplit("/", 1)[1]


async def tries_of(fal: Fal, job: str) -> list[dict[str, object]]:
    jobs = {each["request_id"]: each for each in await fal.sim("jobs")}
    return list(jobs[id_of(job)]["tries"])


def test_signature_is_the_one_that_the_description_gives() -> None:
    """The test vector of the protocol's description: seed 00..1f."""
    request_id = "11111111-2222-4333-8444-555555555555"
    body = (
        b'{"error": null, "gateway_request_id": "%s", "payload": {"seed": 7}, '
        b'"request_id": "%s", "status": "OK"}' % (request_id.encode(), request_id.encode())
    )
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))

    headers = headers_of(Signed(request_id, "test-user", 1700000000, key), body)

    assert headers["x-fal-webhook-signature"] == (
        "613a2ba2f87ae5531e36a9c7b22f7f55a941f0fe37dd2b61d21581cc114a724c"
        "c1aeaa69bec3bcf837c49e48b85f4cd039adcde106fc69378a269fb61bf98f06"
    )


async def test_success_is_reported(fal: Fal, receiver: Receiver) -> None:
    job = await fal.job("fal-ai/flux/dev", {"b": 1, "a": 2**64}, fal_webhook=receiver.url)
    (hook,) = await receiver.hooks(1)

    body = json.loads(hook.body)
    assert await genuine(fal, hook)
    assert hook.headers["x-fal-webhook-request-id"] == id_of(job)
    assert body == {
        "error": None,
        "gateway_request_id": id_of(job),
        "payload": {"echo": {"a": 2**64, "b": 1}, "endpoint": "fal-ai/flux/dev"},
        "request_id": id_of(job),
        "status": "OK",
    }
    assert hook.body == json.dumps(body, sort_keys=True).encode()


@pytest.mark.parametrize(
    ("fault", "status"), [("fail-422", 422), ("fail-503", 503), ("timeout-504", 504)]
)
async def test_failure_is_reported(fal: Fal, receiver: Receiver, fault: str, status: int) -> None:
    job = await fal.job(f"sim/fault/{fault}", fal_webhook=receiver.url)
    (hook,) = await receiver.hooks(1)

    body = json.loads(hook.body)
    assert await genuine(fal, hook)
    assert body["status"] == "ERROR"
    assert body["error"] == f"Invalid status code: {status}"
    assert body["payload"] == (await fal.http.get(job)).json()


async def test_cancel_is_reported_as_an_error(fal: Fal, receiver: Receiver) -> None:
    job = await fal.job("sim/fault/hold", fal_webhook=receiver.url)
    await fal.http.put(f"{job}/cancel")
    (hook,) = await receiver.hooks(1)

    assert json.loads(hook.body)["error"] == "Invalid status code: 499"


@pytest.mark.parametrize("fault", ["payload-error", "payload-lost"])
async def test_payload_can_be_missing(fal: Fal, receiver: Receiver, fault: str) -> None:
    await fal.job(f"sim/fault/{fault}", fal_webhook=receiver.url)
    (hook,) = await receiver.hooks(1)

    body = json.loads(hook.body)
    assert body["payload"] is None
    assert body["payload_error"]


async def test_refused_webhook_is_sent_again(fal: Fal, receiver: Receiver) -> None:
    receiver.answers = [503, 500, 404]
    await fal.job("sim/fault/fast", fal_webhook=receiver.url)
    hooks = await receiver.hooks(4)

    assert all([await genuine(fal, hook) for hook in hooks])
    assert len({hook.body for hook in hooks}) == 1
    assert len(hooks) == 4


async def test_unreachable_receiver_is_tried_again(fal: Fal) -> None:
    job = await fal.job("sim/fault/fast", fal_webhook="http://127.0.0.1:9/hook")
    while len(tries := await tries_of(fal, job)) < 2:
        pass

    assert {each["status"] for each in tries} == {None}
    assert {each["error"] for each in tries} == {"ConnectError"}


async def test_redirect_is_final(fal: Fal, receiver: Receiver) -> None:
    """Neither followed nor tried again: the next job's webhook is the next to come."""
    receiver.answers = [307]
    first = await fal.job("sim/fault/fast", fal_webhook=receiver.url)
    await receiver.hooks(1)
    await asyncio.sleep(0.1)  # longer than the pause before a second try
    await fal.job("sim/fault/fast", {"second": True}, fal_webhook=receiver.url)
    hooks = await receiver.hooks(2)

    assert len(await tries_of(fal, first)) == 1
    assert json.loads(hooks[1].body)["payload"]["echo"] == {"second": True}


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://example.com/hook", True),
        ("http://127.0.0.1:8787/hook", True),
        ("http://localhost/hook", True),
        ("http://[::1]:1/hook", True),
        ("http://example.com/hook", False),
        ("http://127.0.0.1.example.com/hook", False),
        ("ftp://127.0.0.1/hook", False),
        ("https://", False),
        ("http://[::1/hook", False),
        ("", False),
    ],
)
def test_where_webhooks_go(url: str, good: bool) -> None:
    assert deliverable(url) is good


async def test_webhook_to_a_forbidden_place_is_dropped(fal: Fal) -> None:
    job = await fal.job("sim/fault/fast", fal_webhook="http://example.com/hook")
    while not (tries := await tries_of(fal, job)):
        pass

    assert [each["error"] for each in tries] == ["dropped"]


@pytest.mark.parametrize(("fault", "count"), [("webhook-twice", 2), ("webhook-parallel", 20)])
async def test_repeats(fal: Fal, receiver: Receiver, fault: str, count: int) -> None:
    await fal.job(f"sim/fault/{fault}", fal_webhook=receiver.url)
    hooks = await receiver.hooks(count)

    assert len({hook.body for hook in hooks}) == 1
    assert len(hooks) == count


async def test_no_webhook(fal: Fal, receiver: Receiver) -> None:
    silent = await fal.job("sim/fault/no-webhook", fal_webhook=receiver.url)
    assert (await fal.result(silent)).status_code == 200
    loud = await fal.job("sim/fault/fast", fal_webhook=receiver.url)
    hooks = await receiver.hooks(1)

    assert [json.loads(hook.body)["request_id"] for hook in hooks] == [id_of(loud)]


async def test_late_webhook(fal: Fal, receiver: Receiver) -> None:
    job = await fal.job("sim/fault/webhook-late", fal_webhook=receiver.url)

    assert (await fal.result(job)).status_code == 200
    assert receiver.heard == []
    assert await genuine(fal, (await receiver.hooks(1))[0])


async def test_ids_of_a_retried_job(fal: Fal, receiver: Receiver) -> None:
    """With gateway-id, body and header name another attempt; after a requeue, the body alone."""
    job = await fal.job("sim/fault/gateway-id", fal_webhook=receiver.url)
    (hook,) = await receiver.hooks(1)
    body = json.loads(hook.body)
    assert body["request_id"] == id_of(job) != body["gateway_request_id"]
    assert hook.headers["x-fal-webhook-request-id"] == body["gateway_request_id"]
    assert await genuine(fal, hook)

    job = await fal.job("sim/fault/requeue", fal_webhook=receiver.url)
    hook = (await receiver.hooks(2))[1]
    body = json.loads(hook.body)
    assert body["request_id"] == id_of(job) != body["gateway_request_id"]
    assert hook.headers["x-fal-webhook-request-id"] == body["request_id"]


async def test_webhook_before_the_answer(fal: Fal, receiver: Receiver) -> None:
    async with asyncio.TaskGroup() as tasks:
        submit = tasks.create_task(fal.submit("sim/fault/webhook-first", fal_webhook=receiver.url))
        (hook,) = await receiver.hooks(1)
        answered_before = submit.done()

    assert not answered_before
    assert submit.result().json()["request_id"] == json.loads(hook.body)["request_id"]


@pytest.mark.parametrize(
    "forgery", ["key=wrong", "timestamp=stale", "timestamp=future", "user=other", "tamper=1"]
)
async def test_forgeries(fal: Fal, receiver: Receiver, forgery: str) -> None:
    """Each is false in its way; sent again without, the webhook is genuine."""
    job = await fal.job("sim/fault/fast", fal_webhook=receiver.url)
    await receiver.hooks(1)

    forged = await fal.http.post(f"/_sim/webhook/{id_of(job)}?{forgery}")
    honest = await fal.http.post(f"/_sim/webhook/{id_of(job)}")

    assert [forged.json(), honest.json()] == [{"status": 200}] * 2
    genuineness = [await genuine(fal, hook) for hook in receiver.heard]
    assert genuineness == [True, False, True]


async def test_webhook_to_another_address(fal: Fal, receiver: Receiver) -> None:
    """For a job that has not ended, too, and with a payload and a header id of our choice."""
    job = await fal.job("sim/fault/hold")

    reply = await fal.http.post(
        f"/_sim/webhook/{id_of(job)}", params={"url": receiver.url, "id": "other"}, json={"x": 1}
    )

    assert reply.json() == {"status": 200}
    (hook,) = receiver.heard
    assert hook.headers["x-fal-webhook-request-id"] == "other"
    assert json.loads(hook.body)["payload"] == {"x": 1}
    assert await genuine(fal, hook)


async def test_rotation(fal: Fal, receiver: Receiver) -> None:
    """Two keys are published from the start; webhooks are signed by the newest."""
    jwks = "/rest.fal.ai/.well-known/jwks.json"
    async with httpx.AsyncClient(base_url=fal.origin) as anybody:
        before = (await anybody.get(jwks)).json()["keys"]
    job = await fal.job("sim/fault/fast", fal_webhook=receiver.url)
    await receiver.hooks(1)

    added = (await fal.http.post("/_sim/rotate")).json()["keys"]
    await fal.http.post(f"/_sim/webhook/{id_of(job)}")
    assert [await genuine(fal, hook) for hook in receiver.heard] == [True, True]
    dropped = (await fal.http.post("/_sim/rotate?drop=1")).json()["keys"]
    await fal.http.post(f"/_sim/webhook/{id_of(job)}")

    assert [await genuine(fal, hook) for hook in receiver.heard] == [False, False, True]
    assert len(before) >= 1
    assert len(added) == len(before) + 1
    assert len(dropped) == 1
    assert {key["kty"] for key in added} == {"OKP"}
    assert {key["crv"] for key in added} == {"Ed25519"}
    assert {len(key["x"]) for key in added} == {43}
    padded = (await fal.http.post("/_sim/rotate?pad=1")).json()["keys"]
    bare = (await fal.http.post("/_sim/rotate")).json()["keys"]
    assert {key["x"][43:] for key in padded} == {"="}
    assert {key["x"][43:] for key in bare} == {""}
