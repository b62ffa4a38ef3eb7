"""Every described address that names something of somebody's: to all others it is not there.

Made from the API description, so a new route is tried as soon as it is described.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Final

import httpx
import msgspec
import pytest

from gateway.core import fal
from gateway.web.openapi import document
from gateway.web.routes import described_paths
from tests.harness import KEYS, Gateway
from tests.web.test_ownership import APP, STRANGERS, held_job, no_job_of, stranger
from tests.web.wire import PROXY_PATH, ended, problem, seen_by_a_stranger, submitted

pytestmark = pytest.mark.anyio

PATHS: Final[dict[str, Any]] = msgspec.json.decode(document(described_paths()))["paths"]
JOB: Final = "A job's id"
"""How the description tells what an `{id}` is of."""


@dataclass(frozen=True)
class Call:
    """One described way to name something. `{id}` stands in `url`, or in the target `header`."""

    method: str
    url: str
    target: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.target or self.url}"

    async def ask(self, http: httpx.AsyncClient, id: str) -> httpx.Response:
        headers = {fal.TARGET_URL: self.target.format(id=id)} if self.target else {}
        return await http.request(self.method, self.url.format(id=id), headers=headers)


def kind(operation: dict[str, Any]) -> str | None:
    """Of what the operation names one; None: of nothing."""
    told = {each["name"]: each["description"] for each in operation["parameters"]}
    return told.get("id")


def calls_of(url: str, method: str, operation: dict[str, Any]) -> list[Call]:
    """The plain call, and one with each query parameter that may stand there."""
    owner, alias = APP.split("/")
    url = url.replace("{owner}", owner).replace("{alias}", alias)
    named = [each for each in operation["parameters"] if each["in"] == "query"]
    queries = ["", *(f"?{each['name']}={some(each['schema'])}" for each in named)]
    calls = [Call(method.upper(), url + query) for query in queries]
    if url.startswith("/fal/queue/"):
        target = f"https://queue.fal.run{url.removeprefix('/fal/queue')}"
        calls += [Call(method.upper(), PROXY_PATH, target + query) for query in queries]
    return calls


def some(schema: dict[str, Any]) -> str:
    """A value that the schema allows."""
    if "enum" in schema:
        return str(schema["enum"][-1])
    return "5" if schema["type"] in {"number", "integer"} else "1-0"


OF_JOBS: Final = [
    call
    for url, methods in PATHS.items()
    for method, operation in methods.items()
    if kind(operation) == JOB
    for call in calls_of(url, method, operation)
]


def test_what_each_id_is_of_is_known() -> None:
    """A new kind of thing with an owner needs a walk of its own here."""
    kinds = {kind(each) for methods in PATHS.values() for each in methods.values()} - {None}

    assert kinds <= {JOB, "An issued key's id"}
    assert all("{id}" in (call.target or call.url) for call in OF_JOBS)
    assert {call.url.partition("?")[0] for call in OF_JOBS} >= {
        "/v1/jobs/{id}",
        "/v1/jobs/{id}/result",
        f"/fal/queue/{APP}/requests/{{id}}/status/stream",
        PROXY_PATH,
    }
    assert not re.search(r"\{(?!id\})", "".join(call.url for call in OF_JOBS))


@pytest.mark.parametrize("name", STRANGERS)
async def test_to_a_stranger_a_job_is_none(name: str, gateway: Gateway) -> None:
    """The same status, body and headers as for an id that nobody has; and nothing is changed."""
    async with held_job(gateway) as job_id, stranger(gateway, name) as http:
        nobody = no_job_of(job_id)
        for call in OF_JOBS:
            foreign, unknown = await asyncio.gather(call.ask(http, job_id), call.ask(http, nobody))
            problem(foreign, 404, "job_not_found")
            assert seen_by_a_stranger(foreign) == seen_by_a_stranger(unknown), str(call)
            assert job_id not in foreign.text
        async with gateway.http("alice") as own:
            job = (await own.get(f"/v1/jobs/{job_id}")).json()

    assert job["cancel_requested"] is False


@pytest.mark.parametrize("headers", [{}, {"authorization": f"Bearer {KEYS['backend'][:-1]}x"}])
async def test_without_a_credential_every_id_is_401(
    headers: dict[str, str], gateway: Gateway
) -> None:
    """Whether the id is known is not told at the door either."""
    async with held_job(gateway) as job_id, gateway.http(None) as http:
        http.headers.update(headers)
        for call in OF_JOBS:
            known, unknown = await asyncio.gather(
                call.ask(http, job_id), call.ask(http, no_job_of(job_id))
            )
            problem(known, 401, "unauthenticated")
            assert seen_by_a_stranger(known) == seen_by_a_stranger(unknown), str(call)


async def test_to_its_owner_every_call_shows_the_job(gateway: Gateway) -> None:
    """The same calls, which are 404 above. The job has ended, so none of them goes on."""
    async with gateway.http("alice") as http:
        job_id = await submitted(http, f"{APP}/fast")
        await ended(http, job_id)
        for call in OF_JOBS:
            answer = await call.ask(http, job_id)
            shown = {400, 200} if "cancel" in str(call) else {200}
            assert answer.status_code in shown, f"{call}: {answer.text}"
