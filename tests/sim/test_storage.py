"""Uploads, tokens, keys and meta: rows 25-29."""

from collections.abc import AsyncGenerator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from gateway.sim.objects import Objects, TooLarge, Unknown
from tests.sim.conftest import Fal, simulator

pytestmark = pytest.mark.anyio

INITIATE = "/rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3"
MULTIPART = "/rest.fal.ai/storage/upload/initiate-multipart?storage_type=fal-cdn-v3"
CLIP = {"content_type": "audio/wav", "file_name": "clip.wav"}


@pytest.mark.parametrize("url", [INITIATE, "/rest.alpha.fal.ai/storage/upload/initiate"])
async def test_upload(fal: Fal, url: str) -> None:
    """Bytes come back as they went, with their type, to anybody."""
    urls = (await fal.http.post(url, json=CLIP)).json()
    async with httpx.AsyncClient() as browser:
        early = await browser.get(urls["file_url"])
        put = await browser.put(urls["upload_url"], content=b"RIFF")
        got = await browser.get(urls["file_url"])

    assert urls["upload_url"].startswith(f"{fal.origin}/cdn/")
    assert urls["file_url"].endswith("/clip.wav")
    assert (early.status_code, put.status_code) == (404, 200)
    assert (got.content, got.headers["content-type"]) == (b"RIFF", "audio/wav")


async def test_multipart_upload(fal: Fal) -> None:
    """Parts in any order, a few MiB each; joined in the order that is asked for."""
    urls = (await fal.http.post(MULTIPART, json=CLIP)).json()
    parts = {number: bytes([number]) * 3 * 2**20 for number in (2, 1)}
    base, _, query = urls["upload_url"].partition("?")

    etags = [
        (await fal.http.put(f"{base}/{number}?{query}", content=data)).json()
        for number, data in parts.items()
    ]
    etags.sort(key=lambda each: int(each["partNumber"]))
    done = await fal.http.post(f"{base}/complete?{query}", json={"parts": etags})
    got = await fal.http.get(urls["file_url"])

    assert done.status_code == 200
    assert sha256(got.content).digest() == sha256(parts[1] + parts[2]).digest()


async def test_missing_part(fal: Fal) -> None:
    urls = (await fal.http.post(MULTIPART, json=CLIP)).json()
    base, _, query = urls["upload_url"].partition("?")

    parts = [{"partNumber": 1, "etag": "x"}]
    reply = await fal.http.post(f"{base}/complete?{query}", json={"parts": parts})
    assert reply.status_code == 400
    await fal.http.put(f"{base}/1?{query}", content=b"x")
    reply = await fal.http.post(f"{base}/complete?{query}", json={"parts": parts})
    assert reply.status_code == 200


async def test_upload_needs_its_own_address(fal: Fal) -> None:
    mine = (await fal.http.post(INITIATE, json=CLIP)).json()["upload_url"]
    other = (await fal.http.post(INITIATE, json=CLIP)).json()["upload_url"]

    for url in (
        mine.partition("?")[0],
        mine.replace("signature=", "signature=0"),
        f"{mine.partition('?')[0]}?{other.partition('?')[2]}",
        f"{fal.origin}/cdn/upload/{'0' * 32}/x?signature=",
        f"{fal.origin}/cdn/upload/meta.json/x?signature=",
    ):
        assert (await fal.http.put(url, content=b"x")).status_code == 403
    assert (await fal.http.put(mine, content=b"x")).status_code == 200


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b.wav", ".hidden", "ü?#.wav", "/"])
async def test_strange_file_names(fal: Fal, name: str) -> None:
    reply = await fal.http.post(INITIATE, json=CLIP | {"file_name": name})
    urls = reply.json()

    assert (await fal.http.put(urls["upload_url"], content=b"x")).status_code == 200
    assert (await fal.http.get(urls["file_url"])).content == b"x"


@pytest.mark.parametrize("body", [{}, {"content_type": "a/b"}, [], "x"])
async def test_bad_initiate(fal: Fal, body: object) -> None:
    assert (await fal.http.post(INITIATE, json=body)).status_code == 422
    assert (await fal.http.post(INITIATE, json=CLIP)).status_code == 200


