"""/admin/v1, for the operator, and for keys with the scope admin within their own team."""

from typing import Any, Final

from gateway.core import errors
from gateway.web import admin, admin_usage, metrics
from gateway.web import admin_shapes as shapes
from gateway.web.operation import Answer, Handler, Operation, Parameter, Path
from gateway.web.paths.common import WRITTEN, Errors

_SECURITY: Final = ("admin", "gatewayHeader")
_ACTING: Final[Errors] = (
    errors.Unauthenticated,
    errors.Forbidden,
    errors.BadBody,
    errors.StoreUnavailable,
    errors.KeysUnavailable,
)
_ACTS: Final[Errors] = (errors.LimitReached,)
"""Of what the admins of a team do."""
_KEY: Final = Parameter(
    "id", "path", "An issued key's id", {"type": "string", "pattern": "^[a-z0-9]{8,128}$"},
    required=True,
)  # fmt: skip
_NAME: Final = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$"}
_PLAN: Final = Parameter("name", "path", "A plan's name", _NAME, required=True)
_TEAM: Final = Parameter("team", "query", "Of this team alone", _NAME)
_VERSION: Final = {"type": "string", "pattern": '^"?(0|[1-9][0-9]{0,17})"?$'}
_IF_MATCH: Final = Parameter(
    "If-Match", "header", "Only if it is still at this version, else 412", _VERSION
)
_IF_NONE: Final = Parameter(
    "If-None-Match", "header", "`*`: only if there is none yet, else 412", {"enum": ["*"]}
)
_ETAG: Final = {"etag": "Its version"}


def paths() -> list[Path]:
    return [
        Path("/admin/v1/keys", {"GET": _list_keys(), "POST": _create_key()}),
        Path(
            "/admin/v1/keys/{id}",
            {"GET": _show_key(), "PATCH": _change_key(), "DELETE": _revoke_key()},
        ),
        Path("/admin/v1/keys/{id}/rotate", {"POST": _rotate_key()}),
        Path("/admin/v1/plans", {"GET": _list_plans()}),
        Path(
            "/admin/v1/plans/{name}",
            {"GET": _show_plan(), "PUT": _put_plan(), "DELETE": _delete_plan()},
        ),
        Path("/admin/v1/revocations", {"POST": _revocation()}),
        Path("/admin/v1/usage", {"GET": _usage()}),
        Path("/admin/v1/limits", {"GET": _limits()}),
        Path("/admin/v1/accounts", {"GET": _list_accounts()}),
        Path("/admin/v1/audit", {"GET": _list_audit()}),
        Path("/metrics", {"GET": _metrics()}),
    ]


def _operation(
    handler: Handler,
    about: str,
    answers: dict[int, Answer],
    *parameters: Parameter,
    refuses: Errors = (),
    body: Any = None,
) -> Operation:
    written = WRITTEN if body is not None else ()
    return Operation(
        handler,
        about,
        answers,
        refuses=(*_ACTING, *written, *refuses),
        parameters=parameters,
        body=body,
        body_needed=body is not shapes.Rotation,
        security=_SECURITY,
    )


def _limit(largest: int) -> Parameter:
    return Parameter(
        "limit", "query", "How many", {"type": "integer", "minimum": 0, "maximum": largest}
    )


def _list_keys() -> Operation:
    cursor = {"type": "string", "pattern": "^[0-9]{1,15}-[a-z0-9]{8,128}$"}
    return _operation(
        admin.list_keys,
        "Issued keys, newest first",
        {200: Answer("A page of keys", shapes.KeyPage)},
        _TEAM,
        Parameter("cursor", "query", "`next` of the page before", cursor),
        _limit(200),
    )


def _create_key() -> Operation:
    return _operation(
        admin.create_key,
        "Make a key",
        {201: Answer("The key, with its text, this once", shapes.NewKey, headers=_ETAG)},
        refuses=(*_ACTS, errors.Conflict),
        body=shapes.WantedKey,
    )


def _show_key() -> Operation:
    return _operation(
        admin.show_key,
        "A key as it is kept",
        {200: Answer("The key", shapes.IssuedKey, headers=_ETAG)},
        _KEY,
        refuses=(errors.NotFound,),
    )


