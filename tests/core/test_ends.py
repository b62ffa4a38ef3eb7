import pytest

from gateway.core.ends import charged, end_of, end_of_result
from gateway.core.envelopes import Envelope
from gateway.core.model import End, State, Where

JSON = {"content-type": "application/json"}
MAX = 100


def failed(error: str | None, payload: bytes | None = b"{}", why: str | None = None) -> End:
    return end_of(Envelope("r1", None, False, payload, error, why), MAX)


def test_success() -> None:
    """Its units are still to be asked for."""
    end = end_of(Envelope("r1", None, True, b'{"seed":7}'), MAX)

    assert end == End(State.COMPLETED, 200, Where.STORED, b'{"seed":7}', JSON, settled=False)


@pytest.mark.parametrize("payload", [None, b'"' + b"x" * MAX + b'"'])
def test_a_payload_that_is_missing_or_too_large_is_at_fal(payload: bytes | None) -> None:
    end = end_of(Envelope("r1", None, True, payload), MAX)

    assert end == End(State.COMPLETED, 200, Where.AT_FAL, None, JSON, settled=False)
    assert end_of(Envelope("r1", None, True, b"x" * MAX), MAX).where is Where.STORED


def test_a_payload_error_leaves_it_unsettled() -> None:
    end = end_of(Envelope("r1", None, True, b"{}", payload_error="cut"), MAX)

    assert (end.where, end.settled) == (Where.STORED, False)


@pytest.mark.parametrize("status", [400, 404, 422, 500, 504])
def test_the_status_is_read_out_of_the_text(status: int) -> None:
    """What an app refused may have been billed; fal's own trouble never is."""
    end = failed(f"Invalid status code: {status}", b'{"detail":[]}')

    assert end == End(
        State.FAILED,
        status,
        Where.STORED,
        b'{"detail":[]}',
        JSON,
        error=f"Invalid status code: {status}",
        settled=status >= 500,
    )


@pytest.mark.parametrize(
    "error",
    [
        None,
        "",
        "Timed out",
        "Invalid status code: 200",
        "Invalid status code: 302",
        "Invalid status code: 4220",
        "Invalid status code: \u0664\u0662\u0662",
        "Invalid status code: 99999999999",
        "so Invalid status code: 422",
    ],
)
def test_an_unsure_status_is_500_and_unsettled(error: str | None) -> None:
    end = failed(error)

    assert (end.state, end.http_status, end.settled) == (State.FAILED, 500, False)


@pytest.mark.parametrize(
    ("error", "payload", "settled"),
    [
        ("Invalid status code: 499", b"{}", True),
        ("Invalid status code: 499", None, False),
        ("Cancelled", b'{"error_type":"client_cancelled"}', True),
    ],
)
def test_cancelled(error: str, payload: bytes | None, settled: bool) -> None:
    """It is free: nothing is asked, unless something else is missing."""
    end = failed(error, payload)

    assert (end.state, end.http_status, end.settled) == (State.CANCELLED, 499, settled)


def test_error_type_and_text() -> None:
    payload = b'{"detail":"took too long","error_type":"request_timeout"}'

    end = failed(None, payload)

    assert (end.error, end.error_type) == ("took too long", "request_timeout")
    assert end.headers == JSON | {"x-fal-error-type": "request_timeout"}
    assert failed("Invalid status code: 504", payload).error == "took too long"
    assert failed("Invalid status code: 504", b"{}").error == "Invalid status code: 504"


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        (b'[{"loc": ["body", "prompt"], "msg": "Field required"}]', "prompt: Field required"),
        (b'[{"loc": ["body", "items", 3], "msg": "bad"}, {"msg": "worse"}]', "items.3: bad"),
        (b'[{"loc": [], "msg": "bad"}]', "bad"),
        (b"[]", "Invalid status code: 422"),
        (b'[{"loc": "body"}]', "Invalid status code: 422"),
    ],
)
def test_a_list_of_complaints_is_told_by_its_first(detail: bytes, words: str) -> None:
    end = failed("Invalid status code: 422", b'{"detail": ' + detail + b"}")

    assert end.error == words


