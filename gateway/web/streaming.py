"""Answers that go on: sent as they come, cut when they break, ended when the client has gone."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.core.errors import GatewayError
from gateway.flows.runs import Runs

SEND_TIME: Final = 15.0
"""Seconds that a client may take to make room for more; then it is cut, and may resume."""
PIECE: Final = 64 * 1024
"""Bytes that are handed to the server at once: it takes whatever it is given, and waits later."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The start of an answer, and what follows."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Streamed(Response):
    """An answer whose start is only known once it is opened: `opened` is entered to send it.

    While it is being opened or sent, the client's going cancels it, and so closes what it holds
    upstream. If it breaks after the start, the connection is cut: a clean end would be a lie.
    """

    def __init__(
        self, runs: Runs, opened: Callable[[], AbstractAsyncContextManager[Opened]]
    ) -> None:
        super().__init__()
        self._runs = runs
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with while_here(self._runs, receive):
            await self._send(send)

    async def _send(self, send: Send) -> None:
        async with self._opened() as answer:
            raw = [
                (name.encode(), value.encode("latin-1")) for name, value in answer.headers.items()
            ]
            await send({"type": "http.response.start", "status": answer.status, "headers": raw})
            try:
                async for chunk in answer.chunks:
                    async with asyncio.timeout(SEND_TIME):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except (GatewayError, TimeoutError):
                return  # unfinished: the server cuts the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def while_here(runs: Runs, receive: Receive) -> AsyncGenerator[None]:
    """Ends what is inside, by `ClientDisconnect`, when the client goes. Its body has been read."""
    leash = asyncio.timeout(None)
    try:
        async with leash:
            watcher = runs.start(_end_when_gone(receive, leash))
            try:
                yield
            finally:
                watcher.cancel()
    except TimeoutError:
        if not leash.expired():
            raise
        raise ClientDisconnect from None


async def sliced(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """For a client that may be slow: what is handed to the server, it holds once more."""
    async for chunk in chunks:
        for start in range(0, len(chunk), PIECE):
            yield chunk[start : start + PIECE]


async def _end_when_gone(receive: Receive, leash: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    leash.reschedule(asyncio.get_running_loop().time())
