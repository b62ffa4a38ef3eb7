"""The gateway's own queue, from HTTP to fal: fair, cancellable, bounded, and there after a restart.

fal runs two jobs of the account at a time, and the gateway knows.
"""

import asyncio
import json
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from itertools import accumulate
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from gateway.flows.admit import PAUSE
from gateway.sim.access import account_id
from gateway.store import keys
from gateway.store.connect import commands
from tests.flows.desk import database, eventually
from tests.harness import NO_TLS, Gateway, Running, Simulator, free_port

pytestmark = pytest.mark.anyio

SECOND: Final = "fk-second-2b6d4c1e:1f7a90c35be2448d9c06e1a7"
CAP: Final = 2
PLACES: Final = keys.account_slots("main")
QUEUE: Final = {"length": 300, "team_length": 1000, "wait": 600}
CONFIG: Final = {
    "plans": {
        "default": {"endpoints": ["**"], "queue": QUEUE},
        "heavy": {"endpoints": ["**"], "queue": QUEUE | {"weight": 3}},
        "last": {"endpoints": ["**"], "queue": QUEUE | {"priority": 9}},
        "first": {"endpoints": ["**"], "queue": QUEUE | {"priority": 0}},
        "brief": {"endpoints": ["**"], "queue": QUEUE | {"wait": 1}},
        "short": {"endpoints": ["**"], "queue": QUEUE | {"length": 3}},
        "one": {"endpoints": ["**"], "queue": QUEUE, "limits": [{"in_flight": 1}]},
    }
}
ENV: Final = {"GATEWAY_FAL_CAP": str(CAP), "GATEWAY_DRAIN_GRACE": "3"}


@pytest.fixture(scope="module")
def two(running: Running) -> Simulator:
    return running.simulator(concurrency=str(CAP), pace=0.02)


@pytest.fixture(scope="module")
def capped(running: Running, two: Simulator, redis_url: str) -> Gateway:
    return running.gateway(two, env=ENV, config=CONFIG, redis_url=database(redis_url, 10))


class Scene:
    """One test's calls, each to an endpoint with a mark of the test, so that fal tells them."""

    def __init__(self, gateway: Gateway, sim: Simulator, http: httpx.AsyncClient) -> None:
        self.gateway, self.sim, self.http = gateway, sim, http
        self.mark = secrets.token_hex(6)
        self.team = f"team-{self.mark}"

    def who(self, name: str, plan: str = "default", team: str | None = None) -> dict[str, str]:
        token = self.gateway.token(name, self.team if team is None else team, plan=plan)
        return {"authorization": f"Bearer {token}"}

    async def submit(self, name: str, kind: str = "fast", **more: Any) -> httpx.Response:
        endpoint = f"sim/fault/{kind}/{self.mark}/{name}"
        body = {"endpoint": endpoint, "input": {"prompt": "x"}}
        return await self.http.post("/v1/jobs", json=body, headers=self.who(name, **more))

    async def jobs(self, times: int, name: str, **more: Any) -> list[str]:
        """Ids of jobs, submitted one after the other."""
        answers = [await self.submit(name, **more) for _ in range(times)]
        assert [answer.status_code for answer in answers] == [202] * times
        return [answer.json()["id"] for answer in answers]

    async def asked(self, name: str) -> dict[str, Any]:
        """The answer that fal's clients get to a submit."""
        endpoint = f"sim/fault/fast/{self.mark}/{name}"
        answer = await self.http.post(f"/fal/queue/{endpoint}", json={}, headers=self.who(name))
        found: dict[str, Any] = answer.json()
        return found

    async def job(self, id: str, name: str, **more: Any) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/jobs/{id}", headers=self.who(name, **more))
        found: dict[str, Any] = answer.json()
        return found

    def sent(self) -> list[str]:
        """By whom the jobs are that fal got, in their order."""
        paths = [call["path"] for call in self.sim.journal() if call["method"] == "POST"]
        return [path.rsplit("/", 1)[-1] for path in paths if f"/{self.mark}/" in path]

    async def until_sent(self, many: int, within: float = 40.0) -> list[str]:
        async def enough() -> list[str] | None:
            sent = await asyncio.to_thread(self.sent)
            return sent if len(sent) >= many else None

        found: list[str] = await eventually(enough, within)
        return found

    async def block(self) -> None:
        """Let fal have as many jobs as it takes; until `release`, all others wait."""
        await self.jobs(CAP, "blocker", kind="hold", team="blockers")
        await self.until_sent(CAP)

    def held(self, name: str = "") -> list[str]:
        """fal's ids of the jobs that it holds; of one caller, if named."""
        return [
            job["request_id"]
            for job in self.sim.ask("GET", "jobs")
            if job["endpoint"].startswith(f"sim/fault/hold/{self.mark}/{name}")
            and job["status"] != "COMPLETED"
        ]

    async def ended(self) -> list[dict[str, Any]] | None:
        """All jobs that fal got, once they have ended."""
        jobs = await asyncio.to_thread(self.sim.ask, "GET", "jobs")
        mine = [job for job in jobs if f"/{self.mark}/" in job["endpoint"]]
        return mine if all(job["ended_at"] for job in mine) else None

    def release(self, many: int = CAP) -> None:
        for id in self.held()[:many]:
            self.sim.ask("POST", f"end/{id}", json={})


