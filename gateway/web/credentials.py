"""Routes that turn a credential into another: tokens, session cookies, stream passes."""

import json
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.core.credentials import SESSION_COOKIE, from_headers
from gateway.core.endpoints import check_pattern
from gateway.core.errors import BadBody, Forbidden
from gateway.core.forms import rfc3339
from gateway.core.model import USER_NAME_FORM, Caller, is_job_id, is_user_name
from gateway.core.slices import each_once
from gateway.core.tokens import MAX_LIFETIME, SKEW, TOKEN_LIFETIME
from gateway.flows.authenticate import check_kept
from gateway.flows.mint import Minted, Wish, mint_token, open_session, refresh_token, stream_pass
from gateway.flows.observe import job_of
from gateway.web.call import caller_of, check_json
from gateway.web.site import services_of, site_of

_WISHES: Final = {"user", "plan", "endpoints", "jobs", "expires_in", "refresh_for"}


async def token(request: Request) -> Response:
    """POST /v1/tokens `{user?, plan?, endpoints?, jobs?, expires_in?, refresh_for?}`: a token
    for a browser."""
    caller = await caller_of(request)
    fields = await _fields(request, caller, _WISHES)
    minted = mint_token(services_of(request), caller, _wish(fields))
    return _credential(minted, "token", 201)


async def refresh(request: Request) -> Response:
    """POST /v1/tokens/refresh: a new token for the one in the header."""
    caller = await caller_of(request)
    await _fields(request, caller, set())
    presented = from_headers(request.headers.raw)
    if presented is None or presented.kind != "token":
        raise Forbidden("only a token can be refreshed")
    return _credential(refresh_token(services_of(request), presented.text), "token", 201)


async def sign_in(request: Request) -> Response:
    """POST /v1/session: the credential in the header, as a cookie for our own pages."""
    caller = await caller_of(request)
    minted = open_session(services_of(request), caller)
    answer = JSONResponse(
        {"principal": str(caller.principal), "expires_at": rfc3339(minted.claims.expires_at)}, 201
    )
    answer.set_cookie(
        SESSION_COOKIE,
        minted.text,
        max_age=minted.claims.expires_at - minted.claims.issued_at,
        httponly=True,
        samesite="strict",
        secure=request.scope["scheme"] == "https",
    )
    return answer


async def sign_out(request: Request) -> Response:
    """DELETE /v1/session: the cookie goes, and is good for nothing any more."""
    caller = await caller_of(request)
    services = services_of(request)
    if caller.session is not None:
        before = services.clock() + 1
        await services.revocations.revoke(
            [caller.session], before, before + MAX_LIFETIME + 2 * SKEW
        )
    answer = Response(status_code=204)
    answer.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
    return answer


async def passes(request: Request) -> Response:
    """POST /v1/stream-passes `{job?}`: for event streams of clients that send no headers."""
    caller = await caller_of(request)
    fields = await _fields(request, caller, {"job"})
    job_id = fields.get("job")
    if job_id is not None:
        if not isinstance(job_id, str) or not is_job_id(job_id):
            raise BadBody("job must be a job's id")
        await job_of(services_of(request), caller, job_id)
    return _credential(stream_pass(services_of(request), caller, job_id), "pass", 201)


def _credential(minted: Minted, name: str, status: int) -> Response:
    claims = minted.claims
    body = {
        name: minted.text,
        "principal": str(claims.principal),
        "plan": claims.plan,
        "expires_at": rfc3339(claims.expires_at),
    }
    if claims.refresh_until is not None:
        body["refresh_until"] = rfc3339(claims.refresh_until)
    return JSONResponse(body, status)


async def _fields(request: Request, caller: Caller, known: set[str]) -> dict[str, Any]:
    """A small JSON object with no other than the `known` names; no body is an empty one."""
    check_json(request)
    async with site_of(request).bodies.read(request, caller.holder, 8192) as body:
        try:
            fields = json.loads(body.decode(), object_pairs_hook=each_once) if body else {}
        except (ValueError, RecursionError):
            raise BadBody("the body must be a JSON object, each name once") from None
    check_kept(services_of(request), caller)  # what is made now is newer than its revocation
    if not isinstance(fields, dict):
        raise BadBody("the body must be a JSON object")
    if unknown := sorted(set(fields) - known):
        raise BadBody(f"unknown field {unknown[0][:40]!r}; known: {', '.join(sorted(known))}")
    return fields


def _wish(fields: dict[str, Any]) -> Wish:
    user, plan = fields.get("user"), fields.get("plan")
    if user is not None and not (isinstance(user, str) and is_user_name(user)):
        raise BadBody(f"user must be {USER_NAME_FORM}")
    if plan is not None and not (isinstance(plan, str) and len(plan) <= 128):
        raise BadBody("plan must be the name of a plan")
    lifetime = _seconds(fields, "expires_in", TOKEN_LIFETIME)
    refresh_for = _seconds(fields, "refresh_for", 0)
    endpoints, jobs = _texts(fields, "endpoints"), _texts(fields, "jobs")
    for pattern in endpoints or ():
        try:
            check_pattern(pattern)
        except ValueError as error:
            raise BadBody(f"endpoints: {error}") from None
    if jobs is not None and not all(is_job_id(job) for job in jobs):
        raise BadBody("jobs must be a list of job ids")
    return Wish(
        user=user,
        endpoints=endpoints,
        jobs=None if jobs is None else frozenset(jobs),
        lifetime=lifetime,
        plan=plan,
        refresh_for=refresh_for,
    )


def _seconds(fields: dict[str, Any], name: str, default: int) -> int:
    value = fields.get(name, default)
    if type(value) is not int or value < 0:
        raise BadBody(f"{name} must be a whole number of seconds")
    return value


def _texts(fields: dict[str, Any], name: str) -> tuple[str, ...] | None:
    values = fields.get(name)
    if values is None:
        return None
    if (
        not isinstance(values, list)
        or len(values) > 100
        or not all(isinstance(value, str) and len(value) <= 200 for value in values)
    ):
        raise BadBody(f"{name} must be a list of at most 100 texts")
    return tuple(values)
