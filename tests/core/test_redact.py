"""No spelling of a secret gets through, whole or in pieces, and nothing else is touched."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.redact import Redactor

KEY = b"fk_canary_7f3a:9b1c0d5e/2b4+6f80"
SECRET = KEY.partition(b":")[2]

SPELLINGS = [
    KEY,
    SECRET,
    b"Key " + KEY,
    quote(KEY, safe="").encode(),
    quote(KEY, safe="").lower().encode(),
    b"".join(b"%%%02x" % byte for byte in KEY),
    b"".join(b"\\u%04x" % byte for byte in KEY),
    b"".join(b"\\u%04X" % byte for byte in KEY),
    b"\\u0066" + KEY[1:],
    KEY[:-1] + b"%30",
    KEY.replace(b"/", b"\\/"),
    KEY.hex().encode(),
    KEY.hex().upper().encode(),
    *(base64.b64encode(b"x" * shift + KEY + b"tail") for shift in range(4)),
    *(base64.urlsafe_b64encode(b"\xff" * shift + KEY + b"\xff") for shift in range(4)),
    base64.b64encode(b"Key " + KEY),
    quote(base64.b64encode(KEY), safe="").encode(),
    json.dumps(base64.b64encode(KEY).decode()).replace("/", "\\/").encode(),
]
"""Each, cut anywhere, is what a careless upstream may send."""


def redactor(alarms: list[bool] | None = None) -> Redactor:
    return Redactor([KEY, SECRET], lambda: (alarms if alarms is not None else []).append(True))


def leaks(text: bytes) -> bool:
    """Whether five bytes of the secret half, in any of its spellings, are still there."""
    found = [text, text.lower()]
    return any(spelling[8:20] in one for spelling in SPELLINGS for one in found)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_is_found_and_told(spelling: bytes) -> None:
    alarms: list[bool] = []
    text = b'{"echo": "' + spelling + b'", "seed": 7}'

    clean = redactor(alarms).whole(text)

    assert b"***" in clean
    assert not leaks(clean)
    assert clean.startswith(b'{"echo": "')
    assert clean.endswith(b'", "seed": 7}')
    assert alarms == [True]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_cut_in_two_is_found(spelling: bytes) -> None:
    text = b'{"echo": "' + spelling + b'"}'
    whole = redactor().whole(text)

    for cut in range(len(text) + 1):
        stream = redactor().stream()
        assert stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.flush() == whole


def test_a_secret_in_single_bytes_is_found() -> None:
    stream = redactor().stream()
    out = b"".join(stream.feed(bytes([byte])) for byte in b"a" + KEY + b"z") + stream.flush()

    assert out == b"a***z"


@given(st.binary(max_size=300), st.integers(1, 50))
def test_other_bytes_pass_as_they_are(data: bytes, size: int) -> None:
    redact = redactor()
    stream = redact.stream()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]

    assert redact.whole(data) == data
    assert b"".join(map(stream.feed, pieces)) + stream.flush() == data


@pytest.mark.parametrize(
    ("chunk", "held"),
    [
        (b'data: {"a": 1}\n\n', 0),
        (b"an event that ends in f", 1),
        (b"an event that ends in fk_can", 6),
        (b"an event that ends in fk_cat", 0),
        (b"an escape that may be one of ours: \\u006", 5),
        (b"an escape that cannot: \\u00e8", 0),
    ],
)
def test_only_what_may_become_a_secret_is_held_back(chunk: bytes, held: int) -> None:
    assert redactor().held(chunk) == held


def test_short_secrets_are_none() -> None:
    """A simulator's key may be a common word."""
    redact = Redactor([b"key", b""], pytest.fail)

    assert redact.whole(b"the key of the door") == b"the key of the door"
    assert redact.held(b"the key") == 0
