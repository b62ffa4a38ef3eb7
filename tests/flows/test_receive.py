"""fal's webhooks over the socket: what is written, and what is not."""

import asyncio
import base64
import gzip
import json
import socket
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core import fal as names
from gateway.core.model import JobRef, Kind, Principal, State
from gateway.core.tokens import Seals
from gateway.core.webhooks import message
from gateway.sim.keys import SigningKeys
from gateway.store import keys
from tests.flows.desk import SEED, Desk, envelope, signed, ticket_url
from tests.harness import CANARY, SECRET, SIM_USER, leaks, token, wait_for
from tests.kernel import connections

pytestmark = pytest.mark.anyio

FOUR = (
    names.WEBHOOK_REQUEST_ID,
    names.WEBHOOK_USER_ID,
    names.WEBHOOK_TIMESTAMP,
    names.WEBHOOK_SIGNATURE,
)
MIB = 2**20
Pairs = list[tuple[bytes, bytes]]


def raw(headers: dict[str, str]) -> Pairs:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def signed_text(body: bytes, fal_id: str, timestamp: str) -> Pairs:
    """A true signature over a timestamp that is not in its form."""
    text = message(fal_id, SIM_USER, 0, body).split(b"\n")
    text[2] = timestamp.encode()
    signature = SigningKeys(SEED).newest.sign(b"\n".join(text)).hex()
    values = (fal_id, SIM_USER, timestamp, signature)
    return [(name.encode(), value.encode()) for name, value in zip(FOUR, values, strict=True)]


async def refused(desk: Desk, forge: Callable[[str], tuple[bytes, Pairs]], status: int) -> None:
    """What `forge` makes of fal's id is refused and changes nothing; the true one then ends it."""
    job = await desk.opened()
    assert job.fal_id is not None
    before = await desk.record(job.id)
    body, headers = forge(job.fal_id)

    assert await desk.post(job.ref, body, headers) == status
    assert await desk.record(job.id) == before

    assert await desk.report(job) == 204
    assert (await desk.job(job.id)).state is State.COMPLETED


@pytest.mark.parametrize("name", FOUR)
@pytest.mark.parametrize("change", ["missing", "empty", "twice", "inner space", "64 KiB"])
async def test_each_header_once_and_in_form(desk: Desk, name: str, change: str) -> None:
    def forge(fal_id: str) -> tuple[bytes, Pairs]:
        body = envelope(fal_id)
        true = signed(body, fal_id)
        others = raw({key: value for key, value in true.items() if key != name})
        value = true[name]
        forged = {
            "missing": [],
            "empty": [""],
            "twice": [value, value],
            "inner space": [value[:5] + " " + value[5:]],
            "64 KiB": [value + "0" * 65_536],
        }[change]
        return body, [*others, *((name.encode(), each.encode()) for each in forged)]

    await refused(desk, forge, 431 if change == "64 KiB" else 401)


SIGNATURES: dict[str, Callable[[str], str]] = {
    "zero": lambda s: "0" * 128,
    "63 bytes": lambda s: s[:-2],
    "65 bytes": lambda s: s + "00",
    "upper": lambda s: s.upper(),
    "tab": lambda s: s[:64] + "\t" + s[64:],
    "0x": lambda s: "0x" + s[2:],
    "base64": lambda s: base64.b64encode(bytes.fromhex(s)).decode(),
    "last digit": lambda s: s[:-1] + ("1" if s[-1] == "0" else "0"),
}


@pytest.mark.parametrize("case", SIGNATURES)
async def test_signatures_that_are_none(desk: Desk, case: str) -> None:
    forged = SIGNATURES[case]

    def forge(fal_id: str) -> tuple[bytes, Pairs]:
        body = envelope(fal_id)
        true = signed(body, fal_id)
        return body, raw(true | {names.WEBHOOK_SIGNATURE: forged(true[names.WEBHOOK_SIGNATURE])})

    await refused(desk, forge, 401)


