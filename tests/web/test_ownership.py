"""Whose job it is, and what credentials show that are narrower, or wider, than their principal."""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest

from gateway.core import fal
from gateway.core.tokens import Purpose
from tests.harness import KEYS, Gateway
from tests.web.walk import APP, OF_JOBS, Call, held_job
from tests.web.wire import FORMS, Form, ended, problem, visitor

pytestmark = pytest.mark.anyio

CANCELLING: Final = [call for call in OF_JOBS if call.cancels]


@pytest.mark.parametrize("call", CANCELLING, ids=str)
async def test_its_owner_may_cancel(call: Call, gateway: Gateway) -> None:
    async with held_job(gateway) as job_id, gateway.http() as http:
        answer = await call.ask(http, job_id)
        job = await ended(http, job_id)

    assert answer.status_code == 202
    assert job["status"] == "cancelled"


@pytest.mark.parametrize("call", CANCELLING, ids=str)
async def test_who_reads_for_the_team_may_not_cancel_for_it(call: Call, gateway: Gateway) -> None:
    async with held_job(gateway) as job_id, gateway.http(key="reader") as http:
        seen = await http.get(f"/v1/jobs/{job_id}")
        refused = await call.ask(http, job_id)
        after = await http.get(f"/v1/jobs/{job_id}")

    assert seen.status_code == 200
    problem(refused, 404, "job_not_found")
    assert after.json()["cancel_requested"] is False


async def test_who_reads_for_the_team_sees_its_jobs_and_no_others(gateway: Gateway) -> None:
    async with held_job(gateway) as job_id, gateway.http(key="reader") as reader:
        listed = (await reader.get("/v1/jobs", params={"scope": "team"})).json()["jobs"]
        own = (await reader.get("/v1/jobs")).json()["jobs"]
        status = await FORMS[0].ask(reader, "GET", fal.QUEUE, f"{APP}/requests/{job_id}/status")
        async with gateway.http(key="other") as other:
            elsewhere = (await other.get("/v1/jobs", params={"scope": "team"})).json()["jobs"]
        async with gateway.http("alice") as http:
            refused = await http.get("/v1/jobs", params={"scope": "team"})

    assert job_id in [job["id"] for job in listed]
    assert job_id not in [job["id"] for job in own + elsewhere]
    assert status.status_code == 202
    problem(refused, 403, "forbidden")


async def test_lists_hold_ones_own_jobs_only(gateway: Gateway) -> None:
    async with held_job(gateway, "list-a") as first, held_job(gateway, "list-b") as second:
        listed = {}
        for user in ("list-a", "list-b"):
            async with gateway.http(user) as http:
                listed[user] = [job["id"] for job in (await http.get("/v1/jobs")).json()["jobs"]]

    assert listed == {"list-a": [first], "list-b": [second]}


@pytest.mark.parametrize(
    "spelling",
    [
        "{id}%20",
        "%20{id}",
        "{{{id}}}",
        "{id}0",
        "{id}%00",
        "{id}%0a",
        "{upper}",
        "{bare}",
        "{cut}",
        "{version}",
        "%7B{id}%7D",
        "urn:uuid:{id}",
        "00000000-0000-0000-0000-000000000000",
        "*",
        "..",
    ],
)
async def test_a_job_has_one_spelling(spelling: str, gateway: Gateway) -> None:
    """Even for its owner, whatever else a parser may take for the same id."""
    async with held_job(gateway) as job_id, gateway.http() as http:
        other = spelling.format(
            id=job_id,
            upper=job_id.upper(),
            bare=job_id.replace("-", ""),
            cut=job_id[:-1],
            version=f"{job_id[:14]}1{job_id[15:]}",
        )
        ours = await http.get(f"/v1/jobs/{other}/result")
        hosted = await http.get(f"/fal/queue/{APP}/requests/{other}/status")
        right = await http.get(f"/v1/jobs/{job_id}")

    assert ours.status_code == 404
    assert hosted.status_code in {400, 404, 405}
    assert right.status_code == 200


async def test_an_escaped_id_is_a_strangers_no_more_than_a_plain_one(gateway: Gateway) -> None:
    """`%2d` is a hyphen to whoever reads a path (RFC 3986, 6.2.2.2)."""
    async with held_job(gateway) as job_id, gateway.http() as own, gateway.http("bob") as http:
        escaped = job_id.replace("-", "%2d")
        for path in (f"/v1/jobs/{escaped}", f"/v1/jobs/{escaped}/events"):
            problem(await http.get(path), 404, "job_not_found")
        problem(await http.post(f"/v1/jobs/{escaped}/cancel"), 404, "job_not_found")
        hosted = await http.get(f"/fal/queue/{APP}/requests/{escaped}/status")
        job = (await own.get(f"/v1/jobs/{job_id}")).json()

    assert hosted.status_code in {400, 404}
    assert job["cancel_requested"] is False


