"""Calls to URLs that clients chose: to public addresses only, and nothing comes back but a status.

A name is resolved once, every address of it is judged, and the connection is made to what was
judged: a second look at the name could find another address there.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.core.addresses import why_not_public
from gateway.upstream.session import MAX_HEADER, USER_AGENT, tls

MAX_REPLY: Final = 64 * 1024
"""Bytes of a receiver's answer that are read, and thrown away."""
MAX_ADDRESSES: Final = 32
LOOKUPS: Final = 64
"""Threads for names, more than there are deliveries at once. Their own: a slow name must not hold
up those of fal's hosts."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port -> every address, in numbers."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of one attempt. Where the receiver gave no `status`, `why` tells."""

    status: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: for everything, for the name, for reading what we do not need."""

    total: float = 15.0
    name: float = 5.0
    rest: float = 1.0


class Egress:
    """Posts to clients' URLs. `allow_loopback`: also to this machine and without TLS there."""

    def __init__(
        self, resolve: Resolve, context: ssl.SSLContext, limits: Limits, *, allow_loopback: bool
    ) -> None:
        self._resolve = resolve
        self._context = context
        self._limits = limits
        self._allow_loopback = allow_loopback

    async def deliver(self, url: str, body: bytes, headers: Mapping[str, str]) -> Delivered:
        """Post `body` once. Never raises for what the receiver does; redirects are not followed."""
        try:
            async with asyncio.timeout(self._limits.total):
                target = _target(url)
                addresses = await self._judged(target)
                return await self._post(target, addresses, body, headers)
        except _Refusal as refusal:
            return Delivered(None, str(refusal))
        except TimeoutError:
            return Delivered(None, "timeout")
        except aiohttp.ClientConnectorError as error:
            return Delivered(None, f"no connection: {error.os_error.strerror or 'refused'}"[:200])
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Delivered(None, type(error).__name__)

    async def _judged(self, target: URL) -> tuple[str, ...]:
        """Every address of the target's host. Raises `_Refusal` if one of them is not allowed."""
        host, port = target.raw_host, target.port
        assert host is not None
        assert port is not None
        try:
            async with asyncio.timeout(self._limits.name):
                addresses = tuple(dict.fromkeys(await self._resolve(host, port)))
        except (OSError, UnicodeError):  # with TimeoutError among them
            raise _Refusal("the host's name has no address") from None
        if not 0 < len(addresses) <= MAX_ADDRESSES:
            raise _Refusal("the host's name has no address, or too many")
        loopback = self._allow_loopback and all(map(_is_loopback, addresses))
        if target.scheme != "https" and not loopback:
            raise _Refusal("not an https URL")
        for address in () if loopback else addresses:
            if why := why_not_public(address):
                raise _Refusal(f"not a public address: {why}")
        return addresses

    async def _post(
        self, target: URL, addresses: Sequence[str], body: bytes, headers: Mapping[str, str]
    ) -> Delivered:
        connector = aiohttp.TCPConnector(
            resolver=_Judged(addresses),
            use_dns_cache=False,
            ssl=self._context,
            force_close=True,
            limit=1,
        )
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),  # ours is around all of it
                max_line_size=MAX_HEADER,
                max_field_size=MAX_HEADER,
            ) as session,
            session.post(
                target,
                data=body,
                headers={"user-agent": USER_AGENT, "accept-encoding": "identity", **headers},
                allow_redirects=False,
            ) as response,
        ):
            # The status line is the answer. The rest is read a little, out of courtesy.
            with suppress(aiohttp.ClientError, OSError, EOFError):
                async with asyncio.timeout(self._limits.rest):
                    await response.content.readexactly(MAX_REPLY)
            return Delivered(response.status)


@asynccontextmanager
async def egress(
    *,
    allow_loopback: bool = False,
    limits: Limits = Limits(),
    resolve: Resolve | None = None,
    context: ssl.SSLContext | None = None,
) -> AsyncGenerator[Egress]:
    """A way out to clients' URLs, with threads of its own for names."""
    threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="egress-names")
    try:
        lookup = resolve or _Names(threads).addresses
        yield Egress(lookup, context or tls(), limits, allow_loopback=allow_loopback)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


class _Refusal(Exception):
    """Why a URL is not called."""


class _Judged(AbstractResolver):
    """Answers with the addresses that were judged, whatever the name leads to by now."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


def _target(url: str) -> URL:
    """`url` as the one parser reads it that also connects. Raises `_Refusal`."""
    try:
        target = URL(url)
        usable = target.scheme in ("http", "https") and target.raw_host and target.port
    except ValueError:
        raise _Refusal("not a URL") from None
    if not usable or target.raw_user is not None or target.raw_password is not None:
        raise _Refusal("not an http URL of a host")
    return target


class _Names:
    """Looks names up in threads. One name takes one thread, however many ask for it: a lookup goes
    on when those who asked have gone, for as long as its name servers keep silent."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._going: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        lookup = self._going.get((host, port)) or self._begun(host, port)
        await asyncio.wait([lookup])  # whose end does not cancel the lookup
        return lookup.result()

    def _begun(self, host: str, port: int) -> asyncio.Future[list[str]]:
        if len(self._going) >= LOOKUPS:
            raise OSError("too many names that have no answer yet")
        loop = asyncio.get_running_loop()
        lookup = loop.run_in_executor(self._threads, _looked_up, host, port)
        self._going[host, port] = lookup
        lookup.add_done_callback(partial(self._ended, (host, port)))
        return lookup

    def _ended(self, name: tuple[str, int], lookup: asyncio.Future[list[str]]) -> None:
        del self._going[name]
        if not lookup.cancelled():
            lookup.exception()  # seen: those who asked may have gone


def _looked_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
