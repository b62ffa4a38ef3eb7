"""Which web addresses a caller may name for a delivery. Form only: where they lead is not known."""

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

MAX_BYTES: Final = 2048

_PATH: Final = rb"[A-Za-z0-9._~!$&'()*+,;=:@/-]*"
_QUERY: Final = _PATH.replace(b"[", b"[?")
_ESCAPE: Final = rb"%[0-9A-Fa-f]{2}"
_URL: Final = re.compile(
    rb"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])"
    rb"(?::(?P<port>[1-9][0-9]{0,4}))?"
    rb"(?:/" + _PATH + rb"(?:" + _ESCAPE + _PATH + rb")*)?"
    rb"(?:\?" + _QUERY + rb"(?:" + _ESCAPE + _QUERY + rb")*)?"
)
"""RFC 3986 without userinfo and fragment. Nothing in it can match in two ways, so that no input
makes it search for long. Possessive repeats would say so, but Python 3.11.2 gets them wrong:
https://github.com/python/cpython/issues/106052"""

_ORIGIN: Final = re.compile(
    rb"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)

_LABEL: Final = rb"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_NAME: Final = re.compile(rb"(?=.{1,253}\Z)" + _LABEL + rb"(?:\." + _LABEL + rb")*")
_NUMBER: Final = re.compile(rb"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)")
"""A host whose last label is a number is an IPv4 address to browsers, in whatever spelling."""

_LOOPBACK: Final = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})


def is_web_url(url: bytes, *, loopback_http: bool = False) -> bool:
    """Whether `url` is an https URL that all parsers read alike; at most `MAX_BYTES`.

    `loopback_http` also admits http to `localhost`, `127.0.0.1` and `[::1]`.
    Private addresses pass: whoever connects resolves the name, and refuses them there.
    """
    found = _URL.fullmatch(url) if len(url) <= MAX_BYTES else None
    if found is None or int(found["port"] or 1) > 65535:
        return False
    if found["scheme"] == b"http" and not (loopback_http and found["host"] in _LOOPBACK):
        return False
    return _is_host(found["host"])


def is_origin(text: str) -> bool:
    """Is it an origin as browsers send it: http(s), lower case, no default port, nothing after?"""
    found = _ORIGIN.fullmatch(text.encode(errors="replace")) if len(text) <= MAX_BYTES else None
    if found is None or int(found["port"] or 1) > 65535:
        return False
    if found["port"] == (b"443" if found["scheme"] == b"https" else b"80"):
        return False
    return _is_host(found["host"])


def host_of(url: str, *, loopback_http: bool = False) -> str | None:
    """The host of a URL in that form, in lower case; None for any other text."""
    if len(url) > MAX_BYTES:
        return None
    raw = url.encode(errors="surrogatepass")
    found = _URL.fullmatch(raw) if is_web_url(raw, loopback_http=loopback_http) else None
    return None if found is None else found["host"].decode().lower()


def is_host_among(patterns: Iterable[str], host: str) -> bool:
    """Whether `host` is one of `patterns`: exact, or `*.example.com` for all below it."""
    return any(
        host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
        for pattern in patterns
    )


def check_host_pattern(pattern: str) -> None:
    """Raise `ValueError` unless some host can match `pattern`."""
    name = pattern.removeprefix("*.")
    numeric = _NUMBER.fullmatch(name.encode(errors="replace"))
    if name != name.lower() or not name.isascii() or not _is_host(name.encode()):
        raise ValueError("a host in lower case, or *. and one")
    if name != pattern and (numeric or name.startswith("[")):
        raise ValueError("an address has no hosts below it")


def _is_host(host: bytes) -> bool:
    try:
        if host.startswith(b"["):
            return bool(IPv6Address(host[1:-1].decode()).exploded)
        if _NUMBER.fullmatch(host):
            return bool(IPv4Address(host.decode()).exploded)
    except AddressValueError:
        return False
    return _NAME.fullmatch(host) is not None
