"""How long a connection may take to get to the point."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from gateway.protocol import BoundedHttp
from tests.web.wire import Line, connected, written

pytestmark = pytest.mark.anyio

HEAD: Final = written(b"POST", b"/", [(b"Content-Length", b"4")])
KEPT: Final = 0.9


class Hasty(BoundedHttp):
    head_time = 0.3
    silent_for = 0.6


async def read_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    length = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def served() -> AsyncGenerator[Line]:
    """A connection to a server that keeps idle ones for `KEPT` seconds."""
    config = Config(read_and_answer, http=Hasty, ws="none", lifespan="off", log_config=None)
    config.load()
    config.timeout_keep_alive = KEPT  # type: ignore[assignment]  # whole seconds are too long
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Hasty(config=config, server_state=ServerState(), app_state={}), "127.0.0.1", 0
    )
    async with server:
        line = await connected(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            yield line
        finally:
            line.close()


async def lasted(line: Line) -> float:
    """Seconds until the other side hangs up."""
    begun = asyncio.get_running_loop().time()
    assert await line.closed()
    return asyncio.get_running_loop().time() - begun


async def test_a_head_that_does_not_end_in_time_is_cut() -> None:
    async with served() as line:
        await line.send(HEAD[:20])
        for _ in range(4):
            await asyncio.sleep(0.05)
            await line.send(b"x")

        assert await lasted(line) < 0.25


async def test_so_is_the_next_one_on_the_same_connection() -> None:
    async with served() as line:
        await line.send(HEAD + b"body")
        assert (await line.answer()).status == 200
        await line.send(HEAD[:20])

        assert 0.2 < await lasted(line) < KEPT - 0.1


async def test_a_connection_that_says_nothing_is_cut() -> None:
    async with served() as line:
        assert 0.5 < await lasted(line) < KEPT - 0.1


@pytest.mark.parametrize("junk", [b"", b"\r\n"])
async def test_an_idle_connection_is_kept_longer(junk: bytes) -> None:
    """An empty line before a request, as some clients send, is no reason to keep it for ever."""
    async with served() as line:
        await line.send(HEAD + b"body")
        assert (await line.answer()).status == 200
        await line.send(junk)

        assert KEPT - 0.1 < await lasted(line) < KEPT + 1


async def test_a_slow_body_and_a_slow_answer_have_their_own_bounds() -> None:
    """Not those of a head, even for the head that comes behind them."""
    async with served() as line:
        await line.send(HEAD[:30])
        await line.send(HEAD[30:])
        for byte in (b"b", b"o", b"d"):
            await asyncio.sleep(0.3)
            await line.send(byte)
        await line.send(b"y" + HEAD + b"body")
        first, second = await line.answer(), await line.answer()

    assert (first.status, second.status) == (200, 200)
