"""JWTs of the app's own users: what is not exactly right is nobody's."""

import base64
import hmac
import json
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.core.credentials import MAX_JWT
from gateway.core.errors import Unauthenticated
from gateway.core.jwts import (
    ALGORITHMS,
    MAX_KEYS,
    Bearer,
    Issuer,
    IssuerKey,
    bearer,
    issuer_of,
    parse_key_set,
    parse_pem,
    unverified,
)
from gateway.core.model import Kind, Principal
from gateway.core.tokens import MAX_LIFETIME, SKEW

NOW: Final = 1_795_000_000
URL: Final = "https://login.example/"
AUDIENCE: Final = "https://gw.example"

RSA: Final = rsa.generate_private_key(65537, 2048)
OTHER: Final = rsa.generate_private_key(65537, 2048)
SHORT: Final = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
P256: Final = ec.generate_private_key(ec.SECP256R1())
P384: Final = ec.generate_private_key(ec.SECP384R1())
ED: Final = ed25519.Ed25519PrivateKey.generate()

PRIVATE: Final[dict[str, Any]] = {
    "RS256": RSA, "RS384": RSA, "RS512": RSA, "PS256": RSA, "PS384": RSA, "PS512": RSA,
    "ES256": P256, "ES384": P384, "EdDSA": ED,
}  # fmt: skip


def pem(key: Any) -> str:
    public = key.public_key()
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def issuer(**more: Any) -> Issuer:
    plain: dict[str, Any] = {
        "name": "login", "issuer": URL, "audience": AUDIENCE, "algorithms": frozenset({"RS256"}),
    }  # fmt: skip
    return Issuer(**plain | more)


def claims(**more: Any) -> dict[str, Any]:
    said = {"iss": URL, "aud": AUDIENCE, "sub": "alice", "iat": NOW - 10, "exp": NOW + 600}
    return {name: value for name, value in (said | more).items() if value is not None}


def signed(
    said: dict[str, Any] | None = None, algorithm: str = "RS256", key: Any = None, **header: Any
) -> str:
    key = PRIVATE[algorithm] if key is None else key
    return pyjwt.encode(claims() if said is None else said, key, algorithm, headers=header)


def read(
    text: str, *issuers: Issuer, keys: tuple[IssuerKey, ...] | None = None, now: float = NOW
) -> Bearer:
    known = issuers or (issuer(),)
    jwt = unverified(text)
    found = issuer_of(jwt, known)
    if keys is None:
        keys = (parse_pem(pem(PRIVATE[min(found.algorithms)]), found.algorithms),)
    return bearer(jwt, found, keys, now)


def refused(text: str, *issuers: Issuer, **more: Any) -> str:
    with pytest.raises(Unauthenticated) as caught:
        read(text, *issuers, **more)
    assert text not in str(caught.value)
    assert read(signed()).principal.name == "alice"
    return str(caught.value)


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


DEEP: Final = part(b'{"a":' * 1000)
NO_TEXT: Final = part(b"\xff\xfe")


def raw_signed(header: Any, body: Any, key: Any = RSA) -> str:
    """Signed as it stands, whatever it is."""
    text = f"{part(header)}.{part(body)}"
    return f"{text}.{part(key.sign(text.encode(), PKCS1v15(), SHA256()))}"


@pytest.mark.parametrize("algorithm", sorted(PRIVATE))
def test_a_user_of_a_known_issuer_is_let_in(algorithm: str) -> None:
    found = read(signed(algorithm=algorithm), issuer(algorithms=frozenset({algorithm})))

    assert found.principal == Principal("default", Kind.USER, "alice")
    assert (found.plan, found.issued_at, found.expires_at) == ("default", NOW - 10, NOW + 600)


def test_only_signatures_that_verifiers_cannot_make_are_known() -> None:
    assert not any(name.startswith(("HS", "none")) for name in ALGORITHMS)
    assert "none" not in ALGORITHMS


# Algorithms and keys


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", "nOnE"])
@pytest.mark.parametrize("signature", ["", "AA", "whatever"])
def test_no_signature_is_none(name: str, signature: str) -> None:
    refused(f"{part({'alg': name})}.{part(claims())}.{signature}")


