"""A request as values: who calls, from where, with what."""

import re
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from gateway.core.credentials import VISITOR_COOKIE, from_headers, visitor_cookie
from gateway.core.errors import (
    BadBody,
    Forbidden,
    InvalidTarget,
    OriginNotAllowed,
    Unauthenticated,
    UnsupportedMedia,
)
from gateway.core.headers import upstream_headers
from gateway.core.model import USER_NAME_FORM, Caller, Scope, is_user_name
from gateway.flows.authenticate import Place, acting_for, authenticate, read_pass
from gateway.flows.visit import is_visitor, visit
from gateway.web.address import address_group, client_address
from gateway.web.site import services_of, site_of

ACT_FOR: Final = "x-gateway-principal"
NEW_COOKIE: Final = "gateway.new_cookie"
"""Where the scope of a request has a cookie that goes with its answer, whatever that is."""
_HOST: Final = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_FORWARDING: Final = re.compile(
    r"forwarded|via|x-forwarded.*|x-original-.*"
    r"|(?:x-|cf-|true-|fastly-)?(?:real|client|cluster-client|connecting)-ip"
)
"""What proxies add. One on this machine makes all the world come from here."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


async def caller_of(request: Request) -> Caller:
    """Who is calling. Raises `Unauthenticated`, `Forbidden`, `OriginNotAllowed`,
    `KeysUnavailable`."""
    presented = from_headers(request.headers.raw)
    services = services_of(request)
    if presented is None and services.rules.visitors is not None:
        caller = _visitor(request)
    else:
        caller = await authenticate(
            services, presented, loopback=_from_this_machine(request), place=place_of(request)
        )
    if request.method not in _SAFE or (caller.by_cookie and "origin" in request.headers):
        _check_origin(request, caller, by_nature=presented is None)
    caller = acting_for(services, caller, _act_for(request))
    facts(request)["caller"] = f"{caller.principal.team}/{caller.principal}"
    return caller


async def stream_caller_of(request: Request) -> Caller:
    """The same for an event stream, where a stream pass in the query will do."""
    passes = request.query_params.getlist("pass")
    if not passes:
        return await caller_of(request)
    if len(passes) > 1:
        raise Unauthenticated("the credential is not valid")
    place = place_of(request)
    caller = placed(request, await read_pass(services_of(request), passes[0], place))
    facts(request)["caller"] = f"{caller.principal.team}/{caller.principal}"
    return caller


def placed(request: Request, caller: Caller) -> Caller:
    """A visitor, known by what it was given, with the address that its limits go by."""
    if not is_visitor(caller.principal):
        return caller
    return replace(caller, address=address_group(client_address(request)))


def _visitor(request: Request) -> Caller:
    """Somebody without a credential; who is new gets a cookie with the answer."""
    address = address_group(client_address(request))
    visited = visit(services_of(request), visitor_cookie(request.headers.raw), address)
    if visited.cookie is not None:
        head = Response()
        head.set_cookie(
            VISITOR_COOKIE,
            visited.cookie,
            max_age=visited.lifetime,
            httponly=True,
            samesite="strict",
            secure=request.scope["scheme"] == "https",
        )
        request.scope[NEW_COOKIE] = head.headers["set-cookie"]
    return visited.caller


def place_of(request: Request) -> Place:
    """Where the request comes from, as far as that can be believed."""
    return Place(request.headers.getlist("origin"), client_address(request))


def for_team(request: Request, caller: Caller) -> bool:
    """Does `?scope=team` ask for the whole team? Raises `BadBody`, and `Forbidden` without the
    scope `read`."""
    asked = request.query_params.get("scope", "")
    if asked not in {"", "team"}:
        raise BadBody("scope must be team; without it, one's own")
    if asked and Scope.READ not in caller.scopes:
        raise Forbidden("reading for the team needs a key with the scope read")
    return bool(asked)


def facts(request: Request) -> dict[str, Any]:
    """What the log line of this request will tell."""
    found: dict[str, Any] = request.scope.setdefault("gateway.facts", {})
    return found


def headers_for_fal(request: Request, caller: Caller) -> dict[str, str]:
    """What fal is told of the request's headers, and what the caller's plan adds."""
    return upstream_headers(
        request.headers.raw,
        tenant_hint=caller.principal.digest[:12],
        allowed=caller.plan.client_headers,
        forced=caller.plan.forced_headers,
    )


def check_json(request: Request) -> None:
    """Raises `UnsupportedMedia` for a body that says it is something else: no form is read."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    empty = request.headers.get("content-length", "0") == "0"
    empty = empty and "transfer-encoding" not in request.headers
    if kind != "application/json" and not (kind == "" and empty):
        raise UnsupportedMedia("the body must be application/json")


def client_url(request: Request) -> str:
    """Where clients reach us: configured, or as this request did. Only its sender sees it."""
    configured = site_of(request).client_url
    return configured if configured is not None else own_origin(request)


def own_origin(request: Request) -> str:
    """Scheme and host of the request. Raises `InvalidTarget` for a Host that is not host[:port]."""
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise InvalidTarget("the Host header must be host[:port]")
    return f"{request.scope['scheme']}://{hosts[0]}"


def number_of(request: Request, name: str, default: float, largest: float) -> float:
    """A query parameter as a number from 0 to `largest`. Raises `BadBody`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,3})?", text) or float(text) > largest:
        raise BadBody(f"{name} must be a number from 0 to {largest:g}")
    return float(text)


def _act_for(request: Request) -> str | None:
    names = request.headers.getlist(ACT_FOR)
    if not names:
        return None
    if len(names) > 1 or not is_user_name(names[0]):
        raise BadBody(f"X-Gateway-Principal must be {USER_NAME_FORM}")
    return names[0]


def _check_origin(request: Request, caller: Caller, *, by_nature: bool) -> None:
    """Cookies, and being on this machine, go along with requests that other sites cause.

    Their Origin tells. `by_nature`: no credential was shown, to be on this machine, or anybody
    at all, is enough; then programs that are no browsers send none.
    """
    if not caller.by_cookie and not by_nature:
        return
    origins = request.headers.getlist("origin")
    if by_nature and not origins and request.headers.get("sec-fetch-site") != "cross-site":
        return
    ours = {own_origin(request), site_of(request).client_url}
    if by_nature:
        ours |= site_of(request).origins
    if len(origins) != 1 or origins[0] not in ours:
        raise OriginNotAllowed("requests of other pages need a credential of their own")


def _from_this_machine(request: Request) -> bool:
    """Is this a request that `anonymous: loopback` lets in?"""
    port = site_of(request).loopback_port
    peer = request.scope.get("client")
    if port is None or peer is None or not _is_loopback(peer[0]):
        return False
    if any(map(_FORWARDING.fullmatch, request.headers)):
        return False
    hosts = request.headers.getlist("host")
    return len(hosts) == 1 and hosts[0] in {
        f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"
    }  # fmt: skip


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
