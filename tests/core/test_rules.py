"""What a plan's rules make of a model's input: attacks, and what goes through."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadBody, InputForbidden, RuleBroken
from gateway.core.rules import MAX_ITEMS, MAX_VALUES, Rule, shaped

ENDPOINT = "fal-ai/flux/dev"


def through(body: bytes | str, *rules: Rule, endpoint: str = ENDPOINT) -> bytes:
    return shaped(rules, endpoint, body.encode() if isinstance(body, str) else body)


def on(path: str, **more: Any) -> Rule:
    return Rule("fal-ai/**", path, **more)


IMAGES = on("num_images", max=4, min=1)


@pytest.mark.parametrize(
    "body",
    [
        '{"num_images":4}',
        '{ "num_images" : 1 , "x": "y" }',
        '{"num_images":4.0}',
        '{"num_images":4e0}',
        '{"num_images":null}',
        '{"Num_Images":100}',
        '{"x":{"num_images":100}}',
        '{"\\u006eum_images":2}',
        "{}",
        '{"big":123456789012345678901234567890,"small":0.10000000000000000001,"e":1E2}',
        '{"text":"\\u00e9\u00e9 \\ud83d\\ude00","num_images":3}',
    ],
)
def test_what_keeps_to_the_rules_goes_to_fal_byte_for_byte(body: str) -> None:
    assert through(body, IMAGES) == body.encode()


def test_no_body_is_an_empty_object() -> None:
    assert through(b"", IMAGES) == b""
    assert through(b"", on("x", default="1")) == b'{"x":1}'


@pytest.mark.parametrize(
    "value",
    [
        *("5", "0", "4.0000001", "1e999", "-1e999", "1e400", "9" * 4000, "-1", "0.999"),
        *('"4"', '"1000"', '""', "true", "false", "[4]", "[]", '{"a":4}', "{}"),
    ],
)
def test_a_bounded_number_is_a_number_within_the_bounds(value: str) -> None:
    with pytest.raises(RuleBroken, match=r"^num_images: ") as caught:
        through(f'{{"num_images":{value}}}', IMAGES)

    assert str(caught.value) in {
        "num_images: at most 4", "num_images: at least 1", "num_images: must be a number",
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        '{"num_images":1,"num_images":100}',
        '{"num_images":100,"num_images":1}',
        '{"num_images":1,"\\u006eum_images":100}',
        '{"a":1,"a":1}',
        '{"num_images":1,"deep":[{"x":{"y":1,"y":1}}]}',
        '{"num_images":NaN}',
        '{"num_images":1,"x":NaN}',
        '{"x":Infinity}',
        '{"x":-Infinity}',
        '{"x":"\\ud800"}',
        '{"\\udfff":1}',
        '{"num_images":1}{"num_images":100}',
        '{"num_images":1} x',
        '{"num_images":01}',
        '{"num_images":+1}',
        '{"num_images":0x1}',
        '{"num_images":1,}',
        "{'num_images':1}",
        '{"num_images":1/**/}',
        "[]",
        '[{"num_images":100}]',
        '"num_images"',
        "null",
        "5",
        " ",
        "{",
        '{"num_images":1',
        '{"x":' + "[" * 65 + "]" * 65 + "}",
        '{"x":' + "[" * 100_000,
        '{"a":' * 100_000,
        '{"x":' + "9" * 5000 + "}",
        b"\xef\xbb\xbf{}",
        '{"num_images":100}'.encode("utf-16"),
        '{"num_images":100}'.encode("utf-32-le"),
        b'{"x":"\xff"}',
        b'{"\xc0\xae":1}',
        b'{"x":"\xed\xa0\x80"}',
        b"{}\x00",
        b'{"x":"\x01"}',
        '{"x":[' + "1," * MAX_VALUES + "1,1]}",
    ],
    ids=lambda body: repr(body)[:40],
)
def test_what_fal_might_read_in_another_way_is_refused(body: str | bytes) -> None:
    with pytest.raises(BadBody):
        through(body, IMAGES)
    with pytest.raises(BadBody):
        through(body, on("safe", force="true"))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"num_images":100,"num_images":1}', b"[]"])
def test_where_no_rule_applies_the_body_is_not_even_read(body: bytes) -> None:
    assert through(body, Rule("other/**", "num_images", max=1)) is body
    assert through(body) is body


@pytest.mark.parametrize(
    "endpoint",
    ["fal-ai/flux/dev", "fal-ai/FLUX/Dev", "FAL-AI/flux/dev", "fal-ai/flux/dev/stream"],
)
def test_a_rule_is_not_got_round_by_another_name_of_its_endpoint(endpoint: str) -> None:
    exact = Rule("fal-ai/flux/dev", "n", max=1)

    with pytest.raises(RuleBroken):
        through('{"n":2}', exact, endpoint=endpoint)
    assert through('{"n":2}', exact, endpoint="fal-ai/flux/pro") == b'{"n":2}'


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("image_size.width", '{"image_size":{"width":5}}', "image_size.width"),
        ("a.b.c.d.e.f.g.h", '{"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":9}}}}}}}}', "a.b.c.d.e.f.g.h"),
        ("loras[*].scale", '{"loras":[{},{"scale":1},{"scale":5}]}', "loras[2].scale"),
        ("sizes[*]", '{"sizes":[1,null,9]}', "sizes[2]"),
        ("m[*][*].x", '{"m":[[],[{"x":1},{"x":9}]]}', "m[1][1].x"),
    ],
)
def test_a_path_leads_to_every_value(path: str, body: str, place: str) -> None:
    with pytest.raises(RuleBroken) as caught:
        through(body, on(path, max=4))

    assert str(caught.value) == f"{place}: at most 4"
    assert through(body, on(path, max=9)) == body.encode()


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("size.width", '{"size":[{"width":1}]}', "size: must be an object"),
        ("size.width", '{"size":"9000x9000"}', "size: must be an object"),
        ("size.width", '{"size":9000}', "size: must be an object"),
        ("size.width", '{"size":false}', "size: must be an object"),
        ("loras[*].scale", '{"loras":{"0":{"scale":9}}}', "loras: must be a list"),
        ("loras[*].scale", '{"loras":"x"}', "loras: must be a list"),
        ("loras[*].scale", '{"loras":[[{"scale":9}]]}', "loras[0]: must be an object"),
        ("loras[*].scale", '{"loras":[{},7]}', "loras[1]: must be an object"),
        ("urls[*]", '{"urls":"https://evil.example/"}', "urls: must be a list"),
    ],
)
@pytest.mark.parametrize("judging", [{"max": 4}, {"hosts": ("a.example",)}, {"forbid": True}])
def test_what_stands_in_the_way_of_a_path_is_refused(
    path: str, body: str, text: str, judging: dict[str, Any]
) -> None:
    with pytest.raises(RuleBroken) as caught:
        through(body, on(path, **judging))

    assert str(caught.value) == text


@pytest.mark.parametrize("body", ["{}", '{"size":null}', '{"size":{}}', '{"size":{"width":null}}'])
def test_what_is_not_there_breaks_no_bound(body: str) -> None:
    assert through(body, on("size.width", max=4)) == body.encode()


SIZES = (
    on("size", enum=('"square"', '"wide"')),
    on("size.width", max=1024),
)


@pytest.mark.parametrize(
    "body", ['{"size":"square"}', '{"size":{"width":1024}}', '{"size":{}}', "{}"]
)
def test_words_may_stand_in_place_of_an_object(body: str) -> None:
    assert through(body, *SIZES) == body.encode()


@pytest.mark.parametrize(
    "body", ['{"size":"huge"}', '{"size":{"width":1025}}', '{"size":[]}', '{"size":[{"width":1}]}']
)
def test_but_no_other_words_and_no_wrong_object(body: str) -> None:
    with pytest.raises(RuleBroken, match=r"^size"):
        through(body, *SIZES)


@pytest.mark.parametrize(
    ("allowed", "value", "passes"),
    [
        ("1", "1", True),
        ("1", "1.0", True),
        ("1", "true", False),
        ("true", "1", False),
        ("0", "false", False),
        ("false", "0", False),
        ('"1"', "1", False),
        ("1", '"1"', False),
        ('"a"', '"a"', True),
        ('"a"', '"A"', False),
        ('"a"', '"\\u0061"', True),
        ('"a"', '["a"]', False),
        ('"a"', "{}", False),
        ('"a"', "null", False),
        ("null", "null", True),
        ("1", "1e999", False),
    ],
)
def test_an_enum_knows_the_types_of_json(allowed: str, value: str, passes: bool) -> None:
    rule = on("x", enum=(allowed,))
    body = f'{{"x":{value}}}'

    if passes:
        assert through(body, rule) == body.encode()
    else:
        with pytest.raises(RuleBroken, match=r"^x: must be one of"):
            through(body, rule)
    assert through("{}", rule) == b"{}"


def test_equal_in_python_is_not_equal_here() -> None:
    """1 == True == 1.0: what is prepared for one rule must not serve another."""
    forced = [through("{}", on("x", force=text)) for text in ("1", "true", "1.0", "0", "false")]

    assert forced == [b'{"x":1}', b'{"x":true}', b'{"x":1.0}', b'{"x":0}', b'{"x":false}']


@pytest.mark.parametrize("value", ["null", "1", '"x"', "{}", "[]", "false"])
def test_a_forbidden_field_is_forbidden_whatever_it_holds(value: str) -> None:
    with pytest.raises(InputForbidden, match=r"^x: this field is not allowed$"):
        through(f'{{"x":{value}}}', on("x", forbid=True))
    with pytest.raises(InputForbidden, match=r"^l\[1\]\.x: "):
        through(f'{{"l":[{{}},{{"x":{value}}}]}}', on("l[*].x", forbid=True))
    assert through('{"y":1}', on("x", forbid=True)) == b'{"y":1}'


@pytest.mark.parametrize(
    ("value", "passes"),
    [
        ('"abc"', True),
        ('"abcd"', False),
        ('"\u00e9\u00e9\u00e9"', True),
        ('"\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00"', True),
        ('"\\u0061\\u0061\\u0061\\u0061"', False),
        ("[1,2,3]", True),
        ("[1,2,3,4]", False),
        ("12345", False),
        ("{}", False),
        ("true", False),
        ("null", True),
    ],
)
def test_length_is_of_strings_and_lists(value: str, passes: bool) -> None:
    body, rule = f'{{"x":{value}}}', on("x", max_length=3)

    if passes:
        assert through(body, rule) == body.encode()
    else:
        with pytest.raises(RuleBroken, match=r"^x: (at most 3 (items|characters)|must be a str)"):
            through(body, rule)


HOSTS = on("url", hosts=("files.example.com", "*.fal.media"))


@pytest.mark.parametrize(
    "url",
    [
        "https://files.example.com/a.png",
        "https://FILES.example.com/a.png?x=1",
        "https://v3.fal.media/files/a%20b.png",
        "https://a.b.fal.media",
        "https://files.example.com:443/a",
    ],
)
def test_a_url_at_an_allowed_host(url: str) -> None:
    body = json.dumps({"url": url})

    assert through(body, HOSTS) == body.encode()


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/a",
        "http://files.example.com/a",
        "https://files.example.com@evil.example/a",
        "https://evil.example\\@files.example.com/a",
        "https://evil.example#@files.example.com/a",
        "https://evil.example?@files.example.com/",
        "https://user:pw@files.example.com/a",
        "https://files.example.com.evil.example/a",
        "https://files.example.com./a",
        "https://xfiles.example.com/a",
        "https://fal.media/a",
        "https://evilfal.media/a",
        "https://.fal.media/a",
        "https://files.example.com%2eevil.example/",
        "https://files%2eexample.com/a",
        "https://files.example.com\t/a",
        " https://files.example.com/a",
        "https://files.example.com/a\n",
        "https:/files.example.com/a",
        "https:files.example.com/a",
        "//files.example.com/a",
        "files.example.com/a",
        "HTTPS://files.example.com/a",
        "https://files.example.com/a#b",
        "https://f\u0456les.example.com/a",
        "https://files\u3002example.com/a",
        "https://files.example.com/" + "a" * 2048,
        "data:image/png;base64,AAAA",
        "DATA:image/png;base64,AAAA",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "ftp://files.example.com/a",
        "",
        5,
        True,
        ["https://files.example.com/a"],
        {"url": "https://files.example.com/a"},
    ],
)
def test_any_other_url_is_refused_and_not_repeated(url: object) -> None:
    with pytest.raises(RuleBroken) as caught:
        through(json.dumps({"url": url}), HOSTS)

    expected = "url: must be a plain https URL of files.example.com, *.fal.media"
    assert str(caught.value) == expected


def test_data_is_a_host_where_the_rule_says_so() -> None:
    body = b'{"url":"data:image/png;base64,AAAA"}'

    assert through(body, on("url", hosts=("data:",))) == body
    with pytest.raises(RuleBroken):
        through(b'{"url":"https://files.example.com/"}', on("url", hosts=("data:",)))


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "",
        '{"safe":false}',
        '{"safe":null}',
        '{"safe":"true"}',
        '{"safe":1}',
        '{"safe":{"a":1}}',
        '{"safe":[]}',
    ],
)
def test_a_forced_value_is_there_whatever_was_sent(body: str) -> None:
    assert through(body, on("safe", force="true")) == b'{"safe":true}'


@pytest.mark.parametrize(
    ("body", "made"),
    [
        ("{}", {"a": {"b": {"c": 1}}}),
        ('{"a":null}', {"a": {"b": {"c": 1}}}),
        ('{"a":5}', {"a": {"b": {"c": 1}}}),
        ('{"a":{"b":[],"x":2}}', {"a": {"b": {"c": 1}, "x": 2}}),
        ('{"a":{"b":{"c":9,"d":3}}}', {"a": {"b": {"c": 1, "d": 3}}}),
    ],
)
def test_objects_on_the_way_to_a_forced_value_are_made(body: str, made: object) -> None:
    assert json.loads(through(body, on("a.b.c", force="1"))) == made


def test_a_value_is_forced_into_each_item_of_a_list() -> None:
    rule = on("l[*].x", force="1")

    assert json.loads(through('{"l":[{},{"x":9},null]}', rule)) == {"l": [{"x": 1}] * 3}
    assert through('{"l":[]}', rule) == b'{"l":[]}'
    assert through("{}", rule) == b"{}"
    assert through('{"l":[1,"a"]}', on("l[*]", force="null")) == b'{"l":[null,null]}'
    with pytest.raises(RuleBroken, match=r"^l: must be a list"):
        through('{"l":{"x":9}}', rule)


def test_a_default_is_for_what_is_absent_or_null() -> None:
    rule = on("n", default="2", max=4)

    assert through("{}", rule) == b'{"n":2}'
    assert through('{"n":null}', rule) == b'{"n":2}'
    assert through('{ "n": 3 }', rule) == b'{ "n": 3 }'
    assert through('{ "n": 0 }', rule) == b'{ "n": 0 }'
    with pytest.raises(RuleBroken):
        through('{"n":5}', rule)
    with pytest.raises(RuleBroken, match=r"^a: must be an object"):
        through('{"a":1}', on("a.b", default="1"))


def test_a_default_leaves_what_it_does_not_concern() -> None:
    assert through('{ "a": null }', on("a.l[*].x", default="1")) == b'{ "a": null }'
    assert through('{"a":{"b":false}}', on("a.b", default="true")) == b'{"a":{"b":false}}'
    assert json.loads(through("{}", on("a.b", default="[1]"))) == {"a": {"b": [1]}}


def test_a_body_that_has_the_forced_value_is_left_as_it_is() -> None:
    body = b'{ "safe" : true , "big":1E5 }'

    assert through(body, on("safe", force="true")) == body
    assert through(b'{ "n" : 1.0 }', on("n", force="1")) == b'{"n":1}'


def test_what_is_written_again_means_the_same() -> None:
    body = '{"t":"\\u00e9\u00e9\\ud83d\\ude00\\n\\u0000","i":' + "9" * 400 + ',"f":0.1,"l":[[],{}]}'

    made = through(body, on("safe", force="true"))

    assert json.loads(made) == json.loads(body) | {"safe": True}
    assert b" " not in made


def test_a_number_that_cannot_be_written_again_is_refused() -> None:
    assert through('{"x":1e999}', IMAGES) == b'{"x":1e999}'
    with pytest.raises(BadBody, match="too large"):
        through('{"x":1e999}', on("safe", force="true"))


def test_values_that_rules_set_are_judged_by_the_others() -> None:
    with pytest.raises(RuleBroken):
        through("{}", on("n", force="9"), on("n", max=4))
    with pytest.raises(InputForbidden):
        through("{}", on("n", default="9"), on("n", forbid=True))


def test_a_forced_value_is_fresh_for_every_body() -> None:
    rules = (on("a", force="{}"), on("a.b", default="1"))

    assert [through("{}", *rules) for _ in range(2)] == [b'{"a":{"b":1}}'] * 2
    assert through("{}", on("a", force="{}")) == b'{"a":{}}'


def test_a_rule_looks_at_so_many_values_and_no_more() -> None:
    rule = on("l[*].x", max=4)
    most = json.dumps({"l": [{"x": 1}] * MAX_ITEMS}).encode()

    assert through(most, rule) == most
    with pytest.raises(RuleBroken, match="at most 1000 items"):
        through(json.dumps({"l": [{}] * (MAX_ITEMS + 1)}), rule)
    with pytest.raises(RuleBroken, match="at most 1000 items"):
        through(json.dumps({"l": [[1] * 500] * 3}), on("l[*][*]", max=4))
    with pytest.raises(RuleBroken, match=r"^l: at most 1000 items"):
        through(json.dumps({"l": [None] * (MAX_ITEMS + 1)}), rule)
    full = b'{"x":[' + b"1," * (MAX_VALUES - 1) + b"1]}"
    assert through(full, rule) == full


@pytest.mark.parametrize("secret", ["hunter2", 31337])
def test_a_refusal_never_repeats_a_value(secret: object) -> None:
    body = json.dumps({"x": secret})
    rules = [
        on("x", max=4, min=4), on("x", enum=("1",)), on("x", max_length=2),
        on("x", hosts=("a.example",)), on("x.y", max=1), on("x", forbid=True),
    ]  # fmt: skip

    for rule in rules:
        with pytest.raises((RuleBroken, InputForbidden)) as caught:
            through(body, rule)
        assert str(secret) not in str(caught.value)


NAMES = st.sampled_from(["n", "safe", "size", "w", "l", "url", "x"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["square", "https://a.example/x", "https://evil.example/", "data:x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
RULES = (
    on("n", max=4, min=0),
    on("safe", force="true"),
    on("size.w", max=8, default="4"),
    on("l[*].url", hosts=("a.example",)),
    on("l[*].n", max=2, force="1"),
    on("x", max_length=2),
)


def seen(value: Any) -> list[Any]:
    return [] if value is None else [value]


def obeys(fields: dict[str, Any]) -> None:
    for number in seen(fields.get("n")):
        assert type(number) in (int, float)
        assert 0 <= number <= 4
    assert fields["safe"] is True
    assert type(fields["size"]["w"]) in (int, float)
    assert fields["size"]["w"] <= 8
    for item in fields.get("l") or []:
        assert item["n"] == 1
        assert item.get("url") is None or item["url"].startswith("https://a.example")
    for text in seen(fields.get("x")):
        assert len(text) <= 2


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_what_comes_through_obeys_all_rules(fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()

    try:
        made = shaped(RULES, ENDPOINT, body)
    except (RuleBroken, BadBody):
        return

    obeys(json.loads(made))


@given(
    st.binary(max_size=60) | st.text(alphabet='{}[]":,n1e.\\u0 -tf', max_size=40).map(str.encode)
)
def test_no_bytes_make_it_fail_in_another_way(body: bytes) -> None:
    try:
        made = shaped(RULES, ENDPOINT, body)
    except (RuleBroken, InputForbidden, BadBody):
        return

    obeys(json.loads(made))
