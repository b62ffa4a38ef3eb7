"""What the flows work with. Built once, by `gateway.app`."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.core.prices import Override
from gateway.core.tokens import Seals, VerifiedCache
from gateway.core.uploads import UploadSeals
from gateway.flows.directory import Directory
from gateway.flows.local import LocalBytes, LocalRates
from gateway.flows.pace import ACTS, SIGN_INS, Pace
from gateway.flows.refusals import Refusals
from gateway.flows.runs import Runs
from gateway.flows.watching import Watching
from gateway.store.accounts import Outs
from gateway.store.audit import Audit
from gateway.store.due import Due
from gateway.store.feeds import Feeds, Wakes
from gateway.store.ledger import Ledger
from gateway.store.meters import Meters
from gateway.store.queues import Queues
from gateway.store.revocations import Revocations
from gateway.store.seats import StreamSeats
from gateway.store.settlements import Settlements
from gateway.store.slots import Slots
from gateway.store.tally import Tally
from gateway.store.usage import Usage
from gateway.upstream.accounts import Accounts
from gateway.upstream.cdn import Cdn
from gateway.upstream.egress import Egress
from gateway.upstream.issuers import Issuers
from gateway.upstream.keys import FalKeys
from gateway.upstream.prices import Prices

WEBHOOK_PATH: Final = "/webhooks/fal/"


@dataclass(frozen=True, slots=True)
class Visitors:
    """What whoever comes without a credential gets: a plan, and a cookie for so many seconds."""

    plan: str
    lifetime: int


@dataclass(frozen=True, slots=True)
class Rules:
    """Numbers and choices from the settings that flows need. Bytes and seconds."""

    results_max: int
    webhook_base: str | None
    """Our own webhook address up to the ticket; None in pull mode."""
    loopback_webhooks: bool
    """With the simulator, clients may name webhooks on this machine."""
    submit_deadline: float
    """After so long without an answer, a submit's outcome is unknown."""
    run_deadline: float
    """After so long, a direct run has ended, whoever was to tell."""
    delivery_attempts: int
    visitors: Visitors | None = None
    """None: nobody comes in without a credential, but for `anonymous: loopback`."""


@dataclass(frozen=True, slots=True)
class Services:
    directory: Directory
    seals: Seals = field(repr=False)
    verified: VerifiedCache = field(repr=False)
    upload_seals: UploadSeals = field(repr=False)
    revocations: Revocations
    ledger: Ledger
    feeds: Feeds
    wakes: Wakes
    due: Due
    accounts: Accounts
    outs: Outs
    slots: Slots
    fal_keys: FalKeys
    egress: Egress
    issuers: Issuers
    watching: Watching
    runs: Runs
    rules: Rules
    audit: Audit
    prices: Prices
    settlements: Settlements
    tally: Tally
    usage: Usage
    queues: Queues
    stream_seats: StreamSeats
    meters: Meters
    cdn: Cdn
    hurry: asyncio.Event
    """Set to make the due loop look at once."""
    room: asyncio.Event
    """Set where there may be room for jobs that wait."""
    price_overrides: tuple[Override, ...] = ()
    """The first that matches an endpoint counts."""
    refusals: Refusals = field(default_factory=Refusals)
    local_rates: LocalRates = field(default_factory=LocalRates)
    local_bytes: LocalBytes = field(default_factory=LocalBytes)
    sign_ins: Pace = field(default_factory=lambda: Pace(SIGN_INS))
    acts: Pace = field(default_factory=lambda: Pace(ACTS))
    """Of the admins of teams."""
    operator_hash: str | None = field(default=None, repr=False)
    """Of GATEWAY_ADMIN_KEY, as `key_hash` writes it; None: nobody is the operator."""
    clock: Callable[[], float] = time.time
    """Unix seconds."""
