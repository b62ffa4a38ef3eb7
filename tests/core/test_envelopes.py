import json

import pytest

from gateway.core.envelopes import Envelope, parse_envelope
from gateway.core.errors import BadBody

HEAD = b'{"request_id": "r1", "status": "OK"'


def test_success() -> None:
    body = (
        b'{"error": null, "gateway_request_id": "g1", "payload": {"seed": 17454220438242315174, '
        b'"x":1.10 }, "request_id": "r1", "status": "OK"}'
    )

    assert parse_envelope(body) == Envelope(
        request_id="r1",
        gateway_request_id="g1",
        ok=True,
        payload=b'{"seed": 17454220438242315174, "x":1.10 }',
    )


def test_failure() -> None:
    body = (
        b'{"status":"ERROR","request_id":"r1","error":"Invalid status code: 422",'
        b'"payload":{"detail":[]}}'
    )

    assert parse_envelope(body) == Envelope(
        "r1", None, False, b'{"detail":[]}', "Invalid status code: 422"
    )


@pytest.mark.parametrize("rest", [b"}", b', "payload": null}', b',"payload" : null ,"error":null}'])
def test_no_payload(rest: bytes) -> None:
    assert parse_envelope(HEAD + rest) == Envelope("r1", None, True)


def test_payload_error() -> None:
    body = HEAD + b', "payload": null, "payload_error": "not serialisable"}'

    assert parse_envelope(body).payload_error == "not serialisable"


def test_payload_is_verbatim() -> None:
    """Whatever its bytes are: numbers of any length, names given twice, broken UTF-8."""
    payload = b'{"a":[1e999, 1,\t' + b"9" * 5000 + b'],"a":"\\u00e9\xff", "request_id":"r2"}'

    assert parse_envelope(HEAD + b',"payload":' + payload + b"}").payload == payload


@pytest.mark.parametrize(
    "payload",
    [
        b'{"loss": NaN}',
        b"-Infinity",
        b'"\\ud800"',
        b'{"\\udc00": 1}',
        b'{"n":NaN,"i":' + b"9" * 5000,
    ],
)
def test_what_python_writes_and_json_has_not(payload: bytes) -> None:
    """A good webhook is not refused for it: its payload is missing, and will be fetched."""
    if payload.count(b"{") > payload.count(b"}"):
        payload += b"}"

    envelope = parse_envelope(HEAD + b', "payload": ' + payload + b"}")

    assert (envelope.request_id, envelope.ok, envelope.payload) == ("r1", True, None)
    assert envelope.payload_error == "the payload is not strict JSON"


def test_texts_can_be_written_again() -> None:
    body = b'{"request_id":"r1","status":"ERROR","error":"a\\ud800b","payload_error":{"a":1}}'

    envelope = parse_envelope(body)

    assert envelope.error == "a?b"
    assert envelope.payload_error == "(not a text)"
    long = json.dumps({"request_id": "r1", "status": "ERROR", "error": "x" * 100_000}).encode()
    assert parse_envelope(long).error == "x" * 2048


NESTED = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"1.5",
        b"NaN",
        b'"OK"',
        b"{}",
        b"OK",
        b"\xff\xfe",
        b"\xef\xbb\xbf" + HEAD + b"}",
        (HEAD + b"}").decode().encode("utf-16"),
        HEAD,
        HEAD + b"}}",
        HEAD + b"} {",
        b'{"request_id": "r1"}',
        b'{"status": "OK"}',
        b'{"request_id": "r1", "status": "DONE"}',
        b'{"request_id": "r1", "status": ["OK"]}',
        b'{"request_id": "r1", "status": true}',
        b'{"request_id": 7, "status": "OK"}',
        b'{"request_id": null, "status": "OK"}',
        b'{"request_id": "", "status": "OK"}',
        b'{"request_id": "a/b", "status": "OK"}',
        b'{"request_id": "r1\\n", "status": "OK"}',
        b'{"request_id": "' + b"a" * 129 + b'", "status": "OK"}',
        HEAD + b', "gateway_request_id": {}}',
        HEAD + b', "gateway_request_id": "\xff"}',
        HEAD + b', "payload": ' + NESTED + b"}",
        HEAD + b', "unknown": ' + NESTED + b"}",
        b'{"request_id": ' + NESTED + b', "status": "OK"}',
        NESTED,
        b'{"a":' * 100_000,
    ],
)
def test_garbage(body: bytes) -> None:
    with pytest.raises(BadBody):
        parse_envelope(body)


@pytest.mark.parametrize(
    "again",
    [
        b'"request_id": "r2"',
        b'"\\u0072equest_id": "r1"',
        b'"status": "ERROR"',
        b'"gateway_request_id": "g1", "gateway_request_id": null',
        b'"error": null, "error": "x"',
        b'"payload": NaN, "request_id": "r2"',
    ],
)
def test_a_field_that_stands_there_twice(again: bytes) -> None:
    """Two readers could take it for two things."""
    with pytest.raises(BadBody, match="twice"):
        parse_envelope(HEAD + b", " + again + b"}")

    assert parse_envelope(HEAD + b', "payload": {"request_id": "r2"}}').request_id == "r1"
