"""Bodies of answers and requests, as the API description tells them."""

from typing import Any, Literal

from msgspec import UNSET, Raw, Struct, UnsetType

Time = str | None
"""RFC 3339 in UTC."""


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
    links: Links
    metadata: Raw
    result: Raw


class JobList(Struct):
    """`next`, as `before` of the next call, gives the page after this."""

    jobs: list[Job]
    next: str | None


class NewJob(Struct):
    endpoint: str
    input: dict[str, Any]
    webhook_url: str | UnsetType | None = UNSET
    metadata: Raw | UnsetType = UNSET


class WantedToken(Struct):
    """What a token is to grant. What is left out is as the key has it."""

    user: str | UnsetType | None = UNSET
    endpoints: list[str] | UnsetType | None = UNSET
    jobs: list[str] | UnsetType | None = UNSET
    expires_in: int | UnsetType = UNSET
    """Seconds."""


class WantedPass(Struct):
    job: str | UnsetType | None = UNSET


class Token(Struct):
    token: str
    principal: str
    plan: str
    expires_at: Time


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
