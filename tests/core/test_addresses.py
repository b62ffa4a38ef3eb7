import pytest

from gateway.core.addresses import why_not_public


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2001:4860:4860::8888",
        "2a00:1450:4001::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_public(address: str) -> None:
    assert why_not_public(address) is None


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.0", "this network"),
        ("0.255.255.255", "this network"),
        ("10.0.0.1", "private"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("100.100.100.200", "carrier-grade NAT"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("168.63.129.16", "cloud host"),
        ("169.254.169.254", "link-local"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.8", "protocol assignments"),
        ("192.0.0.192", "protocol assignments"),
        ("192.0.2.1", "documentation"),
        ("192.88.99.1", "6to4 relay"),
        ("192.168.1.1", "private"),
        ("198.18.0.1", "benchmarking"),
        ("198.19.255.255", "benchmarking"),
        ("198.51.100.7", "documentation"),
        ("203.0.113.7", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::127.0.0.1", "IPv4-compatible"),
        ("::8.8.8.8", "IPv4-compatible"),
        ("::ffff:127.0.0.1", "loopback (IPv4-mapped)"),
        ("::ffff:a9fe:a9fe", "link-local (IPv4-mapped)"),
        ("64:ff9b::a9fe:a9fe", "link-local (NAT64)"),
        ("64:ff9b::10.0.0.1", "private (NAT64)"),
        ("64:ff9b:1::1", "local NAT64"),
        ("100::1", "discard"),
        ("2001::1", "Teredo"),
        ("2001:0:808:808::1", "Teredo"),
        ("2001:10::1", "protocol assignments"),
        ("2001:db8::1", "documentation"),
        ("2002:7f00:1::", "6to4"),
        ("2002:808:808::1", "6to4"),
        ("3fff::1", "documentation"),
        ("5f00::1", "segment routing"),
        ("fc00::1", "private"),
        ("fd00:ec2::254", "private"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        ("::ffff:0:127.0.0.1", "not given out"),
        ("4000::1", "not given out"),
        ("1::1", "not given out"),
        ("fe80::1%lo", "scoped"),
        ("2606:4700::1%eth0", "scoped"),
    ],
)
def test_not_public(address: str, why: str) -> None:
    assert why_not_public(address) == why


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "localhost",
        "[::1]",
        "::1\n",
        "8.8.8.8 ",
        "8.8.8.8\0",
        "1.1.1.1/32",
        "\u2460.1.1.1",
        "\ud800",
        "1" * 10_000,
    ],
)
def test_not_an_address(text: str) -> None:
    """Resolvers make loopback of some of these, so that only what they give may be judged."""
    assert why_not_public(text) == "not an address"