def most_at_once(jobs: list[dict[str, Any]]) -> int:
    """How many of them were at fal at one time."""
    steps = [(job["created_at"], 1) for job in jobs] + [(job["ended_at"], -1) for job in jobs]
    return max(accumulate(step for _, step in sorted(steps)))


def accounts(jobs: list[dict[str, Any]]) -> set[str]:
    return {job["account"] for job in jobs}


@asynccontextmanager
async def a_scene(gateway: Gateway, sim: Simulator) -> AsyncGenerator[Scene]:
    async with httpx.AsyncClient(base_url=gateway.direct, timeout=60, verify=NO_TLS) as http:
        scene = Scene(gateway, sim, http)
        try:
            yield scene
        finally:
            scene.release()


@pytest.fixture
async def scene(capped: Gateway, two: Simulator) -> AsyncGenerator[Scene]:
    async with a_scene(capped, two) as scene:
        yield scene


# Fairness.


async def test_five_wait_no_longer_than_the_slots_allow_behind_two_hundred(scene: Scene) -> None:
    """With c places and jobs that take T, each of the five begins within (5/c + 1) T: before the
    last of them, fal gets the five and at most c of the two hundred."""
    await scene.block()
    flood = await asyncio.gather(*(scene.submit("flood") for _ in range(200)))
    five = [f"user-{n}" for n in range(5)]
    answers = await asyncio.gather(*(scene.submit(name) for name in five))
    assert [answer.status_code for answer in [*flood, *answers]] == [202] * 205
    scene.release()

    sent = await scene.until_sent(CAP + 205)

    order = sent[CAP:]
    last = max(order.index(name) for name in five)
    assert last < 5 + CAP + 1  # two that leave together may arrive the other way round
    assert Counter(order) == Counter({"flood": 200, **dict.fromkeys(five, 1)})


async def test_a_weight_of_three_gets_three_of_four_turns(scene: Scene) -> None:
    await scene.block()
    await scene.jobs(16, "light")
    await scene.jobs(16, "heavy", plan="heavy")
    scene.release()

    order = (await scene.until_sent(CAP + 32))[CAP:]

    for turns in (8, 12, 16):
        assert abs(order[:turns].count("heavy") - turns * 3 / 4) <= 2


async def test_a_class_goes_before_those_after_it(scene: Scene) -> None:
    await scene.block()
    await scene.jobs(6, "many")
    await scene.jobs(3, "urgent", plan="first")
    scene.release()

    order = (await scene.until_sent(CAP + 9))[CAP:]

    assert set(order[:2]) == {"urgent"}
    assert order[:4].count("urgent") == 3


async def test_a_teams_flood_does_not_starve_another_team(scene: Scene) -> None:
    """Teams take turns by lot: of sixty turns, five are soon the other's."""
    await scene.block()
    await asyncio.gather(*(scene.submit("flood") for _ in range(60)))
    await scene.jobs(5, "other", team=f"other-{scene.mark}")
    scene.release()

    order = (await scene.until_sent(CAP + 65))[CAP:]

    last = max(place for place, name in enumerate(order) if name == "other")
    assert last < 45  # later by chance once in 10**7 times


