import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote_plus, urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core import fal
from gateway.core.errors import InvalidTarget, MethodNotAllowed
from gateway.core.target import (
    Op,
    Queue,
    RealtimeToken,
    Run,
    Submit,
    Target,
    Upload,
    is_endpoint,
    parse_path,
    parse_url,
)
from tests.core import hostile_paths, hostile_targets
from tests.core.hostile_targets import APP, CDN, ID, Case, hook

HOSTS = {fal.RUN, fal.QUEUE, fal.REST, fal.REST_ALPHA}
METHODS = ("POST", "GET", "PUT")
RIGHT = [case for case in hostile_targets.CASES if not isinstance(case.verdict, str)]
SUFFIX = {Op.STATUS: "/status", Op.STREAM: "/status/stream", Op.RESULT: "", Op.CANCEL: "/cancel"}


def url_of(target: Target) -> str:
    """What a caller of fal would build of `target`: constants and parsed parts."""
    match target:
        case Run(endpoint, stream):
            return f"https://{fal.RUN}/{endpoint}" + ("/stream" if stream else "")
        case Submit(endpoint, webhook):
            query = f"?{fal.WEBHOOK_QUERY}={quote_plus(webhook)}" if webhook else ""
            return f"https://{fal.QUEUE}/{endpoint}{query}"
        case Queue(app, job_id, op, logs):
            return f"https://{fal.QUEUE}/{app}/requests/{job_id}{SUFFIX[op]}" + "?logs=1" * logs
        case Upload(multipart):
            path = fal.UPLOAD_MULTIPART_PATH if multipart else fal.UPLOAD_PATH
            return f"https://{fal.REST}{path}?{fal.UPLOAD_QUERY}"
        case RealtimeToken():
            return f"https://{fal.REST}{fal.TOKENS_PATH}"


def accepted(url: bytes) -> tuple[str, Target] | None:
    """The method and the target, when one of the methods makes `url` right.

    Anything but the two refusals comes through and fails the test.
    """
    for method in METHODS:
        try:
            return method, parse_url(method, url)
        except (InvalidTarget, MethodNotAllowed):
            continue
    return None


def check(case: Case, parse: Callable[[], Target]) -> None:
    if isinstance(case.verdict, str):
        with pytest.raises((InvalidTarget, MethodNotAllowed)) as refusal:
            parse()
        assert type(refusal.value).__name__ == case.verdict
        assert getattr(refusal.value, "allow", "") == case.allow
    else:
        assert parse() == case.verdict


def agree(url: str) -> None:
    """Fail unless every parser at hand reads `url` as a plain https URL on one of fal's hosts."""
    theirs, split = httpx.URL(url), urlsplit(url)

    assert theirs.scheme == split.scheme == "https"
    assert theirs.host == split.hostname == split.netloc
    assert theirs.host in HOSTS
    assert theirs.userinfo == b""
    assert theirs.port is None
    assert theirs.fragment == split.fragment == ""
    assert theirs.raw_path.decode() == url.removeprefix(f"https://{split.netloc}")
    assert str(theirs) == split.geturl() == url


@pytest.mark.parametrize("case", hostile_targets.CASES, ids=str)
def test_proxy_form(case: Case) -> None:
    check(case, lambda: parse_url(case.method, case.target))


@pytest.mark.parametrize("case", hostile_paths.CASES, ids=str)
def test_host_form(case: Case) -> None:
    path, _, query = case.target.partition(b"?")

    check(case, lambda: parse_path(case.method, path, query))


def test_the_lists_are_long_enough_to_mean_something() -> None:
    cases = {(case.method, case.target) for case in hostile_targets.CASES}

    assert len(cases) == len(hostile_targets.CASES) >= 600
    assert len(RIGHT) >= 50
    assert len(hostile_paths.CASES) >= 80


@pytest.mark.parametrize("case", RIGHT, ids=str)
def test_what_is_right_is_read_alike_by_everybody(case: Case) -> None:
    assert not isinstance(case.verdict, str)
    agree(case.target.decode())
    agree(url_of(case.verdict))
    assert accepted(url_of(case.verdict).encode()) == (case.method, case.verdict)


def test_text_and_bytes_are_read_alike() -> None:
    assert parse_url("GET", APP) == parse_url("GET", APP.encode())

    for text in ("https://queue.fal.run/\ud800/b", "https://queue.fal.run/é/b"):
        with pytest.raises(InvalidTarget):
            parse_url("POST", text)


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost:9000", "[::1]:9000", "localhost"])
def test_a_simulated_fal_may_call_back_over_http_on_loopback(host: str) -> None:
    url = hook(quote_plus(f"http://{host}/hook"))

    with pytest.raises(InvalidTarget):
        parse_url("POST", url)
    assert parse_url("POST", url, loopback_webhooks=True) == Submit(
        "fal-ai/flux", f"http://{host}/hook"
    )


