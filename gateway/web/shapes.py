"""Bodies of answers and requests, as the API description tells them."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway.core.model import USER_NAME_FORM
from gateway.core.tokens import MAX_LIFETIME, REFRESH_LIFETIME

Time = Annotated[str | None, Meta(description="RFC 3339 in UTC")]
_SEGMENT = "[a-zA-Z0-9][a-zA-Z0-9._-]*"
_PART = rf"({_SEGMENT}|\*\*?)"
Endpoint = Annotated[
    str,
    Meta(
        pattern=f"^{_SEGMENT}(/{_SEGMENT}){{1,11}}$", max_length=256, examples=["fal-ai/flux/dev"]
    ),
]
EndpointPattern = Annotated[
    str,
    Meta(
        pattern=f"^{_PART}(/{_PART}){{1,11}}$",
        max_length=200,
        description="`*` is one segment, `**` any number",
        examples=["fal-ai/flux/**"],
    ),
]
UserName = Annotated[
    str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._@+:-]{0,127}$", description=USER_NAME_FORM)
]
JobId = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]


class Complaint(Struct):
    msg: str
    type: str


class Problem(Struct):
    """Any refusal, and any error. `detail` and `message` are the same text."""

    type: str
    title: str
    status: int
    detail: str
    message: str
    error_type: str
    instance: str
    request_id: str | UnsetType = UNSET
    """The job's id, where there is one and the caller may know it."""
    job_status: str | UnsetType = UNSET
    limit: str | UnsetType = UNSET
    """The name of the plan's limit that refuses."""
    body: list[Complaint] | UnsetType = UNSET
    """With 422: `detail` and `error_type` once more, for fal's Dart client."""


class Links(Struct):
    self: str
    result: str
    events: str
    cancel: str


class JobError(Struct):
    type: str
    message: str
    status: int | None


class Job(Struct):
    """A job in our own form. Times are RFC 3339 in UTC."""

    id: str
    version: str
    endpoint: str
    status: Literal["queued", "running", "unknown", "completed", "failed", "cancelled", "expired"]
    queue_position: int | None
    cancel_requested: bool
    created_at: Time
    started_at: Time
    ended_at: Time
    error: JobError | None
    metrics: dict[str, float] | None
    units: Annotated[str | None, Meta(description="What fal billed, once known: decimal text")]
    cost: Annotated[str | None, Meta(description="Dollars, likewise")]
    links: Links
    metadata: Raw
    result: Raw


class JobList(Struct):
    """`next`, as `before` of the next call, gives the page after this."""

    jobs: list[Job]
    next: str | None


class NewJob(Struct):
    """`input` is for the model; `metadata` up to 4 KiB of your own."""

    endpoint: Endpoint
    input: dict[str, Any]
    webhook_url: Annotated[str, Meta(extra_json_schema={"format": "uri"})] | UnsetType | None = (
        UNSET
    )
    metadata: dict[str, Any] | UnsetType = UNSET


class WantedToken(Struct, forbid_unknown_fields=True):
    """What a token is to grant. What is left out is as the key has it."""

    user: UserName | UnsetType | None = UNSET
    plan: Annotated[str, Meta(max_length=128, description="One that the key's plan grants")] | (
        UnsetType | None
    ) = UNSET
    endpoints: Annotated[list[EndpointPattern], Meta(max_length=100)] | UnsetType | None = UNSET
    jobs: Annotated[list[JobId], Meta(max_length=100)] | UnsetType | None = UNSET
    expires_in: Annotated[int, Meta(ge=1, le=MAX_LIFETIME, description="Seconds")] | UnsetType = (
        UNSET
    )
    refresh_for: Annotated[int, Meta(ge=0, le=REFRESH_LIFETIME, description="Seconds")] | (
        UnsetType
    ) = UNSET


class NoBody(Struct, forbid_unknown_fields=True):
    """Nothing is to be said."""


class WantedPass(Struct, forbid_unknown_fields=True):
    job: JobId | UnsetType | None = UNSET


class WantedUpload(Struct):
    file_name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,100}(\.[a-z0-9]{1,8})?$")]
    content_type: Annotated[str, Meta(pattern="^[a-z]{1,20}/[a-z0-9.+-]{1,40}$")]


class WantedRealtime(Struct):
    allowed_apps: Annotated[
        list[Annotated[str, Meta(pattern=f"^{_SEGMENT}$", max_length=128)]],
        Meta(min_length=1, max_length=1, description="The app, by its alias"),
    ]
    token_expiration: Annotated[int, Meta(ge=1, description="Seconds; at most 120")] | UnsetType = (
        UNSET
    )


class Token(Struct):
    token: str
    principal: str
    plan: str
    expires_at: Time
    refresh_until: Time | UnsetType = UNSET


class Pass(Struct, rename={"text": "pass"}):
    text: str
    principal: str
    plan: str
    expires_at: Time


class Session(Struct):
    principal: str
    expires_at: Time


class FalStatus(Struct):
    """fal's form of a job, as its clients read it."""

    status: Literal["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    request_id: str
    response_url: str
    status_url: str
    cancel_url: str
    logs: list[dict[str, Any]] | None
    queue_position: int | UnsetType = UNSET
    metrics: dict[str, float] | UnsetType = UNSET
    error: str | UnsetType = UNSET
    error_type: str | UnsetType = UNSET


class FalCancel(Struct):
    status: Literal["CANCELLATION_REQUESTED", "ALREADY_COMPLETED"]


class Health(Struct):
    status: str


class About(Struct):
    simulated: bool
    version: str


Decimal = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]{1,6})?$")]


class UsageCounts(Struct):
    """Jobs and direct runs by how they ended; `cost` in dollars, as far as prices were known."""

    jobs: int
    completed: int
    failed: int
    cancelled: int
    expired: int
    units: Decimal
    cost: Decimal


class UsageRow(UsageCounts):
    day: Annotated[str, Meta(extra_json_schema={"format": "date"})]
    endpoint: str


class UsageReport(Struct, rename={"first": "from", "last": "to"}):
    team: str
    principal: str | None
    """Null for the whole team."""
    first: Annotated[str, Meta(extra_json_schema={"format": "date"})]
    last: Annotated[str, Meta(extra_json_schema={"format": "date"})]
    total: UsageCounts
    rows: list[UsageRow]


class LimitStanding(Struct):
    """`reset` is seconds until all of it is there again."""

    name: str
    of: Literal["principal", "team", "address"]
    measure: Literal["rate", "in_flight", "jobs", "streams", "uploads"]
    amount: int
    per: float | None
    used: int
    remaining: int
    reset: float
    shadow: bool


class BudgetStanding(Struct):
    name: str
    of: Literal["principal", "team", "address"]
    unit: Literal["usd", "units"]
    per: Literal["day", "week", "month"]
    amount: Decimal
    spent: Decimal
    reserved: Decimal
    remaining: Decimal
    resets_at: Time
    shadow: bool


class Me(Struct):
    team: str
    principal: str
    plan: str
    scopes: list[Literal["submit", "read", "mint", "admin"]]
    read_only: bool
    endpoints: list[str]
    deny: list[str]
    expires_at: Time
    limits: list[LimitStanding]
    budgets: list[BudgetStanding]
