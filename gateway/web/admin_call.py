"""A call of the admin API: who acts, and what is asked for."""

import json
import re
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.core.credentials import from_headers
from gateway.core.errors import BadBody, Unauthenticated
from gateway.core.model import Kind, Principal
from gateway.core.slices import check_json_object, each_once
from gateway.flows.managing import Actor, acting, operating, operator
from gateway.web.call import caller_of, check_json, facts, place_of
from gateway.web.site import services_of, site_of

BODY_MAX: Final = 128 * 1024
"""Bytes of a body, such as a plan's."""
_VERSION: Final = re.compile(r'"?(0|[1-9][0-9]{0,17})"?')

Form = TypeVar("Form")


async def actor_of(request: Request) -> Actor:
    """Who acts. Raises `Unauthenticated`, and `Forbidden` without the scope `admin`.

    A cookie will not do: it comes along with requests that other pages cause.
    """
    services = services_of(request)
    presented = from_headers(request.headers.raw)
    if presented is None or presented.kind == "session":
        raise Unauthenticated("the admin key is needed, or a key with the scope admin, in a header")
    place = place_of(request)
    mark, address = facts(request).get("request", ""), place.address or ""
    if operator(services, presented):
        facts(request)["caller"] = "operator"
        return operating(mark, address)
    return acting(await caller_of(request), mark, address)


async def wanted(request: Request, actor: Actor, form: type[Form], *, needed: bool = True) -> Form:
    """The body, in that form; unless it is `needed`, none is an empty object.

    Raises `BadBody` naming the field, and as `actor_of` does: the actor's key may have been taken
    back while the body came, and what it makes would live on.
    """
    check_json(request)
    whose = Principal(actor.team or "", Kind.KEY, actor.kid or "operator")
    async with site_of(request).bodies.read(request, whose, BODY_MAX) as body:
        await actor_of(request)
        body = body if body or needed else b"{}"
        check_json_object(body)
        try:
            json.loads(body.decode(), object_pairs_hook=each_once)
            return msgspec.json.decode(body, type=form)
        except (ValueError, RecursionError) as error:  # msgspec's among them
            raise BadBody(str(error)[:200]) from None


def expected_version(request: Request) -> int | None:
    """`If-Match: "<version>"`, or 0 for `If-None-Match: *`: there must be none yet.

    Raises `BadBody`.
    """
    if request.headers.get("if-none-match") == "*":
        return 0
    text = request.headers.get("if-match")
    if text is None:
        return None
    match = _VERSION.fullmatch(text)
    if match is None:
        raise BadBody("if-match must be a version, such as 7")
    return int(match[1])


def answer(body: Any, status: int = 200, version: int | None = None) -> Response:
    headers = {} if version is None else {"etag": f'"{version}"'}
    return Response(msgspec.json.encode(body), status, headers, "application/json")
