from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadBody, InvalidTarget
from gateway.core.headers import (
    OFFERED,
    check_forced,
    client_headers,
    safe_content_type,
    the_target_header,
    upstream_headers,
)

TARGET = (b"x-fal-target-url", b"https://fal.run/a/b")


def up(*headers: tuple[str, str], **plan: Any) -> dict[str, str]:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return upstream_headers(raw, tenant_hint="t1", **plan)


def down(*headers: tuple[str, str]) -> list[tuple[str, str]]:
    return client_headers([(name.encode(), value.encode("latin-1")) for name, value in headers])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-fal-queue-priority", "normal"),
        ("x-fal-queue-priority", "low"),
        ("x-fal-request-timeout", "30"),
        ("x-fal-request-timeout", "30.0"),
        ("x-fal-request-timeout", "1"),
        ("x-fal-request-timeout", "3600"),
        ("x-fal-request-timeout", "3600.0"),
        ("x-fal-request-start-timeout", "33.333333333333336"),
    ],
)
def test_goes_up_as_sent(name: str, value: str) -> None:
    assert up((name, value)) == {name: value}
    assert up((name.title(), value)) == {name: value}


def test_both_names_of_the_timeout_go_up() -> None:
    both = {"x-fal-request-timeout": "30", "x-fal-request-start-timeout": "20"}

    assert up(*both.items()) == both


def test_a_runner_hint_stays_within_its_team() -> None:
    assert up(("x-fal-runner-hint", "warm.1_A-b")) == {"x-fal-runner-hint": "t1-warm.1_A-b"}
    assert up(("x-fal-runner-hint", "x" * 64)) == {"x-fal-runner-hint": "t1-" + "x" * 64}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("x-fal-queue-priority", value)
            for value in ("", "high", "LOW", "low ", "low,normal", "low\n", "l\xf6w")
        ),
        *(
            (name, value)
            for name in ("x-fal-request-timeout", "x-fal-request-start-timeout")
            for value in (
                *("", "0", "0.99", "-1", "+5", " 5", "5 ", "3601", "3600.1", "99999", "1e3"),
                *("0x10", "nan", "NaN", "inf", "Infinity", "5,5", "1_0", ".5", "5.", "5\n"),
                *("\xb2", "5\x00", "5" * 1000, "1." + "0" * 1000),
            )
        ),
        *(
            ("x-fal-runner-hint", value)
            for value in (
                "",
                "x" * 65,
                "a b",
                "a/b",
                "a:b",
                "a\r\nb",
                "a\n",
                "\xe9",
                "a\x00",
                "{a}",
            )
        ),
    ],
)
def test_a_listed_header_out_of_form_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadBody, match=f"^{name}: "):
        up((name, value))


@pytest.mark.parametrize("second", ["low", "normal"])
def test_a_listed_header_sent_twice_is_refused(second: str) -> None:
    with pytest.raises(BadBody, match="twice"):
        up(("x-fal-queue-priority", "low"), ("X-Fal-Queue-Priority", second))


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "proxy-authorization", "cookie", "x-api-key", "x-gateway-authorization"),
        *("host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-connection", "http2-settings", "alt-svc", "authorization_"),
        *("content-length", "content-encoding", "content-type", "accept", "accept-encoding"),
        *("expect", "range", "if-none-match", "user-agent", "origin", "referer", "forwarded"),
        *("x-forwarded-for", "x-forwarded-host", "x-original-url", "x-http-method-override"),
        *("x-fal-target-url", "x-fal-store-io", "x-fal-no-retry", "x-fal-retry-config"),
        *("x-fal-object-lifecycle", "x-fal-object-lifecycle-preference", "x-fal-user-id"),
        *("x-fal-cdn-token", "x-fal-client-proxy", "x-fal-webhook-signature", "x-fal-file-name"),
        *("x-fal-billable-units", "x-fal-runner-health-check", "x-fal-tags", "x-fal-request-id"),
        *("x-app-fal-disable-fallback", "x-app-fal-can-disable-filter", "x-fal-anything-new"),
        *("x_fal_queue_priority", "x-fal-queue-priority ", "x-fal-queue-priority_", ""),
    ],
)
def test_everything_else_stays_here(name: str) -> None:
    assert up((name, "low"), ("x-fal-request-timeout", "5")) == {"x-fal-request-timeout": "5"}


