"""What the web floor needs beside the flows: bounds of this process, and who we are to browsers."""

import asyncio
from collections import Counter
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TypedDict

from starlette.requests import Request

from gateway.core.errors import LimitReached
from gateway.core.limits import Limit
from gateway.core.model import Principal
from gateway.core.quota import reached
from gateway.flows.services import Services
from gateway.store.seats import AGAIN
from gateway.web.bodies import Bodies


class Seats:
    """How many streams, and other answers that take their time, a principal may have open in this
    process at once."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._taken: Counter[Hashable] = Counter()

    @contextmanager
    def seat(self, principal: Principal) -> Generator[None]:
        """Raises `LimitReached` where all are taken."""
        if self._taken[principal] >= self._each:
            raise LimitReached(
                f"at most {self._each} streams and held requests may be open at once"
            )
        with self._sitting(principal):
            yield

    @contextmanager
    def within(self, subject: str | None, limit: Limit) -> Generator[None]:
        """One of those that a plan's limit gives to `subject`. Raises `LimitReached`."""
        if self._taken[subject, limit.name] >= limit.amount:
            raise reached(limit, AGAIN)
        with self._sitting((subject, limit.name)):
            yield

    @contextmanager
    def _sitting(self, who: Hashable) -> Generator[None]:
        self._taken[who] += 1
        try:
            yield
        finally:
            self._taken[who] -= 1
            if not self._taken[who]:
                del self._taken[who]


@dataclass(frozen=True, slots=True)
class Site:
    client_url: str | None
    """Where clients reach us; None: where the request says it did."""
    loopback_port: int | None
    """Our port, where callers on this machine need no credential; else None."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    """Whose word on where a request comes from is taken."""
    origins: frozenset[str]
    """Of other pages that may call from browsers."""
    bodies: Bodies
    webhooks: Bodies
    """fal's, which have room of their own: what clients send does not keep them out."""
    seats: Seats
    draining: asyncio.Event
    """Set once the process has been told to stop."""


class State(TypedDict):
    """What the lifespan gives to every request."""

    services: Services
    site: Site


def services_of(request: Request) -> Services:
    services: Services = request.state.services
    return services


def site_of(request: Request) -> Site:
    site: Site = request.state.site
    return site
