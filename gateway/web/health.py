"""Is the process alive; may it be sent requests?"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.core.errors import StoreUnavailable
from gateway.web.site import services_of, site_of


async def alive(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    """503 while draining, or while Redis is out of reach."""
    if site_of(request).draining.is_set():
        return JSONResponse({"status": "draining"}, 503)
    try:
        await services_of(request).revocations.look()
    except StoreUnavailable:
        return JSONResponse({"status": "redis out of reach"}, 503)
    return JSONResponse({"status": "ready"})
