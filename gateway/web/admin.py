"""/admin/v1: keys, plans, revocations, accounts, and the record of what was done."""

from typing import Any

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from gateway.core.errors import BadBody
from gateway.core.issued import KeyChange, KeyWish
from gateway.flows import accounts, issue, managing, planning
from gateway.flows.managing import check_operator
from gateway.flows.revoke import Target, revoke
from gateway.web import admin_shapes as shapes
from gateway.web.admin_call import actor_of, answer, expected_version, wanted
from gateway.web.call import number_of
from gateway.web.site import services_of


async def create_key(request: Request) -> Response:
    """POST /admin/v1/keys: 201 with the key's text, which is shown this once."""
    actor = await actor_of(request)
    wish = await wanted(request, actor, shapes.WantedKey)
    team = wish.team if wish.team is not UNSET else actor.team
    made = await issue.create_key(
        services_of(request),
        actor,
        KeyWish(
            team=team or "default",
            name=wish.name,
            plan=wish.plan,
            scopes=wish.scopes,
            expires_in=wish.expires_in,
            origins=wish.origins,
            networks=wish.networks,
        ),
    )
    return answer(shapes.new_key(made.record, made.text), 201, made.record.version)


async def list_keys(request: Request) -> Response:
    """GET /admin/v1/keys?team=&cursor=&limit=: newest first."""
    actor = await actor_of(request)
    query = request.query_params
    limit = int(number_of(request, "limit", 50, issue.MAX_PAGE)) or 1
    page = await issue.list_keys(
        services_of(request), actor, query.get("team"), query.get("cursor"), limit
    )
    return answer(shapes.KeyPage([shapes.issued(each) for each in page.records], page.cursor))


async def show_key(request: Request) -> Response:
    actor = await actor_of(request)
    record = await issue.show_key(services_of(request), actor, request.path_params["id"])
    return answer(shapes.issued(record), version=record.version)


async def change_key(request: Request) -> Response:
    """PATCH /admin/v1/keys/{id}: what the body names; with `If-Match`, only of that version."""
    actor = await actor_of(request)
    version = expected_version(request)
    change = await wanted(request, actor, shapes.ChangedKey)
    record = await issue.change_key(
        services_of(request),
        actor,
        request.path_params["id"],
        KeyChange(
            plan=change.plan,
            scopes=change.scopes,
            expires_in=change.expires_in,
            origins=change.origins,
            networks=change.networks,
        ),
        version,
    )
    return answer(shapes.issued(record), version=record.version)


async def revoke_key(request: Request) -> Response:
    """DELETE /admin/v1/keys/{id}: revoked, with all tokens that were made with it."""
    actor = await actor_of(request)
    record = await issue.revoke_key(services_of(request), actor, request.path_params["id"])
    return answer(shapes.issued(record), version=record.version)


async def rotate_key(request: Request) -> Response:
    """POST /admin/v1/keys/{id}/rotate `{overlap?}`: 201 with another key of the same name."""
    actor = await actor_of(request)
    rotation = await wanted(request, actor, shapes.Rotation, needed=False)
    made = await issue.rotate_key(
        services_of(request), actor, request.path_params["id"], rotation.overlap
    )
    return answer(shapes.new_key(made.record, made.text), 201, made.record.version)


async def list_plans(request: Request) -> Response:
    actor = await actor_of(request)
    records = await planning.list_plans(services_of(request), actor)
    return answer(shapes.Plans([shapes.plan(each) for each in records]))


async def show_plan(request: Request) -> Response:
    actor = await actor_of(request)
    record = await planning.show_plan(services_of(request), actor, request.path_params["name"])
    return answer(shapes.plan(record), version=record.version)


async def put_plan(request: Request) -> Response:
    """PUT /admin/v1/plans/{name}: its rules, in the form of the settings file."""
    actor = await actor_of(request)
    version = expected_version(request)
    rules = await wanted(request, actor, dict[str, Any])
    record = await planning.put_plan(
        services_of(request), actor, request.path_params["name"], rules, version
    )
    return answer(shapes.plan(record), version=record.version)


async def delete_plan(request: Request) -> Response:
    actor = await actor_of(request)
    await planning.delete_plan(services_of(request), actor, request.path_params["name"])
    return Response(status_code=204)


async def revocation(request: Request) -> Response:
    """POST /admin/v1/revocations `{key | principal | token | jti, team?}`: 204."""
    actor = await actor_of(request)
    what = await wanted(request, actor, shapes.Revocation)
    target = Target(
        key=_text(what.key),
        principal=_text(what.principal),
        token=_text(what.token),
        jti=_text(what.jti),
        team=_text(what.team),
    )
    await revoke(services_of(request), actor, target)
    return Response(status_code=204)


async def list_accounts(request: Request) -> Response:
    """GET /admin/v1/accounts: how each account at fal stands; for the operator."""
    check_operator(await actor_of(request), "the accounts at fal")
    views = await accounts.overview(services_of(request))
    return answer(shapes.Accounts([shapes.account(each) for each in views]))


async def list_audit(request: Request) -> Response:
    """GET /admin/v1/audit?after=&limit=: what was done, oldest first; for the operator."""
    actor = await actor_of(request)
    limit = int(number_of(request, "limit", 100, managing.MAX_ENTRIES)) or 1
    entries = await managing.audit(
        services_of(request), actor, request.query_params.get("after"), limit
    )
    more = entries[-1].id if len(entries) == limit else None
    return answer(shapes.AuditPage([shapes.audited(each) for each in entries], more))


def _text(text: str | UnsetType) -> str | None:
    if text is UNSET:
        return None
    if len(text) > 4096:
        raise BadBody("a credential has at most 4096 characters")
    return text