@pytest.mark.parametrize(
    "text",
    [
        "nan", "inf", "1e9", "1_674_087_231", "-1", "", "+1674087231", "0x63c9d3bf",
        "１６７４０８７２３１", "1795359516000", "1" * 5000,  # noqa: RUF001 - fullwidth
    ],
    ids=lambda text: text[:14],
)  # fmt: skip
async def test_timestamps_that_are_none(desk: Desk, text: str) -> None:
    """Truly signed all the same: the form alone refuses them."""

    def forge(fal_id: str) -> tuple[bytes, Pairs]:
        body = envelope(fal_id)
        return body, signed_text(body, fal_id, text)

    await refused(desk, forge, 401)


@pytest.mark.parametrize("age", [303, -303, 3600, 86_400, -86_400])
async def test_stale_and_future(desk: Desk, age: float) -> None:
    def forge(fal_id: str) -> tuple[bytes, Pairs]:
        body = envelope(fal_id)
        return body, raw(signed(body, fal_id, age=age))

    await refused(desk, forge, 401)


@pytest.mark.parametrize("age", [295, -295])
async def test_clocks_may_differ(desk: Desk, age: float) -> None:
    job = await desk.opened()

    assert await desk.report(job, age=age) == 204
    assert (await desk.job(job.id)).state is State.COMPLETED


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a space": lambda body: body.replace(b'"OK"', b'"OK" '),
    "written again": lambda body: json.dumps(json.loads(body)).encode().replace(b" ", b""),
    "gzip": lambda body: gzip.compress(body),
    "empty": lambda body: b"",
    "a line more": lambda body: body + b"\n",
    "byte order mark": lambda body: b"\xef\xbb\xbf" + body,
}


@pytest.mark.parametrize("case", CHANGES)
async def test_bodies_that_were_not_signed(desk: Desk, case: str) -> None:
    def forge(fal_id: str) -> tuple[bytes, Pairs]:
        body = envelope(fal_id)
        return CHANGES[case](body), raw(signed(body, fal_id))

    await refused(desk, forge, 401)


NO_WEBHOOKS: dict[str, Callable[[str], bytes]] = {
    "other id": lambda id: envelope("another-request"),
    "id twice": lambda id: envelope(id)[:-1] + b', "request_id": "%s"}' % id.encode(),
    "status": lambda id: envelope(id, status="MAYBE"),
    "depth": lambda id: b"[" * 100_000,
    "deep objects": lambda id: b'{"a":' * 100_000,
    "null": lambda id: b"null",
    "empty": lambda id: b"",
    "gzip": lambda id: gzip.compress(envelope(id)),
}


@pytest.mark.parametrize("case", NO_WEBHOOKS)
async def test_signed_but_not_a_webhook(desk: Desk, case: str) -> None:
    def forge(fal_id: str) -> tuple[bytes, Pairs]:
        body = NO_WEBHOOKS[case](fal_id)
        return body, raw(signed(body, fal_id))

    await refused(desk, forge, 401 if case == "other id" else 400)


async def test_another_key_and_another_account(desk: Desk) -> None:
    """fal signs for all its customers: only the account id tells that it is ours."""
    for more in ({"key": Ed25519PrivateKey.generate()}, {"user": "another-customer"}):

        def forge(fal_id: str, more: dict[str, Any] = more) -> tuple[bytes, Pairs]:
            body = envelope(fal_id)
            return body, raw(signed(body, fal_id, **more))

        await refused(desk, forge, 401)


@pytest.mark.parametrize(
    "query", ["key=wrong", "timestamp=stale", "timestamp=future", "user=other", "tamper=1", "id=x"]
)
async def test_what_the_simulator_forges(desk: Desk, query: str) -> None:
    job = await desk.opened()
    before = await desk.record(job.id)

    said = desk.sim.ask("POST", f"webhook/{job.fal_id}?{query}")

    assert said["status"] == 401
    assert await desk.record(job.id) == before
    assert desk.sim.ask("POST", f"webhook/{job.fal_id}")["status"] == 204
    assert (await desk.job(job.id)).state is State.COMPLETED