def test_what_a_client_names_in_connection_is_for_this_hop_only() -> None:
    named = ("connection", "close, X-Fal-Runner-Hint ,authorization")
    hint, timeout = ("x-fal-runner-hint", "a"), ("x-fal-request-timeout", "5")

    assert up(named, hint, timeout) == {"x-fal-request-timeout": "5"}
    assert up(hint, timeout) == {"x-fal-runner-hint": "t1-a", "x-fal-request-timeout": "5"}


LIFE = '{"expiration_duration_seconds": 3600}'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-fal-no-retry", "1"),
        ("x-fal-no-retry", "yes"),
        ("x-app-fal-disable-fallback", "true"),
        ("x-fal-object-lifecycle-preference", LIFE),
        ("x-fal-object-lifecycle-preference", LIFE.replace(" ", "")),
    ],
)
def test_what_a_plan_offers_beyond_the_usual(name: str, value: str) -> None:
    assert up((name, value), allowed={name}) == {name: value}
    assert up((name, value)) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-fal-no-retry", "0"),
        ("x-fal-no-retry", ""),
        ("x-app-fal-disable-fallback", "false"),
        ("x-app-fal-disable-fallback", "true, false"),
        *(
            ("x-fal-object-lifecycle-preference", value)
            for value in (
                *("", "{}", "3600", LIFE + " ", LIFE.replace("3600", "0"), LIFE + LIFE),
                '{"expiration_duration_seconds":1,"expiration_duration_seconds":2}',
                '{"expiration_duration_seconds":1,"initial_acl":{"default":"allow"}}',
                *('{"expiration_duration_seconds":null}', '{"expiration_duration_seconds":1e9}'),
            )
        ),
    ],
)
def test_offered_headers_have_one_form_too(name: str, value: str) -> None:
    with pytest.raises(BadBody, match=rf"^{name}: "):
        up((name, value), allowed=OFFERED)


def test_a_plan_can_offer_less() -> None:
    sent = [("x-fal-queue-priority", "low"), ("x-fal-request-timeout", "5")]

    assert up(*sent, allowed={"x-fal-request-timeout"}) == {"x-fal-request-timeout": "5"}
    assert up(*sent, allowed=()) == {}
    assert up(("x-fal-queue-priority", "nonsense"), allowed=()) == {}


FORCED = (("x-app-fal-disable-fallback", "true"), ("x-fal-queue-priority", "low"))


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [("x-fal-queue-priority", "normal")],
        [("X-FAL-Queue-Priority", "normal"), ("x-fal-queue-priority", "low")],
        [("x-fal-queue-priority", "nonsense")],
        [("connection", "x-fal-queue-priority, x-app-fal-disable-fallback")],
        [("x-app-fal-disable-fallback", "false")],
    ],
)
@pytest.mark.parametrize("allowed", [OFFERED, ()])
def test_what_a_plan_forces_stands_in_place_of_the_clients(
    sent: list[tuple[str, str]], allowed: Any
) -> None:
    assert up(*sent, allowed=allowed, forced=FORCED) == dict(FORCED)


def test_a_forced_header_leaves_the_others() -> None:
    made = up(("x-fal-request-timeout", "5"), ("x-fal-runner-hint", "a"), forced=FORCED)

    assert made == {"x-fal-request-timeout": "5", "x-fal-runner-hint": "t1-a", **dict(FORCED)}


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "proxy-authorization", "cookie", "host", "content-type", "connection"),
        *("content-length", "transfer-encoding", "x-api-key", "x-fal-target-url", "X-Fal-No-Retry"),
        *("x-fal-billable-units", "x-fal-request-id", "x-fal-webhook-signature", "x-fal-", "x-fal"),
        *("x-fal-a b", "x-fal-a:b", "x-fal-a\r\nhost", "x-fal-a\n", "x-fal--a", "x-fal-a-", ""),
        *("x-fal-" + "a" * 60, "x-falx-a", "x-app-falx", "x-fal-\u00e9", "x_fal_no_retry"),
    ],
)
def test_no_operator_forces_what_is_no_order_to_fal(name: str) -> None:
    with pytest.raises(ValueError, match="must be a control header"):
        check_forced(name, "1")
    check_forced("x-fal-store-io", "0")
    check_forced("x-app-fal-can-disable-filter", "0")


