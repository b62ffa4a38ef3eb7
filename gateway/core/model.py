"""What flows through the gateway. Frozen: a change is a new value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final

from gateway.core import fal
from gateway.core.limits import Budget, Limit, Queue
from gateway.core.rules import Rule


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


CONTROL_HEADERS: Final = frozenset(
    {fal.QUEUE_PRIORITY, fal.REQUEST_TIMEOUT, fal.START_TIMEOUT, fal.RUNNER_HINT}
)
"""Headers that steer fal and that clients may set, unless a plan says otherwise."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the callers of a plan may do, how fast, and for how much. Sizes are bytes."""

    name: str
    endpoints: tuple[str, ...] = ()
    """Patterns of what is allowed; none: nothing is."""
    deny: tuple[str, ...] = ()
    """Patterns of what is not, whatever `endpoints` says."""
    rules: tuple[Rule, ...] = ()
    client_webhooks: bool = False
    webhook_hosts: tuple[str, ...] = ()
    """Where clients' webhooks may go; none: to any public host."""
    realtime_tokens: bool = False
    max_body: int = 32 * 2**20
    max_upload: int | None = None
    """Bytes of one file; a plan that has this, or a limit on uploads, takes files itself."""
    client_headers: frozenset[str] = CONTROL_HEADERS
    forced_headers: tuple[tuple[str, str], ...] = ()
    """Names and values of headers that fal gets with every submit and run of the plan."""
    limits: tuple[Limit, ...] = ()
    budgets: tuple[Budget, ...] = ()
    queue: Queue | None = None
    """None: what finds no room is refused."""
    grants: tuple[str, ...] = ()
    """Names of the other plans that a key of this plan may give to its tokens."""


@dataclass(frozen=True, slots=True)
class Key:
    """A long-lived credential. `hash` is `sha256:<hex of the whole key>`; `name` its principal.

    The id of a key of the file is known once it is shown: see `credentials.key_id`.
    """

    name: str
    hash: str
    team: str = "default"
    plan: str = "default"
    scopes: frozenset[Scope] = frozenset({Scope.SUBMIT})
    id: str | None = None
    expires_at: float | None = None
    """Unix seconds."""
    origins: tuple[str, ...] = ()
    """Of the pages that may use it, and its tokens, from browsers; none: any that CORS lets in."""
    networks: tuple[str, ...] = ()
    """From which it may be used, its tokens not; none: any."""


@dataclass(frozen=True, slots=True)
class Source:
    """What somebody called with: the id of its key, the names under which it may be revoked, and
    when it was issued, in Unix seconds."""

    kid: str
    revocable: tuple[str, ...]
    issued_at: float


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
    """Unix seconds; None for a key without an end."""
    endpoints: tuple[str, ...] | None = None
    jobs: frozenset[str] | None = None
    read_only: bool = False
    session: str | None = None
    """Of a session cookie: the one of its names under which signing out revokes it."""
    address: str | None = None
    """Of an anonymous visitor: what limits `of: address` count by."""

    @property
    def source(self) -> Source:
        """Signing out ends a session, not what was asked for in it."""
        lasting = tuple(name for name in self.revocable if name != self.session)
        return Source(self.kid, lasting, self.issued_at)

    @property
    def by_cookie(self) -> bool:
        return self.session is not None

    @property
    def holder(self) -> Principal:
        """Who takes up room in a process: of visitors, all who come from one address."""
        if self.address is None:
            return self.principal
        return Principal(self.principal.team, self.principal.kind, f"address {self.address}")


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
    missing, the units that fal bills among it; else a fetch of the result follows, which adds and
    never changes.
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
    account: str = ""
    """The fal account that has it; empty until one is chosen."""
    plan: str = ""
    """Whose plan it was opened by."""
    source: Source | None = None
    """What it was submitted with; None once fal has it, or it has ended."""
    waiting: bool = False
    """In the gateway's own queue, for room at fal."""
    run: bool = False
    """A direct run, no job: nobody is to see it."""
    price: str = ""
    """Of a unit, in millionths of a dollar as decimal text; empty: not asked for."""
    held_usd: int = 0
    """Millionths of a dollar reserved for it; `held_units` likewise."""
    held_units: int = 0
    cost: int | None = None
    """What it did cost, in millionths of a dollar, once that is known."""
    settled: bool = False
    """Ended, and nothing of it is missing, nor to be paid."""
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
