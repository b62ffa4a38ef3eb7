"""Everything put together. The only place that builds anything."""

import asyncio
import logging
import os
import secrets
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_network
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from gateway import __version__
from gateway.core.credentials import key_hash
from gateway.core.errors import GatewayError
from gateway.core.model import Plan
from gateway.core.prices import Override
from gateway.core.tokens import Seals, VerifiedCache
from gateway.core.uploads import UploadSeals
from gateway.flows.directory import Directory
from gateway.flows.runs import Runs
from gateway.flows.services import WEBHOOK_PATH, Rules, Services, Visitors
from gateway.flows.watching import Watching
from gateway.settings import Settings
from gateway.settings.issuers import issuers
from gateway.settings.plans import plan_from, plan_json
from gateway.store.accounts import Outs
from gateway.store.audit import Audit
from gateway.store.connect import commands, listener
from gateway.store.due import Due, Leases
from gateway.store.feeds import Feeds, Wakes
from gateway.store.ledger import Ledger
from gateway.store.meters import Meters
from gateway.store.queues import Queues
from gateway.store.registry import Registry
from gateway.store.revocations import Revocations
from gateway.store.seats import StreamSeats
from gateway.store.settlements import Settlements
from gateway.store.slots import Slots
from gateway.store.tally import Tally
from gateway.store.usage import Usage
from gateway.upstream.accounts import Accounts
from gateway.upstream.cdn import Cdn
from gateway.upstream.egress import Egress, egress
from gateway.upstream.fal import Fal, Timeouts
from gateway.upstream.health import Health
from gateway.upstream.issuers import Issuers
from gateway.upstream.keys import FalKeys
from gateway.upstream.prices import Prices
from gateway.upstream.session import Pools, pools, tls
from gateway.web import cors, webhook
from gateway.web.address import BehindProxies, Network
from gateway.web.bodies import Bodies
from gateway.web.edge import Edge
from gateway.web.errors import refuse, refuse_http
from gateway.web.playground import About
from gateway.web.routes import routes
from gateway.web.site import Seats, Site, State
from gateway.work import accounts, loop, queue

UNKNOWN_AFTER: Final = 30.0
"""Seconds beyond the submit timeout after which a job without fal's id becomes `unknown`."""
LAST_WORK: Final = 3.0
"""Seconds that work in the background gets to end after the last answer."""

