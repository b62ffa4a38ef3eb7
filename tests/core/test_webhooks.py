import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from gateway.core.envelopes import Envelope, parse_envelope
from gateway.core.errors import BadBody, BadSignature
from gateway.core.webhooks import (
    JWKS_MAX,
    KEYS_MAX,
    TOLERANCE,
    SignedHeaders,
    check_account,
    check_age,
    check_ids,
    check_signature,
    message,
    parse_jwks,
    read_headers,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))  # the same in every process
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key(), KEY.public_key()]
NOW = 1_750_000_000
ID = "11111111-2222-4333-8444-555555555555"
BODY = f'{{"request_id": "{ID}", "status": "OK", "payload": {{"seed": 7}}}}'.encode()
PRIME = 2**255 - 19
ORDER_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")


def headers_of(
    body: bytes = BODY, request_id: str = ID, user: str = "u1", at: int = NOW
) -> dict[bytes, bytes]:
    return {
        b"x-fal-webhook-request-id": request_id.encode(),
        b"x-fal-webhook-user-id": user.encode(),
        b"x-fal-webhook-timestamp": str(at).encode(),
        b"x-fal-webhook-signature": KEY.sign(message(request_id, user, at, body)).hex().encode(),
    }


def verify(
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes,
    keys: Sequence[Ed25519PublicKey],
    now: float,
    account: str | None,
) -> Envelope:
    """All checks in the order in which a webhook goes through them, but for the ticket."""
    signed = read_headers(headers)
    check_signature(signed, body, keys)
    check_age(signed, now)
    check_account(signed, account)
    envelope = parse_envelope(body)
    check_ids(signed, envelope)
    return envelope


def jwk(point: bytes, **more: str) -> dict[str, str]:
    x = base64.urlsafe_b64encode(point).decode().rstrip("=")
    return {"kty": "OKP", "crv": "Ed25519", "x": x} | more


def jwks(*entries: object) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


