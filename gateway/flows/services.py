"""What the flows work with. Built once, by `gateway.app`."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.core.model import Key, Plan
from gateway.core.prices import Override
from gateway.core.tokens import Seals, VerifiedCache
from gateway.flows.local import LocalRates
from gateway.flows.refusals import Refusals
from gateway.flows.runs import Runs
from gateway.flows.watching import Watching
from gateway.store.due import Due
from gateway.store.feeds import Feeds, Wakes
from gateway.store.ledger import Ledger
from gateway.store.revocations import Revocations
from gateway.upstream.accounts import Accounts
from gateway.upstream.egress import Egress
from gateway.upstream.keys import FalKeys
from gateway.upstream.prices import Prices

WEBHOOK_PATH: Final = "/webhooks/fal/"


@dataclass(frozen=True, slots=True)
class Rules:
    """Numbers and choices from the settings that flows need. Bytes and seconds."""

    results_max: int
    webhook_base: str | None
    """Our own webhook address up to the ticket; None in pull mode."""
    fal_user_id: str | None
    loopback_webhooks: bool
    """With the simulator, clients may name webhooks on this machine."""
    submit_deadline: float
    """After so long without an answer, a submit's outcome is unknown."""
    delivery_attempts: int


@dataclass(frozen=True, slots=True)
class Services:
    keys: Mapping[str, Key] = field(repr=False)
    """By hash."""
    plans: Mapping[str, Plan]
    seals: Seals = field(repr=False)
    verified: VerifiedCache = field(repr=False)
    revocations: Revocations
    ledger: Ledger
    feeds: Feeds
    wakes: Wakes
    due: Due
    accounts: Accounts
    fal_keys: FalKeys
    egress: Egress
    watching: Watching
    runs: Runs
    rules: Rules
    prices: Prices
    hurry: asyncio.Event
    """Set to make the due loop look at once."""
    price_overrides: tuple[Override, ...] = ()
    """The first that matches an endpoint counts."""
    refusals: Refusals = field(default_factory=Refusals)
    local_rates: LocalRates = field(default_factory=LocalRates)
    clock: Callable[[], float] = time.time
    """Unix seconds."""
