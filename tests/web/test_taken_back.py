"""What is under way when a credential is taken back: it ends, and makes nothing that lives on."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest

from gateway.core.credentials import key_id
from gateway.core.issued import KeyChange
from gateway.flows.issue import change_key, revoke_key, rotate_key
from gateway.flows.revoke import Target, revoke
from gateway.flows.services import Services
from tests.flows.desk import HELD, database
from tests.flows.office import OPERATOR, an_office
from tests.flows.test_authenticate import refused_within
from tests.harness import KEYS, Gateway, Running, Simulator
from tests.web.test_keys import answered_within, bearer, issued
from tests.web.wire import Answer, Line, connected, submitted, visitor

pytestmark = pytest.mark.anyio

UPLOAD: Final = "/fal/rest/storage/upload/initiate?storage_type=fal-cdn-v3"
INPUT: Final[Mapping[str, Any]] = {"endpoint": "fal-ai/echo", "input": {}}


@pytest.fixture(scope="module")
def house(running: Running, wide_sim: Simulator, redis_url: str) -> Gateway:
    return running.gateway(wide_sim, redis_url=database(redis_url, 7))


@pytest.fixture
async def office(house: Gateway) -> AsyncGenerator[Services]:
    """Another process, where credentials are taken back."""
    async with an_office(house.redis_url) as services:
        yield services


@asynccontextmanager
async def begun(
    gateway: Gateway, text: str, path: str, body: Mapping[str, Any]
) -> AsyncGenerator[tuple[Line, bytes]]:
    """A request whose caller is known by now, and whose body is still to come."""
    written = json.dumps(body).encode()
    line = await connected(gateway.url)
    try:
        head = [
            f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"authorization: Bearer {text}",
            "content-type: application/json", f"content-length: {len(written)}",
            "expect: 100-continue",
        ]  # fmt: skip
        await line.send("\r\n".join([*head, "", ""]).encode())
        assert (await line.answer()).status == 100  # it is asked for once it is waited for
        yield line, written
    finally:
        line.close()


async def ended(line: Line, body: bytes) -> Answer:
    await line.send(body)
    return await line.answer()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/admin/v1/keys", {"name": "heir"}),
        ("/v1/tokens", {"user": "heir", "refresh_for": 86_400}),
        ("/v1/stream-passes", {}),
        ("/v1/jobs", INPUT),
        ("/fal/queue/fal-ai/echo", {}),
        ("/fal/run/fal-ai/echo", {}),
        (UPLOAD,
         {"file_name": "a.txt", "content_type": "text/plain"}),
    ],
)  # fmt: skip
async def test_what_was_begun_with_a_revoked_key_is_not_done(
    path: str, body: Mapping[str, Any], house: Gateway, office: Services
) -> None:
    id, text = await issued(office, "submit", "mint", "admin")
    async with visitor(house.url, headers=bearer(text)) as http:
        await answered_within([http], "/v1/jobs", 200, 2.0)
        async with begun(house, text, path, body) as (line, rest):
            good = await ended(line, rest)
        async with begun(house, text, path, body) as (line, rest):
            await revoke_key(office, OPERATOR, id)
            await refused_within([http], "/v1/jobs", 2.0)
            late = await ended(line, rest)

    assert good.status < 300, good.body
    assert late.status == 401, late.body


async def test_a_key_of_the_settings_mints_nothing_once_it_is_revoked(
    house: Gateway, office: Services
) -> None:
    """What it would mint is newer than its revocation."""
    text = KEYS["backend"]
    body = {"user": "heir", "refresh_for": 86_400}
    async with (
        visitor(house.url, headers=bearer(text)) as http,
        begun(house, text, "/v1/tokens", body) as (line, rest),
    ):
        await revoke(office, OPERATOR, Target(key=key_id(text)))
        await refused_within([http], "/v1/jobs", 2.0)
        late = await ended(line, rest)

    assert late.status == 401, late.body


async def test_who_waits_for_a_job_is_refused_once_the_key_is_revoked(
    house: Gateway, office: Services
) -> None:
    id, text = await issued(office)
    async with visitor(house.url, headers=bearer(text)) as http:
        await answered_within([http], "/v1/jobs", 200, 2.0)
        job = await submitted(http, HELD)
        waiting = [
            asyncio.create_task(http.get(path))
            for path in (f"/v1/jobs/{job}?wait=30", f"/fal/queue/sim/fault/requests/{job}")
        ]
        try:
            await asyncio.wait(waiting, timeout=0.5)
            assert not any(task.done() for task in waiting)
            await revoke_key(office, OPERATOR, id)
            begun_at = time.monotonic()
            answers = await asyncio.gather(*waiting)
        finally:
            for task in waiting:
                task.cancel()

    assert [answer.status_code for answer in answers] == [401, 401]
    assert time.monotonic() - begun_at < 5


async def test_a_stream_of_the_team_ends_once_its_key_may_not_read_any_more(
    house: Gateway, office: Services
) -> None:
    id, text = await issued(office, "submit", "read")
    async with visitor(house.url, headers=bearer(text)) as http:
        await answered_within([http], "/v1/jobs", 200, 2.0)
        async with asyncio.timeout(10), http.stream("GET", "/v1/events?scope=team") as stream:
            assert stream.status_code == 200
            await change_key(office, OPERATOR, id, KeyChange(scopes=("submit",)))
            await stream.aread()
        async with http.stream("GET", "/v1/events") as own:
            assert own.status_code == 200
        assert (await http.get("/v1/events?scope=team")).status_code == 403


async def test_who_acts_for_a_user_is_not_held_to_what_the_user_lost_before(
    house: Gateway, office: Services
) -> None:
    """What was issued to the user ends; the backend's own word for it goes on."""
    _, text = await issued(office, "submit", "mint")
    headers = bearer(text) | {"x-gateway-principal": "heir"}
    async with visitor(house.url, headers=headers) as http:
        await answered_within([http], "/v1/jobs", 200, 2.0)
        token = (await http.post("/v1/tokens", json={"user": "heir"})).json()["token"]
        await revoke(office, OPERATOR, Target(principal="user:heir", team="red"))
        async with visitor(house.url, headers=bearer(token)) as user:
            await refused_within([user], "/v1/jobs", 2.0)
        await asyncio.sleep(1.1)  # a revocation is by the second
        job = await submitted(http, HELD)
        async with http.stream("GET", f"/v1/jobs/{job}/events") as stream:
            lines = stream.aiter_lines()
            async with asyncio.timeout(10):
                while "event: job.queued" not in await anext(lines):
                    pass


