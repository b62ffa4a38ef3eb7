"""Any error as one form of reply, which every client of fal's can read."""

import json
import logging
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.core import fal
from gateway.core.errors import (
    BudgetSpent,
    GatewayError,
    LimitReached,
    MethodNotAllowed,
    OutcomeUnknown,
    Unauthenticated,
)
from gateway.core.forms import rfc3339
from gateway.core.prices import usd_text
from gateway.core.quota import ratelimit_headers
from gateway.web.call import facts

_log = logging.getLogger("gateway.errors")


async def refuse(request: Request, error: Exception) -> Response:
    """The reply to any `GatewayError`."""
    assert isinstance(error, GatewayError)
    headers: dict[str, str] = {}
    more: dict[str, Any] = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allow
    if isinstance(error, LimitReached):
        headers |= ratelimit_headers(error.standings)
        if error.limit is not None:
            more["limit"] = error.limit.name
    if isinstance(error, BudgetSpent) and error.budget is not None:
        more["budget"] = {
            "name": error.budget.name,
            "unit": error.budget.unit,
            "remaining": usd_text(error.remaining),
            "resets_at": rfc3339(error.resets_at),
        }
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = 'Bearer realm="fal-gateway"'
    if error.job_id is not None:
        facts(request)["job"] = error.job_id
        headers[fal.REQUEST_ID] = error.job_id
    if isinstance(error, OutcomeUnknown) and error.job_id:
        more["job_status"] = "unknown"
    if error.status >= 500:
        cause = type(error.__cause__).__name__ if error.__cause__ else ""
        _log.warning("%s: %s", error.code, error, extra=facts(request) | {"cause": cause})
    return problem(
        request, error.status, error.code, error.title, str(error), error.job_id, headers, more
    )


async def refuse_http(request: Request, error: Exception) -> Response:
    """The reply to what Starlette's router refuses: no such route, no such method."""
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase.capitalize()
    code = title.lower().replace(" ", "_")
    headers = dict(error.headers or {})
    detail = "there is no such route"
    if allowed := headers.get("Allow"):
        detail = f"this route takes {allowed}"
    return problem(request, error.status_code, code, title, detail, None, headers, {})


def problem(
    request: Request,
    status: int,
    code: str,
    title: str,
    detail: str,
    job_id: str | None = None,
    headers: dict[str, str] | None = None,
    more: dict[str, Any] | None = None,
) -> Response:
    """`detail` and `message` are the same text: fal's clients read the one or the other.

    Its Dart client reads each 422 as `{status, message, body: [{msg, type}]}`, and nothing else.
    """
    body = {
        "type": f"urn:fal-gateway:error:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "message": detail,
        "error_type": code,
        **({"request_id": job_id} if job_id is not None else {}),
        **({"body": [{"msg": detail, "type": code}]} if status == 422 else {}),
        "instance": f"urn:fal-gateway:request:{facts(request).get('request', '')}",
        **(more or {}),
    }
    return Response(
        json.dumps(body),
        status,
        {**(headers or {}), fal.ERROR_TYPE: code, "content-type": "application/json"},
    )
