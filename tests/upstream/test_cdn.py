"""fal's storage as a server of the test's own plays it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.core.errors import BadAnswer, BodyTooLarge, NotSent, Unavailable
from gateway.upstream.cdn import MAX_ANSWER, Cdn
from gateway.upstream.session import pools
from tests.harness import free_port

pytestmark = pytest.mark.anyio

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
MIB = 2**20


@asynccontextmanager
async def storage(talk: Talk) -> AsyncGenerator[str]:
    """Where a server is that `talk`s."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/put?signature=a%2Fb"


@asynccontextmanager
async def cdn(stall: float = 20.0) -> AsyncGenerator[Cdn]:
    async with pools(connect=1.0) as both:
        yield Cdn(both, {"queue.fal.run": "http://127.0.0.1:1"}, stall=stall)


async def pieces(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


def saying(status: str, *headers: str, body: bytes = b"") -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = "".join(f"{line}\r\n" for line in headers)
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{lines}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return talk


@pytest.mark.parametrize("length", [10, None])
async def test_the_file_goes_out_with_its_type_and_without_a_credential(
    length: int | None,
) -> None:
    heard = b""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.readuntil(b"\r\n\r\n")
        end = b"xxxxx" if length else b"0\r\n\r\n"
        while not heard.endswith(end):
            heard += await reader.read(1000)
        writer.write(
            b'HTTP/1.1 200 OK\r\nETag: "e1"\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}'
        )
        await writer.drain()

    async with storage(talk) as url, cdn() as files:
        stored = await files.put(url, "image/png", length, pieces(5, 5))

    head = heard.lower()
    assert head.startswith(b"put /put?signature=a")
    assert b"content-type: image/png" in head
    assert b"authorization" not in head
    assert b"cookie" not in head
    assert (b"content-length: 10" in head) == (length is not None)
    assert (b"transfer-encoding: chunked" in head) == (length is None)
    assert (stored.status, stored.body) == (200, b"{}")
    assert dict(stored.headers) == {"etag": '"e1"', "content-type": "application/json"}


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Again", "308 Again"])
async def test_redirects_are_not_followed(status: str) -> None:
    async with storage(saying(status, "Location: http://127.0.0.1:1/")) as url, cdn() as files:
        with pytest.raises(BadAnswer):
            await files.put(url, "image/png", 1, pieces(1))


@pytest.mark.parametrize(
    ("talk", "error"),
    [
        (saying("500 Oh"), Unavailable),
        (saying("503 Later"), Unavailable),
        (saying("200 OK", body=b"x" * (MAX_ANSWER + 1)), BadAnswer),
    ],
)
async def test_an_answer_of_no_use_is_an_error(talk: Talk, error: type[Exception]) -> None:
    async with storage(talk) as url, cdn() as files:
        with pytest.raises(error):
            await files.put(url, "image/png", 1, pieces(1))


async def test_a_refusal_is_told_even_before_all_is_sent() -> None:
    async with storage(saying("403 No", body=b"{}")) as url, cdn() as files:
        stored = await files.put(url, "image/png", 50 * MIB, pieces(*[MIB] * 50))
    assert stored.status == 403


async def test_a_storage_that_takes_nothing_is_given_up() -> None:
    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    async with storage(stuck) as url, cdn(stall=0.3) as files:
        for size in (1, 50 * MIB):
            with pytest.raises(Unavailable):
                await files.put(url, "image/png", size, pieces(size))


async def test_a_slow_sender_is_not_taken_for_a_slow_storage() -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(8):
            await asyncio.sleep(0.1)
            yield b"x"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(8)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with storage(talk) as url, cdn(stall=0.4) as files:
        assert (await files.put(url, "image/png", 8, slow())).status == 200


async def test_why_a_file_broke_off_comes_through() -> None:
    whole = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        assert len(await reader.read()) < 100  # it ends early
        whole.set()

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 10
        raise BodyTooLarge("too large")

    async with storage(talk) as url, cdn() as files:
        with pytest.raises(BodyTooLarge):
            await files.put(url, "image/png", 100, broken())
        async with asyncio.timeout(5):
            await whole.wait()


async def test_nobody_there_is_told_apart() -> None:
    async with cdn() as files:
        with pytest.raises(NotSent):
            await files.put(f"http://127.0.0.1:{free_port()}/put", "a/b", 1, pieces(1))


@pytest.mark.parametrize(
    "url",
    [
        "https://fal.media/x", "https://v3b.fal.media/x?a=b", "https://storage.fal.ai/x",
        "https://rest.fal.run/x",
    ],
)  # fmt: skip
async def test_addresses_of_fals_storage(url: str) -> None:
    async with pools() as both:
        assert Cdn(both, {}).takes(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://fal.media/x", "https://evilfal.media/x", "https://fal.media.evil.example/x",
        "https://fal.media@evil.example/x", "https://evil.example/fal.media", "https://127.0.0.1/x",
        "http://127.0.0.1/x", "https:///fal.media", "//fal.media/x", "fal.media", "",
        "https://evil.example#.fal.media", "https://evil.example?.fal.media",
    ],
)  # fmt: skip
async def test_no_other_address_is_one(url: str) -> None:
    async with pools() as both:
        files = Cdn(both, {})
        assert not files.takes(url)
        with pytest.raises(BadAnswer):
            await files.put(url, "image/png", 1, pieces(1))
