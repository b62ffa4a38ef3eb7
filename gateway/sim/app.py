"""A fal of our own, for offline work and tests. Each of fal's hosts is a prefix of the path."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import certifi
import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount

from gateway.core import fal
from gateway.sim import cdn_routes, control_routes, queue_routes, rest_routes, run_routes
from gateway.sim.access import Access
from gateway.sim.config import SimConfig
from gateway.sim.journal import Recorder
from gateway.sim.state import State, assemble

__all__ = ["SimConfig", "build"]

MAX_BODY: Final = 64 * 2**20
"""Of a call; uploads may be larger."""


def build(config: SimConfig) -> Starlette:
    """The simulator as an app, one process only. On disk are stored files and open jobs."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[State]:
        limits = httpx.Limits(max_connections=100)
        async with (
            httpx.AsyncClient(
                limits=limits, timeout=30, trust_env=False, verify=_trusted(config.trust)
            ) as http,
            asyncio.TaskGroup() as tasks,
        ):
            sim = assemble(config, http, tasks)
            sim.engine.resume()
            yield {"sim": sim}
            sim.engine.stop()

    return Starlette(
        routes=[
            Mount(f"/{fal.QUEUE}", routes=queue_routes.routes),
            Mount(f"/{fal.RUN}", routes=run_routes.routes),
            Mount(f"/{fal.REST}", routes=rest_routes.routes),
            Mount(f"/{fal.REST_ALPHA}", routes=rest_routes.routes),
            Mount(f"/{fal.API}", routes=rest_routes.api_routes),
            cdn_routes.mount,
            Mount("/_sim", routes=control_routes.routes),
        ],
        middleware=[Middleware(Recorder, access=Access(config.keys))],
        exception_handlers={HTTPException: detail, queue_routes.Unknown: queue_routes.not_found},
        lifespan=lifespan,
        max_body_size=MAX_BODY,
    )


def _trusted(certificate: Path | None) -> ssl.SSLContext:
    """As httpx trusts, and `certificate` itself, whoever signed it."""
    context = ssl.create_default_context(cafile=certifi.where())
    if certificate is not None:
        context.load_verify_locations(certificate)
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    return context


async def detail(request: Request, error: Exception) -> Response:
    """An error in the form of fal's: JSON with `detail`."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
