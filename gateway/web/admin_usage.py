"""/admin/v1/usage and /admin/v1/limits: what was used, and how others stand."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.core.errors import BadBody
from gateway.core.usage import CSV_HEAD, Row, Span, csv_line, csv_values, span_of
from gateway.flows.oversee import standing, used
from gateway.web.admin_call import actor_of, answer
from gateway.web.operation import JSON
from gateway.web.site import services_of
from gateway.web.streaming import Opened, Streamed

CSV = "text/csv"


async def export(request: Request) -> Response:
    """GET /admin/v1/usage?from=&to=&team=&format=json|csv, as long as it is."""
    actor = await actor_of(request)
    services, query = services_of(request), request.query_params
    form = query.get("format", "json")
    if form not in {"json", "csv"}:
        raise BadBody("format must be json or csv")
    span = span_of(query.get("from"), query.get("to"), services.clock())
    rows = used(services, actor, query.get("team"), span)
    pieces = _csv(rows) if form == "csv" else _json(span, rows)
    headers = {"content-type": f"{CSV}; charset=utf-8" if form == "csv" else JSON}
    if form == "csv":
        headers["content-disposition"] = f'attachment; filename="usage-{span.last}.csv"'

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Opened]:
        async with aclosing(pieces):
            first = await anext(pieces)  # before the status: it may be that Redis is away
            yield Opened(200, headers, _after(first, pieces))

    return Streamed(services.runs, opened)


async def limits(request: Request) -> Response:
    """GET /admin/v1/limits?team=&principal=&plan=: with what shadow limits would have refused."""
    actor, query = await actor_of(request), request.query_params
    found = await standing(
        services_of(request), actor, query.get("team"), query.get("principal"), query.get("plan")
    )
    who = None if found.principal is None else str(found.principal)
    return answer(asdict(found) | {"principal": who})


async def _json(span: Span, rows: AsyncGenerator[Row]) -> AsyncGenerator[bytes]:
    head = json.dumps({"from": span.first.isoformat(), "to": span.last.isoformat()})
    before = head[:-1].encode() + b', "rows": ['
    async with aclosing(rows):
        async for row in rows:
            yield before + json.dumps(_told(row)).encode()
            before = b",\n"
    yield (b"" if before == b",\n" else before) + b"]}"


async def _csv(rows: AsyncGenerator[Row]) -> AsyncGenerator[bytes]:
    before = csv_line(CSV_HEAD)
    async with aclosing(rows):
        async for row in rows:
            yield before + csv_line(csv_values(row))
            before = b""
    yield before


async def _after(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _told(row: Row) -> dict[str, Any]:
    return {"team": row.team, "principal": row.principal, **row.json()}
