"""fal's vocabulary on the wire: hosts, header names, status words. No other module spells them.

Sources: https://fal.ai/docs (queue, webhooks, errors) and the source of @fal-ai/client 1.10.1.
"""

from enum import StrEnum
from typing import Final

RUN: Final = "fal.run"
QUEUE: Final = "queue.fal.run"
REST: Final = "rest.fal.ai"
REST_ALPHA: Final = "rest.alpha.fal.ai"
"""The older name of `REST`; Swift, Dart and older JS clients still write it."""
API: Final = "api.fal.ai"

HOSTS: Final = (RUN, QUEUE, REST, REST_ALPHA, API)
CDN_HOSTS: Final = ("fal.media", "fal.ai", "fal.run")
"""Where files are: these, and names below them. fal says which, upload by upload."""

TARGET_URL: Final = "x-fal-target-url"
"""Set by fal's clients in proxy mode: the fal URL that the proxy is asked to call."""

REQUEST_ID: Final = "x-fal-request-id"
ERROR_TYPE: Final = "x-fal-error-type"
TIMEOUT_TYPE: Final = "x-fal-request-timeout-type"
NEEDS_RETRY: Final = "x-fal-needs-retry"
BILLABLE_UNITS: Final = "x-fal-billable-units"

QUEUE_PRIORITY: Final = "x-fal-queue-priority"
REQUEST_TIMEOUT: Final = "x-fal-request-timeout"
START_TIMEOUT: Final = "x-fal-request-start-timeout"
"""The newer name of `REQUEST_TIMEOUT`; it wins where both are present."""
RUNNER_HINT: Final = "x-fal-runner-hint"
OBJECT_LIFECYCLE: Final = "x-fal-object-lifecycle"
LIFECYCLE_PREFERENCE: Final = "x-fal-object-lifecycle-preference"
NO_RETRY: Final = "x-fal-no-retry"
DISABLE_FALLBACK: Final = "x-app-fal-disable-fallback"

WEBHOOK_QUERY: Final = "fal_webhook"
WEBHOOK_REQUEST_ID: Final = "x-fal-webhook-request-id"
WEBHOOK_USER_ID: Final = "x-fal-webhook-user-id"
WEBHOOK_TIMESTAMP: Final = "x-fal-webhook-timestamp"
WEBHOOK_SIGNATURE: Final = "x-fal-webhook-signature"
WEBHOOK_OK: Final = "OK"
WEBHOOK_ERROR: Final = "ERROR"
INVALID_STATUS: Final = "Invalid status code: "
"""How `error` of a webhook starts where the app answered with an HTTP error; its code follows."""

CLIENT_CANCELLED: Final = "client_cancelled"
"""The `error_type` of a request that ended because its sender cancelled it."""

JWKS_PATH: Final = "/.well-known/jwks.json"
UPLOAD_PATH: Final = "/storage/upload/initiate"
UPLOAD_MULTIPART_PATH: Final = "/storage/upload/initiate-multipart"
UPLOAD_QUERY: Final = "storage_type=fal-cdn-v3"
TOKENS_PATH: Final = "/tokens/"
PRICES_PATH: Final = "/v1/models/pricing"

NAMESPACES: Final = frozenset({"workflows", "comfy"})
"""First segments that shift owner and alias of an endpoint id by one."""

IN_PROGRESS_DETAIL: Final = "Request is still in progress"


class Status(StrEnum):
    """`status` in a queue answer. fal has no FAILED or CANCELLED: every end is COMPLETED."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"


def app_of(endpoint: str) -> str:
    """`[namespace/]owner/alias` of an endpoint id: what queue operations are addressed to."""
    segments = endpoint.split("/")
    return "/".join(segments[: 3 if segments[0] in NAMESPACES else 2])