@pytest.mark.parametrize("name", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_secret(name: str) -> None:
    """The best known trick: HMAC with what everybody can read."""
    text = f"{part({'alg': name, 'typ': 'JWT'})}.{part(claims())}"
    for secret in (pem(RSA), pem(RSA).strip()):
        mac = hmac.digest(secret.encode(), text.encode(), name.replace("HS", "sha"))
        refused(f"{text}.{part(mac)}")
        lied = f"{part({'alg': 'RS256'})}.{part(claims())}"
        refused(f"{lied}.{part(hmac.digest(secret.encode(), lied.encode(), 'sha256'))}")


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "ES256", "EdDSA"])
def test_only_the_pinned_algorithm_is_taken(algorithm: str) -> None:
    refused(signed(algorithm=algorithm))


def test_a_foreign_key_signs_nothing() -> None:
    refused(signed(key=OTHER))
    refused(signed(key=OTHER, kid="the-known-one"))


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": json.loads(RSAAlgorithm.to_jwk(OTHER.public_key()))},
        {"jku": "https://evil.example/jwks.json"},
        {"x5u": "https://evil.example/cert.pem"},
        {"x5c": ["MIIB"]},
        {"kid": "../../../dev/null"},
        {"kid": "' UNION SELECT 'a"},
        {"kid": "https://evil.example/jwks.json"},
    ],
)
def test_a_header_cannot_bring_its_own_key(header: dict[str, Any]) -> None:
    refused(signed(key=OTHER, **header))
    assert read(signed(**header)).principal.name == "alice"


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": NOW}, {"crit": []}, {"crit": ["b64"], "b64": True},
        {"b64": False, "crit": ["b64"]}, {"b64": True}, {"crit": "b64"}, {"crit": None},
    ],
)  # fmt: skip
def test_what_must_be_understood_is_not(header: dict[str, Any]) -> None:
    refused(raw_signed({"alg": "RS256", **header}, claims()))


@pytest.mark.parametrize("kid", [1, None, ["a"], {"a": 1}, True])
def test_a_kid_is_text(kid: Any) -> None:
    if kid is not None:
        refused(raw_signed({"alg": "RS256", "kid": kid}, claims()))
    assert read(raw_signed({"alg": "RS256", "kid": "a"}, claims())).principal.name == "alice"


@pytest.mark.parametrize("alg", [None, 5, ["RS256"], {"RS256": 1}, True])
def test_an_algorithm_is_text(alg: Any) -> None:
    refused(raw_signed({"alg": alg}, claims()))


# Form


@pytest.mark.parametrize(
    "text",
    [
        "..", "a.b.c", "...", "a..c", f"{part(b'[]')}.{part({})}.AA", f"{part(b'null')}.e30.AA",
        f"{part({'alg': 'RS256'})}.{part(b'x')}.AA", f"{part(b'[' * 4000)}.e30.AA",
        f"{part({'alg': 'RS256'})}.{DEEP}.AA", f"{NO_TEXT}.e30.AA", "é.é.é", "a b.c.d",
        "A" * 9000 + ".e30.AA",
    ],
)  # fmt: skip
def test_what_is_no_jwt_is_refused(text: str) -> None:
    refused(text)


