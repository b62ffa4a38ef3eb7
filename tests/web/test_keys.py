"""Issued keys at gateways that serve: known and refused in every process, within their time."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import httpx
import pytest

from gateway.core.issued import KeyChange, KeyWish
from gateway.flows.issue import change_key, create_key, revoke_key, rotate_key
from gateway.flows.planning import delete_plan, put_plan
from gateway.flows.revoke import Target, revoke
from gateway.flows.services import Services
from tests.flows.desk import database
from tests.flows.office import OPERATOR, an_office
from tests.flows.test_authenticate import both_workers, read_out, refused_within
from tests.harness import KEYS, Gateway, Running, Simulator
from tests.web.wire import problem, visitor

pytestmark = pytest.mark.anyio

PAGE: Final = "https://app.example"
ALL: Final = ("submit", "read", "mint", "admin")


@pytest.fixture(scope="module")
def twins(running: Running, wide_sim: Simulator, redis_url: str) -> Gateway:
    """Two workers, which share nothing but Redis."""
    env = {"GATEWAY_WORKERS": "2"}
    return running.gateway(wide_sim, env=env, redis_url=database(redis_url, 15))


@pytest.fixture
async def office(twins: Gateway) -> AsyncGenerator[Services]:
    """A third process, as those see it: where keys are made."""
    async with an_office(twins.redis_url) as services:
        yield services


async def issued(office: Services, *scopes: str, **more: Any) -> tuple[str, str]:
    """Id and text of a new key."""
    wish = KeyWish("red", f"n{time.time_ns()}", scopes=scopes or ("submit",), **more)
    made = await create_key(office, OPERATOR, wish)
    return made.record.id, made.text


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


async def answered_within(
    clients: list[httpx.AsyncClient], path: str, status: int, seconds: float = 1.0
) -> None:
    """Every client gets this status from some moment within `seconds` on."""
    deadline = time.monotonic() + seconds
    for client in clients:
        while (await client.get(path)).status_code != status:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def test_a_new_key_is_good_in_every_process_within_a_second(
    twins: Gateway, office: Services
) -> None:
    _, text = await issued(office)
    async with both_workers(twins, bearer(text)) as clients:
        await answered_within(clients, "/v1/jobs", 200)


async def test_a_new_key_and_its_tokens_are_good_in_every_process_at_once(
    twins: Gateway, office: Services
) -> None:
    async with both_workers(twins, {}) as clients:
        for client in clients:
            _, text = await issued(office, "submit", "mint")
            known = await client.get("/v1/jobs", headers=bearer(text))
            minted = await client.post("/v1/tokens", headers=bearer(text), json={"user": "u"})
            other = next(each for each in clients if each is not client)
            token = minted.json()["token"]
            known_there = await other.get("/v1/jobs", headers=bearer(token))

            assert (known.status_code, minted.status_code) == (200, 201)
            assert known_there.status_code == 200


async def test_a_key_can_have_a_plan_that_another_process_has_just_made(
    twins: Gateway, office: Services
) -> None:
    async with an_office(twins.redis_url) as another:
        name = f"p{time.time_ns()}"
        await put_plan(another, OPERATOR, name, {"endpoints": ["fal-ai/**"]})
        wish = KeyWish("red", f"n{time.time_ns()}", plan=name, scopes=("submit",))
        assert (await create_key(office, OPERATOR, wish)).record.key.plan == name


async def test_a_revoked_key_and_its_tokens_are_refused_within_a_second(
    twins: Gateway, office: Services
) -> None:
    key_id, text = await issued(office, "submit", "mint")
    _, other = await issued(office)
    async with both_workers(twins, bearer(text)) as clients, AsyncExitStack() as stack:
        await answered_within(clients, "/v1/jobs", 200)
        token = (await clients[0].post("/v1/tokens", json={"user": "u"})).json()["token"]
        cookie = (await clients[0].post("/v1/session")).cookies["fgw_session"]
        passing = (await clients[0].post("/v1/stream-passes")).json()["pass"]
        with_token = await stack.enter_async_context(both_workers(twins, bearer(token)))
        await answered_within(with_token, "/v1/jobs", 200)

        await revoke_key(office, OPERATOR, key_id)
        await refused_within([*clients, *with_token], "/v1/jobs", 1.0)

        for client in clients:
            by_cookie = {"cookie": f"fgw_session={cookie}"}
            del client.headers["authorization"]
            assert (await client.get("/v1/jobs", headers=by_cookie)).status_code == 401
            events = await client.get("/v1/events", params={"pass": passing})
            assert events.status_code == 401
            good = await client.get("/v1/jobs", headers=bearer(other))
            assert good.status_code == 200


async def opened(
    stack: AsyncExitStack, clients: list[httpx.AsyncClient], path: str
) -> list[httpx.Response]:
    streams = [await stack.enter_async_context(client.stream("GET", path)) for client in clients]
    assert [stream.status_code for stream in streams] == [200, 200]
    return streams


@pytest.mark.parametrize("how", ["revoked", "ended", "rotated"])
async def test_open_streams_of_a_key_and_its_tokens_close_within_five_seconds(
    how: str, twins: Gateway, office: Services
) -> None:
    key_id, text = await issued(office, "submit", "mint")
    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(both_workers(twins, bearer(text)))
        await answered_within(clients, "/v1/jobs", 200)
        token = (await clients[0].post("/v1/tokens", json={"user": "u"})).json()["token"]
        users = await stack.enter_async_context(both_workers(twins, bearer(token)))
        streams = await opened(stack, clients, "/v1/events")
        streams += await opened(stack, users, "/v1/events")

        if how == "ended":
            await change_key(office, OPERATOR, key_id, KeyChange(expires_in=1))
        elif how == "revoked":
            await revoke_key(office, OPERATOR, key_id)
        else:
            await rotate_key(office, OPERATOR, key_id)
        async with asyncio.timeout(5 + (how == "ended")), asyncio.TaskGroup() as tasks:
            for stream in streams:
                tasks.create_task(read_out(stream))


async def test_a_rotated_key_keeps_its_jobs_and_the_old_one_ends(
    twins: Gateway, office: Services
) -> None:
    old_id, old = await issued(office)
    async with both_workers(twins, bearer(old)) as clients:
        await answered_within(clients, "/v1/jobs", 200)
        body = {"endpoint": "fal-ai/echo", "input": {}}
        job = (await clients[0].post("/v1/jobs", json=body)).json()["id"]

        new = await rotate_key(office, OPERATOR, old_id, 3)

        async with both_workers(twins, bearer(new.text)) as successors:
            await answered_within(successors, f"/v1/jobs/{job}", 200)
            for client in clients:
                assert (await client.get(f"/v1/jobs/{job}")).status_code == 200
            await refused_within(clients, "/v1/jobs", 4.0)
            for client in successors:
                assert (await client.get(f"/v1/jobs/{job}")).status_code == 200


async def test_a_key_and_its_tokens_end_in_their_time(twins: Gateway, office: Services) -> None:
    _, text = await issued(office, "mint", expires_in=3)
    async with both_workers(twins, bearer(text)) as clients:
        await answered_within(clients, "/v1/jobs", 200)
        minted = (await clients[0].post("/v1/tokens", json={"user": "u"})).json()
        async with both_workers(twins, bearer(minted["token"])) as users:
            await answered_within(users, "/v1/jobs", 200)

            await refused_within([*clients, *users], "/v1/jobs", 4.0)


async def test_a_page_of_another_origin_is_told_so(twins: Gateway, office: Services) -> None:
    _, text = await issued(office, "mint", origins=(PAGE,))
    async with both_workers(twins, bearer(text)) as clients:
        await answered_within(clients, "/v1/jobs", 200)
        token = (await clients[0].post("/v1/tokens", json={"user": "u"})).json()["token"]
        passing = (await clients[0].post("/v1/stream-passes")).json()["pass"]
        for credential in (text, token):
            for origin, status in ((PAGE, 200), ("https://evil.example", 403), ("null", 403)):
                headers = {**bearer(credential), "origin": origin}
                answer = await clients[1].get("/v1/jobs", headers=headers)
                assert answer.status_code == status
        stranger = {"origin": "https://evil.example"}
        refused = await clients[1].get("/v1/events", params={"pass": passing}, headers=stranger)

    problem(refused, 403, "origin_not_allowed")


async def test_a_key_is_bound_to_networks(twins: Gateway, office: Services) -> None:
    _, here = await issued(office, networks=("127.0.0.0/8",))
    _, there = await issued(office, networks=("192.0.2.0/24", "::1"))
    async with both_workers(twins, bearer(here)) as clients:
        await answered_within(clients, "/v1/jobs", 200)
        for client in clients:
            claimed = {**bearer(there), "x-forwarded-for": "192.0.2.1"}
            refused = await client.get("/v1/jobs", headers=claimed)
            problem(refused, 403, "forbidden")


async def test_a_changed_plan_counts_within_a_second(twins: Gateway, office: Services) -> None:
    await put_plan(office, OPERATOR, "changing", {"endpoints": ["fal-ai/echo"]})
    key_id, text = await issued(office, plan="changing")
    async with both_workers(twins, bearer(text)) as clients:
        await answered_within(clients, "/v1/jobs", 200)
        body = {"endpoint": "fal-ai/echo", "input": {}}
        for client in clients:
            assert (await client.post("/v1/jobs", json=body)).status_code == 202

        await put_plan(office, OPERATOR, "changing", {"endpoints": ["fal-ai/other"]})
        deadline = time.monotonic() + 1
        for client in clients:
            while (answer := await client.post("/v1/jobs", json=body)).status_code != 403:
                assert time.monotonic() < deadline
            problem(answer, 403, "endpoint_not_allowed")

        await revoke_key(office, OPERATOR, key_id)
        await delete_plan(office, OPERATOR, "changing")
        await refused_within(clients, "/v1/jobs", 1.0)


async def test_a_user_is_signed_out_everywhere(twins: Gateway, office: Services) -> None:
    _, text = await issued(office, "mint")
    async with both_workers(twins, bearer(text)) as clients:
        await answered_within(clients, "/v1/jobs", 200)
        token = (await clients[0].post("/v1/tokens", json={"user": "u"})).json()["token"]
        async with both_workers(twins, bearer(token)) as users:
            await answered_within(users, "/v1/jobs", 200)
            await revoke(office, OPERATOR, Target(principal="user:u", team="red"))
            await refused_within(users, "/v1/jobs", 1.0)
        for client in clients:
            assert (await client.get("/v1/jobs")).status_code == 200


async def test_keys_are_known_again_after_a_restart(
    running: Running, wide_sim: Simulator, office: Services, twins: Gateway
) -> None:
    _, text = await issued(office)
    again = running.gateway(wide_sim, redis_url=twins.redis_url)
    async with visitor(again.url, headers=bearer(text)) as http:
        first = await http.get("/v1/jobs")

    assert first.status_code == 200


# Which scope may what

ACTS: Final[Mapping[str, tuple[str, str, dict[str, Any], str | None]]] = {
    "submit": ("POST", "/v1/jobs", {"json": {"endpoint": "fal-ai/echo", "input": {}}}, "submit"),
    "run": ("POST", "/fal/run/fal-ai/echo", {"json": {}}, "submit"),
    "queue": ("POST", "/fal/queue/fal-ai/echo", {"json": {}}, "submit"),
    "own jobs": ("GET", "/v1/jobs", {}, None),
    "team's events": ("GET", "/v1/events?scope=team", {}, "read"),
    "mint": ("POST", "/v1/tokens", {"json": {"user": "u"}}, "mint"),
    "act": ("GET", "/v1/jobs", {"headers": {"x-gateway-principal": "u"}}, "mint"),
    "keys": ("GET", "/admin/v1/keys", {}, "admin"),
}
"""What is done, and the scope that it needs; None: any credential will do."""
SETS: Final = [
    tuple(scope for place, scope in enumerate(ALL) if number >> place & 1)
    for number in range(1, 2 ** len(ALL))
]


async def first_status(http: httpx.AsyncClient, method: str, path: str, **more: Any) -> int:
    async with http.stream(method, path, **more) as answer:
        return answer.status_code


async def test_each_scope_opens_its_own_doors_and_no_others(
    twins: Gateway, office: Services
) -> None:
    """Also as a user for whom the key acts, and with what is minted: never more than submit."""
    texts = [(await issued(office, *scopes))[1] for scopes in SETS]
    async with both_workers(twins, bearer(texts[-1])) as clients:
        await answered_within(clients, "/v1/jobs", 200)  # and all that were made before
    async with visitor(twins.url) as http:
        for scopes, text in zip(SETS, texts, strict=True):
            http.headers.update(bearer(text))
            await check_doors(http, scopes)
            if "mint" in scopes:
                await check_minted(http, scopes, twins.url)


async def check_doors(http: httpx.AsyncClient, scopes: tuple[str, ...]) -> None:
    for name, (method, path, more, needs) in ACTS.items():
        status = await first_status(http, method, path, **more)
        allowed = needs is None or needs in scopes
        assert status < 300 if allowed else status == 403, (scopes, name, status)


async def check_minted(http: httpx.AsyncClient, scopes: tuple[str, ...], page: str) -> None:
    acting = {"x-gateway-principal": "u"}
    token = (await http.post("/v1/tokens", json={"user": "u"})).json()["token"]
    cookie = (await http.post("/v1/session")).cookies["fgw_session"]
    http.cookies.clear()
    for name in ("team's events", "keys"):
        method, path, _, _ = ACTS[name]
        for headers in (acting, bearer(token)):
            status = await first_status(http, method, path, headers=headers)
            assert status == 403, (scopes, name, status)
    del http.headers["authorization"]
    headers = {"cookie": f"fgw_session={cookie}", "origin": page}
    for name, opens in (("mint", False), ("keys", False), ("team's events", "read" in scopes)):
        method, path, more, _ = ACTS[name]
        status = await first_status(http, method, path, headers=headers, **more)
        assert status < 300 if opens else status in {401, 403}, (scopes, name, status)


async def test_the_matrix_knows_every_scope(twins: Gateway) -> None:
    assert {needs for *_, needs in ACTS.values()} == {*ALL, None}
    async with visitor(twins.url, headers=bearer(KEYS["backend"])) as http:
        assert (await http.get("/admin/v1/keys")).status_code == 403
