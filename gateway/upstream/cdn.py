"""fal's file storage, for uploads that come through the gateway. It never sees a fal key."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import httpx

from gateway.core import fal
from gateway.core.errors import BadAnswer, Unavailable
from gateway.core.headers import safe_content_type
from gateway.upstream.answers import LOOPBACK, safe_origin
from gateway.upstream.session import Call, Pools, by_cause, read

STALL: Final = 60.0
"""Seconds in which the CDN must take more of a file, or answer once it has all."""
MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer."""
_PASSED: Final = ("etag",)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the CDN says of a file, or a part of one."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Cdn:
    """`origins` replace fal's hosts, for the simulator: its files are on this machine then.

    Everything raises `NotSent`, `Unavailable`, `BadAnswer`; what `chunks` raises, comes through.
    """

    def __init__(self, pools: Pools, origins: Mapping[str, str], *, stall: float = STALL) -> None:
        self._pools = pools
        self._loopback = any(origin.startswith("http:") for origin in origins.values())
        self._stall = stall

    def takes(self, url: str) -> bool:
        """Is `url` one of fal's own storage?"""
        if not safe_origin(url, loopback=self._loopback):
            return False
        host = urlsplit(url).hostname or ""
        if self._loopback and host in LOOPBACK:
            return True
        return any(host == known or host.endswith(f".{known}") for known in fal.CDN_HOSTS)

    async def put(
        self, url: str, content_type: str, length: int | None, chunks: AsyncIterator[bytes]
    ) -> Stored:
        """Send a file, or a part of one, as it comes; `length` is None where nobody knows it."""
        return await self._sent("PUT", url, content_type, _Body(chunks, length), length)

    async def complete(self, url: str, body: bytes) -> Stored:
        """Say that all parts are there; `body` is JSON."""

        async def whole() -> AsyncGenerator[bytes]:
            yield body

        return await self._sent(
            "POST", url, "application/json", _Body(whole(), len(body)), len(body)
        )

    async def _sent(
        self, method: str, url: str, content_type: str, body: "_Body", length: int | None
    ) -> Stored:
        if not self.takes(url):
            raise BadAnswer("fal named an address that is not of its storage")
        headers = {"content-type": content_type, "accept": "application/json"}
        if length is not None:
            headers["content-length"] = str(length)
        call = Call(method, url, headers, stream=body)
        try:
            with by_cause(Unavailable):
                async with asyncio.timeout(self._stall) as body.patience:
                    body.stall = self._stall
                    async with self._pools.streams.send(
                        call, lost=Unavailable, first=None, idle=None
                    ) as response:
                        return await _stored(response)
        except Unavailable:
            if body.broken is not None:
                raise body.broken from None
            raise


class _Body(httpx.AsyncByteStream):
    """What is sent, once. It remembers why it broke: aiohttp tells of a lost connection then."""

    def __init__(self, chunks: AsyncIterator[bytes], length: int | None) -> None:
        self._chunks = chunks
        self._left = length
        self.broken: Exception | None = None
        self.patience: asyncio.Timeout | None = None
        self.stall = STALL

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        try:
            async for chunk in self._chunks:
                self._wait()
                yield chunk
                self._wait()
        except Exception as error:
            self.broken = error
            raise

    def _wait(self) -> None:
        """The other side took something, or has now something to take."""
        if self.patience is not None:
            self.patience.reschedule(asyncio.get_running_loop().time() + self.stall)


async def _stored(response: httpx.Response) -> Stored:
    status = response.status_code
    if status < 200 or 300 <= status < 400:
        raise BadAnswer("fal's storage answered with a redirect")
    if status >= 500:
        raise Unavailable("fal's storage answered with an error; send the file again")
    body = await read(response, MAX_ANSWER, Unavailable)
    if body is None:
        raise BadAnswer("the answer of fal's storage is too large")
    headers = {name: response.headers[name] for name in _PASSED if name in response.headers}
    if body:  # fal's JS client reads as JSON what says so, even where there is nothing
        kind = response.headers.get("content-type", "application/json")
        headers["content-type"] = safe_content_type(kind)
    return Stored(status, headers, body)
