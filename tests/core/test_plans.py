"""What a plan and a credential grant together."""

from typing import Any

import pytest

from gateway.core.errors import EndpointNotAllowed, RealtimeNotAllowed, WebhookNotAllowed
from gateway.core.model import Caller, Kind, Plan, Principal, Scope
from gateway.core.plans import check_app, check_endpoint, check_webhook, realtime_app
from gateway.core.rules import Rule


def caller(
    narrowed: tuple[str, ...] | None = None, *, realtime: bool = True, **more: Any
) -> Caller:
    fields: dict[str, Any] = {"endpoints": ("fal-ai/flux",), "realtime_tokens": realtime} | more
    plan = Plan("p", **fields)
    return Caller(
        Principal("t", Kind.USER, "u"), plan, frozenset({Scope.SUBMIT}), "k", (), 0.0,
        endpoints=narrowed,
    )  # fmt: skip


def test_a_realtime_token_opens_the_whole_app_or_none() -> None:
    """fal's token names an app: it would open more than what lies below it."""
    assert realtime_app(caller(), "flux") == "fal-ai/flux"
    with pytest.raises(EndpointNotAllowed):
        realtime_app(caller(("fal-ai/flux/dev",)), "flux")
    with pytest.raises(RealtimeNotAllowed):
        realtime_app(caller(realtime=False), "flux")


def test_a_credential_narrows_its_plan() -> None:
    check_endpoint(caller(), "fal-ai/flux")
    check_app(caller(("fal-ai/flux",)), "fal-ai/flux")
    with pytest.raises(EndpointNotAllowed):
        check_endpoint(caller(("fal-ai/other",)), "fal-ai/flux")
    with pytest.raises(EndpointNotAllowed):
        check_app(caller(("fal-ai/other",)), "fal-ai/flux")


@pytest.mark.parametrize(
    ("deny", "endpoint"),
    [
        ("fal-ai/flux/dev", "fal-ai/flux/dev"),
        ("fal-ai/flux/dev", "fal-ai/flux/DEV"),
        ("fal-ai/flux/dev", "fal-ai/flux/dev/stream"),
        ("Fal-ai/Flux/*", "fal-ai/flux/dev"),
        ("fal-ai/flux/dev/**", "fal-ai/flux/dev"),
        ("fal-ai/flux/dev/**", "fal-ai/flux/dev/a/b"),
        ("*/flux", "fal-ai/flux"),
    ],
)
def test_what_is_denied_is_not_allowed_whatever_else_is(deny: str, endpoint: str) -> None:
    with pytest.raises(EndpointNotAllowed):
        check_endpoint(caller(endpoints=("**",), deny=(deny,)), endpoint)
    check_endpoint(caller(endpoints=("**",), deny=(deny + "x",)), endpoint)


def test_a_denied_endpoint_does_not_lock_owners_out_of_their_jobs() -> None:
    check_app(caller(deny=("fal-ai/flux/**",)), "fal-ai/flux")


WEBHOOKS: dict[str, Any] = {
    "client_webhooks": True,
    "webhook_hosts": ("hooks.example.com", "*.example.org"),
}


@pytest.mark.parametrize(
    "url",
    [
        None,
        "https://hooks.example.com/a?b=c",
        "https://HOOKS.example.com:8443/",
        "https://a.example.org",
        "https://a.b.example.org/x",
    ],
)
def test_a_webhook_to_an_allowed_host(url: str | None) -> None:
    check_webhook(caller(**WEBHOOKS), url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "https://evil.example.com/",
        "https://hooks.example.com.evil.example/",
        "https://xhooks.example.com/",
        "https://example.org/",
        "https://evilexample.org/",
        "https://hooks.example.com@evil.example/",
        "https://evil.example/hooks.example.com",
        "https://evil.example?.example.org",
        "https://evil.example#.example.org",
        "https://127.0.0.1/",
        "http://localhost:9/",
        "not a url",
    ],
)
def test_a_webhook_to_another_host_is_refused(url: str) -> None:
    with pytest.raises(WebhookNotAllowed):
        check_webhook(caller(**WEBHOOKS), url)


def test_webhooks_without_hosts_go_anywhere_and_without_leave_nowhere() -> None:
    check_webhook(caller(client_webhooks=True), "http://127.0.0.1:9/x")
    check_webhook(caller(), None)
    with pytest.raises(WebhookNotAllowed):
        check_webhook(caller(webhook_hosts=("a.example",)), "https://a.example/")


@pytest.mark.parametrize(
    "restriction",
    [
        {"deny": ("fal-ai/flux/dev",)},
        {"deny": ("fal-ai/*",)},
        {"rules": (Rule("**", "n", max=1),)},
        {"rules": (Rule("fal-ai/FLUX/dev", "n", max=1),)},
    ],
    ids=str,
)
def test_a_realtime_token_does_not_lead_round_denials_and_rules(
    restriction: dict[str, Any],
) -> None:
    with pytest.raises(RealtimeNotAllowed):
        realtime_app(caller(**restriction), "flux")


def test_a_realtime_token_does_not_mind_what_is_for_other_apps() -> None:
    other = caller(deny=("fal-ai/other/**",), rules=(Rule("fal-ai/fluxx/**", "n", max=1),))

    assert realtime_app(other, "flux") == "fal-ai/flux"