def point_of(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes_raw()


GOOD = point_of(KEY.public_key())


def test_genuine() -> None:
    """Signed by any of the published keys, and fresh."""
    for now in (NOW - TOLERANCE, NOW, NOW + TOLERANCE):
        envelope = verify(headers_of().items(), BODY, KEYS, now, "u1")
        assert (envelope.request_id, envelope.ok, envelope.payload) == (ID, True, b'{"seed": 7}')

    assert verify(headers_of(user="github|42").items(), BODY, KEYS, NOW, None).ok


def test_published_vector() -> None:
    """Made by another program than this one."""
    keys = parse_jwks(
        b'{"keys":[{"kty":"OKP","crv":"Ed25519",'
        b'"x":"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}]}'
    )
    body = (
        f'{{"error": null, "gateway_request_id": "{ID}", "payload": {{"seed": 7}}, '
        f'"request_id": "{ID}", "status": "OK"}}'
    ).encode()
    headers = [
        (b"X-Fal-Webhook-Request-Id", ID.encode()),
        (b"X-Fal-Webhook-User-Id", b"test-user"),
        (b"X-Fal-Webhook-Timestamp", b"1700000000"),
        (
            b"X-Fal-Webhook-Signature",
            b"613a2ba2f87ae5531e36a9c7b22f7f55a941f0fe37dd2b61d21581cc114a724c"
            b"c1aeaa69bec3bcf837c49e48b85f4cd039adcde106fc69378a269fb61bf98f06",
        ),
    ]

    assert len(body) == 171
    envelope = verify(headers, body, keys, 1_700_000_000, "test-user")
    assert (envelope.payload, envelope.error) == (b'{"seed": 7}', None)


@pytest.mark.parametrize("name", headers_of())
def test_each_header_must_be_there_once(name: bytes) -> None:
    headers = headers_of()
    twice = [*headers.items(), (name.title(), headers[name])]
    without = [pair for pair in headers.items() if pair[0] != name]

    for wrong in (twice, without, []):
        with pytest.raises(BadSignature):
            read_headers(wrong)
    assert read_headers([(b"host", b"x"), *headers.items(), (b"host", b"y")]).request_id == ID


@pytest.mark.parametrize("name", headers_of())
@pytest.mark.parametrize(
    "change", ["", " {}", "{} ", "{}\n", "{}\r\n", "{}\0", "\u00e9", "{0},{0}"]
)
def test_each_header_must_be_in_form(name: bytes, change: str) -> None:
    headers = headers_of()
    headers[name] = change.format(headers[name].decode()).encode()

    with pytest.raises(BadSignature, match="not in its form"):
        read_headers(headers.items())


@pytest.mark.parametrize("name", headers_of())
def test_a_huge_header_is_refused(name: bytes) -> None:
    with pytest.raises(BadSignature):
        read_headers((headers_of() | {name: b"1" * 65_536}).items())


SIGNATURE = headers_of()[b"x-fal-webhook-signature"].decode()


@pytest.mark.parametrize(
    "signature",
    [
        SIGNATURE[:-2],
        SIGNATURE + "00",
        SIGNATURE.upper(),
        "0x" + SIGNATURE[2:],
        SIGNATURE[:64] + " " + SIGNATURE[65:],
        SIGNATURE[:64] + "\n" + SIGNATURE[64:],
        base64.b64encode(bytes.fromhex(SIGNATURE)).decode(),
        "zz" + SIGNATURE[2:],
        "\uff10" + SIGNATURE[1:],
    ],
)
def test_signature_form(signature: str) -> None:
    headers = headers_of() | {b"x-fal-webhook-signature": signature.encode()}

    with pytest.raises(BadSignature, match="x-fal-webhook-signature"):
        verify(headers.items(), BODY, KEYS, NOW, "u1")


@pytest.mark.parametrize(
    "timestamp",
    [
        "nan",
        "inf",
        "1e9",
        "-1",
        " 1750000000 ",
        "1_750_000_000",
        "+175000000",
        "175000000.0",
        "\uff11\uff17\uff15\uff10\uff10\uff10\uff10\uff10\uff10\uff10",
        "1750000000000",
        "175000000",
        "9" * 5000,
    ],
)
def test_timestamp_form(timestamp: str) -> None:
    headers = headers_of() | {b"x-fal-webhook-timestamp": timestamp.encode()}

    with pytest.raises(BadSignature, match="x-fal-webhook-timestamp"):
        verify(headers.items(), BODY, KEYS, NOW, "u1")


@pytest.mark.parametrize(
    ("change", "body"),
    [
        ({}, BODY + b" "),
        ({}, b""),
        ({}, json.dumps(json.loads(BODY), separators=(",", ":")).encode()),
        ({b"x-fal-webhook-request-id": b"other"}, BODY),
        ({b"x-fal-webhook-user-id": b"u2"}, BODY),
        ({b"x-fal-webhook-timestamp": str(NOW + 1).encode()}, BODY),
        ({b"x-fal-webhook-signature": b"0" * 128}, BODY),
    ],
)
def test_what_was_not_signed_is_refused(change: dict[bytes, bytes], body: bytes) -> None:
    with pytest.raises(BadSignature, match="no published key"):
        verify((headers_of() | change).items(), body, KEYS, NOW, None)


def test_without_keys_nothing_is_genuine() -> None:
    with pytest.raises(BadSignature, match="no published key"):
        verify(headers_of().items(), BODY, [], NOW, "u1")


@pytest.mark.parametrize("now", [NOW - TOLERANCE - 1, NOW + TOLERANCE + 1, float("nan")])
def test_age(now: float) -> None:
    with pytest.raises(BadSignature, match="too old or too new"):
        verify(headers_of().items(), BODY, KEYS, now, "u1")


def test_another_account() -> None:
    """fal signs for anybody who names our URL; only our own account's webhooks count."""
    with pytest.raises(BadSignature, match="another account"):
        verify(headers_of(user="u2").items(), BODY, KEYS, NOW, "u1")


def test_header_and_body_must_be_about_one_request() -> None:
    """The header may carry the id of the last attempt, which differs after a retry."""
    retried = BODY.replace(b'"status"', b'"gateway_request_id": "attempt-2", "status"')

    for request_id in (ID, "attempt-2"):
        verify(headers_of(retried, request_id).items(), retried, KEYS, NOW, "u1")
    with pytest.raises(BadSignature, match="different requests"):
        verify(headers_of(retried, "attempt-3").items(), retried, KEYS, NOW, "u1")


def test_signed_but_not_a_webhook() -> None:
    with pytest.raises(BadBody):
        verify(headers_of(b"[]").items(), b"[]", KEYS, NOW, "u1")


def test_steps_stand_alone() -> None:
    """A caller checks a ticket between them, and fetches keys again when none fits."""
    signed = read_headers(headers_of().items())

    with pytest.raises(BadSignature):
        check_signature(signed, BODY, KEYS[:1])
    check_signature(signed, BODY, KEYS)
    check_age(signed, NOW)
    check_account(signed, None)
    assert signed == SignedHeaders(ID, "u1", NOW, signed.signature)
    with pytest.raises(BadSignature):
        check_signature(replace(signed, timestamp=NOW + 1), BODY, KEYS)


def test_jwks() -> None:
    """Entries of other kinds are passed over, padding is tolerated, equal keys count once."""
    other = Ed25519PrivateKey.generate().public_key()
    body = jwks(
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": 7, "crv": None},
        "key",
        None,
        jwk(GOOD, crv="X25519"),
        jwk(GOOD, x=jwk(GOOD)["x"] + "=", kid="k1", use="sig"),
        jwk(GOOD),
        jwk(point_of(other)),
    )

    assert [point_of(key) for key in parse_jwks(body)] == [GOOD, point_of(other)]


@pytest.mark.parametrize(
    "x",
    [
        "",
        "A" * 42,
        "A" * 44,
        jwk(GOOD[:31])["x"],
        jwk(GOOD + b"\0")["x"],
        "+/" + "A" * 41,
        "é" * 43,
        jwk(GOOD)["x"] + "==",
        jwk(GOOD)["x"] + "\n",
    ],
)
def test_jwks_without_a_usable_x(x: str) -> None:
    with pytest.raises(ValueError, match="0 usable keys"):
        parse_jwks(jwks(jwk(GOOD, x=x)))
    assert len(parse_jwks(jwks(jwk(GOOD, x=x), jwk(GOOD)))) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"<html>log in</html>",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [],"\xff": 1}',
        b'{"keys": ' + b"[" * 60_000,
        b"\xff\xfe",
        jwks(jwk(GOOD)) + b" " * JWKS_MAX,
        jwks(*(jwk(number.to_bytes(32, "little")) for number in range(2, KEYS_MAX + 3))),
    ],
)
def test_not_a_key_set(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"key set|usable keys"):
        parse_jwks(body)


