import string
from dataclasses import replace
from hashlib import sha256

import pytest
from itsdangerous import Signer, URLSafeSerializer
from itsdangerous.encoding import base64_decode, base64_encode

from gateway.core.errors import BadBody, BadSignature, Unauthenticated
from gateway.core.model import JobRef, Kind, Principal
from gateway.core.tokens import (
    MAX_LENGTH,
    MAX_LIFETIME,
    PASS_LIFETIME,
    SKEW,
    TICKET_LIFETIME,
    VISITOR_LIFETIME,
    Claims,
    Purpose,
    Seals,
    VerifiedCache,
)

OLD = "old-secret-of-32-bytes-at-least-xxxx"
NEW = "new-secret-of-32-bytes-at-least-xxxx"
NOW = 1_750_000_000
ALICE = Principal("red", Kind.USER, "alice")
CLAIMS = Claims(
    purpose=Purpose.TOKEN,
    jti="00112233445566778899aabbccddeeff",
    kid="abcdefgh",
    principal=ALICE,
    plan="default",
    issued_at=NOW,
    expires_at=NOW + 3600,
    endpoints=("fal-ai/flux/**",),
    jobs=frozenset({"b-2", "a-1"}),
    parents=("ffeeddccbbaa99887766554433221100",),
)
REF = JobRef("aa11", Principal("red", Kind.KEY, "backend:1"), "fal-ai/flux/dev", NOW + 0.25)
SEALS = Seals([OLD, NEW])
TEXT = SEALS.issue(CLAIMS)


def signed(name: str, payload: bytes) -> str:
    """Any payload, signed with our secret: what no attacker can make."""
    signer = Signer(NEW, salt=f"fal-gateway.{name}", key_derivation="hmac", digest_method=sha256)
    return signer.sign(base64_encode(payload)).decode()


def test_round_trip() -> None:
    assert SEALS.read(Purpose.TOKEN, TEXT, NOW) == CLAIMS


def test_round_trip_of_the_least() -> None:
    """What is absent stays absent, and "nothing allowed" is not "no restriction"."""
    least = replace(CLAIMS, endpoints=None, jobs=None, parents=())
    nothing = replace(CLAIMS, endpoints=(), jobs=frozenset())
    chained = replace(CLAIMS, since=NOW - 50, refresh_until=NOW + 86_400)

    assert SEALS.read(Purpose.TOKEN, SEALS.issue(chained), NOW) == chained
    assert SEALS.read(Purpose.TOKEN, SEALS.issue(least), NOW) == least
    assert SEALS.read(Purpose.TOKEN, SEALS.issue(nothing), NOW) == nothing


def test_payload() -> None:
    payload = base64_decode(TEXT.partition(".")[0])

    assert payload == (
        b'{"typ":"token","jti":"00112233445566778899aabbccddeeff","kid":"abcdefgh","team":"red",'
        b'"principal":"user:alice","plan":"default","endpoints":["fal-ai/flux/**"],'
        b'"jobs":["a-1","b-2"],"parents":["ffeeddccbbaa99887766554433221100"],'
        b'"iat":1750000000,"exp":1750003600}'
    )


def test_a_name_may_hold_anything() -> None:
    odd = replace(CLAIMS, principal=Principal("r:d", Kind.USER, 'a:"b\u00e9\U0001f600.c'))

    assert SEALS.read(Purpose.TOKEN, SEALS.issue(odd), NOW) == odd


def test_every_changed_bit_is_refused() -> None:
    for place in range(len(TEXT)):
        for bit in range(8):
            char = chr(ord(TEXT[place]) ^ 1 << bit)
            with pytest.raises(Unauthenticated):
                SEALS.read(Purpose.TOKEN, TEXT[:place] + char + TEXT[place + 1 :], NOW)

    assert SEALS.read(Purpose.TOKEN, TEXT, NOW) == CLAIMS