@pytest.mark.parametrize(
    "value", ["", " a", "a ", "a\r\nhost: b", "a\n", "\x00", "\u00e9", "a" * 1025, "\u0660"]
)
def test_a_forced_value_is_plain(value: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        check_forced("x-fal-no-retry", value)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"x-fal-queue-priority", b"x-fal-request-timeout", b"cookie"]),
            st.binary(max_size=20),
        )
    )
)
def test_no_bytes_crash_it_and_none_but_plain_ones_go_up(
    headers: list[tuple[bytes, bytes]],
) -> None:
    try:
        passed = upstream_headers(headers, tenant_hint="t1")
    except BadBody:
        return
    assert set(passed) <= {"x-fal-queue-priority", "x-fal-request-timeout"}
    assert all(value.isascii() and value.isprintable() for value in passed.values())


def test_a_client_is_told_a_fixed_list() -> None:
    told = [
        ("content-type", "application/json"),
        ("retry-after", "5"),
        ("x-fal-error-type", "request_timeout"),
        ("x-fal-request-timeout-type", "user"),
        ("x-fal-needs-retry", "1"),
        ("x-fal-billable-units", "0.25"),
    ]

    assert down(*told) == told
    assert down(*((name.title(), value) for name, value in told)) == told


@pytest.mark.parametrize(
    "name",
    [
        *("set-cookie", "x-fal-cdn-token", "server", "via", "alt-svc", "location", "link"),
        *("strict-transport-security", "access-control-allow-origin", "www-authenticate"),
        *("content-length", "content-encoding", "transfer-encoding", "connection", "trailer"),
        *("cache-control", "x-fal-request-id", "x-fal-served-from", "x-fal-runner-hints", "x-echo"),
    ],
)
def test_a_client_is_told_nothing_else(name: str) -> None:
    assert down((name, "x"), ("retry-after", "5")) == [("retry-after", "5")]


@pytest.mark.parametrize(
    "value",
    ["", " x", "x ", "a\r\nset-cookie: x", "a\n", "a\x00", "a\x1b[2J", "\x7f", "\xe9", "x" * 1025],
)
def test_a_value_that_could_do_harm_is_left_out(value: str) -> None:
    assert down(("x-fal-error-type", value), ("retry-after", "5")) == [("retry-after", "5")]


@pytest.mark.parametrize("value", ["x", "xy", "a b", "x" * 1024])
def test_a_plain_value_passes(value: str) -> None:
    assert down(("x-fal-error-type", value)) == [("x-fal-error-type", value)]


def test_of_two_the_first_counts() -> None:
    assert down(("retry-after", "5"), ("retry-after", "9")) == [("retry-after", "5")]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        ("Application/JSON ;x=y", "application/json"),
        ("application/problem+json", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("text/event-stream; charset=utf-8", "text/event-stream"),
        ("application/octet-stream", "application/octet-stream"),
        *(
            (sent, "application/octet-stream")
            for sent in (
                *("", ";", "text/html", "text/html; x=application/json", "text/html+json"),
                *("image/svg+xml", "application/xhtml+xml", "text/javascript", "text/plain"),
                *("application/jsonp", "xapplication/json", "application/json,text/html"),
                *("application/json text/html", "multipart/form-data", "audio/wav"),
                *("text/html,application/x+json", "application/x,text/html+json"),
            )
        ),
    ],
)
def test_content_types_are_those_that_no_browser_runs(sent: str, told: str) -> None:
    assert safe_content_type(sent) == told


def test_a_content_type_on_its_way_to_a_client_is_made_safe() -> None:
    assert down(("content-type", "text/html")) == [("content-type", "application/octet-stream")]


def test_the_target_header_is_found_among_others() -> None:
    others = [(b"x_fal_target_url", b"evil"), (b"x-fal-target-url ", b"evil"), (b"a", b"b")]

    assert the_target_header([*others, TARGET]) == TARGET[1]
    assert the_target_header([(b"X-Fal-Target-Url", b"x")]) == b"x"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x_fal_target_url", b"https://fal.run/a/b")],
        [(b"x-fal-target-url ", b"https://fal.run/a/b")],
        [(b"target_url", b"https://fal.run/a/b")],
        [TARGET, TARGET],
        [TARGET, (b"x-fal-target-url", b"https://evil.example/")],
        [(b"X-FAL-TARGET-URL", b"https://evil.example/"), TARGET],
        [TARGET, (b"x-fal-target-url", b"")],
    ],
)
def test_anything_but_one_target_header_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidTarget):
        the_target_header(headers)