async def test_the_job_decides_its_endpoint_not_the_url(gateway: Gateway) -> None:
    """An id under another app is the same job, for its owner, and still none for others."""
    async with held_job(gateway) as job_id, gateway.http() as http, gateway.http("bob") as bob:
        path = f"fal-ai/flux/requests/{job_id}/status"
        own = await FORMS[0].ask(http, "GET", fal.QUEUE, path)
        foreign = await FORMS[0].ask(bob, "GET", fal.QUEUE, path)

    assert own.json()["status_url"] == f"https://queue.fal.run/{APP}/requests/{job_id}/status"
    problem(foreign, 404, "job_not_found")


# Acting for a user


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_a_backend_submits_and_its_users_browser_watches(
    form: Form, gateway: Gateway
) -> None:
    headers = {"x-gateway-principal": "user-42"}
    async with gateway.http(key="backend") as backend:
        taken = await form.ask(backend, "POST", fal.QUEUE, "fal-ai/echo", json={}, headers=headers)
        job_id = taken.json()["request_id"]
        as_itself = await backend.get(f"/v1/jobs/{job_id}")
        as_user = await backend.get(f"/v1/jobs/{job_id}", headers=headers)
        as_another = await backend.get(
            f"/v1/jobs/{job_id}", headers={"x-gateway-principal": "user-43"}
        )
    async with gateway.http("user-42") as user:
        job = await ended(user, job_id)
        listed = (await user.get("/v1/jobs")).json()["jobs"]
    async with gateway.http("user-43") as other:
        foreign = await other.get(f"/v1/jobs/{job_id}")

    assert job["status"] == "completed"
    assert job_id in [each["id"] for each in listed]
    assert as_user.status_code == 200
    for refused in (as_itself, as_another, foreign):
        problem(refused, 404, "job_not_found")


async def test_equal_names_in_two_teams_are_two_principals(gateway: Gateway) -> None:
    headers = {"x-gateway-principal": "user-44"}
    async with gateway.http(key="backend") as backend, gateway.http(key="other") as other:
        job_id = await submitted_as(backend, headers)
        foreign = await other.get(f"/v1/jobs/{job_id}", headers=headers)
        own = await backend.get(f"/v1/jobs/{job_id}", headers=headers)

    problem(foreign, 404, "job_not_found")
    assert own.status_code == 200


async def submitted_as(http: httpx.AsyncClient, headers: dict[str, str]) -> str:
    body = {"endpoint": "fal-ai/echo", "input": {}}
    answer = await http.post("/v1/jobs", json=body, headers=headers)
    job_id: str = answer.json()["id"]
    return job_id


@pytest.mark.parametrize("who", ["member", "reader", "alice"])
async def test_acting_for_others_needs_the_scope(who: str, gateway: Gateway) -> None:
    client = gateway.http(key=who) if who in KEYS else gateway.http(who)
    async with client as http:
        refused = await http.get("/v1/jobs", headers={"x-gateway-principal": "user-1"})
        plain = await http.get("/v1/jobs")

    problem(refused, 403, "forbidden")
    assert plain.status_code == 200


async def test_who_acts_for_a_user_does_not_read_for_the_team(gateway: Gateway) -> None:
    """`other` may read and mint; as a user it sees what that user sees."""
    async with gateway.http(key="other") as http:
        headers = {"x-gateway-principal": "user-7"}
        refused = await http.get("/v1/jobs", params={"scope": "team"}, headers=headers)
        allowed = await http.get("/v1/jobs", params={"scope": "team"})

    problem(refused, 403, "forbidden")
    assert allowed.status_code == 200


# Credentials that are narrower than their principal


async def test_a_token_for_single_jobs_shows_those_alone(gateway: Gateway) -> None:
    async with held_job(gateway, "narrow") as first, held_job(gateway, "narrow") as second:
        token = gateway.token("narrow", jobs=frozenset({first}))
        headers = {"authorization": f"Bearer {token}"}
        async with visitor(gateway.url, headers=headers) as http:
            for call in OF_JOBS:
                problem(await call.ask(http, second), 404, "job_not_found")
            shown = await http.get(f"/v1/jobs/{first}")
            listed = (await http.get("/v1/jobs", params={"limit": "1"})).json()
            rest = (await http.get("/v1/jobs", params={"before": listed["next"]})).json()
            all_events = await http.get("/v1/events")

    assert shown.status_code == 200
    assert [job["id"] for job in listed["jobs"] + rest["jobs"]] == [first]
    problem(all_events, 403, "forbidden")


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_a_token_for_some_endpoints_submits_to_those_alone(
    form: Form, gateway: Gateway
) -> None:
    headers = {"authorization": f"Bearer {gateway.token(endpoints=('fal-ai/echo', 'a/*'))}"}
    async with visitor(gateway.url, headers=headers) as http:
        for host in (fal.QUEUE, fal.RUN):
            for endpoint in ("fal-ai/flux", "fal-ai/echo/x", "a/b/c"):
                refused = await form.ask(http, "POST", host, endpoint, json={})
                problem(refused, 403, "endpoint_not_allowed")
            for endpoint in ("fal-ai/echo", "a/b"):
                allowed = await form.ask(http, "POST", host, endpoint, json={})
                assert allowed.status_code == 200
        body = {"endpoint": "fal-ai/flux", "input": {}}
        problem(await http.post("/v1/jobs", json=body), 403, "endpoint_not_allowed")


