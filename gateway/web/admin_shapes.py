"""What the admin API takes and gives. Answers are made of these, and so is their description."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.core.accounts import AccountView
from gateway.core.forms import rfc3339
from gateway.core.issued import MAX_KEY_LIFETIME, MAX_OVERLAP, NAME_FORM, Entry, KeyRecord
from gateway.core.issued import PlanRecord as Record
from gateway.web.shapes import BudgetStanding, LimitStanding, Time, UsageRow

Name = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$", description=NAME_FORM)]
Scope = Literal["submit", "read", "mint", "admin"]
Scopes = Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=10)]
Lifetime = Annotated[
    int,
    Meta(ge=1, le=MAX_KEY_LIFETIME, description="Seconds from now; null: until it is revoked"),
]
ORIGIN = r"^https?://(\[[0-9a-f:.]+\]|[a-z0-9-]+(\.[a-z0-9-]+)*)(:[1-9][0-9]{0,4})?$"
Origins = Annotated[
    tuple[
        Annotated[str, Meta(pattern=ORIGIN, max_length=300, examples=["https://app.example.com"])],
        ...,
    ],
    Meta(max_length=100, description="Of the pages that may use it; none: any that CORS lets in"),
]
Networks = Annotated[
    tuple[
        Annotated[
            str,
            Meta(max_length=64, examples=["10.0.0.0/8"], extra_json_schema={"format": "ipv4"}),
        ],
        ...,
    ],
    Meta(max_length=100, description="Addresses and networks it may be used from; none: any"),
]


class WantedKey(Struct, forbid_unknown_fields=True):
    """`team` is one's own unless the operator says otherwise."""

    name: Name
    team: Name | UnsetType = UNSET
    plan: Name = "default"
    scopes: Scopes = ("submit",)
    expires_in: Lifetime | None = None
    origins: Origins = ()
    networks: Networks = ()


class ChangedKey(Struct, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    plan: Name | UnsetType = UNSET
    scopes: Scopes | UnsetType = UNSET
    expires_in: Lifetime | UnsetType | None = UNSET
    origins: Origins | UnsetType = UNSET
    networks: Networks | UnsetType = UNSET


class Rotation(Struct, forbid_unknown_fields=True):
    overlap: Annotated[
        int, Meta(ge=0, le=MAX_OVERLAP, description="Seconds that the old key lives on")
    ] = 0


class IssuedKey(Struct):
    """A key as it is kept: its text is not."""

    id: str
    name: str
    team: str
    plan: str
    scopes: list[str]
    expires_at: Time
    origins: list[str]
    networks: list[str]
    created_at: Time
    created_by: str
    revoked_at: Time
    replaced_by: str | None
    version: int


class NewKey(IssuedKey):
    """With `key`, its text, which is shown this once."""

    key: str


class KeyPage(Struct):
    """`next`, as `cursor` of the next call, gives the page after this."""

    keys: list[IssuedKey]
    next: str | None


class Plan(Struct):
    """`rules` in the words of the settings file. One of the settings can be changed there alone."""

    name: str
    rules: dict[str, Any]
    in_settings: bool
    created_at: Time
    changed_at: Time
    version: int


class Plans(Struct):
    plans: list[Plan]


class Revocation(Struct, forbid_unknown_fields=True):
    """Exactly one of the first four. `principal` is `kind:name`, in `team`."""

    key: str | UnsetType = UNSET
    principal: str | UnsetType = UNSET
    token: str | UnsetType = UNSET
    jti: str | UnsetType = UNSET
    team: Name | UnsetType = UNSET


class Account(Struct):
    """An account at fal. `alert` says what the operator should do, if there is anything."""

    name: str
    user_id: str | None
    weight: int
    cap: int | None
    teams: list[str]
    running: int
    out_since: Time
    next_probe_at: Time
    alert: str | None


class Accounts(Struct):
    accounts: list[Account]


class AuditEntry(Struct):
    """`failed` is the `error_type` of an act that did not succeed."""

    id: str
    at: Time
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    request: str
    address: str
    failed: str | None


class AuditPage(Struct):
    """`next`, as `after` of the next call, gives what follows."""

    entries: list[AuditEntry]
    next: str | None


class UsageOf(UsageRow):
    team: str
    principal: str


class UsageExport(Struct, rename={"first": "from", "last": "to"}):
    """Everybody's, by team, principal, day and endpoint."""

    first: str
    last: str
    rows: list[UsageOf]


class LimitOf(LimitStanding):
    """`would_refuse` counts what a shadow limit would have refused, in the last two days."""

    would_refuse: int


class Standing(Struct):
    """By the limits of `plan`: of the team, and of the principal where one is named."""

    team: str
    principal: str | None
    plan: str
    limits: list[LimitOf]
    budgets: list[BudgetStanding]


def issued(record: KeyRecord) -> IssuedKey:
    return IssuedKey(**_fields(record))


def new_key(record: KeyRecord, text: str) -> NewKey:
    return NewKey(**_fields(record), key=text)


def plan(record: Record) -> Plan:
    return Plan(
        name=record.name,
        rules=record.rules,
        in_settings=record.in_file,
        created_at=rfc3339(record.created_at or None),
        changed_at=rfc3339(record.changed_at or None),
        version=record.version,
    )


def account(view: AccountView) -> Account:
    here, out = view.account, view.out
    return Account(
        name=here.name,
        user_id=here.user_id,
        weight=here.weight,
        cap=here.cap,
        teams=list(here.teams),
        running=view.running,
        out_since=None if out is None else rfc3339(out.since),
        next_probe_at=None if out is None else rfc3339(out.probe_at),
        alert=view.alert,
    )


def audited(entry: Entry) -> AuditEntry:
    return AuditEntry(
        id=entry.id,
        at=rfc3339(entry.at),
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        detail=dict(entry.detail),
        request=entry.request_id,
        address=entry.address,
        failed=entry.failed,
    )


def _fields(record: KeyRecord) -> dict[str, Any]:
    key = record.key
    return {
        "id": record.id,
        "name": key.name,
        "team": key.team,
        "plan": key.plan,
        "scopes": sorted(key.scopes),
        "expires_at": rfc3339(key.expires_at),
        "origins": list(key.origins),
        "networks": list(key.networks),
        "created_at": rfc3339(record.created_at),
        "created_by": record.created_by,
        "revoked_at": rfc3339(record.revoked_at),
        "replaced_by": record.replaced_by,
        "version": record.version,
    }