async def test_browsers_of_any_origin_may_upload(fal: Fal) -> None:
    urls = (await fal.http.post(INITIATE, json=CLIP)).json()
    origin = {"origin": "https://app.example"}
    asked = {
        "access-control-request-method": "PUT",
        "access-control-request-headers": "content-type,x-other",
    }
    preflight = await fal.http.options(urls["upload_url"], headers=origin | asked)
    put = await fal.http.put(urls["upload_url"], content=b"x", headers=origin)
    got = await fal.http.get(urls["file_url"], headers=origin)

    assert preflight.status_code == 200
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert "x-other" in preflight.headers["access-control-allow-headers"]
    for reply in (preflight, put, got):
        assert reply.headers["access-control-allow-origin"] == "*"
    queue = await fal.http.post("/queue.fal.run/fal-ai/flux", headers=origin)
    assert "access-control-allow-origin" not in queue.headers


async def test_objects_outlive_the_process(tmp_path: Path) -> None:
    async with simulator(tmp_path) as first:
        urls = (await first.http.post(INITIATE, json=CLIP)).json()
        await first.http.put(urls["upload_url"], content=b"RIFF")
    async with simulator(tmp_path) as second:
        path = urls["file_url"].removeprefix(first.origin)
        assert (await second.http.get(path)).content == b"RIFF"


async def test_oldest_objects_make_room(tmp_path: Path) -> None:
    objects = Objects("http://127.0.0.1:1", tmp_path, most=2)
    kept = [await objects.keep(f"{n}.txt", "text/plain", b"x") for n in range(3)]

    with pytest.raises(Unknown):
        await objects.find(kept[0].id)
    assert [(await objects.find(each.id)).name for each in kept[1:]] == ["1.txt", "2.txt"]


async def test_objects_have_a_largest_size(tmp_path: Path) -> None:
    """Counted as the bytes come, and once more when parts are joined."""

    async def body(*chunks: bytes) -> AsyncGenerator[bytes]:
        for chunk in chunks:
            yield chunk

    objects = Objects("http://127.0.0.1:1", tmp_path, largest=10)
    stored = await objects.reserve("a", "text/plain")

    with pytest.raises(TooLarge):
        await objects.write(stored, body(b"x" * 6, b"x" * 6))
    for part in (1, 2):
        await objects.write(stored, body(b"x" * 6), part)
    with pytest.raises(TooLarge):
        await objects.join(stored, [1, 2])
    await objects.write(stored, body(b"x" * 6, b"x" * 4))
    assert stored.path.stat().st_size == 10


@pytest.mark.parametrize("host", ["rest.fal.ai", "rest.alpha.fal.ai"])
async def test_tokens(fal: Fal, host: str) -> None:
    """A JSON string in the older form, an object in the newer."""
    old = await fal.http.post(
        f"/{host}/tokens/", json={"allowed_apps": ["flux"], "token_expiration": 120}
    )
    new = await fal.http.post(
        f"/{host}/tokens/realtime", json={"allowed_apps": ["fal-ai/flux/realtime"], "duration": 9}
    )

    assert old.json().count(".") == 2
    assert new.json()["token"].count(".") == 2
    assert (await fal.http.post(f"/{host}/tokens/", json={"app": "x"})).status_code == 422


async def test_signing_keys_do_not_change_with_a_seed(tmp_path: Path) -> None:
    async def keys(seed: int | None) -> object:
        async with simulator(tmp_path, seed=seed) as fal:
            return (await fal.http.get("/rest.fal.ai/.well-known/jwks.json")).json()

    assert await keys(1) == await keys(1)
    assert await keys(1) != await keys(2)
    assert await keys(None) != await keys(None)


async def test_meta_needs_no_key(fal: Fal) -> None:
    async with httpx.AsyncClient(base_url=fal.origin) as anybody:
        reply = await anybody.get("/api.fal.ai/v1/meta")

    assert reply.json() == {"webhook_ip_ranges": ["127.0.0.1/32"]}
