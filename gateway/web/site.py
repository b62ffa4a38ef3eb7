"""What the web floor needs beside the flows: bounds of this process, and who we are to browsers."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, TypedDict

from starlette.requests import Request

from gateway.core.errors import BadBody, BodyTooLarge, LimitReached, Overloaded
from gateway.core.model import Principal
from gateway.flows.services import Services

BODY_TIME: Final = 120.0
"""Seconds that a client has to send its body."""


class Bodies:
    """Reads request bodies, and bounds how many bytes of them this process holds at once."""

    def __init__(self, in_flight: int) -> None:
        self._in_flight = in_flight
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request, limit: int) -> AsyncGenerator[bytes]:
        """The body, of at most `limit` bytes, counted as held for as long as this is entered.

        Raises `Overloaded` before anything is read, `BodyTooLarge` as soon as it is too large.
        """
        declared = _declared(request)
        if declared is not None and declared > limit:
            raise _too_large(limit)
        claim = limit if declared is None and _chunked(request) else declared or 0
        if self._held + claim > self._in_flight:
            raise Overloaded("the gateway holds too many request bodies; try again")
        self._held += claim
        try:
            body = await _whole(request, limit)
            self._held -= claim - len(body)
            claim = len(body)
            yield body
        finally:
            self._held -= claim

    @contextmanager
    def holding(self, body: bytes) -> Generator[None]:
        """Count a body that has been read as held for as long as this is entered."""
        self._held += len(body)
        try:
            yield
        finally:
            self._held -= len(body)


async def _whole(request: Request, limit: int) -> bytes:
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_TIME):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError:
        raise BadBody("the body did not arrive in time") from None
    return b"".join(chunks)


def _too_large(limit: int) -> BodyTooLarge:
    size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit} bytes"
    return BodyTooLarge(f"the body may have at most {size}")


def _declared(request: Request) -> int | None:
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadBody("content-length is not a number")
    return int(text)


def _chunked(request: Request) -> bool:
    return "transfer-encoding" in request.headers


class Seats:
    """How many streams, and other answers that take their time, a principal may have open in this
    process at once."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._taken: Counter[Principal] = Counter()

    @contextmanager
    def seat(self, principal: Principal) -> Generator[None]:
        """Raises `LimitReached` where all are taken."""
        if self._taken[principal] >= self._each:
            raise LimitReached(
                f"at most {self._each} streams and held requests may be open at once"
            )
        self._taken[principal] += 1
        try:
            yield
        finally:
            self._taken[principal] -= 1
            if not self._taken[principal]:
                del self._taken[principal]


@dataclass(frozen=True, slots=True)
class Site:
    client_url: str | None
    """Where clients reach us; None: where the request says it did."""
    loopback_port: int | None
    """Our port, where callers on this machine need no credential; else None."""
    origins: frozenset[str]
    """Of other pages that may call from browsers."""
    bodies: Bodies
    seats: Seats
    draining: asyncio.Event
    """Set once the process has been told to stop."""


class State(TypedDict):
    """What the lifespan gives to every request."""

    services: Services
    site: Site


def services_of(request: Request) -> Services:
    services: Services = request.state.services
    return services


def site_of(request: Request) -> Site:
    site: Site = request.state.site
    return site