@pytest.mark.parametrize(
    "payload",
    [
        None,
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"detail":[{"msg":7}],"error_type":7}',
        b'{"detail":7,"error_type":null}',
        b'{"error_type":"a\\r\\nset-cookie: b"}',
        b'{"error_type":"\xff"}',
    ],
)
def test_odd_payloads_say_nothing(payload: bytes | None) -> None:
    end = failed(None, payload)

    assert (end.error, end.error_type, dict(end.headers)) == (None, None, JSON)


def test_result() -> None:
    headers = {
        "Content-Type": "application/json",
        "X-Fal-Billable-Units": "2.5",
        "X-Fal-Request-Id": "r1",
        "X-Fal-Needs-Retry": "0",
        "Set-Cookie": "a=b",
    }

    end = end_of_result(200, headers, b'{"detail":"a result may say so"}')

    assert end == End(
        state=State.COMPLETED,
        http_status=200,
        where=Where.STORED,
        body=b'{"detail":"a result may say so"}',
        headers=JSON | {"x-fal-needs-retry": "0", "x-fal-billable-units": "2.5"},
        units="2.5",
    )


@pytest.mark.parametrize(
    ("status", "headers", "body", "state", "error", "error_type"),
    [
        (201, {}, b"", State.COMPLETED, None, None),
        (302, {}, b"", State.FAILED, None, None),
        (422, {}, b'{"detail":[{"msg":"x"}]}', State.FAILED, "x", None),
        (404, {}, b'{"detail":"no"}', State.FAILED, "no", None),
        (499, {}, b"", State.CANCELLED, None, None),
        (
            400,
            {"x-fal-error-type": "client_cancelled"},
            b"",
            State.CANCELLED,
            None,
            "client_cancelled",
        ),
        (500, {}, b'{"error_type":"client_cancelled"}', State.CANCELLED, None, "client_cancelled"),
        (504, {"x-fal-error-type": "request_timeout"}, b"", State.FAILED, None, "request_timeout"),
        (200, {"x-fal-error-type": "client_cancelled"}, b"", State.COMPLETED, None, None),
    ],
)
def test_results(
    status: int,
    headers: dict[str, str],
    body: bytes,
    state: State,
    error: str | None,
    error_type: str | None,
) -> None:
    end = end_of_result(status, headers, body)

    assert (end.state, end.http_status, end.body) == (state, status, body)
    assert (end.error, end.error_type, end.settled) == (error, error_type, True)


def test_a_result_too_large_is_settled_and_one_cut_off_is_not() -> None:
    large = end_of_result(200, JSON, None, too_large=True)
    cut = end_of_result(200, JSON, None)

    assert (large.where, large.body, large.settled) == (Where.AT_FAL, None, True)
    assert (cut.where, cut.body, cut.settled) == (Where.AT_FAL, None, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-fal-billable-units", "many"),
        ("x-fal-billable-units", "1" * 33),
        ("x-fal-billable-units", "nan"),
        ("x-fal-error-type", "a b"),
        ("content-type", "a\r\nb: c"),
        ("content-type", "x" * 300),
        ("x-fal-needs-retry", "\u00e9"),
    ],
)
def test_headers_that_are_not_what_they_should_be_are_dropped(name: str, value: str) -> None:
    end = end_of_result(500, {name: value, "x-fal-request-timeout-type": "user"}, b"")

    assert dict(end.headers) == {"x-fal-request-timeout-type": "user"}
    assert (end.units, end.error_type) == (None, None)


@pytest.mark.parametrize(
    ("state", "status", "units", "micros"),
    [
        (State.COMPLETED, 200, "2.5", 2_500_000),
        (State.COMPLETED, 200, "0", 0),
        (State.COMPLETED, 200, None, None),
        (State.COMPLETED, 200, "1e30", None),
        (State.FAILED, 422, "0.5", 500_000),
        (State.FAILED, 422, None, 0),
        (State.FAILED, 503, "7", 0),
        (State.FAILED, 500, None, 0),
        (State.CANCELLED, 499, "3", 0),
        (State.EXPIRED, 410, None, 0),
    ],
)
def test_what_is_charged(state: State, status: int, units: str | None, micros: int | None) -> None:
    """Only of what went well is silence a question."""
    assert charged(End(state, status, Where.GONE, units=units)) == micros
