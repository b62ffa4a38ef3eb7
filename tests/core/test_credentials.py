import string
from zlib import crc32

import pytest

from gateway.core.credentials import (
    ISSUED_FORM,
    Presented,
    from_headers,
    has_checksum,
    key_hash,
    key_id,
    new_key,
)
from gateway.core.errors import Unauthenticated

KEY = "fgw_abcdefgh_ABCDEFGHIJKLMNOPQRST"
TOKEN = "eyJ0eXAiOiJ0b2tlbiJ9.c2lnbmF0dXJl"
AUTHORIZATION = (b"authorization", f"Key {KEY}".encode())
GATEWAY = (b"x-gateway-authorization", f"Bearer {TOKEN}".encode())
COOKIE = (b"cookie", b"theme=dark; fgw_session=eyJ.abc; other=1")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (f"Bearer {TOKEN}", "token"),
        (f"bearer {TOKEN}", "token"),
        (f"KEY {TOKEN}", "token"),
        (f"Bearer   {TOKEN} ", "token"),
        (f"Bearer {KEY}", "key"),
        (f"Key {KEY}", "key"),
    ],
)
@pytest.mark.parametrize("name", ["Authorization", "X-Gateway-Authorization"])
def test_schemes(name: str, value: str, kind: str) -> None:
    presented = from_headers([(name.encode(), value.encode())])

    assert presented is not None
    assert (presented.kind, presented.text) == (kind, KEY if kind == "key" else TOKEN)


def test_the_gateways_own_header_needs_no_scheme() -> None:
    assert from_headers([(b"x-gateway-authorization", KEY.encode())]) == Presented(KEY, "key")
    with pytest.raises(Unauthenticated):
        from_headers([(b"authorization", KEY.encode())])


def test_order() -> None:
    session = Presented("eyJ.abc", "session")

    assert from_headers([COOKIE, AUTHORIZATION, GATEWAY]) == Presented(TOKEN, "token")
    assert from_headers([COOKIE, AUTHORIZATION]) == Presented(KEY, "key")
    assert from_headers([COOKIE]) == session
    assert from_headers([(b"cookie", b"theme=dark")]) is None
    assert from_headers([]) is None
    assert from_headers([(b"cookie", b"a=b"), COOKIE], "other") == Presented("1", "session")
    assert from_headers([(b"cookie", b"a=b"), COOKIE]) == session


@pytest.mark.parametrize("bad", [b"", b"Basic dTpw", b"Bearer", b"Bearer ", b"Bearer a b"])
def test_a_bad_one_is_not_passed_over(bad: bytes) -> None:
    with pytest.raises(Unauthenticated):
        from_headers([(b"authorization", bad), COOKIE])
    assert from_headers([GATEWAY, (b"authorization", bad)]) == Presented(TOKEN, "token")


@pytest.mark.parametrize(
    "headers",
    [
        [AUTHORIZATION, AUTHORIZATION],
        [AUTHORIZATION, (b"Authorization", b"Bearer x")],
        [GATEWAY, GATEWAY, AUTHORIZATION],
        [COOKIE, COOKIE],
        [(b"cookie", b"fgw_session=a; fgw_session=b")],
    ],
)
def test_twice_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthenticated, match="twice"):
        from_headers(headers)


@pytest.mark.parametrize(
    "text",
    [
        "3f2504e0-4f89-41d3-9a0c-0305e82c3301:0123456789abcdef0123456789abcdef",
        "fk_canary_7f3a:9b1c0d5e",
        f"{KEY}:x",
    ],
)
@pytest.mark.parametrize("name", [b"authorization", b"x-gateway-authorization"])
def test_a_fal_key_is_refused_with_help(name: bytes, text: str) -> None:
    """The JS client in Node sends FAL_KEY by itself. Its text is not repeated."""
    with pytest.raises(Unauthenticated, match="looks like a fal key") as error:
        from_headers([(name, f"Key {text}".encode())])

    assert text not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "fgw_",
        "fgw_abc_ABCDEFGHIJKLMNOPQRST",
        "fgw_abcdefgh_short",
        "fgw_ABCDEFGH_ABCDEFGHIJKLMNOPQRST",
        "fgw_abcdefgh_ABCDEFGHIJKLMNOPQRS-",
        f"fgw_{'a' * 129}_{'A' * 20}",
        f"fgw_{'a' * 8}_{'A' * 513}",
        f"fgw_{'a' * 8}_{'A' * 5000}",
        f"{KEY}\n",
        f"{KEY}é",
        "é",
        "\0",
    ],
)
def test_what_cannot_be_a_key_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated) as error:
        from_headers([(b"authorization", f"Bearer {text}".encode())])
    with pytest.raises(ValueError, match="a key has the form"):
        key_id(text)

    assert text not in str(error.value)
    assert key_id(KEY) == "abcdefgh"


@pytest.mark.parametrize(
    "name",
    ["authorization_", "authorization ", "x_gateway_authorization", "X-Gateway_Authorization",
     "proxy-authorization", "x-api-key", "api-key", "x-forwarded-authorization"],
)  # fmt: skip
def test_no_other_name_is_the_header(name: str) -> None:
    """Some servers take `_` for `-`."""
    stray = (name.encode(), f"Bearer {KEY}".encode())

    assert from_headers([stray]) is None
    assert from_headers([stray, GATEWAY]) == Presented(TOKEN, "token")


@pytest.mark.parametrize("value", [b"fgw_session=", b"fgw_session=" + b"a" * 5000])
def test_odd_sessions_are_refused(value: bytes) -> None:
    with pytest.raises(Unauthenticated):
        from_headers([(b"cookie", value)])


def test_key_hash() -> None:
    assert key_hash("abc") == (
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert key_hash("\ud800").startswith("sha256:")


def test_the_text_does_not_show() -> None:
    assert KEY not in repr(from_headers([AUTHORIZATION]))


def test_a_new_key_is_a_key_and_tells_its_id() -> None:
    made = [new_key() for _ in range(200)]

    for name, text in made:
        assert key_id(text) == name
        assert ISSUED_FORM.fullmatch(text)
        assert has_checksum(text)
    assert len({name for name, _ in made}) == len({text for _, text in made}) == 200
    letters = "".join(text.rpartition("_")[2][:30] for _, text in made)
    assert set(letters) == set(string.ascii_letters + string.digits)


def test_the_checksum_is_the_one_of_known_text() -> None:
    """CRC32 0xcbf43926 is that of "123456789"; scanners elsewhere count on ours to stay."""
    text = "fgw_abcdefghijkl_" + "A" * 30
    left, digits = crc32(text.encode()), []
    while left:
        left, digit = divmod(left, 62)
        digits.append((string.digits + string.ascii_uppercase + string.ascii_lowercase)[digit])

    assert crc32(b"123456789") == 0xCBF43926
    assert has_checksum(text + "".join(reversed(digits)).rjust(6, "0"))


def test_any_changed_letter_breaks_the_checksum() -> None:
    _, text = new_key()
    places = [place for place, letter in enumerate(text) if place > 3 and letter != "_"]

    assert has_checksum(text)
    for place in places:
        other = "0" if text[place] != "0" else "1"
        assert not has_checksum(text[:place] + other + text[place + 1 :])
    for other in (text[:-1], text + "0", text + "\n", KEY, "", text.upper()):
        assert not has_checksum(other)
    assert key_id(KEY) == "abcdefgh"  # one of one's own needs none
