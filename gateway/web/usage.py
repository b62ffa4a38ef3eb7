"""/v1/usage and /v1/me: what was used, and how the caller stands."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.core.forms import rfc3339
from gateway.core.usage import span_of, total
from gateway.flows.usage import standing, usage
from gateway.web.call import caller_of, for_team
from gateway.web.site import services_of


async def used(request: Request) -> Response:
    """GET /v1/usage: by endpoint and day; the team's with `?scope=team`."""
    caller, services = await caller_of(request), services_of(request)
    query = request.query_params
    span = span_of(query.get("from"), query.get("to"), services.clock())
    team = for_team(request, caller)
    rows = await usage(services, caller, span, team=team)
    return _json(
        {
            "team": caller.principal.team,
            "principal": None if team else str(caller.principal),
            "from": span.first.isoformat(),
            "to": span.last.isoformat(),
            "total": total(rows).json(),
            "rows": [row.json() for row in rows],
        }
    )


async def me(request: Request) -> Response:
    """GET /v1/me: who is calling, and how they stand."""
    caller, services = await caller_of(request), services_of(request)
    limits, budgets = await standing(services, caller)
    narrowed = caller.endpoints
    return _json(
        {
            "team": caller.principal.team,
            "principal": str(caller.principal),
            "plan": caller.plan.name,
            "scopes": sorted(caller.scopes),
            "read_only": caller.read_only,
            "endpoints": list(caller.plan.endpoints if narrowed is None else narrowed),
            "deny": list(caller.plan.deny),
            "expires_at": rfc3339(caller.expires_at),
            "limits": limits,
            "budgets": budgets,
        }
    )


def _json(body: dict[str, Any]) -> Response:
    """Nobody's but the caller's: not to be kept on the way."""
    text = json.dumps(body, separators=(",", ":"))
    return Response(text, media_type="application/json", headers={"cache-control": "no-store"})
