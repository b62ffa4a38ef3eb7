import json

import pytest

from gateway.core.errors import BadBody, InvalidTarget
from gateway.core.slices import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_METADATA,
    Submission,
    check_json_object,
    parse_submission,
)


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' \r\n\t{"a": 1}\n',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":1e999}',
        b'{"a":1,"a":2}',
        b'{"a":"\\ud83d\\ude00 \\u0000"}',
        '{"é":"\u20ac\U0001f600"}'.encode(),
        b'{"a":"' + "\u00e9".encode() * 200_000 + b'"}',
        b'{"a":"' + b"[{" * 200_000 + b'"}',
        b'{"a":"' + b'\\"[\\\\' * 1000 + b'"}',
        b'{"a":"\\\\","b":"' + b"[" * 100 + b'"}',
        b'{"' + b"[" * 100 + b'":["]",{"\\"[":1}]}',
        b'{"a":[' + b"[],{}," * 1000 + b"1]}",
        nested(MAX_DEPTH),
        b'{"a":[' + b",".join([nested(MAX_DEPTH - 2)] * 50) + b"]}",
    ],
)
def test_objects(body: bytes) -> None:
    """fal gets these as they are."""
    check_json_object(body)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b" ", "not valid"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'"{}"', "not a JSON object"),
        (b"7", "not a JSON object"),
        (b'{"a":1', "not valid"),
        (b'{"a":1}x', "not valid"),
        (b'{"a":1}{}', "not valid"),
        (b'{"a":1}\0', "not valid"),
        (b'{"a":1,}', "not valid"),
        (b'{"a":01}', "not valid"),
        (b'{"a":"\n"}', "not valid"),
        (b'{"a":"\\x"}', "not valid"),
        (b"{'a':1}", "not valid"),
        (b'{"a":NaN}', "not valid"),
        (b'{"a":-Infinity}', "not valid"),
        (b'{"a":"\\ud800"}', "not valid"),
        (b'{"a":"\\udc00\\ud800"}', "not valid"),
        (b'{"\\ud800":1}', "not valid"),
        (b'\xef\xbb\xbf{"a":1}', "not valid"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        ('{"a":1}'.encode("utf-16-le"), "not valid"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'{"a":{"b":"\xc0\x80"}}', "not UTF-8"),
        (b'{"\xed\xa0\x80":1}', "not UTF-8"),
        (b'{"a":"' + b"x" * 65_530 + b'\xe2\x82"}', "not UTF-8"),
        (b"{\x1f\x8b}", "not UTF-8"),
        (b'{"a":1}\xe2', "not UTF-8"),
        (nested(MAX_DEPTH + 1), "nested"),
        (nested(100_000), "nested"),
        (b'{"a":' * 100_000, "nested"),
        (b"[" * 100_000, "nested"),
        (b'{"a":"\\\\",' + nested(MAX_DEPTH)[1:-1] + b"," + nested(MAX_DEPTH + 1)[1:], "nested"),
        (b'{"a":"[[]]\\"","b":' + nested(MAX_DEPTH) + b"}", "nested"),
        (b'{"a":[' + b"{}," * MAX_CONTAINERS + b"1]}", "objects and arrays"),
    ],
)
def test_anything_else(body: bytes, why: str) -> None:
    with pytest.raises(BadBody, match=why) as error:
        check_json_object(body)

    assert len(str(error.value)) <= 200


@pytest.mark.parametrize("seed", range(0, 200, 7))
def test_depth_agrees_with_a_count_by_hand(seed: int) -> None:
    """Strings full of quotes, escapes and brackets, between brackets that count."""
    tricks = ['"', "\\", "[", "]", "{", "}", '\\"', '"[', "\\\\", "", "a", "\u00e9"]
    value: object = "".join(tricks[(seed * n + n * n) % len(tricks)] for n in range(40))
    for depth in range(MAX_DEPTH - 1):
        value = {str(value)[: seed % 9]: value} if (seed + depth) % 3 else ["[", value, '"]']

    check_json_object(json.dumps({"a": value}).encode())
    with pytest.raises(BadBody, match="nested"):
        check_json_object(json.dumps({"a": [value]}).encode())


