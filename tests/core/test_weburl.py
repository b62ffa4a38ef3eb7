import pytest

from gateway.core.weburl import (
    MAX_BYTES,
    check_host_pattern,
    host_of,
    is_host_among,
    is_web_url,
)


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example",
        "https://a.example/",
        "https://a.example?x=1",
        "https://a.example/hook/../x//y;z=1?a=b&c=%20d??/",
        "https://A.Example:65535/",
        "https://localhost/",
        "https://1.2.3.4:1/",
        "https://1a.2b.c3/",
        "https://[2001:db8::1]:8443/h",
        "https://[::ffff:1.2.3.4]/",
        f"https://{'a' * 63}.example/",
        f"https://{'a.' * 126}a/",
        "https://a.example/" + "x" * (MAX_BYTES - 18),
    ],
)
def test_an_address(url: str) -> None:
    assert is_web_url(url.encode())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "http://a.example/",
        "http://localhost/",
        "https://u@a.example/",
        "https://a.example/#x",
        "https://a.example/ x",
        "https://a.example/\n",
        "https://a.example\n",
        "https://a.example/%",
        "https://a.example/%2",
        "https://a.example/[x]",
        "https://a.example./",
        "https://a..example/",
        "https://-a.example/",
        "https://a-.example/",
        "https://a.example-/",
        "https://a.-/",
        f"https://{'a' * 64}.example/",
        f"https://{'a.' * 126}ab/",
        "https://1/",
        "https://1.2.3/",
        "https://01.2.3.4/",
        "https://1.2.3.4.5/",
        "https://a.0X1f/",
        "https://0x/",
        "https://[1.2.3.4]/",
        "https://[::1%25lo]/",
        "https://a.example:65536/",
        "https://a.example/" + "x" * (MAX_BYTES - 17),
    ],
)
def test_not_an_address(url: str) -> None:
    assert not is_web_url(url.encode())


def test_http_on_loopback_only_where_asked_for() -> None:
    assert is_web_url(b"http://127.0.0.1:9000/x", loopback_http=True)
    assert not is_web_url(b"http://127.0.0.1:9000/x")
    assert not is_web_url(b"http://127.0.0.1.a.example/x", loopback_http=True)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://a.example", "a.example"),
        ("https://A.Example:8443/x?y", "a.example"),
        ("https://[2001:DB8::1]/", "[2001:db8::1]"),
        ("https://u@a.example/", None),
        ("https://a.example\\@b.example/", None),
        ("https://a.example./", None),
        ("http://a.example/", None),
        ("http://localhost/", None),
        ("https://\ud800.example/", None),
        ("https://a.example/" + "x" * MAX_BYTES, None),
        ("", None),
    ],
)
def test_the_host_is_that_of_an_address_alone(url: str, host: str | None) -> None:
    assert host_of(url) == host


def test_a_loopback_address_has_a_host_where_it_may() -> None:
    assert host_of("http://127.0.0.1:9/x", loopback_http=True) == "127.0.0.1"
    assert host_of("http://a.example/", loopback_http=True) is None


@pytest.mark.parametrize(
    ("pattern", "host", "among"),
    [
        ("a.example", "a.example", True),
        ("a.example", "b.a.example", False),
        ("*.a.example", "b.a.example", True),
        ("*.a.example", "c.b.a.example", True),
        ("*.a.example", "a.example", False),
        ("*.a.example", "ba.example", False),
        ("*.a.example", "b.a.example.evil", False),
        ("127.0.0.1", "127.0.0.1", True),
    ],
)
def test_a_host_is_exact_or_below_a_star(pattern: str, host: str, among: bool) -> None:
    check_host_pattern(pattern)

    assert is_host_among(["x.example", pattern], host) == among
    assert not is_host_among([], host)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "*",
        "*.",
        "a*.example",
        "*.*.example",
        "A.example",
        "a.example:1",
        "a.example.",
        "*.1.2.3.4",
    ],
)
def test_a_pattern_that_no_host_matches(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"host"):
        check_host_pattern(pattern)