def test_only_one_last_character_is_right() -> None:
    """itsdangerous takes four, of which three only differ in bits that are thrown away."""
    taken: list[str] = []
    for char in string.ascii_letters + string.digits + "-_":
        try:
            SEALS.read(Purpose.TOKEN, TEXT[:-1] + char, NOW)
        except Unauthenticated:
            continue
        taken.append(char)

    assert taken == [TEXT[-1]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "\0",
        "é",
        "\ud800",
        "\U0001f600",
        TEXT + "=",
        TEXT + "==",
        TEXT + "====",
        TEXT + "!!!!",
        TEXT + "****",
        TEXT[:-5] + "!" + TEXT[-5:],
        TEXT[:-5] + "\n" + TEXT[-5:],
        TEXT + "é",
        TEXT + "\0",
        TEXT + "\n",
        TEXT + ".",
        " " + TEXT,
        TEXT.replace(".", "=."),
        TEXT.replace(".", ".!"),
        TEXT.replace(".", ".."),
        TEXT.replace(".", ""),
        TEXT[:-1],
        TEXT[1:],
        TEXT.partition(".")[0],
        TEXT.partition(".")[0] + ".",
        "." + TEXT.partition(".")[2],
        "." + TEXT,
        ".eJyrVkrLz1eyUkpKLFKqBQAdegQ0." + TEXT.partition(".")[2],
        "A" * 2**20,
        "." * 2**20,
        "é" * 2**20,
        TEXT + "A" * 2**20,
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    """With the one error, whatever the text."""
    with pytest.raises(Unauthenticated, match=r"^the credential is not valid$"):
        SEALS.read(Purpose.TOKEN, text, NOW)
    with pytest.raises(BadSignature, match=r"^the ticket is not valid$"):
        SEALS.read_ticket(text, NOW)
    with pytest.raises(Unauthenticated, match=r"^the credential is not valid$"):
        VerifiedCache(SEALS).read(Purpose.TOKEN, text, NOW)


@pytest.mark.parametrize("issued", Purpose)
@pytest.mark.parametrize("used", Purpose)
def test_one_purpose_is_never_good_as_another(issued: Purpose, used: Purpose) -> None:
    text = SEALS.issue(replace(CLAIMS, purpose=issued, expires_at=NOW + 60))

    if issued is used:
        assert SEALS.read(used, text, NOW).purpose is used
    else:
        with pytest.raises(Unauthenticated):
            SEALS.read(used, text, NOW)
    with pytest.raises(BadSignature):
        SEALS.read_ticket(text, NOW)


@pytest.mark.parametrize("purpose", Purpose)
def test_a_ticket_is_no_credential(purpose: Purpose) -> None:
    with pytest.raises(Unauthenticated):
        SEALS.read(purpose, SEALS.ticket(REF), NOW)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 3000,
        b'{"typ":"token"}',
        base64_decode(TEXT.partition(".")[0]).replace(b'"typ":"token"', b'"typ":"session"'),
        base64_decode(TEXT.partition(".")[0]).replace(b'"typ":"token"', b'"typ":"root"'),
        base64_decode(TEXT.partition(".")[0]).replace(b'"user:alice"', b'"god:alice"'),
        base64_decode(TEXT.partition(".")[0]).replace(b'"user:alice"', b'"alice"'),
        base64_decode(TEXT.partition(".")[0]).replace(b'"iat"', b'"only_on_mondays":true,"iat"'),
        base64_decode(TEXT.partition(".")[0]).replace(b"1750003600", b"1e999"),
        base64_decode(TEXT.partition(".")[0]).replace(b"1750003600", b"true"),
        base64_decode(TEXT.partition(".")[0]).replace(b"1750003600", b'"1750003600"'),
        base64_decode(TEXT.partition(".")[0]).replace(b"1750003600", b"1750000000"),
        base64_decode(TEXT.partition(".")[0]).replace(b"1750003600", b"1750086401"),
        base64_decode(TEXT.partition(".")[0]).replace(b"1750003600", b"9" * 400),
    ],
)
def test_a_bad_payload_is_refused_even_if_signed(payload: bytes) -> None:
    with pytest.raises(Unauthenticated):
        SEALS.read(Purpose.TOKEN, signed("token", payload), NOW)
    with pytest.raises(BadSignature):
        SEALS.read_ticket(signed("ticket", payload), NOW)

    good = signed("token", base64_decode(TEXT.partition(".")[0]))
    assert SEALS.read(Purpose.TOKEN, good, NOW) == CLAIMS


def test_a_compressed_payload_is_refused_even_if_signed() -> None:
    """Nothing of ours is compressed, so that nothing has to be blown up."""
    theirs = URLSafeSerializer(
        NEW,
        salt="fal-gateway.token",
        signer_kwargs={"key_derivation": "hmac", "digest_method": sha256},
    )
    text = theirs.dumps({"typ": "token", "jti": "a" * 2000})
    assert text.startswith(".eJ")

    with pytest.raises(Unauthenticated):
        SEALS.read(Purpose.TOKEN, text, NOW)
    assert theirs.loads(TEXT)["jti"] == CLAIMS.jti


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (NOW - 3600, "not valid"),
        (NOW - 60, "not valid"),
        (NOW - SKEW - 1, "not valid"),
        (NOW - SKEW, None),
        (NOW - 2, None),
        (NOW + 3600 + SKEW - 1, None),
        (NOW + 3600 + SKEW, "expired"),
        (NOW + 10**9, "expired"),
    ],
)
def test_time(now: float, why: str | None) -> None:
    if why is None:
        assert SEALS.read(Purpose.TOKEN, TEXT, now) == CLAIMS
    else:
        with pytest.raises(Unauthenticated, match=why):
            SEALS.read(Purpose.TOKEN, TEXT, now)


