"""Every described way to name a job, and who might try them.

Made from the API description, so a new route is tried as soon as it is described.
"""

import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import msgspec

from gateway.core import fal
from gateway.web.openapi import document
from gateway.web.routes import described_paths
from tests.harness import KEYS, Gateway
from tests.web.wire import PROXY_PATH, submitted, visitor

APP: Final = "sim/fault"
JOB: Final = "A job's id"
"""How the description tells what an `{id}` is of."""
FIELD: Final = "job"
"""Where a body names a job."""
STRANGERS: Final = ["bob", "team", "other-user", "other-team", "member"]

_DOCUMENT: Final[dict[str, Any]] = msgspec.json.decode(document(described_paths()))
PATHS: Final[dict[str, Any]] = _DOCUMENT["paths"]


@dataclass(frozen=True)
class Call:
    """One described way to name something. `{id}` stands in `url`, in the `target` header, or is
    the `field` of a body."""

    method: str
    url: str
    target: str = ""
    field: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.target or self.url}"

    @property
    def cancels(self) -> bool:
        return str(self).endswith("/cancel")

    async def ask(self, http: httpx.AsyncClient, id: str) -> httpx.Response:
        headers = {fal.TARGET_URL: self.target.format(id=id)} if self.target else {}
        body = {self.field: id} if self.field else None
        return await http.request(self.method, self.url.format(id=id), headers=headers, json=body)


def kind(operation: dict[str, Any]) -> str | None:
    """Of what the operation names one in its address; None: of nothing."""
    told = {each["name"]: each["description"] for each in operation["parameters"]}
    return told.get("id")


def fields(operation: dict[str, Any]) -> set[str]:
    """Of its body."""
    content = operation.get("requestBody", {}).get("content", {})
    named = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    schema = _DOCUMENT["components"]["schemas"].get(named.rpartition("/")[2], {})
    return set(schema.get("properties", {}))


def _calls(url: str, method: str, operation: dict[str, Any]) -> Iterator[Call]:
    """The plain call, one with each query parameter that may stand there, and one with all."""
    if FIELD in fields(operation):
        yield Call(method, url, field=FIELD)
    if kind(operation) != JOB:
        return
    owner, alias = APP.split("/")
    url = url.replace("{owner}", owner).replace("{alias}", alias)
    named = [each for each in operation["parameters"] if each["in"] == "query"]
    asked = [f"{each['name']}={_some(each['schema'])}" for each in named]
    for query in dict.fromkeys(["", *asked, "&".join(asked)]):
        tail = query and f"?{query}"
        yield Call(method, url + tail)
        if url.startswith("/fal/queue/"):
            target = f"https://{fal.QUEUE}{url.removeprefix('/fal/queue')}{tail}"
            yield Call(method, PROXY_PATH, target)


def _some(schema: dict[str, Any]) -> str:
    """A value that the schema allows."""
    if "enum" in schema:
        return str(schema["enum"][-1])
    return "5" if schema["type"] in {"number", "integer"} else "1-0"


OF_JOBS: Final = [
    call
    for url, methods in PATHS.items()
    for method, operation in methods.items()
    for call in _calls(url, method.upper(), operation)
]


@asynccontextmanager
async def held_job(gateway: Gateway, user: str = "alice") -> AsyncGenerator[str]:
    """An open job of a user, cancelled in the end."""
    async with gateway.http(user) as http:
        job_id = await submitted(http, f"{APP}/hold")
        try:
            yield job_id
        finally:
            await http.post(f"/v1/jobs/{job_id}/cancel")


def no_job_of(job_id: str) -> str:
    """An id that nobody has, in the same shard."""
    last = secrets.token_hex(6)
    return f"{job_id[:24]}{last}"


def stranger(gateway: Gateway, name: str) -> httpx.AsyncClient:
    if name == "other-team":
        return gateway.http(key="other")  # which reads all of its own team's jobs
    if name == "member":
        return gateway.http(key="member")
    if name == "other-user":
        headers = {"authorization": f"Bearer {gateway.token('alice', 'other-team')}"}
        return visitor(gateway.url, headers=headers)
    if name == "team":
        headers = {"authorization": f"Bearer {KEYS['backend']}"}  # it may mint, but not read
        return visitor(gateway.url, headers=headers)
    return gateway.http("bob")
