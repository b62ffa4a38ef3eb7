from base64 import urlsafe_b64decode
from dataclasses import replace

import pytest

from gateway.core.errors import BadAnswer, Unauthenticated
from gateway.core.model import Kind, Principal
from gateway.core.tokens import SKEW
from gateway.core.uploads import UploadSeals, UploadTicket

SECRET = "s" * 32
NOW = 1_800_000_000.0
TICKET = UploadTicket(
    url="https://v3.fal.media/put/here?signature=made-up-signature",
    principal=Principal("acme", Kind.USER, "ann"),
    plan="pro",
    content_type="image/png",
    multipart=False,
    max_bytes=1000,
    expires_at=int(NOW) + 3600,
    revocable=("key:abc",),
    issued_at=NOW,
)


@pytest.fixture
def seals() -> UploadSeals:
    return UploadSeals([SECRET])


def test_a_ticket_comes_back_as_it_was_sealed(seals: UploadSeals) -> None:
    assert seals.read(seals.issue(TICKET), NOW) == TICKET


def test_a_ticket_hides_what_is_in_it(seals: UploadSeals) -> None:
    text = seals.issue(TICKET)
    raw = text.encode() + _decoded(text)
    for secret in (b"fal.media", b"signature", b"ann"):
        assert secret not in raw
    assert "signature" not in repr(TICKET)


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_no_other_text_is_taken(seals: UploadSeals) -> None:
    text = seals.issue(TICKET)
    hostile = [
        "", "a", "a" * 9000, "é" * 40, text + "=", text + "A", text[:-1], text + "\n", f" {text}",
        text.swapcase(), text.replace("-", "+").replace("_", "/") + "==", "AAAA" + text,
        *(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :] for at in
          range(0, len(text), 7)),
        *(text[:-1] + last for last in "ABCDEFGHwxyz0189-_" if last != text[-1]),
    ]  # fmt: skip
    for each in hostile:
        with pytest.raises(Unauthenticated):
            seals.read(each, NOW)
    assert seals.read(text, NOW) == TICKET


def test_a_ticket_ends(seals: UploadSeals) -> None:
    text = seals.issue(TICKET)
    assert seals.read(text, TICKET.expires_at + SKEW - 1)
    with pytest.raises(Unauthenticated, match="expired"):
        seals.read(text, TICKET.expires_at + SKEW)


def test_secrets_are_rotated_and_others_open_nothing() -> None:
    text = UploadSeals([SECRET]).issue(TICKET)
    assert UploadSeals([SECRET, "t" * 32]).read(text, NOW) == TICKET
    with pytest.raises(Unauthenticated):
        UploadSeals(["t" * 32]).read(text, NOW)


def test_an_address_that_would_not_fit_into_one_is_not_taken(seals: UploadSeals) -> None:
    with pytest.raises(BadAnswer):
        seals.issue(replace(TICKET, url="https://v3.fal.media/" + "a" * 8000))


@pytest.mark.parametrize("secrets", [[], ["short"], [SECRET, "short"]])
def test_weak_secrets_are_refused(secrets: list[str]) -> None:
    with pytest.raises(ValueError, match="secret"):
        UploadSeals(secrets)
