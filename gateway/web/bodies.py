"""Bodies of requests: read while they come, within bounds of size, of time and of memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from starlette.requests import Request

from gateway.core.errors import BadBody, BodyTooLarge, Overloaded
from gateway.core.model import Principal

BODY_TIME: Final = 120.0
"""Seconds that a client has to send its body."""
BODY_PAUSE: Final = 20.0
"""Seconds that may pass before more of it comes."""
SHARE: Final = 4
"""One principal's bodies may take up one of so many parts."""


class Bodies:
    """Reads request bodies, and bounds how many bytes of them this process holds at once.

    Only what has come is counted: to announce a body takes no room from anybody. One principal
    has at most its share of all, or room for a body of the `largest` size where that is more.
    """

    def __init__(self, in_flight: int, largest: int, pause: float = BODY_PAUSE) -> None:
        self._free = in_flight
        self._share = max(in_flight // SHARE, largest)
        self._pause = pause
        self._held: Counter[Principal] = Counter()

    @asynccontextmanager
    async def read(
        self, request: Request, principal: Principal, limit: int
    ) -> AsyncGenerator[bytes]:
        """The body, of at most `limit` bytes, counted as held for as long as this is entered.

        Raises `BodyTooLarge` or `Overloaded` as soon as it is known not to fit, and `BadBody`
        where it stops coming.
        """
        declared = _declared(request)
        if declared > limit:
            raise _too_large(limit)
        self._check(principal, declared)
        with self._claiming(principal) as claim:
            yield await self._whole(request, limit, claim)

    @contextmanager
    def holding(self, principal: Principal, body: bytes) -> Generator[None]:
        """Count a body that has been read as held for as long as this is entered.

        Raises `Overloaded`.
        """
        with self._claiming(principal) as claim:
            claim(len(body))
            yield

    async def _whole(self, request: Request, limit: int, claim: Callable[[int], None]) -> bytes:
        body = bytearray()
        now = asyncio.get_running_loop().time
        end = now() + BODY_TIME
        try:
            async with asyncio.timeout(self._pause) as patience:
                async for chunk in request.stream():
                    if len(body) + len(chunk) > limit:
                        raise _too_large(limit)
                    claim(len(chunk))
                    body += chunk
                    patience.reschedule(min(now() + self._pause, end))
        except TimeoutError:
            raise BadBody("the body did not arrive in time") from None
        return bytes(body)

    @contextmanager
    def _claiming(self, principal: Principal) -> Generator[Callable[[int], None]]:
        """What claims so many bytes more; all of them are given back in the end."""
        claimed = 0

        def claim(size: int) -> None:
            nonlocal claimed
            self._check(principal, size)
            claimed += size
            self._free -= size
            self._held[principal] += size

        try:
            yield claim
        finally:
            self._free += claimed
            self._held[principal] -= claimed
            if not self._held[principal]:
                del self._held[principal]

    def _check(self, principal: Principal, size: int) -> None:
        if size > self._free:
            raise Overloaded("the gateway holds too many request bodies; try again")
        if self._held[principal] + size > self._share:
            raise Overloaded("the gateway holds too many request bodies of yours; try again")


def _too_large(limit: int) -> BodyTooLarge:
    size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit} bytes"
    return BodyTooLarge(f"the body may have at most {size}")


def _declared(request: Request) -> int:
    """Bytes that are announced; 0 where nothing is."""
    text = request.headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadBody("content-length is not a number")
    return int(text)
