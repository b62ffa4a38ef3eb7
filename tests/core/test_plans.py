"""What a plan and a credential grant together."""

import pytest

from gateway.core.errors import EndpointNotAllowed, RealtimeNotAllowed
from gateway.core.model import Caller, Kind, Plan, Principal, Scope
from gateway.core.plans import check_app, check_endpoint, realtime_app


def caller(endpoints: tuple[str, ...] | None = None, *, realtime: bool = True) -> Caller:
    plan = Plan("p", endpoints=("fal-ai/flux",), realtime_tokens=realtime)
    return Caller(
        Principal("t", Kind.USER, "u"), plan, frozenset({Scope.SUBMIT}), "k", (), 0.0,
        endpoints=endpoints,
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