async def test_those_with_room_pass_a_long_line_of_those_without(scene: Scene) -> None:
    """More jobs than are looked at at once stand before it, of one who has no room for them."""
    await scene.jobs(1, "stuck", kind="hold", plan="one")
    waiting = await asyncio.gather(*(scene.submit("stuck", plan="one") for _ in range(70)))
    assert [answer.status_code for answer in waiting] == [202] * 70
    await scene.until_sent(1)
    await scene.jobs(1, "blocker", kind="hold", team="blockers")
    assert await scene.until_sent(2) == ["stuck", "blocker"]
    await scene.jobs(1, "behind", plan="last")
    [blocker] = scene.held("blocker")
    scene.sim.ask("POST", f"end/{blocker}", json={})

    sent = await scene.until_sent(3)

    assert sent[2] == "behind"
    scene.release()
    await scene.until_sent(3 + 70)


async def test_no_more_run_at_once_than_the_cap_whoever_lets_them_go(
    running: Running, redis_url: str
) -> None:
    """Four processes try for each job, at two accounts, while some callers have no room."""
    second = "fk-second-account:00112233445566778899aabbccddeeff"
    sim = running.simulator(concurrency=str(CAP), pace=0.02, key=second, user_id="second-user")
    account = {"key": second, "cap": CAP, "user_id": "second-user"}
    gateway = running.gateway(
        sim,
        env=ENV | {"GATEWAY_WORKERS": "4"},
        config=CONFIG | {"accounts": {"second": account}},
        redis_url=database(redis_url, 12),
    )
    async with a_scene(gateway, sim) as scene:
        plans = {"alice": "one", "bob": "default", "carol": "heavy", "dave": "one"}
        kinds = ["gateway-id", "webhook-twice"] * 4
        answers = await asyncio.gather(
            *(scene.submit(who, kind, plan=plan) for kind in kinds for who, plan in plans.items())
        )
        many = len(kinds) * len(plans)
        assert [answer.status_code for answer in answers] == [202] * many
        sent = await scene.until_sent(many)
        mine = await eventually(scene.ended)

    assert len(sent) == many
    by_account = {name: [job for job in mine if job["account"] == name] for name in accounts(mine)}
    assert [most_at_once(jobs) for jobs in by_account.values()] == [CAP, CAP]
    await asyncio.to_thread(gateway.process.stop)


# What clients see.


async def test_positions_fall_to_zero_in_every_stream(scene: Scene) -> None:
    """What fal has not begun yet is ahead too."""
    await scene.block()
    before = await scene.jobs(2, "alice", kind="hold")
    [last] = await scene.jobs(1, "alice")
    headers = scene.who("alice")
    at = f"/fal/queue/sim/fault/requests/{last}/status"
    now = (await scene.http.get(at, headers=headers)).json()
    statuses, events = asyncio.Queue[Any](), asyncio.Queue[Any]()

    async def follow(path: str, told: asyncio.Queue[Any]) -> None:
        async with scene.http.stream("GET", path, headers=headers) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    told.put_nowait(json.loads(line[5:]))
        told.put_nowait(None)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow(f"{at}/stream", statuses))
        tasks.create_task(follow(f"/v1/jobs/{last}/events", events))
        seen = [(await statuses.get())["queue_position"]]
        while seen[-1]:
            for blocker in scene.held("blocker")[:1]:  # one of those before it begins
                scene.sim.ask("POST", f"end/{blocker}", json={})
            await asyncio.gather(*(scene.job(id, "alice") for id in before))
            seen.append((await asyncio.wait_for(statuses.get(), 20))["queue_position"])
        scene.release()
        end = [status async for status in drained(statuses)]
        told = [event async for event in drained(events)]

    assert now["status"] == "IN_QUEUE"
    assert now["queue_position"] == seen[0] == 2
    assert seen == sorted(seen, reverse=True)
    assert end[-1]["status"] == "COMPLETED"
    queued = [event["queue_position"] for event in told if event["type"] == "job.queued"]
    assert (queued[0], queued[-1]) == (2, 0)
    assert queued == sorted(queued, reverse=True)
    assert told[-1]["type"] == "job.completed"


