"""What flows through the gateway. Frozen: a change is a new value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final


class Kind(StrEnum):
    """What sort of name a principal has."""

    KEY = "key"
    USER = "user"
    ANONYMOUS = "anonymous"


class Scope(StrEnum):
    """What a key may do. Tokens carry `submit` and `read` of their own jobs by nature."""

    SUBMIT = "submit"
    READ = "read"
    """Read all jobs of its team."""
    MINT = "mint"
    """Mint tokens for users of its team, and act for them."""
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling. Equal names in two teams are two principals."""

    team: str
    kind: Kind
    name: str

    def __str__(self) -> str:
        """`kind:name`, as tokens and logs carry it; the team stands beside it."""
        return f"{self.kind}:{self.name}"

    @property
    def digest(self) -> str:
        """32 hex digits for keys in Redis: fixed width, so that no name can imitate another."""
        return sha256(f"{self.team}\0{self}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the callers of a plan may do. Body limits are bytes."""

    name: str
    endpoints: tuple[str, ...] = ()
    client_webhooks: bool = False
    realtime_tokens: bool = False
    max_body: int = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Key:
    """A long-lived credential. `hash` is `sha256:<hex of the whole key>`; `name` its principal.

    Its id, by which it is revoked, is known once it is shown: see `credentials.key_id`.
    """

    name: str
    hash: str
    team: str = "default"
    plan: str = "default"
    scopes: frozenset[Scope] = frozenset({Scope.SUBMIT})


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal with what its credential grants. `issued_at` is Unix seconds.

    `endpoints` and `jobs` narrow the plan further; None means no narrowing.
    `revocable` are the names under which the credential may have been revoked.
    """

    principal: Principal
    plan: Plan
    scopes: frozenset[Scope]
    kid: str
    revocable: tuple[str, ...]
    issued_at: float
    expires_at: float | None = None
    """Unix seconds; None for a key."""
    endpoints: tuple[str, ...] | None = None
    jobs: frozenset[str] | None = None
    read_only: bool = False
    by_cookie: bool = False


class State(StrEnum):
    """Where a job stands. The last four are ends: written once, never overwritten."""

    QUEUED = "queued"
    RUNNING = "running"
    UNKNOWN = "unknown"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        return self not in OPEN


def is_user_name(text: str) -> bool:
    """Can a user be called that?"""
    return _USER_NAME.fullmatch(text) is not None


USER_NAME_FORM: Final = "1 to 128 of A-Z a-z 0-9 . _ @ + : -"
"""For messages."""
_USER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+:-]{0,127}")


def is_job_id(text: str) -> bool:
    """Is it in the form of a job's id, a lower-case UUID?"""
    return _JOB_ID.fullmatch(text) is not None


_JOB_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

OPEN = frozenset({State.QUEUED, State.RUNNING, State.UNKNOWN})


class Where(StrEnum):
    """Where the body of a result is."""

    STORED = "stored"
    AT_FAL = "at_fal"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class JobRef:
    """What every step on a job needs to find its keys: nothing that changes."""

    id: str
    principal: Principal
    endpoint: str
    created_at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class End:
    """How a job ended. `body` is the result's raw bytes, None unless `where` is `stored`.

    `headers` are the few of fal's that a client can use. `settled` says that nothing is
    missing; else one fetch of the result follows, which adds and never changes.
    """

    state: State
    http_status: int
    where: Where
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    """fal's message, for people."""
    error_type: str | None = None
    units: str | None = None
    """`x-fal-billable-units`, as fal wrote it."""
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """One queued request, as the ledger has it. Times are Unix seconds.

    `version` is the id of its last event, `n-0`. `fal_id` is None until fal took the job.
    """

    ref: JobRef
    state: State
    version: str
    fal_id: str | None = None
    position: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    last_sign_at: float = 0.0
    """When fal last said something of it."""
    cancel_requested: bool = False
    pull: bool = False
    """Submitted without a webhook: its end is only found by asking."""
    asks: int = 0
    """How often the due loop has asked fal about it."""
    metadata: bytes | None = None
    """Raw JSON."""
    end: End | None = None

    @property
    def id(self) -> str:
        return self.ref.id


class EventType(StrEnum):
    CREATED = "job.created"
    QUEUED = "job.queued"
    STARTED = "job.started"
    LOG = "job.log"
    COMPLETED = "job.completed"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"
    EXPIRED = "job.expired"
    UNKNOWN = "job.unknown"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job. `id` is its place in the stream that it was read from.

    `version` is `n-0`, in the order of the job's principal: the id everywhere but in a team's
    stream, which numbers for itself.
    """

    id: str
    version: str
    type: EventType
    job_id: str
    endpoint: str
    at: float
    position: int | None = None
    log: bytes | None = None
    """One log line as raw JSON, for `job.log`."""
    http_status: int | None = None
    """Of its result, for an end."""
    error: str | None = None
    error_type: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What fal says of a job that it has: one status answer, or one event of its status stream.

    `logs` are log entries as raw JSON. `completed` tells that an end is there to be fetched.
    """

    state: State
    position: int | None = None
    logs: tuple[bytes, ...] = ()
    completed: bool = False
    error: str | None = None
    error_type: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One outbound webhook, due. `attempt` counts from 0."""

    id: str
    job_id: str
    url: str
    attempt: int
