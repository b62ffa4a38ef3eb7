"""Where a request comes from: the socket's peer says, and the proxies that we were told to trust.

One header is read, `X-Forwarded-For`; `Forwarded` (RFC 7239) is not, since a proxy that writes
the one would pass on whatever a client wrote into the other.
"""

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import islice
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.web.site import site_of

MAX_HOPS: Final = 32
"""Entries of X-Forwarded-For that are looked at, from its end."""
UNKNOWN: Final = "unknown"
"""The address of a peer that has none."""

Network = IPv4Network | IPv6Network
_Address = IPv4Address | IPv6Address

_HOP: Final = re.compile(
    r"\[(?P<bracketed>[0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?"
    r"|(?P<v4>[0-9.]{7,15})(?::[0-9]{1,5})?"
    r"|(?P<v6>[0-9A-Fa-f:.]{2,45})"
)
_V6_GROUP: Final = 64
"""Bits. Whoever has IPv6 at all has 2 to the 64th addresses of it."""


class BehindProxies:
    """Takes from a trusted proxy that its client came by https.

    uvicorn's own way would rewrite the peer as well, and who is on this machine goes by the peer.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._trusted and scope["type"] == "http" and _is_trusted(_peer(scope), self._trusted):
            said = next(_from_the_end(scope, b"x-forwarded-proto"), "")
            if said in ("http", "https"):
                scope["scheme"] = said
        await self._app(scope, receive, send)


def client_address(request: Request) -> str:
    """The address of who calls, as its last trustworthy witness tells it; `unknown` for none.

    The peer, and while that is a trusted proxy, whom it names. IPv4 within IPv6 is IPv4.
    """
    trusted = site_of(request).trusted_proxies
    address = _peer(request.scope)
    if _is_trusted(address, trusted):
        for hop in islice(_from_the_end(request.scope, b"x-forwarded-for"), MAX_HOPS):
            named = _parsed_hop(hop)
            if named is None:
                break
            address = named
            if not _is_trusted(address, trusted):
                break
    return UNKNOWN if address is None else str(address)


def address_group(address: str) -> str:
    """What callers from one place have in common: an IPv4 address, or the /64 of an IPv6 one."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, _V6_GROUP), strict=False))
    return UNKNOWN if parsed is None else str(parsed)


def _peer(scope: Scope) -> _Address | None:
    peer = scope.get("client")
    return None if peer is None else _parsed(peer[0].partition("%")[0])


def _parsed_hop(text: str) -> _Address | None:
    """One entry, with or without a port. Names, `unknown` and worse are none."""
    match = _HOP.fullmatch(text)
    return None if match is None else _parsed(match["bracketed"] or match["v4"] or match["v6"])


def _parsed(text: str) -> _Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address


def _is_trusted(address: _Address | None, trusted: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in trusted)


def _from_the_end(scope: Scope, wanted: bytes) -> Iterator[str]:
    """The entries of a list header, last first: each proxy adds its own at the end."""
    for name, value in reversed(scope["headers"]):
        rest = value.decode("latin-1") if name == wanted else None
        while rest is not None:
            before, comma, entry = rest.rpartition(",")
            yield entry.strip(" \t")
            rest = before if comma else None