async def test_an_answer_tells_the_place_that_the_job_has(scene: Scene) -> None:
    await scene.block()
    names = ("alice", "bob", "carol")
    jobs = [await scene.asked(name) for name in names]
    now = [
        (await scene.job(job["request_id"], name))["queue_position"]
        for job, name in zip(jobs, names, strict=True)
    ]
    scene.release()
    await scene.until_sent(CAP + 3)

    assert [job["queue_position"] for job in jobs[:2]] == [0, 1]
    assert jobs[2]["queue_position"] == now[2] > 0


async def drained(told: asyncio.Queue[Any]) -> AsyncGenerator[Any]:
    while (item := await asyncio.wait_for(told.get(), 30)) is not None:
        yield item


async def test_who_waits_can_be_cancelled_at_once(scene: Scene) -> None:
    await scene.block()
    one, other, third = await scene.jobs(3, "alice")
    headers = scene.who("alice")
    before = [(await scene.job(id, "alice"))["queue_position"] for id in (one, other, third)]

    answer = await scene.http.put(f"/fal/queue/sim/fault/requests/{one}/cancel", headers=headers)
    ended = await scene.job(one, "alice")
    result = await scene.http.get(f"/v1/jobs/{one}/result", headers=headers)
    after = [(await scene.job(id, "alice"))["queue_position"] for id in (other, third)]
    scene.release()
    sent = await scene.until_sent(CAP + 2)

    assert answer.status_code == 202
    assert (ended["status"], ended["error"]["type"]) == ("cancelled", "client_cancelled")
    assert result.status_code == 499
    assert before == [0, 1, 2]
    assert after == [0, 1]
    assert sent.count("alice") == 2


async def test_who_has_waited_for_too_long_has_failed(scene: Scene) -> None:
    await scene.block()
    [id] = await scene.jobs(1, "alice", plan="brief")

    answer = await scene.http.get(
        f"/v1/jobs/{id}?wait=20", headers=scene.who("alice", plan="brief")
    )
    ended = answer.json()
    result = await scene.http.get(f"/v1/jobs/{id}/result", headers=scene.who("alice", plan="brief"))

    assert (ended["status"], ended["error"]["type"]) == ("failed", "queue_timeout")
    assert result.status_code == 504
    scene.release()
    await scene.jobs(1, "bob")
    assert "alice" not in await scene.until_sent(CAP + 1)


async def test_a_queue_that_is_full_refuses(scene: Scene) -> None:
    await scene.block()
    await scene.jobs(3, "alice", plan="short")

    refused = await scene.submit("alice", plan="short")
    other = await scene.submit("bob", plan="short")

    assert (refused.status_code, other.status_code) == (429, 202)
    assert refused.json()["error_type"] == "limit_reached"
    assert int(refused.headers["retry-after"]) >= 1
    scene.release()
    assert (await scene.until_sent(CAP + 4)).count("alice") == 3


async def test_input_is_kept_only_until_fal_has_it(scene: Scene) -> None:
    await scene.block()
    [id] = await scene.jobs(1, "alice")
    async with commands(scene.gateway.redis_url) as redis:
        kept = await redis.get(keys.queue_input(id))
        scene.release()
        await scene.until_sent(CAP + 1)
        await eventually(lambda: _missing(redis, keys.queue_input(id)))

    assert kept is not None
    assert isinstance(kept, bytes)
    assert b'{"prompt":"x"}' in kept.replace(b" ", b"")


async def _missing(redis: Any, key: str) -> bool:
    return not await redis.exists(key)


# Restarts.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_queue_outlives_the_gateway(
    running: Running, two: Simulator, redis_url: str, number: signal.Signals
) -> None:
    url = database(redis_url, 11)
    gateway = running.gateway(two, env=ENV, config=CONFIG, redis_url=url)
    async with a_scene(gateway, two) as scene:
        await scene.block()
        ids = await scene.jobs(6, "alice")
        if number is signal.SIGTERM:
            await asyncio.to_thread(gateway.process.stop)
        else:
            await asyncio.to_thread(gateway.process.kill)
        await asyncio.to_thread(gateway.start)
        again = await scene.job(ids[0], "alice")
        scene.release()
        sent = await scene.until_sent(CAP + 6)
        ends = [
            (await scene.http.get(f"/v1/jobs/{id}?wait=30", headers=scene.who("alice"))).json()
            for id in ids
        ]

        assert (again["status"], again["queue_position"]) == ("queued", 0)
        assert sent.count("alice") == 6
        assert {end["status"] for end in ends} == {"completed"}
    await asyncio.to_thread(gateway.process.stop)