_log = logging.getLogger("gateway")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the parent process knows once for all workers."""

    settings: Settings
    redis_url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    port: int


def build(deployment: Deployment) -> Starlette:
    settings = deployment.settings

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[State]:
        site = _site(deployment)
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            runs = Runs(tasks)
            services = await _services(deployment, stack, runs)
            loops = [
                tasks.create_task(_forever(services.revocations.run)),
                tasks.create_task(_forever(services.directory.registry.run)),
                tasks.create_task(_forever(services.wakes.run)),
                tasks.create_task(_forever(services.stream_seats.run)),
                tasks.create_task(_forever(services.tally.run)),
                tasks.create_task(_forever(lambda: loop.run(services))),
                tasks.create_task(_forever(lambda: accounts.run(services))),
            ]
            admitting = tasks.create_task(_forever(lambda: queue.run(services)))

            def drain() -> None:
                site.draining.set()
                services.wakes.ring_all()  # streams tell their clients to come again

            with _drain_at_signal(site.draining, drain, settings.drain.delay):
                yield {"services": services, "site": site}
            admitting.cancel()  # who waits by now, waits for another process
            if not await runs.finished(LAST_WORK):
                _log.warning("stopped with work going on: it is taken up again elsewhere")
            await services.tally.close(LAST_WORK)
            runs.stop()
            for task in loops:
                task.cancel()

    about = About(settings.simulated, __version__)
    visited = settings.anonymous == "on"
    app = Starlette(
        routes=routes(playground=about if settings.playground else None),
        middleware=[
            Middleware(BehindProxies, trusted=_trusted(settings)),
            Middleware(CORSMiddleware, **cors.options(settings.cors.origins, cookies=visited)),
            Middleware(Edge),
        ],
        exception_handlers={GatewayError: refuse, HTTPException: refuse_http},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # its Location would hold the Host that a client sent
    return app


def _trusted(settings: Settings) -> tuple[Network, ...]:
    return tuple(ip_network(proxy) for proxy in settings.trusted_proxies)


def _site(deployment: Deployment) -> Site:
    settings = deployment.settings
    return Site(
        client_url=settings.client_url or settings.public_url,
        loopback_port=deployment.port if settings.anonymous == "loopback" else None,
        trusted_proxies=_trusted(settings),
        origins=frozenset(settings.cors.origins),
        bodies=Bodies(settings.bodies.in_flight, settings.bodies.max),
        webhooks=Bodies(webhook.IN_FLIGHT, webhook.LARGEST),
        seats=Seats(settings.streams.per_principal),
        draining=asyncio.Event(),
    )


async def _services(deployment: Deployment, stack: AsyncExitStack, runs: Runs) -> Services:
    settings = deployment.settings
    redis = await stack.enter_async_context(commands(deployment.redis_url))
    listening = await stack.enter_async_context(listener(deployment.redis_url))
    http, outbound = await _ways_out(settings, stack)
    seals = Seals(deployment.secrets)
    accounts = _accounts(settings, http)
    registry = Registry(redis, partial(_plan, settings))
    await registry.load()
    admin_key = settings.admin_key
    holder = f"{os.getpid()}-{secrets.token_hex(4)}"
    settlements = Settlements(redis, int(settings.results.retention))
    return Services(
        directory=Directory(settings.all_keys, settings.plans, registry, plan_json),
        seals=seals,
        verified=VerifiedCache(seals),
        upload_seals=UploadSeals(deployment.secrets),
        revocations=Revocations(redis),
        stream_seats=StreamSeats(redis),
        meters=Meters(redis),
        cdn=Cdn(http, settings.fal.origins),
        ledger=Ledger(redis, int(settings.results.retention)),
        feeds=Feeds(redis),
        wakes=Wakes(listening),
        due=Due(redis),
        accounts=accounts,
        outs=Outs(redis, settings.fal.probe_pause),
        slots=Slots(redis),
        fal_keys=FalKeys(http, settings.fal.origins),
        egress=outbound,
        issuers=Issuers(http, issuers(settings.issuers)),
        watching=Watching(Leases(redis, holder), runs),
        runs=runs,
        rules=_rules(settings),
        audit=Audit(redis),
        usage=Usage(redis),
        settlements=settlements,
        tally=Tally(settlements, holder),
        prices=Prices(lambda endpoint: accounts.of("").price(endpoint)),
        price_overrides=tuple(Override(**dict(entry)) for entry in settings.prices),
        queues=Queues(redis),
        hurry=asyncio.Event(),
        room=asyncio.Event(),
        operator_hash=None if admin_key is None else key_hash(admin_key.get_secret_value()),
    )


async def _ways_out(settings: Settings, stack: AsyncExitStack) -> tuple[Pools, Egress]:
    """To fal, and to clients. To read the authorities that are trusted takes time: once for all."""
    trusted = tls()
    http = await stack.enter_async_context(
        pools(
            max_calls=settings.fal.max_calls,
            max_streams=settings.fal.max_streams,
            connect=settings.fal.connect_timeout,
            context=trusted,
        )
    )
    return http, await stack.enter_async_context(
        egress(allow_loopback=settings.loopback_webhooks, context=trusted)
    )


def _plan(settings: Settings, name: str, rules: Mapping[str, Any]) -> Plan:
    """A plan as the admin API takes it, bounded as those of the file. Raises `BadBody`."""
    return plan_from(name, rules, settings.bodies.max)


def _accounts(settings: Settings, http: Pools) -> Accounts:
    keys = {name: key.get_secret_value() for name, (_, key) in settings.accounts.items()}
    health = Health()
    fals = {
        name: Fal(
            http, key, settings.fal.origins, _timeouts(settings),
            refused=partial(health.refused, name), others=keys.values(),
        )
        for name, key in keys.items()
    }  # fmt: skip
    return Accounts([account for account, _ in settings.accounts.values()], fals, health)


def _timeouts(settings: Settings) -> Timeouts:
    fal = settings.fal
    return Timeouts(submit=fal.submit_timeout, call=fal.call_timeout, run=fal.run_timeout)


def _visitors(settings: Settings) -> Visitors | None:
    if settings.anonymous != "on":
        return None
    return Visitors(settings.visitors.plan, settings.visitors.lifetime)


def _rules(settings: Settings) -> Rules:
    public = settings.public_url
    return Rules(
        results_max=settings.results.max,
        webhook_base=None if public is None else public + WEBHOOK_PATH,
        loopback_webhooks=settings.loopback_webhooks,
        submit_deadline=settings.fal.submit_timeout + UNKNOWN_AFTER,
        run_deadline=settings.fal.run_timeout * 2 + UNKNOWN_AFTER,
        delivery_attempts=settings.deliveries.attempts,
        visitors=_visitors(settings),
    )


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    """Loops end only by cancellation; an error in one is logged, and it begins again."""
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 - the outermost of a loop
            _log.exception("a loop broke, and begins again")
        await asyncio.sleep(1.0)


@contextmanager
def _drain_at_signal(
    draining: asyncio.Event, drain: Callable[[], None], delay: float
) -> Generator[None]:
    """Turn readiness off at once, and let the server hear the signal `delay` seconds later."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    running = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def heard(number: int, frame: Any) -> None:
        again = draining.is_set()
        running.call_soon_threadsafe(drain)
        after = before[signal.Signals(number)]
        if callable(after):
            running.call_soon_threadsafe(
                running.call_later, 0 if again else delay, after, number, frame
            )

    for number in before:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