# Runs, and files


@pytest.fixture(scope="module")
def slow(running: Running, redis_url: str) -> Gateway:
    """In front of a fal that streams for a while, with one seat for each, and open to visitors."""
    bounded: dict[str, Any] = {"endpoints": ["**"], "max_upload": 1000}
    caps = [{"jobs": "100/day", "of": "address"}, {"jobs": "1000/day", "of": "team"}]
    config = {
        "plans": {
            "default": {"endpoints": ["**"]},
            "spare": bounded,
            "visitors": {**bounded, "limits": caps},
        }
    }
    env = {"GATEWAY_ANONYMOUS": "on", "GATEWAY_STREAMS_PER_PRINCIPAL": "1"}
    sim = running.simulator(pace=2.0)
    return running.gateway(sim, env=env, config=config, redis_url=database(redis_url, 8))


@pytest.fixture
async def desk(slow: Gateway) -> AsyncGenerator[Services]:
    async with an_office(slow.redis_url) as services:
        yield services


async def test_a_run_is_cut_once_its_key_is_revoked(slow: Gateway, desk: Services) -> None:
    id, text = await issued(desk)
    async with visitor(slow.url, headers=bearer(text)) as http:
        await answered_within([http], "/v1/jobs", 200, 2.0)
        path = "/fal/run/sim/fault/slow-stream/stream"
        async with http.stream("POST", path, json={}) as run:
            lines = run.aiter_lines()
            assert await anext(lines)
            await revoke_key(desk, OPERATOR, id)
            with pytest.raises(httpx.RemoteProtocolError):
                async with asyncio.timeout(10):
                    assert len([line async for line in lines]) < 10


async def ticket(http: httpx.AsyncClient) -> str:
    """Where a file may be put."""
    answer = await http.post(UPLOAD, json={"file_name": "a.txt", "content_type": "text/plain"})
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["upload_url"]
    assert "/v1/uploads/" in url
    return url


async def test_an_upload_address_ends_with_its_key_and_its_token(
    slow: Gateway, desk: Services
) -> None:
    id, text = await issued(desk, "submit", "mint", plan="spare")
    async with visitor(slow.url, headers=bearer(text)) as http:
        await answered_within([http], "/v1/jobs", 200, 2.0)
        of_key = await ticket(http)
        token = await http.post("/v1/tokens", json={"expires_in": 60})
        http.headers["authorization"] = f"Bearer {token.json()['token']}"
        of_token = await ticket(http)
        good = await http.put(of_key, content=b"x")
        await rotate_key(desk, OPERATOR, id)
        await refused_within([http], "/v1/jobs", 2.0)
        late = [await http.put(url, content=b"x") for url in (of_key, of_token)]

    assert good.status_code == 200, good.text
    assert [answer.status_code for answer in late] == [401, 401]
    ends = [
        desk.upload_seals.read(url.rpartition("/")[2], desk.clock()).expires_at - desk.clock()
        for url in (of_key, of_token)
    ]
    assert ends[0] > 3000
    assert ends[1] <= 60


async def test_visitors_of_one_address_share_its_seats_for_files_too(slow: Gateway) -> None:
    async with visitor(slow.url) as one, visitor(slow.url) as other:
        first, second = await ticket(one), await ticket(other)
        assert one.cookies["fgw_visitor"] != other.cookies["fgw_visitor"]
        line = await connected(slow.url)
        try:
            path = first.removeprefix(slow.url)
            head = [f"PUT {path} HTTP/1.1", "host: x", "content-length: 2", "expect: 100-continue"]
            await line.send("\r\n".join([*head, "", ""]).encode())
            assert (await line.answer()).status == 100
            refused = await other.put(second, content=b"x")
            done = await ended(line, b"xx")
        finally:
            line.close()
        again = await other.put(second, content=b"x")

    assert refused.status_code == 429, refused.text
    assert (done.status, again.status_code) == (200, 200)
