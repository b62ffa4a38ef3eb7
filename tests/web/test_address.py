"""Where a request comes from: nobody is believed but the peer and the proxies that are known."""

import asyncio
import random
import time
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any, Final

import pytest
from starlette.requests import Request

from gateway.web.address import MAX_HOPS, BehindProxies, address_group, client_address
from gateway.web.bodies import Bodies
from gateway.web.site import Seats, Site

NGINX: Final = "10.0.0.1"
TRUSTED: Final = ("10.0.0.0/8", "127.0.0.1", "2001:db8:ffff::/48")
VISITOR: Final = "198.51.100.7"


def request(
    peer: str | None, *headers: tuple[str, str], trusted: Sequence[str] = TRUSTED
) -> Request:
    bodies = Bodies(1, 1)
    site = Site(
        client_url=None,
        loopback_port=None,
        trusted_proxies=tuple(map(ip_network, trusted)),
        origins=frozenset(),
        bodies=bodies,
        webhooks=bodies,
        seats=Seats(1),
        draining=asyncio.Event(),
    )
    return Request(
        {
            "type": "http",
            "client": None if peer is None else (peer, 40000),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
            "state": {"site": site},
        }
    )


def behind(*values: str, peer: str = NGINX) -> str:
    return client_address(request(peer, *[("X-Forwarded-For", value) for value in values]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([VISITOR], VISITOR),
        ([f"{VISITOR}, 10.2.3.4"], VISITOR),
        ([f"{VISITOR},10.2.3.4 ,\t10.9.9.9"], VISITOR),
        ([VISITOR, "10.2.3.4"], VISITOR),
        (["10.2.3.4", VISITOR], VISITOR),
        ([f"{VISITOR}:51234"], VISITOR),
        (["2001:db8::7"], "2001:db8::7"),
        (["[2001:DB8:0::7]:443"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        ([f"::ffff:{VISITOR}"], VISITOR),
        ([f"[::ffff:{VISITOR}]:80"], VISITOR),
        ([f"{VISITOR}, 2001:db8:ffff::1"], VISITOR),
        ([f"{VISITOR}, ::ffff:10.0.0.9"], VISITOR),
    ],
)
def test_known_proxies_tell_who_came_to_them(values: list[str], expected: str) -> None:
    assert behind(*values) == expected


@pytest.mark.parametrize(
    "spoofed",
    ["1.2.3.4", "127.0.0.1", "10.0.0.1", "::1", "garbage", "", ",,,", "1.2.3.4, " * 1000, "é"],
)
def test_what_stands_before_the_proxys_own_word_counts_for_nothing(spoofed: str) -> None:
    assert behind(f"{spoofed}, {VISITOR}") == VISITOR
    assert behind(spoofed, VISITOR) == VISITOR


@pytest.mark.parametrize(
    "word",
    [
        "", "unknown", "_hidden", "localhost", "1.2.3", "1.2.3.4.5", "999.1.1.1", "0x7f000001",
        "2130706433", "1.2.3.4:", "1.2.3.4:http", "[1.2.3.4", "[::1", "::1]", "fe80::1%eth0",
        "01.2.3.4", "for=1.2.3.4", "\"1.2.3.4\"", "1.2.3.4 5.6.7.8", "1.2.3.4\x00",
        "\uff12.2.3.4", "/etc", "::1::",
    ],
)  # fmt: skip
def test_after_a_word_that_is_no_address_nobody_is_believed(word: str) -> None:
    assert behind(f"1.2.3.4, {word}") == NGINX
    assert behind(f"1.2.3.4, {word}, 10.7.7.7") == "10.7.7.7"
    assert behind("1.2.3.4") == "1.2.3.4"


@pytest.mark.parametrize("peer", [VISITOR, "192.0.2.9", "2001:db8::1", "9.9.9.9"])
def test_a_peer_that_is_no_proxy_of_ours_is_the_client(peer: str) -> None:
    headers = [("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-For", "127.0.0.1")]

    assert client_address(request(peer, *headers)) == peer


def test_without_known_proxies_not_even_this_machine_is_one() -> None:
    header = ("X-Forwarded-For", "1.2.3.4")

    assert client_address(request("127.0.0.1", header, trusted=())) == "127.0.0.1"
    assert client_address(request("127.0.0.1", header)) == "1.2.3.4"


@pytest.mark.parametrize(
    "name", ["Forwarded", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "X_Forwarded_For",
             "X-Client-IP", "X-Forwarded-Host", "X-Original-Forwarded-For", "Via"],
)  # fmt: skip
def test_no_other_header_is_read(name: str) -> None:
    assert client_address(request(NGINX, (name, "1.2.3.4"))) == NGINX
    assert client_address(request(NGINX, (name, "for=1.2.3.4"))) == NGINX


def test_a_peer_may_be_written_in_more_than_one_way() -> None:
    header = ("X-Forwarded-For", VISITOR)

    assert client_address(request("::ffff:10.0.0.1", header)) == VISITOR
    assert client_address(request("::ffff:9.9.9.9", header)) == "9.9.9.9"
    assert client_address(request("fe80::1%eth0", header)) == "fe80::1"
    assert client_address(request(None, header)) == "unknown"
    assert client_address(request("", header)) == "unknown"


def test_where_all_are_proxies_the_first_of_them_asks() -> None:
    assert behind("10.3.3.3, 10.2.2.2") == "10.3.3.3"


def test_a_long_list_costs_little() -> None:
    hops = ["1.2.3.4", *["10.1.1.1"] * 6000]
    begun = time.perf_counter()

    for _ in range(50):
        assert behind(",".join(hops)) == "10.1.1.1"
    assert behind(",".join(hops[:MAX_HOPS])) == "1.2.3.4"

    assert time.perf_counter() - begun < 1


def test_10000_spoofed_values_are_one_group() -> None:
    dice = random.Random(4)
    made = [".".join(str(dice.randrange(256)) for _ in range(4)) for _ in range(10_000)]

    assert {address_group(behind(f"{spoofed}, {VISITOR}")) for spoofed in made} == {VISITOR}
    assert {behind(spoofed, peer=VISITOR) for spoofed in made} == {VISITOR}


@pytest.mark.parametrize(
    ("address", "group"),
    [
        (VISITOR, VISITOR),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:198.51.100.7", VISITOR),
        ("unknown", "unknown"),
        ("what a client wrote", "unknown"),
    ],
)
def test_a_group_is_an_address_or_a_network_of_one_household(address: str, group: str) -> None:
    assert address_group(address) == group


# The scheme


async def scheme_of(request: Request, trusted: Sequence[str] = TRUSTED) -> Any:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["scheme"], scope["client"]))

    async def receive() -> Any: ...

    async def send(message: Any) -> None: ...

    request.scope["scheme"] = "http"
    await BehindProxies(app, tuple(map(ip_network, trusted)))(request.scope, receive, send)
    [(scheme, client)] = seen
    assert client == request.scope["client"]
    return scheme


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("peer", "values", "expected"),
    [
        (NGINX, ["https"], "https"),
        (NGINX, ["http"], "http"),
        (NGINX, ["http, https"], "https"),
        (NGINX, ["http", "https"], "https"),
        (NGINX, ["https, http"], "http"),
        (NGINX, ["HTTPS"], "http"),
        (NGINX, ["ftp"], "http"),
        (NGINX, ["https,"], "http"),
        (NGINX, [], "http"),
        (VISITOR, ["https"], "http"),
    ],
)
async def test_the_nearest_proxy_tells_the_scheme(
    peer: str, values: list[str], expected: str
) -> None:
    headers = [("X-Forwarded-Proto", value) for value in values]

    assert await scheme_of(request(peer, *headers)) == expected


@pytest.mark.anyio
async def test_nobody_tells_it_where_no_proxy_is_known() -> None:
    header = ("X-Forwarded-Proto", "https")

    assert await scheme_of(request("127.0.0.1", header), trusted=()) == "http"
    assert await scheme_of(request("127.0.0.1", header)) == "https"
