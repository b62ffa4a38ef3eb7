"""The two bounded ways out to fal, and what each failure on them means."""

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import aiohttp
import certifi
import httpx
from httpx_aiohttp import AiohttpTransport

from gateway import __version__
from gateway.core.errors import NotSent, Upstream

USER_AGENT: Final = f"fal-gateway/{__version__}"
MAX_HEADER: Final = 32 * 1024
"""Bytes of one line or field. fal allows 16 KiB of headers; aiohttp's default is 8,190."""
KEEPALIVE: Final = 15.0
"""Seconds. Well below what servers close at: a request that meets a connection's close
may have been read or not, and nobody knows."""
PIECE: Final = 64 * 1024
"""Bytes of a body that are handed to the socket at once."""

_BEFORE_SENDING: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Name, TCP and TLS failures. aiohttp raises these nowhere else."""
_FAULTS: Final = (httpx.HTTPError, aiohttp.ClientError, OSError)
"""`OSError` has `TimeoutError` among them."""

_log: Final = logging.getLogger("gateway.upstream")


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to fal. `headers` hold the key."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    stream: httpx.AsyncByteStream | None = None
    """A body that is sent as it comes, in place of `body`."""
    check: Callable[[], None] | None = None
    """Called before anything is sent: what it raises ends the call."""

    def __repr__(self) -> str:
        return f"Call({self.method} {self.url.partition('?')[0]})"


class Pool:
    """At most `limit` connections; who finds none free waits at most `wait` seconds."""

    def __init__(
        self, transport: AiohttpTransport, *, limit: int, wait: float, connect: float
    ) -> None:
        self._transport = transport
        # The transport has one limit of time for waiting and connecting. They are two things.
        self._free = asyncio.Semaphore(limit)
        self._wait = wait
        self._connect = connect

    @asynccontextmanager
    async def send(
        self, call: Call, *, lost: type[Upstream], first: float | None, idle: float | None
    ) -> AsyncGenerator[httpx.Response]:
        """fal's answer to `call`, headers read, body not.

        `first` bounds the wait for the headers, `idle` each wait for bytes, in seconds;
        None leaves that to the caller.
        Raises `NotSent` while nothing was handed over, `lost` after that.
        Never sends a POST twice: aiohttp repeats only what is idempotent.
        """
        await self._turn()
        try:
            if call.check is not None:
                call.check()
            with by_cause(lost):
                async with asyncio.timeout(first):
                    response = await self._transport.handle_async_request(
                        _Request(call, {"pool": self._connect, "read": idle})
                    )
            try:
                yield response
            finally:
                with suppress(*_FAULTS):
                    await _stream(response).aclose()
        finally:
            self._free.release()

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(self._wait if self._free.locked() else None):
                await self._free.acquire()
        except TimeoutError:
            raise NotSent("too many calls to fal are under way") from None


class _Request(httpx.Request):
    """What the transport reads of a request, and nothing more.

    httpx's own constructor parses the URL and the headers, which we have just put together:
    a third of the time that a whole call takes.
    """

    def __init__(self, call: Call, timeouts: dict[str, float | None]) -> None:
        headers = {"accept-encoding": "identity", "user-agent": USER_AGENT, **call.headers}
        if call.stream is not None:
            self.stream = call.stream
        elif len(call.body) <= PIECE:
            self._content = call.body
        else:
            headers["content-length"] = str(len(call.body))
            self.stream = _Pieces(call.body)
        self.method = call.method
        self.url = cast(httpx.URL, call.url)
        self.headers = cast(httpx.Headers, headers)
        self.extensions = {"timeout": timeouts}


class _Pieces(httpx.AsyncByteStream):
    """A large body in pieces, so that no single write holds the event loop."""

    def __init__(self, body: bytes) -> None:
        self._body = memoryview(body)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), PIECE):
            yield bytes(self._body[start : start + PIECE])


@dataclass(frozen=True, slots=True)
class Pools:
    """`calls` end soon, `streams` last as long as somebody listens: neither starves the other."""

    calls: Pool
    streams: Pool


@asynccontextmanager
async def pools(
    *,
    max_calls: int = 100,
    max_streams: int = 1000,
    wait: float = 2.0,
    connect: float = 5.0,
    context: ssl.SSLContext | None = None,
) -> AsyncGenerator[Pools]:
    """Both pools, open. `wait` for a free connection, `connect` for a new one, in seconds.

    `context` is what `tls` gives, with other authorities or shared.
    """
    context = context or tls()
    async with AsyncExitStack() as stack:
        calls, streams = [
            Pool(
                await stack.enter_async_context(_transport(context, limit)),
                limit=limit,
                wait=wait,
                connect=connect,
            )
            for limit in (max_calls, max_streams)
        ]
        yield Pools(calls, streams)


def tls(ca_file: Path | None = None) -> ssl.SSLContext:
    """Certificates are verified, always, and nothing of it is read from the environment.

    `ca_file` adds an authority to those that the web trusts.
    `ssl.create_default_context` obeys SSLKEYLOGFILE, and the system's paths SSL_CERT_FILE.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


@contextmanager
def by_cause(lost: type[Upstream]) -> Generator[None]:
    """Nothing above this floor sees an error of httpx or aiohttp.

    The transport's own names mislead: a reset after fal read everything is a `ConnectTimeout`.
    What it stands for is its cause. The chain is cut: aiohttp's texts hold whole URLs.
    """
    try:
        yield
    except _FAULTS as error:
        cause = error.__cause__ if isinstance(error, httpx.HTTPError) else error
        if isinstance(cause, _BEFORE_SENDING):
            detail = (
                cause.os_error if isinstance(cause, aiohttp.ClientConnectorError) else "timeout"
            )
            _log.warning("no connection to fal: %s", detail)
            raise NotSent("fal could not be reached") from None
        _log.warning("fal's answer was lost: %s", type(cause).__name__)
        raise lost("fal's answer did not arrive") from None


async def read(response: httpx.Response, limit: int, lost: type[Upstream]) -> bytes | None:
    """The body, or None as soon as it is over `limit` bytes. Raises `lost`."""
    parts: list[bytes] = []
    size = 0
    with by_cause(lost):
        async with aclosing(_pieces(response)) as pieces:
            async for piece in pieces:
                size += len(piece)
                if size > limit:
                    return None
                parts.append(piece)
    return b"".join(parts)


async def chunks(
    response: httpx.Response, lost: type[Upstream], within: float | None = None
) -> AsyncGenerator[bytes]:
    """The body as it comes, all of it `within` so many seconds. Raises `lost`."""
    deadline = None if within is None else asyncio.get_running_loop().time() + within
    async with aclosing(_pieces(response)) as pieces:
        while True:
            with by_cause(lost):
                async with asyncio.timeout_at(deadline):
                    piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece


def _stream(response: httpx.Response) -> httpx.AsyncByteStream:
    """httpx types it for clients of either kind; the transport's is of this one."""
    return cast(httpx.AsyncByteStream, response.stream)


def _pieces(response: httpx.Response) -> AsyncGenerator[bytes]:
    return cast(AsyncGenerator[bytes], aiter(_stream(response)))


@asynccontextmanager
async def _transport(context: ssl.SSLContext, limit: int) -> AsyncGenerator[AiohttpTransport]:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=limit, ssl=context, keepalive_timeout=KEEPALIVE),
        # aiohttp's own jar would send one caller's fal cookies with the next one's call.
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        max_line_size=MAX_HEADER,
        max_field_size=MAX_HEADER,
    )
    async with session:
        yield AiohttpTransport(client=session, verify=context, trust_env=False)