@pytest.mark.parametrize(
    ("purpose", "longest"),
    [
        (Purpose.TOKEN, MAX_LIFETIME),
        (Purpose.SESSION, MAX_LIFETIME),
        (Purpose.PASS, PASS_LIFETIME),
        (Purpose.VISITOR, VISITOR_LIFETIME),
    ],
)
def test_lifetimes_are_bounded(purpose: Purpose, longest: int) -> None:
    claims = replace(CLAIMS, purpose=purpose, expires_at=NOW + longest)
    assert SEALS.read(purpose, SEALS.issue(claims), NOW) == claims

    for expires_at in (NOW + longest + 1, NOW, NOW - 1):
        with pytest.raises(ValueError, match="out of bounds"):
            SEALS.issue(replace(claims, expires_at=expires_at))


def test_what_would_be_too_long_is_not_issued() -> None:
    with pytest.raises(BadBody, match="too long"):
        SEALS.issue(replace(CLAIMS, endpoints=("a/b",) * MAX_LENGTH))


def test_rotation() -> None:
    """Signed with the old secret, read while that one is still listed."""
    text = Seals([OLD]).issue(CLAIMS)

    assert Seals([OLD, NEW]).read(Purpose.TOKEN, text, NOW) == CLAIMS
    assert Seals([NEW, OLD]).issue(CLAIMS) == text
    with pytest.raises(Unauthenticated):
        Seals([NEW]).read(Purpose.TOKEN, text, NOW)


@pytest.mark.parametrize("secrets", [[], [""], ["x" * 31], [NEW, "short"], ["short", NEW]])
def test_weak_secrets_are_refused(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match="signing secret"):
        Seals(secrets)


def test_secrets_do_not_show() -> None:
    assert NEW not in repr(SEALS)


def test_ticket() -> None:
    text = SEALS.ticket(REF)

    assert SEALS.read_ticket(text, NOW).ref == REF
    assert SEALS.read_ticket(text, NOW + TICKET_LIFETIME).ref == REF
    for now in (NOW - SKEW - 1, NOW + TICKET_LIFETIME + SKEW + 1):
        with pytest.raises(BadSignature, match="expired"):
            SEALS.read_ticket(text, now)


@pytest.mark.parametrize("typ", ["token", "", "Ticket"])
def test_a_ticket_says_that_it_is_one(typ: str) -> None:
    payload = base64_decode(SEALS.ticket(REF).partition(".")[0])
    other = payload.replace(b'"typ":"ticket"', f'"typ":"{typ}"'.encode())

    assert SEALS.read_ticket(signed("ticket", payload), NOW).ref == REF
    with pytest.raises(BadSignature):
        SEALS.read_ticket(signed("ticket", other), NOW)


def test_cache_remembers() -> None:
    cache = VerifiedCache(SEALS)

    assert cache.read(Purpose.TOKEN, TEXT, NOW) == CLAIMS
    assert cache.read(Purpose.TOKEN, TEXT, NOW) is cache.read(Purpose.TOKEN, TEXT, NOW)
    assert len(cache) == 1


def test_cache_keeps_purposes_apart() -> None:
    cache = VerifiedCache(SEALS)
    cache.read(Purpose.TOKEN, TEXT, NOW)

    for purpose in (Purpose.SESSION, Purpose.PASS):
        with pytest.raises(Unauthenticated):
            cache.read(purpose, TEXT, NOW)


def test_cache_forgets_what_has_expired() -> None:
    cache = VerifiedCache(SEALS)
    cache.read(Purpose.TOKEN, TEXT, NOW)

    with pytest.raises(Unauthenticated, match="expired"):
        cache.read(Purpose.TOKEN, TEXT, NOW + 3600 + SKEW)
    assert len(cache) == 0


def test_cache_is_bounded() -> None:
    """The one not used for longest goes, and what is refused takes no place."""
    cache = VerifiedCache(SEALS, max=2)
    texts = [SEALS.issue(replace(CLAIMS, jti=jti)) for jti in "abc"]

    first = cache.read(Purpose.TOKEN, texts[0], NOW)
    second = cache.read(Purpose.TOKEN, texts[1], NOW)
    assert cache.read(Purpose.TOKEN, texts[0], NOW) is first
    cache.read(Purpose.TOKEN, texts[2], NOW)
    for number in range(10):
        with pytest.raises(Unauthenticated):
            cache.read(Purpose.TOKEN, f"{texts[0]}{number}", NOW)

    assert len(cache) == 2
    assert cache.read(Purpose.TOKEN, texts[0], NOW) is first
    assert cache.read(Purpose.TOKEN, texts[1], NOW) is not second