@pytest.mark.parametrize(
    "body",
    [
        b'{"iss":"%s","iss":"%s","aud":"%s","sub":"alice","iat":1,"exp":1}',
        b'{"sub":"alice","sub":"bob"}', b'{"a":{"b":1,"b":2}}', b'{"exp":NaN}', b'{"exp":Infinity}',
        b'{"exp":' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_two_readers_could_read_differently_is_refused(body: bytes) -> None:
    refused(raw_signed({"alg": "RS256"}, body))
    doubled = json.dumps(claims()).encode()[:-1] + b',"sub":"admin"}'
    refused(raw_signed({"alg": "RS256"}, doubled))
    refused(raw_signed(b'{"alg":"none","alg":"RS256"}', claims()))


@pytest.mark.parametrize("suffix", ["=", "==", ".", "A", " ", "\n", "!", "%3D"])
def test_only_the_canonical_text_is_taken(suffix: str) -> None:
    good = signed()

    refused(good + suffix)
    refused(suffix + good)
    head, body, signature = good.split(".")
    refused(f"{head}.{body}{suffix}.{signature}")


def test_the_last_letter_of_a_signature_has_one_form() -> None:
    good = signed(algorithm="EdDSA")
    known = issuer(algorithms=frozenset({"EdDSA"}))
    taken = []
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        try:
            taken.append(read(good[:-1] + letter, known))
        except Unauthenticated:
            continue

    assert len(taken) == 1


def test_too_long_is_refused_before_anything_is_read() -> None:
    padded = signed(claims(pad="x" * 5000))
    assert len(padded) < MAX_JWT
    assert read(padded).principal.name == "alice"

    refused(signed(claims(pad="x" * 8000)))
    refused("a." + "b" * 2**20 + ".c")


# Claims


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "iat", "exp"])
def test_every_claim_is_needed(name: str) -> None:
    refused(signed(claims(**{name: None})))


@pytest.mark.parametrize(
    "wrong",
    [
        {"sub": ["alice"]}, {"sub": 5}, {"sub": {"a": 1}}, {"sub": True}, {"sub": ""},
        {"sub": "a b"}, {"sub": "a\nb"}, {"sub": "é"}, {"sub": "a\0"}, {"sub": "x" * 256},
        {"exp": "9999999999"}, {"exp": True}, {"exp": [NOW + 600]}, {"exp": 1e308}, {"exp": -1},
        {"iat": "1"}, {"iat": False}, {"iat": {}}, {"nbf": "1"},
        {"aud": 5}, {"aud": []}, {"aud": [5]}, {"aud": {"a": AUDIENCE}}, {"aud": [AUDIENCE, 5]},
        {"jti": 5}, {"jti": ["a"]},
    ],
)  # fmt: skip
def test_a_claim_of_the_wrong_kind_is_refused(wrong: dict[str, Any]) -> None:
    said = claims(**wrong)
    text = raw_signed({"alg": "RS256"}, said)
    assert refused(text)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"iss": "https://evil.example/"}, "issuer"),
        ({"iss": URL.rstrip("/")}, "issuer"),
        ({"iss": URL.upper()}, "issuer"),
        ({"iss": [URL]}, "issuer"),
        ({"aud": "https://other.example"}, "audience"),
        ({"aud": [AUDIENCE + "/"]}, "audience"),
        ({"iat": NOW - 900, "exp": NOW - SKEW}, "expired"),
        ({"iat": NOW + SKEW + 1, "exp": NOW + 900}, "not good yet"),
        ({"nbf": NOW + SKEW + 1}, "not good yet"),
        ({"iat": NOW + 10, "exp": NOW + 5}, "not valid"),
    ],
)
def test_the_answer_tells_what_is_wrong_with_a_good_signature(
    wrong: dict[str, Any], told: str
) -> None:
    assert told in refused(raw_signed({"alg": "RS256"}, claims(**wrong)))
    assert "expired" not in refused(signed(claims(exp=NOW - 900), key=OTHER))


def test_clocks_may_differ_by_half_a_minute() -> None:
    for said in (
        {"iat": NOW - 900, "exp": NOW - SKEW + 1},
        {"iat": NOW + SKEW, "exp": NOW + 900},
        {"nbf": NOW + SKEW},
        {"aud": ["https://other.example", AUDIENCE]},
    ):
        assert read(signed(claims(**said))).principal.name == "alice"


def test_nobody_is_let_in_for_longer_than_a_day() -> None:
    text = signed(claims(exp=NOW + 365 * 86_400))

    assert read(text).expires_at == NOW - 10 + MAX_LIFETIME
    assert "expired" in refused(text, now=NOW + MAX_LIFETIME + SKEW)


@pytest.mark.parametrize(
    "sub", ["auth0|5f7c", "../../alice", "-dash", "x" * 200, "sub:" + "0" * 32]
)
def test_a_name_that_cannot_be_one_goes_by_its_hash(sub: str) -> None:
    expected = "sub:" + sha256(sub.encode()).hexdigest()[:32]

    assert read(signed(claims(sub=sub))).principal.name == expected