async def test_the_ticket_of_one_job_with_word_about_another(desk: Desk) -> None:
    ours, other = await desk.opened(), await desk.opened()
    assert other.fal_id is not None
    before = [await desk.record(ours.id), await desk.record(other.id)]
    body = envelope(other.fal_id)

    assert await desk.post(ours.ref, body, signed(body, other.fal_id)) == 401
    assert [await desk.record(ours.id), await desk.record(other.id)] == before

    assert await desk.post(other.ref, body, signed(body, other.fal_id)) == 204
    assert (await desk.job(ours.id)).state is State.QUEUED
    assert (await desk.job(other.id)).state is State.COMPLETED


@pytest.mark.parametrize("case", ["cut", "changed", "longer", "other secret", "token", "old"])
async def test_tickets_that_are_none(desk: Desk, case: str) -> None:
    job = await desk.opened()
    assert job.fal_id is not None
    before = await desk.record(job.id)
    true = Seals([SECRET]).ticket(job.ref)
    ticket = {
        "cut": true[:-1],
        "changed": true[:-4] + ("A" if true[-4] != "A" else "B") + true[-3:],
        "longer": true + "====",
        "other secret": Seals(["x" * 40]).ticket(job.ref),
        "token": token(),
        "old": Seals([SECRET]).ticket(replace(job.ref, created_at=time.time() - 8 * 86_400)),
    }[case]
    body = envelope(job.fal_id)
    url = f"{desk.gateway.direct}/webhooks/fal/{ticket}"

    answer = await desk.outside.post(url, content=body, headers=signed(body, job.fal_id))

    assert answer.status_code == 401
    assert ticket not in answer.text
    assert await desk.record(job.id) == before
    assert await desk.report(job) == 204


async def test_line_ends_within_a_header(desk: Desk) -> None:
    """The server's own parser refuses them; the gateway lives on."""
    job = await desk.opened()
    before = await desk.record(job.id)
    path = ticket_url(desk.gateway, job.ref).removeprefix(desk.gateway.direct)
    for value in (b"a\rb", b"a\nb", b"a\0b"):
        with socket.create_connection(("127.0.0.1", desk.gateway.port), timeout=5) as sock:
            head = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n" % path.encode()
            sock.sendall(head + names.WEBHOOK_USER_ID.encode() + b": " + value + b"\r\n\r\n")
            assert sock.recv(4096).split(b" ")[1] in {b"400", b"401"}

    assert await desk.record(job.id) == before
    assert await desk.report(job) == 204


async def test_an_oversized_body_is_not_read(desk: Desk) -> None:
    job = await desk.opened()
    assert job.fal_id is not None
    before = await desk.record(job.id)
    path = ticket_url(desk.gateway, job.ref).removeprefix(desk.gateway.direct)
    with socket.create_connection(("127.0.0.1", desk.gateway.port), timeout=5) as sock:
        lines = [f"POST {path} HTTP/1.1", "host: x", f"content-length: {65 * MIB}"]
        lines += [f"{name}: {value}" for name, value in signed(b"", job.fal_id).items()]
        sock.sendall("\r\n".join([*lines, "", ""]).encode())
        assert sock.recv(4096).split(b" ")[1] == b"413"

    assert await desk.record(job.id) == before
    assert await desk.report(job) == 204


async def test_a_result_over_the_limit_of_clients_bodies_still_gets_in(desk: Desk) -> None:
    """fal sends a result along however large it is: never a 4xx for a good webhook of ours."""
    job = await desk.opened()
    assert job.fal_id is not None

    assert await desk.report(job, envelope(job.fal_id, "x" * (40 * MIB))) == 204
    assert (await desk.job(job.id)).state is State.COMPLETED


async def test_a_body_in_chunks(desk: Desk) -> None:
    job = await desk.opened()
    assert job.fal_id is not None
    body = envelope(job.fal_id)

    async def chunks() -> AsyncGenerator[bytes]:
        for at in range(0, len(body), 7):
            yield body[at : at + 7]

    url = ticket_url(desk.gateway, job.ref)
    answer = await desk.outside.post(url, content=chunks(), headers=signed(body, job.fal_id))

    assert answer.status_code == 204
    assert (await desk.job(job.id)).state is State.COMPLETED