async def test_a_stop_amid_the_rush_loses_nobody(
    running: Running, two: Simulator, redis_url: str
) -> None:
    """It stops while it lets jobs go, one after the other."""
    url = database(redis_url, 12)
    gateway = running.gateway(two, env=ENV, config=CONFIG, redis_url=url)
    async with a_scene(gateway, two) as scene:
        await scene.block()
        answers = await asyncio.gather(*(scene.submit("alice") for _ in range(60)))
        ids = [answer.json()["id"] for answer in answers]
        scene.release()
        await scene.until_sent(CAP + 10)
        await asyncio.to_thread(gateway.process.stop)
        at_the_stop = len(scene.sent())
        await asyncio.to_thread(gateway.start)
        sent = await scene.until_sent(CAP + 60)
        deadline = time.monotonic() + 30
        states = Counter[str]()
        while time.monotonic() < deadline and states["completed"] < 60:
            found = await asyncio.gather(*(scene.job(id, "alice") for id in ids))
            states = Counter(job["status"] for job in found)

        assert at_the_stop < CAP + 60
        assert sent.count("alice") == 60
        assert states == Counter(completed=60)
    await asyncio.to_thread(gateway.process.stop)


async def fill(redis: Redis) -> None:
    """Let the account have no room, for as long as a test takes."""
    await redis.zadd(PLACES, {f"other-{n}": time.time() * 2000 for n in range(CAP)})


async def test_those_who_wait_go_on_waiting_while_fal_cannot_be_reached(
    running: Running, two: Simulator, redis_url: str
) -> None:
    port, url = free_port(), database(redis_url, 12)
    origins = json.loads(two.origins) | {"queue.fal.run": f"http://127.0.0.1:{port}/queue.fal.run"}
    env = ENV | {"GATEWAY_FAL_ORIGINS": json.dumps(origins)}
    gateway = running.gateway(two, env=env, config=CONFIG, redis_url=url)
    async with commands(url) as redis, a_scene(gateway, two) as scene:
        await fill(redis)
        ids = await scene.jobs(3, "alice")
        await redis.delete(PLACES)  # there is room now, and nobody there to take them

        async def tried() -> bool:
            return any([await redis.hexists(keys.job(id), "attempt") for id in ids])

        await eventually(tried)
        await asyncio.sleep(0.5)
        waiting = [await redis.hget(keys.job(id), "waiting") for id in ids]
        async with relay(port, two.port):

            async def all_completed() -> bool:
                jobs = [await scene.job(id, "alice") for id in ids]
                assert {job["status"] for job in jobs} <= {"queued", "running", "completed"}
                return all(job["status"] == "completed" for job in jobs)

            await eventually(all_completed)
            await asyncio.to_thread(gateway.process.stop)

    assert waiting == [b"1"] * 3
    assert Counter(scene.sent()) == {"alice": 3}


async def test_those_who_wait_go_on_waiting_while_fal_refuses_our_keys(
    running: Running, two: Simulator, redis_url: str
) -> None:
    """All keys, whatever is asked; a refusal of one endpoint is the end of its job alone."""
    env = ENV | {"GATEWAY_FAL_PROBE_PAUSE": "0.2"}
    gateway = running.gateway(two, env=env, config=CONFIG, redis_url=database(redis_url, 13))
    async with commands(database(redis_url, 13)) as redis, a_scene(gateway, two) as scene:
        await fill(redis)
        (forbidden,) = [(await scene.submit("bob", "submit-403")).json()["id"]]
        ids = await scene.jobs(3, "alice")
        account = two.ask("GET", "accounts")[0]["account"]
        two.ask("POST", f"lock/{account}", params={"status": "403", "everywhere": "1"})
        await redis.delete(PLACES)

        async def tried() -> bool:
            return any([await redis.hexists(keys.job(id), "attempt") for id in [*ids, forbidden]])

        await eventually(tried)
        await asyncio.sleep(0.5)
        waiting = [await redis.hget(keys.job(id), "waiting") for id in [*ids, forbidden]]
        two.ask("POST", f"unlock/{account}")

        async def all_ended() -> bool:
            jobs = [await scene.job(id, "alice") for id in ids]
            assert {job["status"] for job in jobs} <= {"queued", "running", "completed"}
            refused = await scene.job(forbidden, "bob")
            return (
                all(job["status"] == "completed" for job in jobs) and refused["status"] == "failed"
            )

        await eventually(all_ended, within=40)
        await asyncio.to_thread(gateway.process.stop)

    assert waiting == [b"1"] * 4