def test_nobody_can_take_the_name_that_another_goes_by() -> None:
    victim = read(signed(claims(sub="auth0|victim"))).principal

    assert read(signed(claims(sub=victim.name))).principal != victim


# Issuers


def test_an_issuer_speaks_only_for_itself() -> None:
    """The other's key, under the same name, and the other's word."""
    other = issuer(name="other", issuer="https://other.example/", prefix="other:")
    keys = {
        URL: (IssuerKey("1", frozenset({"RS256"}), RSA.public_key()),),
        other.issuer: (IssuerKey("1", frozenset({"RS256"}), OTHER.public_key()),),
    }

    def judged(text: str) -> Bearer:
        jwt = unverified(text)
        found = issuer_of(jwt, [issuer(), other])
        return bearer(jwt, found, keys[found.issuer], NOW)

    mine = judged(signed(kid="1"))
    theirs = judged(signed(claims(iss=other.issuer), key=OTHER, kid="1"))
    assert (mine.principal.name, theirs.principal.name) == ("alice", "other:alice")
    assert mine.jti.startswith("iss:login:")
    assert theirs.issuer.kid == "iss:other"
    for text in (signed(key=OTHER, kid="1"), signed(claims(iss=other.issuer), kid="1")):
        with pytest.raises(Unauthenticated):
            judged(text)


def test_one_issuer_may_serve_several_audiences() -> None:
    second = issuer(name="second", audience="second", team="second")
    both = (issuer(), second)

    assert read(signed(), *both).principal.team == "default"
    assert read(signed(claims(aud="second")), *both).principal.team == "second"
    assert "audience" in refused(signed(claims(aud="third")), *both)


def test_claims_choose_team_and_plan_among_those_that_are_allowed() -> None:
    known = issuer(
        principal=("user", "id"), team_claim=("org",), teams={"o-1": "acme"},
        plan_claim=("meta", "plan"), plans=frozenset({"pro"}),
    )  # fmt: skip
    said = claims(user={"id": "bob"}, org="o-1", meta={"plan": "pro"})

    found = read(signed(said), known)
    assert (found.principal, found.plan) == (Principal("acme", Kind.USER, "bob"), "pro")
    plain = read(signed(claims(user={"id": "bob"})), known)
    assert (plain.principal.team, plain.plan) == ("default", "default")
    wrongs: list[dict[str, Any]] = [
        {"org": "acme"}, {"org": "default"}, {"org": ["o-1"]}, {"org": 1}, {"org": ""},
        {"meta": {"plan": "free"}}, {"meta": {"plan": ["pro"]}}, {"user": "bob"}, {"user": {}},
    ]  # fmt: skip
    for wrong in wrongs:
        refused(signed(said | wrong), known)


def test_two_signatures_of_one_text_are_revoked_by_one_name() -> None:
    """Of an ECDSA signature anybody can make a second one."""
    known = issuer(algorithms=frozenset({"ES256"}))
    good = signed(algorithm="ES256")
    text, _, signature = good.rpartition(".")
    bits = base64.urlsafe_b64decode(signature + "==")
    r, s = int.from_bytes(bits[:32]), int.from_bytes(bits[32:])
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = f"{text}.{part(bits[:32] + (order - s).to_bytes(32))}"
    P256.public_key().verify(encode_dss_signature(r, order - s), text.encode(), ECDSA(SHA256()))
    assert decode_dss_signature(encode_dss_signature(r, s)) == (r, s)

    assert read(twin, known).jti == read(good, known).jti
    assert read(signed(claims(jti="j-1"))).jti == "iss:login:j-1"


# Key sets


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    kinds = {
        rsa.RSAPublicKey: RSAAlgorithm,
        ec.EllipticCurvePublicKey: ECAlgorithm,
        ed25519.Ed25519PublicKey: OKPAlgorithm,
    }
    public = key.public_key()
    kind: Any = next(kind for base, kind in kinds.items() if isinstance(public, base))
    made = json.loads(kind.to_jwk(public))
    made.pop("key_ops", None)
    return {**made, **more}


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