@pytest.mark.parametrize(
    "webhook",
    [
        "http://a.example/hook",
        "http://127.0.0.2/hook",
        "http://127.0.0.1.a.example/hook",
        "http://127.0.0.1@a.example/hook",
        "http://LOCALHOST/hook",
        "http://[::ffff:127.0.0.1]/hook",
        "http://0.0.0.0/hook",
        "http://2130706433/hook",
        "ftp://127.0.0.1/hook",
    ],
)
def test_http_stays_closed_to_all_other_hosts(webhook: str) -> None:
    with pytest.raises(InvalidTarget):
        parse_url("POST", hook(quote_plus(webhook)), loopback_webhooks=True)


def test_refusals_say_one_of_a_few_things_and_nothing_of_the_callers() -> None:
    said: set[str] = set()
    for case in hostile_targets.CASES:
        try:
            parse_url(case.method, case.target)
        except (InvalidTarget, MethodNotAllowed) as refusal:
            said.add(str(refusal))

    assert 5 < len(said) < 12
    assert all(text.isascii() and "example" not in text for text in said)


@pytest.mark.parametrize("endpoint", ["fal-ai/flux", "workflows/u/flow", "a/b/c/d/e/f/g/h/i/j/k/l"])
def test_an_endpoint_id_by_itself(endpoint: str) -> None:
    assert is_endpoint(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "a",
        "a/",
        "/a/b",
        "a/b\n",
        "a/../b",
        "a/é",
        "a/\ud800",
        "workflows/u",
        "a/requests",
        "a/*",
    ],
)
def test_not_an_endpoint_id(endpoint: str) -> None:
    assert not is_endpoint(endpoint)


PIECES = st.sampled_from(
    "https:// http:// fal.run queue.fal.run rest.fal.ai rest.alpha.fal.ai evil.example / // . .. "
    "a b fal-ai flux workflows comfy requests status stream cancel response storage upload "
    f"initiate tokens {ID} {CDN} ? & = ; # % %2e %2f %5c @ : \\ :443 logs=1 logs=true "
    "fal_webhook= https%3A%2F%2Fa.example%2F [::1] \x00 \n \t é \ufeff + ,".split(" ")
)
GRAMMAR = st.lists(PIECES, max_size=14).map(lambda pieces: "".join(pieces).encode())


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A right target with some bytes cut out, and something else put there."""
    raw = draw(st.sampled_from([case.target for case in RIGHT if len(case.target) < 300]))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 4)))
        put = draw(st.one_of(st.binary(max_size=3), PIECES.map(str.encode)))
        raw = raw[:start] + put + raw[end:]
    return raw


@given(st.one_of(mutated(), GRAMMAR, st.binary(max_size=200)))
@example(b"https://queue.fal.run\\@evil.example/a/b")
def test_whatever_is_accepted_leads_to_fal_for_every_parser(url: bytes) -> None:
    found = accepted(url)

    if found is not None:
        method, target = found
        agree(url.decode("ascii"))
        agree(url_of(target))
        assert parse_url(method, url_of(target)) == target


@given(st.one_of(mutated(), GRAMMAR, st.binary(max_size=200)), st.text(max_size=8))
def test_nothing_crashes_the_parser(raw: bytes, method: str) -> None:
    path, _, query = raw.partition(b"?")

    with suppress(InvalidTarget, MethodNotAllowed):
        parse_url(method, raw)
    with suppress(InvalidTarget, MethodNotAllowed):
        parse_url(method, raw.decode("latin-1"))
    with suppress(InvalidTarget, MethodNotAllowed):
        parse_path(method, path.removeprefix(b"https://"), query)


@given(st.text(max_size=300))
def test_any_encoded_webhook_comes_out_as_it_went_in_or_not_at_all(webhook: str) -> None:
    try:
        target = parse_url("POST", hook(quote_plus(f"https://{webhook}")))
    except InvalidTarget:
        return
    assert target == Submit("fal-ai/flux", f"https://{webhook}")


@pytest.mark.skipif(shutil.which("node") is None, reason="no node: a browser's parser is missing")
def test_browsers_read_what_is_right_as_it_stands() -> None:
    """WHATWG's parser mends most URLs. None of ours needs it."""
    urls = [case.target.decode() for case in RIGHT]
    urls += [url_of(case.verdict) for case in RIGHT if not isinstance(case.verdict, str)]
    script = "for (const url of process.argv.slice(1)) console.log(new URL(url).href)"

    read = subprocess.run(
        ["node", "-e", script, "--", *urls], capture_output=True, check=True, timeout=30, text=True
    )

    assert read.stdout.split("\n")[:-1] == urls
