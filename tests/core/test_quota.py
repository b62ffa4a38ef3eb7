"""What the IETF's draft of the fields asks (draft-ietf-httpapi-ratelimit-headers-11)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limits import Limit, Measure, Of, Standing
from gateway.core.quota import POLICY, STANDING, ratelimit_headers, reached
from tests.core.fields import strings

RATE = Limit("principal-rate", Measure.RATE, Of.PRINCIPAL, 10, per=60.0)
JOBS = Limit("team-jobs", Measure.JOBS, Of.TEAM, 1000)
FLIGHT = Limit("principal-in_flight", Measure.IN_FLIGHT, Of.PRINCIPAL, 5)
STREAMS = Limit("principal-streams", Measure.STREAMS, Of.PRINCIPAL, 20)
UPLOADS = Limit("principal-uploads", Measure.UPLOADS, Of.PRINCIPAL, 2**30)
SHADOW = Limit("trial", Measure.RATE, Of.PRINCIPAL, 1, per=1.0, shadow=True)


def test_headers_are_lists_of_structured_fields_in_the_order_of_the_plan() -> None:
    told = ratelimit_headers(
        [
            Standing(RATE, 3, 11.2),
            Standing(FLIGHT, 4, 0.0),
            Standing(JOBS, 998, 3600.0),
            Standing(UPLOADS, 17, 3600.0),
        ]
    )
    assert told == {
        "RateLimit-Policy": '"principal-rate";q=10;w=60, '
        '"principal-in_flight";q=5;qu="concurrent-requests", '
        '"team-jobs";q=1000;w=86400, '
        '"principal-uploads";q=1073741824;qu="content-bytes";w=86400',
        "RateLimit": '"principal-rate";r=3;t=12, "principal-in_flight";r=4, '
        '"team-jobs";r=998;t=3600, "principal-uploads";r=17;t=3600',
    }


REGISTERED = {"requests", "content-bytes", "concurrent-requests"}
"""Units of quotas, by section 10.3 of the draft."""

LIMITS = st.builds(
    Limit,
    st.text(max_size=20),
    st.sampled_from(Measure),
    st.sampled_from(Of),
    st.integers(1, 10**18),
    per=st.floats(0.001, 10**9),
)
STANDINGS = st.builds(Standing, LIMITS, st.integers(-5, 10**19), st.floats(0, 10**9))


@given(st.lists(STANDINGS, min_size=1, max_size=8))
def test_whatever_the_limits_the_fields_are_what_the_draft_allows(told: list[Standing]) -> None:
    headers = ratelimit_headers(told)
    policies, standings = strings(headers[POLICY]), strings(headers[STANDING])

    assert [name for name, _ in policies] == [name for name, _ in standings]
    for _, policy in policies:
        assert policy.keys() <= {"q", "qu", "w"}
        assert isinstance(policy["q"], int)
        assert policy["q"] >= 0
        assert policy.get("qu", "requests") in REGISTERED
        window = policy.get("w", 1)
        assert isinstance(window, int)
        assert window >= 1
    for (_, standing), (_, policy) in zip(standings, policies, strict=True):
        assert standing.keys() <= {"r", "t"}
        left, time = standing["r"], standing.get("t", 0)
        assert isinstance(left, int)
        assert isinstance(time, int)
        assert 0 <= left <= int(policy["q"])
        assert time >= 0


def test_the_reader_of_fields_takes_the_drafts_examples_and_nothing_else() -> None:
    assert strings('"burst";q=100;w=60,"daily";q=1000;w=86400') == [
        ("burst", {"q": 100, "w": 60}),
        ("daily", {"q": 1000, "w": 86400}),
    ]
    assert strings('"peruser";q=65535;qu="content-bytes";w=10;pk=:sdfjLJUOUH==:') == [
        ("peruser", {"q": 65535, "qu": "content-bytes", "w": 10, "pk": b":sdfjLJUOUH==:"})
    ]
    assert strings(r'"a \"b\" \\, c";r=0') == [('a "b" \\, c', {"r": 0})]
    for wrong in (
        "", "token;q=1", '"a";q=1,', '"a" ;q=1', '"a";q =1', '"a";q=1.5', '"a";Q=1', '"a";q=',
        '"a";q=1;', '"a', '"ä";q=1', r'"\n";q=1', '"a";q=1000000000000000', '"a" "b"',
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"no string|neither"):
            strings(wrong)


def test_where_nothing_is_limited_nothing_is_told() -> None:
    assert ratelimit_headers([]) == {}
    assert ratelimit_headers([Standing(SHADOW, 0, 1.0)]) == {}


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ('say "hi"', r'"say \"hi\""'),
        (r"back\slash", r'"back\\slash"'),
        ("two\r\nlines: evil", '"two??lines: evil"'),
        ("ünï", '"?n?"'),
    ],
)
def test_a_name_cannot_leave_its_string(name: str, written: str) -> None:
    told = ratelimit_headers([Standing(Limit(name, Measure.JOBS, Of.TEAM, 1), 1, 0)])
    assert told["RateLimit"] == f"{written};r=1"


@pytest.mark.parametrize(
    ("amount", "remaining", "reset", "written"),
    [
        (10**18, 10**18, 1.0, '"x";r=999999999999999;t=1'),
        (5, 9, 1.0, '"x";r=5;t=1'),
        (5, -3, 0.001, '"x";r=0;t=1'),
    ],
)
def test_numbers_stay_in_their_bounds(
    amount: int, remaining: int, reset: float, written: str
) -> None:
    limit = Limit("x", Measure.JOBS, Of.TEAM, amount)
    assert ratelimit_headers([Standing(limit, remaining, reset)])["RateLimit"] == written


def test_a_window_of_less_than_a_second_is_told_as_one() -> None:
    limit = Limit("x", Measure.RATE, Of.TEAM, 3, per=0.5)
    assert ratelimit_headers([Standing(limit, 1, 0)])["RateLimit-Policy"] == '"x";q=3;w=1'


@pytest.mark.parametrize(
    ("limit", "helps"),
    [
        (RATE, "10 calls in 60 s; come again a little later"),
        (FLIGHT, "5 jobs at once; wait for one to end"),
        (JOBS, "1000 jobs a day; the next day begins at midnight UTC"),
        (STREAMS, "20 streams and held requests at once; close one"),
        (UPLOADS, "1073741824 bytes of uploads a day; the next day begins at midnight UTC"),
    ],
)
def test_a_refusal_names_the_limit_and_what_helps(limit: Limit, helps: str) -> None:
    error = reached(limit, 2.1)
    assert str(error) == f"the limit {limit.name} is reached: at most {helps}"
    assert (error.limit, error.retry_after, error.status) == (limit, 3, 429)


def test_a_refusal_tells_how_it_stands_with_all_limits_or_with_its_own() -> None:
    assert reached(RATE, 2.1).standings == (Standing(RATE, 0, 2.1),)
    assert reached(STREAMS, 5.0).standings == (Standing(STREAMS, 0, 0.0),)
    both = (Standing(RATE, 0, 2.1), Standing(FLIGHT, 4, 0.0))
    assert reached(RATE, 2.1, both).standings == both


def test_nobody_is_told_to_come_again_at_once() -> None:
    assert reached(RATE, 0.0).retry_after == 1
