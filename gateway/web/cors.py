"""What pages of other origins may do from browsers."""

from collections.abc import Sequence
from typing import Any, Final

from gateway.core import fal

_METHODS: Final = ("GET", "POST", "PUT", "DELETE", "OPTIONS")
_REQUEST: Final = (
    "accept", "authorization", "content-type", "last-event-id",
    "x-gateway-authorization", "x-gateway-principal",
    fal.TARGET_URL, fal.QUEUE_PRIORITY, fal.RUNNER_HINT, fal.REQUEST_TIMEOUT, fal.START_TIMEOUT,
    fal.OBJECT_LIFECYCLE, "x-fal-object-lifecycle-preference", "x-fal-store-io",
    "x-fal-no-retry", "x-fal-retry-config", "x-fal-tags", "x-app-fal-disable-fallback",
    "x-fal-user-agent",
)  # fmt: skip
"""What fal's browser clients send; most of it goes no further than the gateway."""
_RESPONSE: Final = (
    fal.REQUEST_ID, fal.TIMEOUT_TYPE, fal.ERROR_TYPE, fal.BILLABLE_UNITS, fal.NEEDS_RETRY,
    "retry-after", "x-request-id", "ratelimit", "ratelimit-policy", "x-gateway-cost", "etag",
)  # fmt: skip
_REMEMBER: Final = 7200
"""Seconds that a browser may keep a preflight's answer: a poll would else be two requests."""


def options(origins: Sequence[str], *, cookies: bool) -> dict[str, Any]:
    """For Starlette's middleware. Exact origins only; with cookies, where visitors have them."""
    return {
        "allow_origins": list(origins),
        "allow_methods": list(_METHODS),
        "allow_headers": list(_REQUEST),
        "expose_headers": list(_RESPONSE),
        "allow_credentials": cookies,
        "max_age": _REMEMBER,
    }