def _change_key() -> Operation:
    return _operation(
        admin.change_key,
        "Change what a key may do",
        {200: Answer("The key as it is now", shapes.IssuedKey, headers=_ETAG)},
        _KEY,
        _IF_MATCH,
        refuses=(*_ACTS, errors.NotFound, errors.Conflict, errors.PreconditionFailed),
        body=shapes.ChangedKey,
    )


def _revoke_key() -> Operation:
    return _operation(
        admin.revoke_key,
        "Revoke a key, and all tokens made with it",
        {200: Answer("The revoked key", shapes.IssuedKey, headers=_ETAG)},
        _KEY,
        refuses=(*_ACTS, errors.NotFound, errors.Conflict),
    )


def _rotate_key() -> Operation:
    return _operation(
        admin.rotate_key,
        "Another key in place of one, with the same name, and so the same jobs",
        {201: Answer("The new key, with its text, this once", shapes.NewKey, headers=_ETAG)},
        _KEY,
        refuses=(*_ACTS, errors.NotFound, errors.Conflict),
        body=shapes.Rotation,
    )


def _list_plans() -> Operation:
    return _operation(
        admin.list_plans,
        "All plans; for a team, those that its keys may have",
        {200: Answer("The plans", shapes.Plans)},
    )


def _show_plan() -> Operation:
    return _operation(
        admin.show_plan,
        "A plan",
        {200: Answer("The plan", shapes.Plan, headers=_ETAG)},
        _PLAN,
        refuses=(errors.NotFound,),
    )


def _put_plan() -> Operation:
    return _operation(
        admin.put_plan,
        "Make a plan, or change it; its rules are those of the settings file",
        {200: Answer("The plan as it is now", shapes.Plan, headers=_ETAG)},
        _PLAN,
        _IF_MATCH,
        _IF_NONE,
        refuses=(errors.Conflict, errors.PreconditionFailed),
        body=dict[str, Any],
    )


def _delete_plan() -> Operation:
    return _operation(
        admin.delete_plan,
        "Delete a plan that no key has",
        {204: Answer("It is gone")},
        _PLAN,
        refuses=(errors.NotFound, errors.Conflict),
    )


def _revocation() -> Operation:
    return _operation(
        admin.revocation,
        "Take credentials back: of a key, a principal, or one token",
        {204: Answer("They are refused within a second")},
        refuses=(*_ACTS, errors.NotFound, errors.Conflict),
        body=shapes.Revocation,
    )


def _usage() -> Operation:
    day = {"type": "string", "format": "date"}
    return _operation(
        admin_usage.export,
        "What was used, by team, principal, day and endpoint",
        {
            200: Answer(
                "As long as it is",
                shapes.UsageExport,
                other_media=(admin_usage.CSV,),
            )
        },
        Parameter("from", "query", "First day, UTC; 30 days unless said", day),
        Parameter("to", "query", "Last day; today unless said", day),
        _TEAM,
        Parameter("format", "query", "JSON unless said", {"enum": ["json", "csv"]}),
    )


def _limits() -> Operation:
    who = {"type": "string", "pattern": "^(key|user|anonymous):[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$"}
    return _operation(
        admin_usage.limits,
        "How a team, or one of its principals, stands with limits and budgets",
        {200: Answer("Where they stand", shapes.Standing)},
        Parameter("team", "query", "Which; one's own unless said, or `default`", _NAME),
        Parameter("principal", "query", "`kind:name`", who),
        Parameter("plan", "query", "Whose limits; a key's own unless said", _NAME),
        refuses=(errors.NotFound,),
    )


def _list_accounts() -> Operation:
    return _operation(
        admin.list_accounts,
        "How the accounts at fal stand; for the operator",
        {200: Answer("The accounts", shapes.Accounts)},
    )


def _metrics() -> Operation:
    return _operation(
        metrics.metrics,
        "Accounts and queues, for monitoring; for the operator",
        {200: Answer("Metrics in the text form of Prometheus", str, "text/plain")},
    )


def _list_audit() -> Operation:
    entry = {"type": "string", "pattern": "^[0-9]{1,19}-[0-9]{1,19}$"}
    return _operation(
        admin.list_audit,
        "What was done, oldest first; for the operator",
        {200: Answer("Entries of the record", shapes.AuditPage)},
        Parameter("after", "query", "`next` of the page before", entry),
        _limit(1000),
    )