def low_order() -> list[bytes]:
    """Every spelling of the points of small order, non-canonical ones and both signs included."""
    order_8 = int.from_bytes(ORDER_8, "little")
    small = {0, 1, PRIME - 1, order_8, PRIME - order_8}
    ys = small | {y + PRIME for y in small if y + PRIME < 2**255}
    return [(y | sign << 255).to_bytes(32, "little") for y in sorted(ys) for sign in (0, 1)]


@pytest.mark.parametrize("point", low_order(), ids=bytes.hex)
def test_low_order_keys_are_refused(point: bytes) -> None:
    with pytest.raises(ValueError, match="0 usable keys"):
        parse_jwks(jwks(jwk(point)))


def test_the_list_of_low_order_points_is_whole() -> None:
    """With such a key one signature fits many messages: seen to happen for each of them."""
    identity = (1).to_bytes(32, "little")
    harmful = 0
    for point in low_order():
        key = Ed25519PublicKey.from_public_bytes(point)
        harmful += any(_fits(key, identity + bytes(32), str(n).encode()) for n in range(64))

    assert harmful >= 8
    assert not any(
        _fits(KEY.public_key(), identity + bytes(32), str(n).encode()) for n in range(64)
    )


def _fits(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    try:
        check_signature(SignedHeaders(text.decode(), "u", 1, signature), b"", [key])
    except BadSignature:
        return False
    return True


@pytest.mark.parametrize("y", [PRIME, PRIME + 2, PRIME + 18])
def test_non_canonical_keys_are_refused(y: int) -> None:
    with pytest.raises(ValueError, match="0 usable keys"):
        parse_jwks(jwks(jwk(y.to_bytes(32, "little"))))