async def test_before_the_submits_answer(desk: Desk) -> None:
    """fal is faster than its own answer: one end, and the client sees it once."""
    job = await desk.opened("sim/fault/webhook-first")

    seen = await desk.ended(job.id)

    assert seen["status"] == "completed"
    assert seen["result"]["echo"] == {"prompt": "x"}
    assert (await desk.job(job.id)).fal_id == job.fal_id
    assert await desk.events(job.id) == ["job.created", "job.completed"]
    assert desk.told(job.fal_id or "")["tries"][0]["status"] == 204


@pytest.mark.parametrize(("fault", "tries"), [("webhook-twice", 2), ("webhook-parallel", 20)])
async def test_again_and_again(desk: Desk, fault: str, tries: int) -> None:
    job = await desk.opened(f"sim/fault/{fault}")

    told = desk.told(job.fal_id or "", tries)

    assert [each["status"] for each in told["tries"]] == [204] * tries
    assert (await desk.events(job.id)).count("job.completed") == 1


async def test_two_hundred_at_once_over_two_workers(desk: Desk) -> None:
    job = await desk.opened()
    assert job.fal_id is not None
    body = envelope(job.fal_id)

    answers = await asyncio.gather(
        *(desk.post(job.ref, body, signed(body, job.fal_id)) for _ in range(200))
    )

    assert answers == [204] * 200
    workers = desk.gateway.workers()
    assert len(workers) == 2
    assert all(connections(pid, desk.gateway.port) for pid in workers), "both had their part"
    assert (await desk.events(job.id)).count("job.completed") == 1


@pytest.mark.parametrize("first", ["OK", "ERROR", "cancelled"])
async def test_an_end_never_changes(desk: Desk, first: str) -> None:
    job = await desk.opened()
    assert job.fal_id is not None
    failed = {"status": "ERROR", "error": "Invalid status code: 422"}
    cancelled = {"status": "ERROR", "error": "Invalid status code: 499"}
    ok = envelope(job.fal_id, {"first": True})
    error = envelope(job.fal_id, {"detail": "no"}, **failed)
    cancel = envelope(job.fal_id, {"detail": "cancelled"}, **cancelled)
    body, state = {
        "OK": (ok, State.COMPLETED),
        "ERROR": (error, State.FAILED),
        "cancelled": (cancel, State.CANCELLED),
    }[first]

    assert await desk.report(job, body) == 204
    once, events = await desk.record(job.id), await desk.events(job.id)
    assert (await desk.job(job.id)).state is state
    for again in (ok, error, cancel, envelope(job.fal_id, {"another": "result"}), body):
        assert await desk.report(job, again) == 204

    assert await desk.record(job.id) == once
    assert await desk.events(job.id) == events


async def test_the_id_of_an_attempt_in_the_header(desk: Desk) -> None:
    job = await desk.opened("sim/fault/gateway-id")

    assert (await desk.ended(job.id))["status"] == "completed"
    assert [each["status"] for each in desk.told(job.fal_id or "")["tries"]] == [204]


async def test_a_payload_that_was_left_out_is_fetched_once(desk: Desk) -> None:
    job = await desk.opened("sim/fault/payload-error")

    await desk.ended(job.id)
    await desk.until(job.id, lambda now: now.end is not None and now.end.settled)
    result = await desk.http.get(f"/v1/jobs/{job.id}/result")

    assert result.json() == {"echo": {"prompt": "x"}, "endpoint": "sim/fault/payload-error"}
    assert (await desk.events(job.id)).count("job.completed") == 1
    assert desk.sim.calls(method="GET", ends=f"/requests/{job.fal_id}") == 1


async def test_a_payload_that_is_gone_for_good(desk: Desk) -> None:
    job = await desk.opened("sim/fault/payload-lost")

    assert (await desk.ended(job.id))["status"] == "completed"
    result = await desk.http.get(f"/v1/jobs/{job.id}/result")

    assert result.status_code == 410
    assert result.json()["error_type"] == "result_gone"


