"""The whole URL map. Handlers turn HTTP into a flow's arguments, and its answer into HTTP."""

from starlette.routing import Route

from gateway.web.openapi import document
from gateway.web.operation import Path, routes_of
from gateway.web.paths import admin, credentials, fal, jobs, site, uploads, usage
from gateway.web.playground import About


def routes(*, playground: About | None) -> list[Route]:
    """All routes. The description among them tells of the playground, enabled or not."""
    served, pages = _served(), site.pages(playground or About(simulated=False, version=""))
    described = site.described(document([*served, site.described(b""), *pages]))
    return routes_of([*served, described, *(pages if playground else [])])


def described_paths() -> list[Path]:
    """Every address of the description."""
    return [*_served(), site.described(b""), *site.pages(About(simulated=False, version=""))]


def _served() -> list[Path]:
    return [
        *fal.paths(),
        *site.paths(),
        *jobs.paths(),
        *uploads.paths(),
        *usage.paths(),
        *credentials.paths(),
        *admin.paths(),
    ]
