import pytest

from gateway.core.weburl import MAX_BYTES, is_web_url


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
