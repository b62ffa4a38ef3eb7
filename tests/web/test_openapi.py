"""The API description tells of all routes, and of every answer that they give.

Schemathesis walks a running gateway by it: every operation, with what it says is right and what
is not, as callers of several kinds.
"""

import itertools
import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Generator
from typing import Any, Final, cast

import httpx
import pytest
import requests
import schemathesis
import schemathesis.checks
import yaml
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from gateway.core import fal
from gateway.core.tokens import Purpose
from gateway.web.openapi import document
from gateway.web.playground import About
from gateway.web.routes import described_paths, routes
from tests.harness import KEYS, NO_TLS, Gateway, Running, Simulator, token, wait_for

Case = schemathesis.Case[Any]
DOCUMENT: Final[dict[str, Any]] = yaml.safe_load(document(described_paths()))
OPERATIONS: Final = [
    (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
REFUSED_WITHOUT: Final = {"/healthz", "/readyz", "/openapi.json", "/webhooks/fal/{ticket}"}
"""What needs no credential, beside the playground."""

RARE: Final = {
    "GET /playground/{file}",
    "POST /fal/rest/tokens/",
    "POST /v1/tokens/refresh",
    "POST /admin/v1/revocations",
}
"""What rarely goes well with what is made up, as with tickets: a file's name, an app that has
realtime tokens, a token that can be refreshed, one of four names."""

CHECKS: Final = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES: Final = 8
"""Of each operation, made up at random, beside those that lie at the borders of its schemas."""
MAY_GO_ON: Final = ("/events", "/stream", "/proxy", "/{rest}", "/response", "/requests/{id}")
STREAM_TIME: Final = 0.5
"""Seconds that such an answer is looked at."""


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


HELD: Final = "sim/fault/hold"
TAILS: Final = {
    "POST": "",
    "GET": "/requests/{}/status",
    "PUT": "/requests/{}/cancel",
    "DELETE": "",
    "PATCH": "",
}
"""What is asked of fal through the proxy, by method."""
ADMIN: Final = "the-admin-key-of-the-tests-0123456789"
FOR_ADMINS: Final = ("/admin/", "/metrics")
PLAN: Final = f"walk-{secrets.token_hex(4)}"
WHO: Final = {
    "alice": bearer(token()),
    "mint": {"authorization": f"Key {KEYS['backend']}"},
    "alice again": bearer(token()),
    "reader": {"x-gateway-authorization": KEYS["reader"]},
    "realtime": bearer(token(plan="realtime")),
    "her browser": {"cookie": f"fgw_session={token(purpose=Purpose.SESSION)}"},
    "alice once more": bearer(token()),
    "narrow": bearer(token(plan="narrow")),
    "nobody": {},
    "stranger": bearer("no-token-of-ours"),
}


def load() -> schemathesis.BaseSchema:
    config = SchemathesisConfig.from_dict(
        {
            "phases": {"coverage": {"unexpected-methods": ["delete", "patch"]}},
            "generation": {"with-security-parameters": False},  # `Callers` has some of its own
        }
    )
    return schemathesis.openapi.from_dict(DOCUMENT, config=config)


schema: Final = load()


@pytest.fixture(scope="module")
def callers(running: Running) -> Generator["Callers"]:
    """In front of a simulator of its own, where jobs end at once."""
    sim = running.simulator(pace=0.0, concurrency="64")
    env = {"GATEWAY_PLAYGROUND": "true", "GATEWAY_ADMIN_KEY": ADMIN}
    gateway = running.gateway(sim, env=env)
    callers = Callers(gateway, sim)
    yield callers
    callers.close()


class Callers:
    """Takes turns in calling, as everybody who might; and in naming jobs that there are."""

    def __init__(self, gateway: Gateway, sim: Simulator) -> None:
        self.gateway = gateway
        self.session = requests.Session()
        self.seen: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._who = itertools.cycle(WHO)
        self._admins = itertools.cycle([ADMIN, ADMIN, ADMIN, "no-admin", KEYS["backend"]])
        self._turns = itertools.count()
        self._own = httpx.Client(base_url=gateway.direct, headers=bearer(token()), verify=NO_TLS)
        self.key = self._key()
        self.done, self.held = self._job("fal-ai/echo"), self._job(HELD)
        wait_for(lambda: self._own.get(f"/v1/jobs/{self.done}").json()["status"] == "completed")

    def close(self) -> None:
        self._own.close()
        self.session.close()

    def _job(self, endpoint: str) -> str:
        """Of whom most of the calls are."""
        taken = self._own.post("/v1/jobs", json={"endpoint": endpoint, "input": {}})
        return cast(str, taken.json()["id"])

    def _key(self) -> str:
        """The id of a key that may be changed, and rotated once."""
        path, wish = "/admin/v1/keys", {"name": f"walk-{secrets.token_hex(4)}"}
        made = self._own.post(path, json=wish, headers=bearer(ADMIN))
        return cast(str, made.json()["id"])

    def call(self, case: Case) -> None:
        """One call, and its answer held against the description."""
        who = next(self._who)
        if "mint" not in who:
            case.headers.pop("x-gateway-principal", None)
        if case.path.startswith(FOR_ADMINS):
            case.headers.update(bearer(next(self._admins)))
        else:
            case.headers.update(WHO[who])
        self._name_jobs(case)
        patience = STREAM_TIME if case.path.endswith(MAY_GO_ON) else 30.0
        try:
            answer = case.call(self.gateway.direct, session=self.session, timeout=patience)
        except requests.exceptions.Timeout:
            assert patience == STREAM_TIME, case.path
            return
        self.seen[case.operation.label][answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    def _name_jobs(self, case: Case) -> None:
        """In two of three calls, where the case names some job or target of its own."""
        turn = next(self._turns)
        if turn % 3 == 0:
            return
        if case.path.startswith("/admin/"):
            self._name_keys(case)
            return
        if case.path.endswith("/cancel") or case.method.upper() == "PUT":
            self.held = self._job(HELD)
        job_id = self.held if turn % 3 == 1 else self.done
        if "{id}" in case.path:
            case.path_parameters["id"] = job_id
        if "/proxy" in case.path and fal.TARGET_URL in case.headers:
            target = f"https://queue.fal.run/fal-ai/echo{TAILS[case.method.upper()]}"
            case.headers[fal.TARGET_URL] = target.format(job_id)

    def _name_keys(self, case: Case) -> None:
        if case.method.upper() == "DELETE" or case.path.endswith("/rotate"):
            self.key = self._key()
        if "{id}" in case.path:
            case.path_parameters["id"] = self.key
        if "{name}" in case.path:
            case.path_parameters["name"] = "default" if case.method.upper() == "GET" else PLAN
            if case.method.upper() == "PUT":
                case.body = {"endpoints": ["fal-ai/echo"]}


@schema.parametrize()  # pyright: ignore[reportUntypedFunctionDecorator]
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_every_answer_is_described(case: Case, callers: Callers) -> None:
    callers.call(case)


def test_most_operations_were_done_at_least_once(callers: Callers) -> None:
    """The walk does not end at the door."""
    tried = {name for name in callers.seen if name not in RARE and "{ticket}" not in name}
    done = {name for name, codes in callers.seen.items() if any(code < 300 for code in codes)}

    assert sorted(tried - done) == []


def test_every_route_is_described() -> None:
    """And nothing is described that is not there."""
    served = routes(playground=About(simulated=True, version="0"))
    described = {path.route for path in described_paths()}

    assert {route.path for route in served} == described
    assert {path.url for path in described_paths()} == set(DOCUMENT["paths"])


def test_each_described_address_leads_to_its_route() -> None:
    served = routes(playground=About(simulated=True, version="0"))
    for path in described_paths():
        url = re.sub(r"\{[a-z]+\}", "x", path.url)
        assert first(served, url).path == path.route


def first(served: list[Route], url: str) -> Route:
    return next(route for route in served if route.path_regex.match(url))


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_a_description_is_whole(method: str, path: str, operation: dict[str, Any]) -> None:
    named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}

    assert named == set(re.findall(r"\{([a-z]+)\}", path))
    assert operation["summary"]
    assert operation["operationId"]
    assert {"431", "500"} <= operation["responses"].keys()
    free = path in REFUSED_WITHOUT or path == "/" or path.startswith("/playground/")
    assert ("401" in operation["responses"]) is (not free or "webhooks" in path)


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]

    assert len(names) == len(set(names))


@pytest.mark.anyio
async def test_it_is_served_to_everybody_the_same(gateway: Gateway, local: Gateway) -> None:
    """Whatever a gateway allows, and wherever it is: nothing of that is told."""
    async with gateway.http(None) as http, local.http(None) as other:
        one, two = await http.get("/openapi.json"), await other.get("/openapi.json")

    assert one.status_code == 200
    assert one.headers["content-type"] == "application/json"
    assert one.content == two.content == document(described_paths())
    assert one.json()["openapi"] == "3.1.0"
    told = one.text
    for word in ("127.0.0.1", str(gateway.port), "redis", "GATEWAY_", KEYS["backend"]):
        assert word not in told
