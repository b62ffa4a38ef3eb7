"""Which addresses a client's webhook may lead to: public ones.

A list of our own, since `ipaddress.is_global` differs between versions of Python and calls
multicast, 6to4 and NAT64 of private addresses global.
Source: the IANA special-purpose address registries (RFC 6890).
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_V4: Final = tuple(
    (IPv4Network(network), name)
    for network, name in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud host"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_V6: Final = tuple(
    (IPv6Network(network), name)
    for network, name in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All that has been given out for hosts so far; the rest is refused unseen."""
_EMBEDDING: Final = (
    (IPv6Network("::ffff:0:0/96"), "IPv4-mapped"),
    (IPv6Network("64:ff9b::/96"), "NAT64"),
)
"""Other spellings of an IPv4 address, which alone decides. 6to4 and Teredo embed one as well,
but are dead, and refused whole."""


def why_not_public(address: str) -> str | None:
    """The kind of an address that no webhook may go to, for logs; None for a public one.

    `address` is what a resolver gave, never what a URL says: `127.1` and `0x7f000001` are names.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return "not an address"
    return _v4(parsed) if isinstance(parsed, IPv4Address) else _v6(parsed)


def _v4(address: IPv4Address) -> str | None:
    return next((name for network, name in _V4 if address in network), None)


def _v6(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "scoped"
    for network, name in _EMBEDDING:
        if address in network:
            why = _v4(IPv4Address(int(address) & 0xFFFFFFFF))
            return why and f"{why} ({name})"
    for network, name in _V6:
        if address in network:
            return name
    return None if address in _GLOBAL_UNICAST else "not given out"