@pytest.mark.parametrize("place", ["payload", "error", "detail", "at the cut of a text"])
async def test_an_app_that_tells_our_key(desk: Desk, place: str) -> None:
    job = await desk.opened()
    assert job.fal_id is not None
    failed = {"status": "ERROR", "error": "Invalid status code: 422"}
    body = {
        "payload": envelope(job.fal_id, {"seen": f"Key {CANARY}"}),
        "error": envelope(job.fal_id, {}, status="ERROR", error=f"no {CANARY}"),
        "detail": envelope(job.fal_id, {"detail": f"no {CANARY}"}, **failed),
        "at the cut of a text": envelope(job.fal_id, {}, status="ERROR", error="x" * 2020 + CANARY),
    }[place]

    assert await desk.report(job, body) == 204
    answer = await desk.http.get(f"/v1/jobs/{job.id}")
    result = await desk.http.get(f"/v1/jobs/{job.id}/result")

    told = answer.content + result.content + repr(await desk.record(job.id)).encode()
    assert CANARY[:20].encode() not in told
    assert leaks(told) == []
    assert b"***" in answer.content


async def test_a_key_that_leaves_no_json_behind(desk: Desk) -> None:
    """The end counts all the same, and its result is fetched."""
    job = await desk.opened()
    assert job.fal_id is not None
    escaped = f"\\u{ord(CANARY[0]):04x}{CANARY[1:]}"

    assert await desk.report(job, envelope(job.fal_id, {"seen": escaped})) == 204

    now = await desk.job(job.id)
    assert now.state is State.COMPLETED
    assert now.end is not None
    assert now.end.body is None
    assert leaks(repr(await desk.record(job.id)).encode()) == []


async def test_a_job_that_redis_has_lost_comes_back(desk: Desk) -> None:
    """Its ticket says whose it is, and nobody else sees it."""
    job = await desk.opened()
    await desk.redis.delete(
        keys.job(job.id), keys.events(job.id), keys.jobs(job.ref.principal),
        keys.team_jobs(job.ref.principal.team),
    )  # fmt: skip
    gone = await desk.http.get(f"/v1/jobs/{job.id}")

    assert await desk.report(job) == 204
    back = await desk.http.get(f"/v1/jobs/{job.id}")
    listed = await desk.http.get("/v1/jobs")
    async with desk.gateway.http("mallory") as mallory:
        foreign = await mallory.get(f"/v1/jobs/{job.id}")

    assert gone.status_code == foreign.status_code == 404
    assert back.json()["status"] == "completed"
    assert back.json()["result"] == {"made": job.fal_id}
    assert [each["id"] for each in listed.json()["jobs"]] == [job.id]
    assert await desk.events(job.id) == ["job.created", "job.completed"]


def stranger(age: float) -> JobRef:
    """A job that the ledger does not know, as a ticket of ours names it."""
    principal = Principal("default", Kind.USER, "lost")
    job_id = "37a8eec1-0000-4000-8000-" + f"{int(age):012d}"
    return JobRef(job_id, principal, "fal-ai/echo", round(time.time() - age, 3))


@pytest.mark.parametrize(
    ("age", "made"), [(60, True), (86_000, True), (86_800, False), (6 * 86_400, False)]
)
async def test_only_a_young_ticket_makes_a_job_anew(desk: Desk, age: float, made: bool) -> None:
    ref = stranger(age)
    body = envelope("fal-id-of-old")
    team_before = await desk.redis.keys("fgw:{37}:*")

    assert await desk.post(ref, body, signed(body, "fal-id-of-old")) == 204

    job = await desk.ledger.read(ref.id)
    assert (job is not None) is made
    if job is None:
        assert sorted(await desk.redis.keys("fgw:{37}:*")) == sorted(team_before)
    else:
        assert (job.state, job.ref, job.fal_id) == (State.COMPLETED, ref, "fal-id-of-old")


async def test_no_ticket_is_in_the_log(desk: Desk) -> None:
    job = await desk.opened()
    assert await desk.report(job) == 204
    assert await desk.report(job, key=Ed25519PrivateKey.generate()) == 401
    ticket = Seals([SECRET]).ticket(job.ref)

    wait_for(lambda: "/webhooks/fal/{ticket} 204" in desk.gateway.log_lines())
    wait_for(lambda: "/webhooks/fal/{ticket} 401" in desk.gateway.log_lines())
    log = desk.gateway.log_lines()
    assert ticket not in log
    assert ticket.split(".")[0] not in log
    assert ticket.rsplit(".", 1)[1] not in log
