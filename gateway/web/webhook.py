"""Where fal reports the end of a job."""

from hashlib import sha256
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.flows.receive import announced, receive
from gateway.web.call import facts
from gateway.web.site import services_of, site_of

LARGEST: Final = 48 * 2**20
"""Bytes. A result comes along in its webhook, however large; beyond this it has to be fetched."""
IN_FLIGHT: Final = 2 * LARGEST
"""Bytes of webhooks that a process holds at a time."""


async def webhook(request: Request) -> Response:
    """204 once the end is in Redis; never a redirect, never a 4xx for a good webhook of ours."""
    ticket: str = request.path_params["ticket"]
    facts(request)["ticket"] = sha256(ticket.encode(errors="replace")).hexdigest()[:8]
    services = services_of(request)
    about = announced(services, ticket, request.headers.raw)
    facts(request)["job"] = about.ref.id
    async with site_of(request).webhooks.read(request, about.ref.principal, LARGEST) as body:
        await receive(services, about, body)
    return Response(status_code=204)