async def test_a_narrower_plan_is_not_widened_by_a_token(gateway: Gateway) -> None:
    token = gateway.token(plan="narrow", endpoints=("**",))
    headers = {"authorization": f"Bearer {token}"}
    async with visitor(gateway.url, headers=headers) as http:
        refused = await http.post("/v1/jobs", json={"endpoint": "a/b", "input": {}})
        taken = await http.post("/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}})

    problem(refused, 403, "endpoint_not_allowed")
    assert taken.status_code == 202


async def test_a_stream_pass_opens_event_streams_alone(gateway: Gateway) -> None:
    async with held_job(gateway, "passer") as job_id, gateway.http("passer") as http:
        made = await http.post("/v1/stream-passes", json={"job": job_id})
        text = made.json()["pass"]
        for credential in ({"authorization": f"Bearer {text}"}, {"cookie": f"fgw_session={text}"}):
            async with visitor(gateway.url, headers=credential) as bearer:
                for call in OF_JOBS:
                    problem(await call.ask(bearer, job_id), 401, "unauthenticated")
        async with visitor(gateway.url, params={"pass": text}) as nobody:
            for method, path in (
                ("GET", f"/v1/jobs/{job_id}"),
                ("GET", f"/v1/jobs/{job_id}/result"),
                ("POST", f"/v1/jobs/{job_id}/cancel"),
                ("GET", "/v1/jobs"),
                ("POST", "/v1/jobs"),
                ("POST", "/v1/session"),
                ("POST", "/v1/stream-passes"),
                ("POST", "/v1/tokens"),
                ("POST", "/api/fal/proxy"),
                ("GET", f"/fal/queue/{APP}/requests/{job_id}/status/stream"),
            ):
                problem(await nobody.request(method, path), 401, "unauthenticated")
            events = await first_event(nobody, f"/v1/jobs/{job_id}/events")

    assert made.status_code == 201
    assert events["id"] == job_id


async def test_a_stream_pass_is_for_its_job_and_its_principal(gateway: Gateway) -> None:
    async with (
        held_job(gateway, "pass-a") as first,
        held_job(gateway, "pass-a") as second,
        held_job(gateway, "pass-b") as third,
        gateway.http("pass-a") as http,
    ):
        one = (await http.post("/v1/stream-passes", json={"job": first})).json()["pass"]
        all_own = (await http.post("/v1/stream-passes", json={})).json()["pass"]
        async with visitor(gateway.url) as nobody:
            for text, job_id in ((one, second), (one, third), (all_own, third)):
                refused = await nobody.get(f"/v1/jobs/{job_id}/events", params={"pass": text})
                problem(refused, 404, "job_not_found")
            problem(await nobody.get("/v1/events", params={"pass": one}), 403, "forbidden")
            twice = await nobody.get(f"/v1/events?pass={one}&pass={one}")
            problem(twice, 401, "unauthenticated")
            event = await first_event(nobody, f"/v1/jobs/{second}/events?pass={all_own}")

    assert event["id"] == second


async def first_event(http: httpx.AsyncClient, path: str) -> dict[str, Any]:
    async with http.stream("GET", path) as stream:
        assert stream.status_code == 200, await stream.aread()
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                event: dict[str, Any] = json.loads(line.removeprefix("data: "))
                return event
    raise AssertionError("no event")


async def test_the_stream_of_all_jobs_tells_of_ones_own(gateway: Gateway) -> None:
    """Another's job comes first; the first event that is told is of the own one that follows."""
    async with gateway.http("feed-a") as http, http.stream("GET", "/v1/events") as stream:
        lines = stream.aiter_lines()
        async for line in lines:
            if line.startswith("retry:"):
                break
        async with held_job(gateway, "feed-b"), held_job(gateway, "feed-a") as own:
            told = [line async for line in until_data(lines)]

    assert json.loads(told[-1].removeprefix("data: "))["id"] == own


async def until_data(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        if line.startswith("data: "):
            return


# One purpose is never good as another


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize("place", [Purpose.TOKEN, Purpose.SESSION, Purpose.PASS])
async def test_a_credential_is_good_for_its_purpose_alone(
    purpose: Purpose, place: Purpose, gateway: Gateway
) -> None:
    lifetime = 600
    text = gateway.token(purpose=purpose, lifetime=lifetime)
    async with visitor(gateway.url) as http:
        if place is Purpose.PASS:
            async with http.stream("GET", "/v1/events", params={"pass": text}) as answer:
                status = answer.status_code
        else:
            header = (
                {"authorization": f"Bearer {text}"}
                if place is Purpose.TOKEN
                else {"cookie": f"fgw_session={text}"}
            )
            status = (await http.get("/v1/jobs", headers=header)).status_code

    assert status == (200 if purpose is place else 401)