async def test_those_who_wait_go_on_waiting_while_fal_takes_no_job_of_a_locked_account(
    running: Running, two: Simulator, redis_url: str
) -> None:
    """Out of credit: all that costs nothing is answered, so that the account seems to be good."""
    env = ENV | {"GATEWAY_FAL_PROBE_PAUSE": "0.2"}
    gateway = running.gateway(two, env=env, config=CONFIG, redis_url=database(redis_url, 14))
    async with commands(database(redis_url, 14)) as redis, a_scene(gateway, two) as scene:
        await fill(redis)
        ids = await scene.jobs(3, "alice")
        account = two.ask("GET", "accounts")[0]["account"]
        two.ask("POST", f"lock/{account}", params={"status": "403"})
        await redis.delete(PLACES)

        async def refused() -> bool:
            attempts = [await redis.hexists(keys.job(id), "attempt") for id in ids]
            return any(attempts) and "is out of use" in gateway.log_lines()

        await eventually(refused)
        await asyncio.sleep(0.5)
        waiting = [await redis.hget(keys.job(id), "waiting") for id in ids]
        two.ask("POST", f"unlock/{account}")

        async def all_completed() -> bool:
            jobs = [await scene.job(id, "alice") for id in ids]
            return all(job["status"] == "completed" for job in jobs)

        await eventually(all_completed, within=40)
        await asyncio.to_thread(gateway.process.stop)

    assert waiting == [b"1"] * 3


async def test_an_account_that_is_locked_holds_up_no_team_of_another(
    running: Running, redis_url: str
) -> None:
    """A team's own one is out of credit: its jobs come back, again and again, and no others."""
    sim = running.simulator(concurrency="9", pace=0.02, key=[SECOND])
    theirs = {"own": {"key": SECOND, "teams": ["owners"], "cap": 1}}
    config = CONFIG | {"accounts": theirs}
    url, ever = database(redis_url, 12), time.time() * 2000
    gateway = running.gateway(sim, env=ENV, config=config, redis_url=url)
    async with commands(url) as redis, a_scene(gateway, sim) as scene:
        await redis.zadd(keys.account_slots("own"), {"other": ever})
        ids = await scene.jobs(2, "owner", team="owners")
        sim.ask("POST", f"lock/{account_id(SECOND)}", params={"status": "403"})
        await redis.delete(keys.account_slots("own"))

        async def returned() -> bool:
            tried = [await redis.hexists(keys.job(id), "attempt") for id in ids]
            waits = [await redis.hget(keys.job(id), "waiting") for id in ids]
            return any(tried) and waits == [b"1"] * 2

        await eventually(returned)
        await redis.zadd(keys.account_slots("main"), {f"other-{n}": ever for n in range(CAP)})
        await scene.jobs(1, "alice")
        await redis.delete(keys.account_slots("main"))
        begun = time.monotonic()

        async def alice() -> bool:
            return "alice" in await asyncio.to_thread(scene.sent)

        await eventually(alice)
        took = time.monotonic() - begun
        waiting = [await redis.hget(keys.job(id), "waiting") for id in ids]
        await asyncio.to_thread(gateway.process.stop)

    assert waiting == [b"1"] * 2
    assert took < PAUSE / 2


@asynccontextmanager
async def relay(port: int, to: int) -> AsyncGenerator[None]:
    """What comes to one port of this machine goes to another."""

    async def copied(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def relayed(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(copied(source, back), copied(there, sink))

    server = await asyncio.start_server(relayed, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