EVERY: Final = frozenset(PRIVATE)


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        (RSA, {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (P256, {"ES256"}), (P384, {"ES384"}), (ED, {"EdDSA"}),
    ],
)  # fmt: skip
def test_a_key_fits_algorithms_of_its_kind(key: Any, fits: set[str]) -> None:
    [found] = parse_key_set(key_set(jwk(key, kid="k")), EVERY)
    assert found.kid == "k"
    assert set(found.algorithms) == fits

    [named] = parse_key_set(key_set(jwk(key, alg=min(fits))), EVERY)
    assert named.algorithms == {min(fits)}
    assert parse_pem(pem(key), EVERY).algorithms == fits


OCTETS: Final = {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "x"}


@pytest.mark.parametrize(
    "bad",
    [
        OCTETS, {**OCTETS, "alg": "RS256"}, jwk(SHORT), jwk(RSA, alg="HS256"), jwk(RSA, alg="none"),
        jwk(RSA, use="enc"), jwk(RSA, key_ops=["sign"]), jwk(RSA, key_ops="verify"),
        jwk(RSA, d="AQAB"), jwk(RSA, kid=5), jwk(RSA, alg=["RS256"]), jwk(RSA, alg="ES256"),
        jwk(P256, crv="P-384"), jwk(P256, kty="RSA"), jwk(P256, x="AA"), jwk(ED, crv="Ed448"),
        jwk(ED, x="AA"), {}, {"kty": "RSA"}, {"kty": ["RSA"]}, {"kty": "RSA", "n": 5, "e": []},
        [], "text", None, 5,
    ],
)  # fmt: skip
def test_a_key_that_does_not_fit_is_passed_over(bad: Any) -> None:
    pinned = EVERY - {"ES384"}
    good = jwk(OTHER, kid="good")

    assert [key.kid for key in parse_key_set(key_set(bad, good), pinned)] == ["good"]
    with pytest.raises(ValueError, match="no key"):
        parse_key_set(key_set(bad), pinned)


def test_a_key_that_signs_all_there_is_is_passed_over() -> None:
    """Of low order: whoever knows it has one signature for every text."""
    order_8 = "C7176A703D4DD84FBA3C0B760D10670F2A2053FA2C39CCC64EC7FD7792AC037A"
    texts = ["01" + "00" * 31, "00" * 32, "ee" + "ff" * 30 + "7f", "ec" + "ff" * 30 + "7f", order_8]
    for text in texts:
        x = base64.urlsafe_b64encode(bytes.fromhex(text)).rstrip(b"=").decode()
        with pytest.raises(ValueError, match="no key"):
            parse_key_set(key_set(jwk(ED, x=x)), EVERY)

    assert parse_key_set(key_set(jwk(ED)), EVERY)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b"<html>", b"[" * 100_000, b"\xff"],
)
def test_what_is_no_set_of_keys_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"key"):
        parse_key_set(body, EVERY)


def test_a_set_is_read_so_far_only() -> None:
    crowd = [jwk(RSA, kid=str(number)) for number in range(MAX_KEYS + 5)]

    assert len(parse_key_set(key_set(*crowd), EVERY)) == MAX_KEYS


@pytest.mark.parametrize("text", ["", "-----BEGIN PUBLIC KEY-----", "ssh-rsa AAAA", pem(SHORT)])
def test_a_key_of_the_settings_is_checked(text: str) -> None:
    with pytest.raises(ValueError, match=r"PEM|short"):
        parse_pem(text, EVERY)
    with pytest.raises(ValueError, match="does not fit"):
        parse_pem(pem(P256), frozenset({"RS256"}))


def test_a_key_is_used_with_its_own_algorithms_only() -> None:
    both = issuer(algorithms=frozenset({"RS256", "PS256"}))
    [key] = parse_key_set(key_set(jwk(RSA, alg="PS256")), both.algorithms)

    assert read(signed(algorithm="PS256"), both, keys=(key,)).principal.name == "alice"
    refused(signed(), both, keys=(key,))
    refused(signed(), both, keys=())
    assert replace(key, kid="x").kid == "x"
