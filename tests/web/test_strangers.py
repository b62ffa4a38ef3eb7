"""Every described address that names something of somebody's: to all others it is not there."""

import asyncio
import re

import pytest

from tests.harness import KEYS, Gateway
from tests.web.walk import (
    APP,
    FIELD,
    JOB,
    OF_JOBS,
    PATHS,
    STRANGERS,
    fields,
    held_job,
    kind,
    no_job_of,
    stranger,
)
from tests.web.wire import PROXY_PATH, ended, problem, seen_by_a_stranger, submitted

pytestmark = pytest.mark.anyio


def test_what_each_id_is_of_is_known() -> None:
    """A new kind of thing with an owner needs a walk of its own here."""
    operations = [each for methods in PATHS.values() for each in methods.values()]
    in_bodies = {name for each in operations for name in fields(each) if "job" in name}

    assert {kind(each) for each in operations} <= {None, JOB, "An issued key's id"}
    assert in_bodies == {FIELD, "jobs"}  # those to which a token is narrowed
    assert all("{id}" in (call.target or call.url) or call.field for call in OF_JOBS)
    assert {call.url for call in OF_JOBS} >= {
        "/v1/jobs/{id}",
        "/v1/jobs/{id}?wait=5&after=1-0",
        "/v1/jobs/{id}/result",
        "/v1/stream-passes",
        f"/fal/queue/{APP}/requests/{{id}}/status/stream",
        PROXY_PATH,
    }
    assert not re.search(r"\{(?!id\})", "".join(call.url for call in OF_JOBS))
    assert sum(call.cancels for call in OF_JOBS) == 3


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
    assert job["status"] in {"queued", "running"}


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


async def test_an_ended_job_is_shown_to_its_owner_by_every_call_and_to_nobody_else(
    gateway: Gateway,
) -> None:
    """The same calls, which are 404 above. As the job has ended, none of them goes on."""
    async with gateway.http("alice") as http, gateway.http("bob") as other:
        job_id = await submitted(http, f"{APP}/fast")
        await ended(http, job_id)
        for call in OF_JOBS:
            problem(await call.ask(other, job_id), 404, "job_not_found")
            answer = await call.ask(http, job_id)
            shown = {400, 200} if call.cancels else {201} if call.field else {200}
            assert answer.status_code in shown, f"{call}: {answer.text}"
