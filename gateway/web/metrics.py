"""/metrics: numbers for the operator's monitoring, in the text form of Prometheus."""

from collections.abc import Iterable, Sequence

from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from gateway.core.accounts import AccountView
from gateway.flows import accounts
from gateway.flows.managing import check_operator
from gateway.web.admin_call import actor_of
from gateway.web.site import services_of


async def metrics(request: Request) -> Response:
    """GET /metrics: what all processes share, whichever answers; for the operator."""
    check_operator(await actor_of(request), "the metrics")
    services = services_of(request)
    views = await accounts.overview(services)
    waiting = sum((await services.queues.lengths()).values())
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Shared(views, waiting))
    return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4})


class _Shared(Collector):
    """Labels are names of the settings alone, so that no client makes series."""

    def __init__(self, views: Sequence[AccountView], waiting: int) -> None:
        self._views = views
        self._waiting = waiting

    def collect(self) -> Iterable[Metric]:
        out = _by_account("out", "1 where fal refuses the account's key, else 0")
        running = _by_account("running", "Jobs and direct runs that hold a place at the account")
        cap = _by_account("cap", "Jobs that the account runs at once at most, where it has a cap")
        for view in self._views:
            labels = [view.account.name]
            out.add_metric(labels, float(view.out is not None))
            if view.account.cap is not None:
                running.add_metric(labels, view.running)
                cap.add_metric(labels, view.account.cap)
        waiting = GaugeMetricFamily(
            "fal_gateway_waiting_jobs", "Jobs in the gateway's own queues", value=self._waiting
        )
        return [out, running, cap, waiting]


def _by_account(name: str, about: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"fal_gateway_account_{name}", about, labels=["account"])
