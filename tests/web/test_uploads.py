"""Files of plans that bound them: on their way through the gateway to the simulator's storage."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from gateway.core import fal
from gateway.core.model import Kind, Principal
from gateway.core.tokens import Purpose
from gateway.core.uploads import UploadSeals
from gateway.store import keys
from gateway.store.revocations import Revocations
from tests.harness import SECRET, Gateway, Running, Simulator
from tests.web.conftest import ORIGIN
from tests.web.wire import connected, exchanged

pytestmark = pytest.mark.anyio

MIB: Final = 2**20
MOST: Final = 3 * MIB
CONFIG: Final[dict[str, Any]] = {
    "plans": {
        "default": {"endpoints": ["**"]},
        "bounded": {"endpoints": ["**"], "max_upload": MOST},
        "daily": {"endpoints": ["**"], "limits": [{"uploads": "1MiB/day"}]},
        "both": {
            "endpoints": ["**"],
            "max_upload": MOST,
            "limits": [{"uploads": "1GiB/day"}, {"rate": "3/h"}],
        },
    }
}


@pytest.fixture(scope="module")
def door(running: Running, sim: Simulator) -> Gateway:
    """A gateway that holds next to nothing of a body."""
    env = {
        "GATEWAY_CORS_ORIGINS": ORIGIN,
        "GATEWAY_BODIES_MAX": "65536",
        "GATEWAY_BODIES_IN_FLIGHT": "65536",
    }
    plans = {n: {**plan, "max_body": 65536} for n, plan in CONFIG["plans"].items()}
    return running.gateway(sim, env=env, config={"plans": plans})


def client(door: Gateway, plan: str, user: str | None = None, **claims: Any) -> httpx.AsyncClient:
    token = door.token(user or f"user-{secrets.token_hex(6)}", plan=plan, **claims)
    return httpx.AsyncClient(
        base_url=door.url, headers={"authorization": f"Bearer {token}"}, timeout=30
    )


async def addresses(http: httpx.AsyncClient, *, multipart: bool = False) -> dict[str, str]:
    answer = await initiated(http, multipart=multipart)
    assert answer.status_code == 200, answer.text
    urls: dict[str, str] = answer.json()
    return urls


async def initiated(http: httpx.AsyncClient, *, multipart: bool = False) -> httpx.Response:
    path = "initiate-multipart" if multipart else "initiate"
    return await http.post(
        f"/fal/rest/storage/upload/{path}?{fal.UPLOAD_QUERY}",
        json={"file_name": "a.bin", "content_type": "application/x-test"},
    )


async def put(url: str, content: Any, **headers: str) -> httpx.Response:
    """As a browser: without a credential."""
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.put(url, content=content, headers=headers)


async def stored(url: str) -> bytes:
    async with httpx.AsyncClient() as http:
        answer = await http.get(url)
    assert answer.status_code == 200
    return answer.content


async def missing(url: str) -> bool:
    """Has nothing got there?"""
    async with httpx.AsyncClient() as http:
        return (await http.get(url)).status_code == 404


async def in_pieces(total: int, piece: int = 100_000) -> AsyncGenerator[bytes]:
    for start in range(0, total, piece):
        yield b"x" * min(piece, total - start)


async def bytes_of(redis: Redis, user: str) -> int:
    """Of today, as they are counted."""
    key = keys.meter(keys.shard_of_team("default"), Principal("default", Kind.USER, user).digest)
    found: Any = await redis.hget(key, f"u:{datetime.now(UTC):%Y%m%d}")
    return int(found or 0)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while True:
            if await true():
                return
            await asyncio.sleep(0.02)


async def comes_to(redis: Redis, user: str, count: int) -> None:
    async def there() -> bool:
        return await bytes_of(redis, user) == count

    await until(there)


async def test_a_file_passes_through_and_is_where_fal_said(door: Gateway, sim: Simulator) -> None:
    data = secrets.token_bytes(2 * MIB)
    async with client(door, "bounded") as http:
        urls = await addresses(http)
    answer = await put(urls["upload_url"], data)

    assert urls["upload_url"].startswith(f"{door.url}/v1/uploads/")
    assert urls["file_url"].startswith(sim.origin)
    assert answer.status_code == 200, answer.text
    assert sha256(await stored(urls["file_url"])).digest() == sha256(data).digest()


async def test_of_a_plan_without_bounds_the_gateway_sees_no_bytes(
    door: Gateway, sim: Simulator
) -> None:
    async with client(door, "default") as http:
        urls = await addresses(http)
    assert urls["upload_url"].startswith(sim.origin)


async def test_the_address_for_a_proxied_client_is_ours_too(door: Gateway) -> None:
    target = f"https://{fal.REST}{fal.UPLOAD_PATH}?{fal.UPLOAD_QUERY}"
    async with client(door, "bounded") as http:
        answer = await http.post(
            "/api/fal/proxy",
            json={"file_name": "a.png", "content_type": "image/png"},
            headers={fal.TARGET_URL: target},
        )
    url = answer.json()["upload_url"]
    assert url.startswith(f"{door.url}/v1/uploads/")
    assert (await put(url, b"an image")).status_code == 200
    assert await stored(answer.json()["file_url"]) == b"an image"


async def test_a_file_in_chunks_passes_too(door: Gateway) -> None:
    async with client(door, "bounded") as http:
        urls = await addresses(http)
    assert (await put(urls["upload_url"], in_pieces(MIB + 7))).status_code == 200
    assert await stored(urls["file_url"]) == b"x" * (MIB + 7)


async def test_an_empty_file_is_a_file(door: Gateway) -> None:
    async with client(door, "both") as http:
        urls = await addresses(http)
    assert (await put(urls["upload_url"], b"")).status_code == 200
    assert await stored(urls["file_url"]) == b""


async def test_too_large_a_file_is_refused_before_a_byte(door: Gateway) -> None:
    async with client(door, "bounded") as http:
        urls = await addresses(http)
    path = urls["upload_url"].removeprefix(door.url)
    head = f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {MOST + 1}\r\n\r\n"
    assert (await exchanged(door.url, head.encode())).status == 413
    assert await missing(urls["file_url"])


async def test_too_large_a_file_in_chunks_is_cut(door: Gateway) -> None:
    async with client(door, "bounded") as http:
        urls = await addresses(http)
    refused = await put(urls["upload_url"], in_pieces(MOST + 1))
    assert refused.status_code == 413
    assert refused.json()["error_type"] == "body_too_large"
    assert (await put(urls["upload_url"], b"a smaller one")).status_code == 200
    assert await stored(urls["file_url"]) == b"a smaller one"


async def test_bytes_of_a_day_end_and_the_refusal_names_the_limit(
    door: Gateway, redis: Redis
) -> None:
    user = f"user-{secrets.token_hex(6)}"
    async with client(door, "daily", user) as http:
        urls = await addresses(http)
    url = urls["upload_url"]
    assert (await put(url, b"x" * (MIB - 10))).status_code == 200
    refused = await put(url, b"x" * 11)

    assert refused.status_code == 429
    assert refused.json()["limit"] == "principal-uploads"
    assert "principal-uploads" in refused.json()["detail"]
    now = datetime.now(UTC)
    midnight = 86_400 - (now.hour * 3600 + now.minute * 60 + now.second)
    assert abs(int(refused.headers["retry-after"]) - midnight) <= 5
    assert (
        '"principal-uploads";q=1048576;qu="content-bytes";w=86400'
        in (refused.headers["ratelimit-policy"])
    )
    assert refused.headers["ratelimit"].startswith('"principal-uploads";r=0;t=')
    assert (await put(url, b"x" * 10)).status_code == 200
    assert (await put(url, in_pieces(1))).status_code == 429
    assert await bytes_of(redis, user) == MIB


async def test_in_chunks_the_day_is_used_to_its_last_byte(door: Gateway, redis: Redis) -> None:
    user = f"user-{secrets.token_hex(6)}"
    async with client(door, "daily", user) as http:
        url = (await addresses(http))["upload_url"]
    assert (await put(url, in_pieces(MIB // 2))).status_code == 200
    assert await bytes_of(redis, user) == MIB // 2
    assert (await put(url, in_pieces(MIB // 2))).status_code == 200
    assert (await put(url, in_pieces(1))).status_code == 429
    assert await bytes_of(redis, user) == MIB


@pytest.mark.parametrize(
    ("head", "sent"),
    [
        ("Content-Length: 1048576\r\n\r\n", b""),
        ("Transfer-Encoding: chunked\r\n\r\n3e8\r\n", b"x" * 1000),
    ],
    ids=["announced", "chunked"],
)
async def test_of_a_file_that_breaks_off_only_what_was_sent_counts(
    door: Gateway, redis: Redis, head: str, sent: bytes
) -> None:
    """Chunked, that a block is reserved tells us that the first bytes have been read."""
    user = f"user-{secrets.token_hex(6)}"
    async with client(door, "daily", user) as http:
        url = (await addresses(http))["upload_url"]
    line = await connected(door.direct)
    first = f"PUT {url.removeprefix(door.url)} HTTP/1.1\r\nHost: x\r\n{head}"
    await line.send(first.encode() + sent)
    await comes_to(redis, user, MIB)  # reserved, before a byte goes on
    line.close()
    await comes_to(redis, user, len(sent))
    assert (await put(url, b"x" * (MIB - len(sent)))).status_code == 200


async def test_uploads_at_once_never_pass_the_day(door: Gateway, redis: Redis) -> None:
    user = f"user-{secrets.token_hex(6)}"
    async with client(door, "daily", user) as http:
        urls = [(await addresses(http))["upload_url"] for _ in range(6)]
    answers = await asyncio.gather(*(put(url, b"x" * (MIB // 4)) for url in urls * 2))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] * 4 + [429] * 8
    assert await bytes_of(redis, user) == MIB


async def test_parts_pass_through_and_the_file_is_whole(door: Gateway) -> None:
    parts = [secrets.token_bytes(MIB), secrets.token_bytes(MIB), secrets.token_bytes(5)]
    async with client(door, "both") as http:
        urls = await addresses(http, multipart=True)
    base, told = urls["upload_url"], []
    for number, part in enumerate(parts, 1):
        answer = await put(f"{base}/{number}", part)
        assert answer.status_code == 200, answer.text
        assert answer.json()["etag"] == answer.headers["etag"]
        told.append(answer.json())
    done = await posted(f"{base}/complete", {"parts": told})

    assert done.status_code == 200, done.text
    assert await stored(urls["file_url"]) == b"".join(parts)


async def posted(url: str, body: Any) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.post(url, json=body)


async def test_parts_together_are_no_larger_than_a_file_may_be(door: Gateway) -> None:
    async with client(door, "bounded") as http:
        base = (await addresses(http, multipart=True))["upload_url"]
    assert (await put(f"{base}/1", b"x" * (2 * MIB))).status_code == 200
    assert (await put(f"{base}/1", b"x" * (2 * MIB))).status_code == 200  # tried again
    assert (await put(f"{base}/2", b"x" * (MIB + 1))).status_code == 413
    assert (await put(f"{base}/2", b"x" * MIB)).status_code == 200
    assert (await put(f"{base}/3", b"x")).status_code == 413


@pytest.mark.parametrize("part", ["0", "-1", "10001", "01", "1e3", "1.0", "x", "%31", "²", "99999"])
async def test_there_are_no_other_parts(door: Gateway, part: str) -> None:
    async with client(door, "bounded") as http:
        base = (await addresses(http, multipart=True))["upload_url"]
    refused = await put(f"{base}/{part}", b"x")
    if part == "%31":  # it is a 1, however it is written
        assert refused.status_code == 200
    else:
        assert refused.status_code == 404
    assert (await put(f"{base}/2", b"x")).status_code == 200


async def test_a_part_tells_its_size(door: Gateway) -> None:
    async with client(door, "bounded") as http:
        base = (await addresses(http, multipart=True))["upload_url"]
    assert (await put(f"{base}/1", in_pieces(10))).status_code == 400
    assert (await put(f"{base}/1", b"x" * 10)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {}, [], {"parts": []}, {"parts": [{"partNumber": 0, "etag": "a"}]},
        {"parts": [{"partNumber": 1, "etag": ""}]}, {"parts": [{"partNumber": "1", "etag": "a"}]},
        {"parts": [{"partNumber": 1, "etag": "a\r\nb"}]},
        {"parts": [{"partNumber": 10**9, "etag": "a"}]},
        {"parts": [{"partNumber": 1, "etag": "a" * 300}]}, {"parts": {"partNumber": 1}},
    ],
)  # fmt: skip
async def test_a_list_of_parts_has_one_form(door: Gateway, body: Any) -> None:
    async with client(door, "bounded") as http:
        urls = await addresses(http, multipart=True)
    base = urls["upload_url"]
    etag = (await put(f"{base}/1", b"x")).headers["etag"]
    assert (await posted(f"{base}/complete", body)).status_code == 400
    assert await missing(urls["file_url"])
    good = {"parts": [{"partNumber": 1, "etag": etag}]}
    assert (await posted(f"{base}/complete", good)).status_code == 200
    assert await stored(urls["file_url"]) == b"x"


async def test_a_whole_file_has_no_parts_and_a_file_of_parts_is_not_whole(door: Gateway) -> None:
    async with client(door, "bounded") as http:
        whole = (await addresses(http))["upload_url"]
        parted = (await addresses(http, multipart=True))["upload_url"]
    assert (await put(f"{whole}/1", b"x")).status_code == 404
    assert (await posted(f"{whole}/complete", {"parts": []})).status_code == 404
    assert (await put(parted, b"x")).status_code == 404
    assert (await put(whole, b"x")).status_code == 200
    assert (await put(f"{parted}/1", b"x")).status_code == 200


async def test_nothing_but_a_ticket_of_ours_opens_the_way(door: Gateway) -> None:
    async with client(door, "bounded") as http:
        urls = await addresses(http)
        token = http.headers["authorization"].removeprefix("Bearer ")
    ticket = urls["upload_url"].rpartition("/")[2]
    opened = UploadSeals([SECRET]).read(ticket, 0)
    old = replace(opened, expires_at=1_700_000_000)
    hostile = {
        "another's secret": UploadSeals(["t" * 40]).issue(opened),
        "expired": UploadSeals([SECRET]).issue(old),
        "no plan": UploadSeals([SECRET]).issue(replace(opened, plan="gone")),
        "a token": token,
        "a pass": door.token(purpose=Purpose.PASS, lifetime=600),
        "changed": ticket[:-2] + ("AA" if not ticket.endswith("AA") else "BB"),
        "more": ticket + "A",
        "long": "A" * 9000,
        "fal's own": opened.url.rpartition("/")[2].replace("?", "-"),
    }
    for name, text in hostile.items():
        refused = await put(f"{door.url}/v1/uploads/{text}", b"x")
        assert refused.status_code == 401, name
        assert (await posted(f"{door.url}/v1/uploads/{text}/complete", {})).status_code == 401
    assert await missing(urls["file_url"])
    assert (await put(urls["upload_url"], b"x")).status_code == 200
    assert await stored(urls["file_url"]) == b"x"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/put", "https://fal.media.evil.example/put", "https://xfal.media/put",
        "http://v3.fal.media/put", "https://user@v3.fal.media/put", "http://169.254.169.254/put",
        "ftp://v3.fal.media/put", "http://10.0.0.1:9100/put",
    ],
)  # fmt: skip
async def test_even_a_sealed_address_leads_only_to_fals_storage(door: Gateway, url: str) -> None:
    async with client(door, "bounded") as http:
        ticket = (await addresses(http))["upload_url"].rpartition("/")[2]
    seals = UploadSeals([SECRET])
    text = seals.issue(replace(seals.read(ticket, 0), url=url))
    refused = await put(f"{door.url}/v1/uploads/{text}", b"x")
    assert (refused.status_code, refused.json()["error_type"]) == (502, "upstream_bad_answer")
    assert (await put(f"{door.url}/v1/uploads/{ticket}", b"x")).status_code == 200


async def test_a_revoked_credential_takes_its_uploads_along(door: Gateway, redis: Redis) -> None:
    kid = f"iss:{secrets.token_hex(6)}"
    async with client(door, "bounded", kid=kid) as http:
        url = (await addresses(http))["upload_url"]
    assert (await put(url, b"x")).status_code == 200
    await Revocations(redis).revoke([f"key:{kid}"], datetime.now(UTC).timestamp() + 1)

    async def refused() -> bool:
        return (await put(url, b"x")).status_code == 401

    await until(refused)


async def test_a_page_of_an_allowed_origin_may_send_files(door: Gateway) -> None:
    async with client(door, "bounded") as http:
        url = (await addresses(http))["upload_url"]
    preflight = {
        "access-control-request-method": "PUT", "access-control-request-headers": "content-type",
    }  # fmt: skip
    async with httpx.AsyncClient() as http:
        asked = await http.options(url, headers={**preflight, "origin": ORIGIN})
        stranger = await http.options(url, headers={**preflight, "origin": "https://evil.example"})
    sent = await put(url, b"x", origin=ORIGIN)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-origin" not in stranger.headers
    assert sent.headers["access-control-allow-origin"] == ORIGIN
    assert "etag" in sent.headers["access-control-expose-headers"].lower()


async def test_what_fals_storage_refuses_is_passed_on(door: Gateway) -> None:
    async with client(door, "bounded") as http:
        ticket = (await addresses(http))["upload_url"].rpartition("/")[2]
    seals = UploadSeals([SECRET])
    opened = seals.read(ticket, 0)
    unsigned = seals.issue(replace(opened, url=opened.url.partition("?")[0] + "?signature=wrong"))
    assert (await put(f"{door.url}/v1/uploads/{unsigned}", b"x")).status_code == 403


async def test_a_file_is_what_it_was_said_to_be(door: Gateway) -> None:
    """Not what its sender says later: a page, run by whoever opens it."""
    async with client(door, "bounded") as http:
        urls = await addresses(http)
    assert (await put(urls["upload_url"], b"x", **{"content-type": "text/html"})).status_code == 200
    async with httpx.AsyncClient() as http:
        got = await http.get(urls["file_url"])
    assert got.headers["content-type"] == "application/x-test"


async def test_asking_for_addresses_counts_as_a_call(door: Gateway, sim: Simulator) -> None:
    before = sim.calls(ends="/initiate")
    async with client(door, "both") as http:
        answers = [await initiated(http) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert sim.calls(ends="/initiate") == before + 3
    left = [answer.headers["ratelimit"].partition(";t=")[0] for answer in answers]
    assert left[:4] == [f'"principal-rate";r={n}' for n in (2, 1, 0, 0)]
    assert answers[0].headers["ratelimit-policy"] == '"principal-rate";q=3;w=3600'
    assert answers[4].json()["limit"] == "principal-rate"
    assert 1190 <= int(answers[4].headers["retry-after"]) <= 1200