def test_submission() -> None:
    body = (
        b' {"endpoint": "fal-ai/flux/dev", "input": {"seed": 17454220438242315174, "x":1.10 },\n'
        b' "webhook_url": "https://example.com/hook", "metadata": {"order": 7.0}}'
    )

    assert parse_submission(body) == Submission(
        endpoint="fal-ai/flux/dev",
        input=b'{"seed": 17454220438242315174, "x":1.10 }',
        webhook_url="https://example.com/hook",
        metadata=b'{"order": 7.0}',
    )


@pytest.mark.parametrize("rest", [b"", b',"webhook_url":null,"metadata":null'])
def test_the_least_submission(rest: bytes) -> None:
    body = b'{"endpoint":"a/b","input":{}' + rest + b"}"

    assert parse_submission(body) == Submission("a/b", b"{}")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b"[]", "Expected `object`"),
        (b"{}", "`endpoint`"),
        (b'{"endpoint":"a/b"}', "`input`"),
        (b'{"endpoint":"a/b","input":{},"webhook":"x"}', "unknown field `webhook`"),
        (b'{"endpoint":"a/b","input":{},"' + b"x" * 100_000 + b'":1}', "unknown field `x"),
        (b'{"endpoint":7,"input":{}}', r"\$.endpoint"),
        (b'{"endpoint":"a/b","input":{},"webhook_url":7}', r"\$.webhook_url"),
        (b'{"endpoint":"a/b","input":[]}', "`input` is not"),
        (b'{"endpoint":"a/b","input":null}', "`input` is not"),
        (b'{"endpoint":"a/b","input":"{}"}', "`input` is not"),
        (b'{"endpoint":"a/b","input":{"a":NaN}}', "not valid"),
        (b'{"endpoint":"a/b","input":{"a":"\xff"}}', "not UTF-8"),
        (b'{"endpoint":"a/b","input":' + nested(MAX_DEPTH) + b"}", "nested"),
        (b'{"endpoint":"a/b","input":{},"metadata":"' + b"x" * MAX_METADATA + b'"}', "metadata"),
    ],
)
def test_not_a_submission(body: bytes, why: str) -> None:
    with pytest.raises(BadBody, match=why) as error:
        parse_submission(body)

    assert len(str(error.value)) <= 200


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "fal-ai",
        "../x",
        "a/../b",
        "a/./b",
        "/a/b",
        "a/b/",
        "a//b",
        "a/b?x=1",
        "a/b#c",
        "a/%2e%2e",
        "a\\\\b/c",
        "a/requests/b",
        "a/b\\n",
        "a/b\\u0000",
        "https://fal.run/a/b",
        "\u00e9/b",
    ],
)
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    """A plan that allows `**` would let these into fal's URL."""
    body = f'{{"endpoint":"{endpoint}","input":{{}}}}'.encode()

    with pytest.raises(InvalidTarget, match="`endpoint` is not"):
        parse_submission(body)


@pytest.mark.parametrize("loopback", [False, True])
@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://example.com/",
        "ftp://example.com/",
        "https://u@example.com/",
        "https://\u00e9.com/",
    ],
)
def test_a_webhook_url_that_is_none(url: str, loopback: bool) -> None:
    with pytest.raises(BadBody, match="`webhook_url` is not"):
        parse_submission(submission_to(url), loopback_webhooks=loopback)


def test_webhooks_on_this_machine() -> None:
    url = "http://127.0.0.1:9000/hook"

    assert parse_submission(submission_to(url), loopback_webhooks=True).webhook_url == url
    with pytest.raises(BadBody, match="`webhook_url` is not"):
        parse_submission(submission_to(url))


def submission_to(url: str) -> bytes:
    return f'{{"endpoint":"a/b","input":{{}},"webhook_url":"{url}"}}'.encode()


def test_the_input_does_not_show() -> None:
    assert "secret prompt" not in repr(
        parse_submission(b'{"endpoint":"a/b","input":{"p":"secret prompt"}}')
    )
