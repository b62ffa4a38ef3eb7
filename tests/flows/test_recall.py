"""Revoked credentials, and the jobs that wait in the gateway's queue by them: none gets to fal."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

import httpx
import pytest

from gateway.core.errors import Unauthenticated
from gateway.core.meters import nothing_asked
from gateway.core.model import Kind, Plan, Principal, Source
from gateway.core.parcels import Parcel
from gateway.flows.entry import new_ref
from gateway.flows.places import Place
from gateway.flows.send import send
from gateway.store import keys
from gateway.store.connect import commands
from gateway.store.ledger import Opening
from gateway.store.registry import KeyWrite, Registry
from tests.flows.desk import database, eventually
from tests.flows.test_admission import CAP, ENV, PLACES, QUEUE, Scene, a_scene, fill, relay
from tests.flows.test_keys import in_this_process
from tests.harness import Gateway, Running, Simulator, free_port

pytestmark = pytest.mark.anyio

CONFIG: Final = {
    "plans": {
        "default": {
            "endpoints": ["**"],
            "queue": QUEUE,
            "budgets": [{"units": 1000, "per": "day", "of": "team"}],
        }
    }
}
ADMIN: Final = {"authorization": "Bearer an-operators-key-of-these-tests"}
TWINS: Final = ENV | {"GATEWAY_WORKERS": "2", "GATEWAY_ADMIN_KEY": ADMIN["authorization"][7:]}


@pytest.fixture(scope="module")
def two(running: Running) -> Simulator:
    return running.simulator(concurrency=str(CAP), pace=0.02)


@pytest.fixture(scope="module")
def twins(running: Running, two: Simulator, redis_url: str) -> Gateway:
    """Two workers, which share nothing but Redis."""
    return running.gateway(two, env=TWINS, config=CONFIG, redis_url=database(redis_url, 9))


@pytest.fixture
async def scene(twins: Gateway, two: Simulator) -> AsyncGenerator[Scene]:
    async with a_scene(twins, two) as scene:
        yield scene


class Held:
    """A credential of the scene's team, and the ways to take it back."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.user = f"u-{secrets.token_hex(4)}"
        self.key_id = self.text = ""

    async def admin(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        json = body or None
        answer = await self.scene.http.request(
            method, f"/admin/v1/{path}", json=json, headers=ADMIN
        )
        assert answer.status_code in {200, 201, 204}, answer.text
        return dict(answer.json()) if answer.content else {}

    async def key(self, *scopes: str) -> str:
        """The text of a new key."""
        name = f"n-{secrets.token_hex(4)}"
        wish = {"team": self.scene.team, "name": name, "scopes": scopes or ("submit",)}
        made = await self.admin("POST", "keys", **wish)
        self.key_id, self.text = made["id"], made["key"]
        return self.text

    async def token(self, **claims: Any) -> str:
        self.text = self.scene.gateway.token(self.user, self.scene.team, **claims)
        return self.text

    async def rotate(self, overlap: int) -> str:
        made = await self.admin("POST", f"keys/{self.key_id}/rotate", overlap=overlap)
        return str(made["key"])

    async def revoke_key(self) -> None:
        await self.admin("DELETE", f"keys/{self.key_id}")

    async def revoke(self, **target: str) -> None:
        await self.admin("POST", "revocations", **target)


async def issued_key(held: Held) -> Callable[[], Awaitable[Any]]:
    await held.key()
    return held.revoke_key


async def token_of_a_key(held: Held) -> Callable[[], Awaitable[Any]]:
    await held.key()
    await held.token(kid=held.key_id)
    return held.revoke_key


async def key_acting_for_a_user(held: Held) -> Callable[[], Awaitable[Any]]:
    await held.key("submit", "mint")
    return partial(held.revoke, principal=f"user:{held.user}", team=held.scene.team)


async def one_token(held: Held) -> Callable[[], Awaitable[Any]]:
    return partial(held.revoke, token=await held.token())


async def all_of_a_user(held: Held) -> Callable[[], Awaitable[Any]]:
    await held.token()
    return partial(held.revoke, principal=f"user:{held.user}", team=held.scene.team)


async def what_came_of_a_token(held: Held) -> Callable[[], Awaitable[Any]]:
    parent = secrets.token_hex(16)
    await held.token(parents=(parent,), since=int(time.time()) - 5)
    return partial(held.revoke, jti=parent)


async def key_of_the_settings(held: Held) -> Callable[[], Awaitable[Any]]:
    kid = f"iss:{secrets.token_hex(6)}"
    await held.token(kid=kid)
    return partial(held.revoke, key=kid)


WAYS: Final = (
    issued_key,
    token_of_a_key,
    key_acting_for_a_user,
    one_token,
    all_of_a_user,
    what_came_of_a_token,
    key_of_the_settings,
)


async def submitted(scene: Scene, text: str, name: str, **headers: str) -> str:
    """The id of a job that fal will know by this name."""
    body = {"endpoint": f"sim/fault/fast/{scene.mark}/{name}", "input": {"prompt": "x"}}
    headers["authorization"] = f"Bearer {text}"
    answer = await scene.http.post("/v1/jobs", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def seen(scene: Scene, id: str, text: str, part: str = "") -> httpx.Response:
    headers = {"authorization": f"Bearer {text}"}
    return await scene.http.get(f"/v1/jobs/{id}{part}", headers=headers)


async def status(scene: Scene, id: str, text: str) -> str:
    return str((await seen(scene, id, text)).json()["status"])


async def refused(scene: Scene, id: str, text: str) -> bool:
    return (await seen(scene, id, text)).status_code == 401


async def until_status(scene: Scene, id: str, text: str, wanted: str, within: float) -> None:
    async def reached() -> bool:
        return await status(scene, id, text) == wanted

    await eventually(reached, within)


@pytest.mark.parametrize("way", WAYS)
async def test_jobs_that_wait_by_what_is_revoked_fail_at_once(
    scene: Scene, way: Callable[[Held], Awaitable[Callable[[], Awaitable[Any]]]]
) -> None:
    """Not a place gets free at fal meanwhile. All that they held is given back."""
    held = Held(scene)
    revoked = await way(held)
    reader = await Held(scene).key("submit", "read")
    await scene.block()
    acting = {"x-gateway-principal": held.user} if way is key_acting_for_a_user else {}
    mine = [await submitted(scene, held.text, "thief", **acting) for _ in range(3)]
    [other] = await scene.jobs(1, "bob")
    assert [await status(scene, id, reader) for id in [*mine, other]] == ["queued"] * 4

    await revoked()
    for id in mine:
        await until_status(scene, id, reader, "failed", 3.0)

    ended = (await seen(scene, mine[0], reader)).json()
    result = await seen(scene, mine[0], reader, "/result")
    assert ended["error"]["type"] == "credential_revoked"
    assert (result.status_code, ended["cost"]) == (403, "0")
    assert (await scene.job(other, "bob"))["queue_position"] == 0
    async with commands(scene.gateway.redis_url) as redis:
        shard, digest = keys.shard_of_team(scene.team), keys.team_digest(scene.team)
        counted: Any = await redis.hkeys(keys.inputs(scene.team))
        reserved: Any = await redis.hget(keys.spend(shard, digest), "held:units")
        lies: Any = await redis.exists(*map(keys.queue_input, mine))
    assert {key.decode() for key in counted} == {"all", other}
    assert (int(reserved), lies) == (1_000_000, 0)

    scene.release()
    await scene.until_sent(CAP + 1)
    await until_status(scene, other, reader, "completed", 10.0)
    assert scene.sent().count("thief") == 0


async def test_they_need_not_be_the_next_in_turn(scene: Scene) -> None:
    """More wait before them than are looked at at once."""
    held = Held(scene)
    text = await held.key()
    reader = await Held(scene).key("submit", "read")
    await scene.block()
    await asyncio.gather(*(scene.submit("before") for _ in range(70)))
    mine = [await submitted(scene, text, "thief") for _ in range(70)]

    await held.revoke_key()
    for id in mine:
        await until_status(scene, id, reader, "failed", 10.0)

    async with commands(scene.gateway.redis_url) as redis:
        shard, digest = keys.shard_of_team(scene.team), keys.team_digest(scene.team)
        assert await redis.zcard(keys.waiting(shard, digest)) == 70
    scene.release()
    assert "thief" not in await scene.until_sent(CAP + 70)


async def test_none_is_sent_a_second_after_the_revocation(scene: Scene) -> None:
    """While two workers let them go as fast as they can."""
    held = Held(scene)
    text = await held.key()
    reader = await Held(scene).key("submit", "read")
    await scene.block()
    mine = await asyncio.gather(*(submitted(scene, text, "thief") for _ in range(150)))
    scene.release()
    await scene.until_sent(CAP + 5)

    await held.revoke_key()
    await asyncio.sleep(1.0)
    sent = await asyncio.to_thread(scene.sent)
    await asyncio.sleep(2.0)
    for id in mine:
        found = (await seen(scene, id, reader)).json()
        if found["status"] != "completed":
            assert (found["status"], found["error"]["type"]) == ("failed", "credential_revoked")

    assert len(sent) < CAP + 150
    assert await asyncio.to_thread(scene.sent) == sent
    [after] = await scene.jobs(1, "bob")
    await until_status(scene, after, reader, "completed", 10.0)


@pytest.mark.parametrize("overlap", [0, 1])
async def test_jobs_of_a_key_that_was_rotated_go_on(scene: Scene, overlap: int) -> None:
    """Also when its overlap has ended: its time is over, nobody took it back."""
    held = Held(scene)
    text = await held.key()
    await scene.block()
    id = await submitted(scene, text, "rotated")
    new = await held.rotate(overlap)
    await held.revoke(principal="user:nobody", team=scene.team)  # makes all look

    await eventually(partial(refused, scene, id, text))
    assert await status(scene, id, new) == "queued"
    scene.release()

    await until_status(scene, id, new, "completed", 10.0)


async def test_jobs_of_a_token_whose_time_is_over_go_on(scene: Scene) -> None:
    held = Held(scene)
    now = int(time.time())
    text = await held.token(issued_at=now - 100, expires_at=now - 28)  # two seconds, with the skew
    reader = await Held(scene).key("submit", "read")
    await scene.block()
    id = await submitted(scene, text, "late")

    await eventually(partial(refused, scene, id, text))
    assert await status(scene, id, reader) == "queued"
    scene.release()

    await until_status(scene, id, reader, "completed", 10.0)


async def test_jobs_of_a_session_go_on_after_signing_out(scene: Scene) -> None:
    held = Held(scene)
    token = await held.token()
    body = {"endpoint": f"sim/fault/fast/{scene.mark}/session", "input": {}}
    async with scene.gateway.http(None) as page:
        page.headers["origin"] = scene.gateway.url
        await page.post("/v1/session", headers={"authorization": f"Bearer {token}"})
        await scene.block()
        taken = await page.post("/v1/jobs", json=body)
        cookies = httpx.Cookies(page.cookies)
        await page.delete("/v1/session")
        page.cookies = cookies

        async def signed_out() -> bool:
            return (await page.get("/v1/me")).status_code == 401

        await eventually(signed_out)
    await asyncio.sleep(1)  # then every process knows it
    id = str(taken.json()["id"])
    assert await status(scene, id, token) == "queued"
    scene.release()

    await until_status(scene, id, token, "completed", 10.0)


async def test_a_job_that_came_back_is_not_sent_again_once_it_is_revoked(
    running: Running, two: Simulator, redis_url: str
) -> None:
    """fal could not be reached when it was first to go."""
    port, url = free_port(), database(redis_url, 8)
    origins = json.loads(two.origins) | {"queue.fal.run": f"http://127.0.0.1:{port}/queue.fal.run"}
    env = TWINS | {"GATEWAY_FAL_ORIGINS": json.dumps(origins)}
    gateway = running.gateway(two, env=env, config=CONFIG, redis_url=url)
    async with commands(url) as redis, a_scene(gateway, two) as scene:
        held = Held(scene)
        text = await held.key()
        reader = await Held(scene).key("submit", "read")
        await fill(redis)
        mine = [await submitted(scene, text, "thief") for _ in range(2)]
        [other] = await scene.jobs(1, "bob")
        await redis.delete(PLACES)  # there is room now, and nobody there to take them

        async def came_back() -> bool:
            fields: Any = [await redis.hmget(keys.job(id), "attempt", "waiting") for id in mine]
            return all(attempt and waiting == b"1" for attempt, waiting in fields)

        await eventually(came_back)
        await held.revoke_key()
        async with relay(port, two.port):
            await until_status(scene, other, reader, "completed", 20.0)
            for id in mine:
                await until_status(scene, id, reader, "failed", 3.0)
            await asyncio.to_thread(gateway.process.stop)

    assert scene.sent() == ["bob"]


async def test_a_revocation_that_broke_off_midway_holds_too(scene: Scene) -> None:
    """The key is marked, and who was to tell others has died: it is found when it is the next."""
    held = Held(scene)
    text = await held.key()
    reader = await Held(scene).key("submit", "read")
    await scene.block()
    id = await submitted(scene, text, "thief")
    [other] = await scene.jobs(1, "bob")
    async with commands(scene.gateway.redis_url) as redis:
        registry = Registry(redis, lambda name, _: Plan(name))
        await registry.look()
        record = registry.by_id(held.key_id)
        assert record is not None
        await registry.write([KeyWrite(replace(record, revoked_at=time.time()))])
        await until_status(scene, id, reader, "failed", 3.0)
        scene.release()
        await until_status(scene, other, reader, "completed", 10.0)

        assert not await redis.hexists(keys.job(id), "attempt")  # it was never let go
    assert (await seen(scene, id, reader)).json()["error"]["type"] == "credential_revoked"
    assert "thief" not in scene.sent()


@pytest.mark.parametrize("patient", [True, False])
async def test_at_the_last_moment_it_is_asked_again(
    running: Running, two: Simulator, redis_url: str, patient: bool
) -> None:
    """Much may be waited for between a look at a credential and the call of fal."""
    mark = secrets.token_hex(6)
    who = Principal(f"team-{mark}", Kind.USER, "thief")
    source = Source("some-key", (f"jti:{mark}",), time.time() - 10)
    async with in_this_process(two, database(redis_url, 8)) as services:

        async def sent(source: Source) -> str | None:
            """The error type of the job, once it was to be sent."""
            ref = new_ref(who, f"sim/fault/fast/{mark}/thief", services.clock())
            opening = Opening(60.0, True, account="main", source=source)
            await services.ledger.open(ref, opening, nothing_asked(services.clock()))
            place = Place(services, ref.id, direct=False)
            with suppress(Unauthenticated):
                parcel = Parcel(b"{}", {})
                await send(services, ref, opening, parcel, place, patient=patient)
            job = await services.ledger.read(ref.id)
            assert job is not None
            assert job.source is None
            return None if job.end is None else job.end.error_type

        await services.revocations.revoke([f"jti:{mark}"], time.time())
        assert await sent(source) == "credential_revoked"
        assert two.calls(has=mark) == 0
        assert await sent(replace(source, issued_at=time.time() + 10)) is None
        assert two.calls(has=mark) == 1
