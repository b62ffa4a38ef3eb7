"""Settings that do not go together, each with the one to name."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import TYPE_CHECKING

from gateway.settings import accounts, issuers, values, visitors
from gateway.settings.plans import faults
from gateway.settings.sources import Clash

if TYPE_CHECKING:
    from gateway.settings import Settings


def clashes(settings: "Settings") -> Iterator[Clash]:
    """Each setting that does not go with the others."""
    yield from _secret_clashes(settings)
    yield from _key_clashes(settings)
    yield from _address_clashes(settings)
    yield from _size_clashes(settings)
    yield from _plan_clashes(settings)
    yield from visitors.strays(settings.visitors, settings.plans)
    teams = {key.team for key in settings.all_keys}
    yield from accounts.clashes(settings.fal, settings.account_entries, teams)


def _secret_clashes(settings: "Settings") -> Iterator[Clash]:
    route = ("secret_keys",)
    if "secret_keys" in settings.model_fields_set and not settings.secret_keys:
        yield Clash(route, "must not be empty")
    if not settings.secret_keys and settings.redis.url:
        yield Clash(
            route,
            "is not set: with a Redis of yours, every gateway needs the same secrets of "
            "at least 32 bytes (openssl rand -hex 32)",
        )


def _key_clashes(settings: "Settings") -> Iterator[Clash]:
    plans = settings.plans
    names: set[tuple[str, str]] = set()
    hashes: set[str] = set()
    ids: set[str | None] = set()
    for index, key in enumerate(settings.all_keys):
        listed = index < len(settings.key_entries)
        position = str(index if listed else index - len(settings.key_entries))
        route = ("keys" if listed else "api_keys", position)
        if key.plan not in plans:
            yield Clash((*route, "plan"), "must be the name of a plan that exists")
        if key.origins and key.id is None:
            yield Clash((*route, "id"), "is not set: its tokens are told by it, and have origins")
        if (key.team, key.name) in names:
            yield Clash(route, "has the same name (for an API key: id) as another in its team")
        if key.id is not None and key.id in ids:
            yield Clash(route, "has the same id as another")
        if key.hash in hashes:
            yield Clash(route, "is the same key as another")
        names.add((key.team, key.name))
        hashes.add(key.hash)
        ids.add(key.id)


def _address_clashes(settings: "Settings") -> Iterator[Clash]:
    public = settings.public_url
    if settings.anonymous == "on":
        yield from visitors.clashes(settings.visitors, settings.plans)
    yield from issuers.clashes(settings.issuers, settings.plans)
    if settings.anonymous == "loopback" and public and not values.loopback(public):
        yield Clash(("anonymous",), "loopback does not go with a public URL that is not loopback")
    for index, network in enumerate(settings.trusted_proxies):
        if ip_network(network).prefixlen == 0:
            yield Clash(
                ("trusted_proxies", str(index)),
                "trusts everybody, so that each client could say where it comes from: name the "
                "addresses or networks of the proxies alone",
            )
    for name, path in (("cert", settings.tls.cert), ("key", settings.tls.key)):
        if path is None and (settings.tls.cert or settings.tls.key):
            yield Clash(("tls", name), "is not set: certificate and key go together")
        if path is not None and not path.is_file():
            yield Clash(("tls", name), "must be a file that exists")


def _size_clashes(settings: "Settings") -> Iterator[Clash]:
    if settings.bodies.in_flight < settings.bodies.max:
        yield Clash(("bodies", "in_flight"), "must be at least bodies.max")


def _plan_clashes(settings: "Settings") -> Iterator[Clash]:
    plans = settings.effective_rules
    for name, rules in plans.items():
        for route, text in faults(rules, settings.bodies.max):
            yield Clash(("plans", name, *route), text)
        for index, granted in enumerate(rules.grants):
            if granted not in plans:
                route = ("plans", name, "grants", str(index))
                yield Clash(route, "must be the name of a plan that exists")
