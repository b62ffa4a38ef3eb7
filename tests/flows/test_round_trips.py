"""What a call costs at Redis: two round trips when it is taken, none when it is refused again."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from hashlib import sha1
from typing import Any, Final

import httpx
import pytest
from redis.asyncio import Redis

from gateway.core.model import Kind, Principal
from gateway.store.connect import commands, source
from gateway.store.ledger import PRELUDES as OF_JOBS
from gateway.store.server import own_redis
from gateway.store.settlements import PRELUDES as OF_MONEY
from gateway.store.tally import PERIOD
from tests.harness import NO_TLS, Files, Gateway, Running, Simulator

pytestmark = pytest.mark.anyio

PRELUDES: Final = {**OF_JOBS, **OF_MONEY, "take": (), "seen": ()}
OURS: Final = ("seen", "open", "accept", "take", "end", "lost", "progress", "settle", "tally")
LIMITS: Final = [
    {"rate": "1000/s"}, {"rate": "5000/s", "of": "team"}, {"in_flight": 500},
    {"in_flight": 5000, "of": "team"}, {"jobs": "10000/day"},
]  # fmt: skip
CONFIG: Final = {
    "plans": {
        "default": {"endpoints": ["**"]},
        "bounded": {
            "endpoints": ["**"],
            "limits": LIMITS,
            "budgets": [{"usd": 1000, "per": "day"}, {"units": 1000, "per": "day", "of": "team"}],
            "queue": {"length": 10},
        },
        "one": {"endpoints": ["**"], "limits": [{"in_flight": 1}], "queue": {}},
        "slow": {"endpoints": ["**"], "limits": [{"rate": "2/h"}]},
        "once": {"endpoints": ["**"], "limits": [{"jobs": "1/day"}]},
    },
}


class Traffic:
    """What a gateway sends for calls, by Redis's own MONITOR; not what its loops send all the
    time, which is known from a while without calls."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._ours = {_hash(source(name, *PRELUDES[name])): name for name in OURS}
        self._usual: set[tuple[str, ...]] = set()

    async def learn(self, seconds: float) -> None:
        async with self._heard() as usual:
            await asyncio.sleep(seconds)
        self._usual = {shape for shape in usual if shape[-1] not in self._ours}

    async def keys(self) -> list[str]:
        return [key.decode() async for key in self._redis.scan_iter(count=1000)]

    async def count(self, seconds: float) -> int:
        """All commands of so long a while."""
        async with self._heard() as heard:
            await asyncio.sleep(seconds)
        return len(heard)

    @asynccontextmanager
    async def of_calls(self) -> AsyncGenerator[Counter[str]]:
        """How often each script, or other command, is sent; filled once this is left."""
        counted = Counter[str]()
        async with self._heard() as heard:
            yield counted
        for shape in heard:
            if shape not in self._usual:
                counted[self._ours.get(shape[-1], shape[-1])] += 1

    @asynccontextmanager
    async def _heard(self) -> AsyncGenerator[list[tuple[str, ...]]]:
        """Each command by its name, and its script or key; not what scripts do."""
        shapes: list[tuple[str, ...]] = []
        async with self._redis.monitor() as monitor:
            yield shapes
            mark = secrets.token_hex(8)
            await self._redis.echo(mark)
            while True:
                told: Any = await monitor.next_command()
                if mark in told["command"]:
                    return
                if told["client_type"] != "lua":
                    shapes.append(tuple(told["command"].split(" ")[:2]))


def _hash(script: str) -> str:
    """As Redis names it."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture(scope="module")
def redis_of_its_own(files: Files) -> Generator[str]:
    with own_redis(files.folder("lone-redis")) as url:
        yield url


@pytest.fixture(scope="module", params=["", "500"], ids=["no cap", "cap"])
def lone(
    request: pytest.FixtureRequest, running: Running, wide_sim: Simulator, redis_of_its_own: str
) -> Generator[Gateway]:
    """Without the due work of other tests, in front of an account with a cap, or without."""
    env = {"GATEWAY_FAL_CAP": request.param}
    gateway = running.gateway(wide_sim, config=CONFIG, redis_url=redis_of_its_own, env=env)
    yield gateway
    gateway.process.stop()


@pytest.fixture
async def traffic(lone: Gateway) -> AsyncGenerator[Traffic]:
    async with commands(lone.redis_url) as redis:
        yield Traffic(redis)


@pytest.fixture
async def http(lone: Gateway) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=lone.direct, timeout=30, verify=NO_TLS) as http:
        yield http


def bearer(gateway: Gateway, plan: str) -> dict[str, str]:
    token = gateway.token(f"user-{secrets.token_hex(4)}", plan=plan)
    return {"authorization": f"Bearer {token}"}


BODY: Final = {"endpoint": "sim/fault/hold/many", "input": {}}


@pytest.mark.parametrize("plan", ["default", "bounded"])
async def test_a_taken_submit_costs_two_round_trips(
    lone: Gateway, traffic: Traffic, http: httpx.AsyncClient, wide_sim: Simulator, plan: str
) -> None:
    """`take` goes beside `open`, on another connection: neither waits for the other."""
    headers = bearer(lone, plan)
    first = await http.post("/v1/jobs", json=BODY, headers=headers)
    await traffic.learn(1.5)

    async with traffic.of_calls() as sent:
        answers = [await http.post("/v1/jobs", json=BODY, headers=headers) for _ in range(10)]

    for job in wide_sim.ask("GET", "jobs"):
        if job["endpoint"] == BODY["endpoint"] and not job["ended_at"]:
            wide_sim.ask("POST", f"end/{job['request_id']}", json={})
    assert {answer.status_code for answer in [first, *answers]} == {202}
    assert ("RateLimit" in answers[0].headers) is (plan == "bounded")
    expected = {"open": 10, "accept": 10} | ({"take": 10} if "500" in lone.env.values() else {})
    assert sent == Counter(expected)


@pytest.mark.parametrize(("plan", "taken"), [("slow", 2), ("once", 1)])
async def test_who_is_known_to_be_over_costs_none(
    lone: Gateway, traffic: Traffic, http: httpx.AsyncClient, plan: str, taken: int
) -> None:
    headers = bearer(lone, plan)
    body = {"endpoint": "sim/fault/fast/few", "input": {}}
    codes = [
        (await http.post("/v1/jobs", json=body, headers=headers)).status_code
        for _ in range(taken + 1)
    ]
    await traffic.learn(1.5)

    async with traffic.of_calls() as sent:
        answers = [await http.post("/v1/jobs", json=body, headers=headers) for _ in range(30)]
    other = await http.post("/v1/jobs", json=body, headers=bearer(lone, plan))

    assert codes == [202] * taken + [429]
    assert {answer.status_code for answer in answers} == {429}
    assert sent == Counter()
    assert other.status_code == 202


@pytest.mark.parametrize("lone", [""], indirect=True, ids=["no cap"])
@pytest.mark.parametrize("plan", ["default", "bounded"])
async def test_a_run_costs_a_round_trip_where_something_is_held_alone(
    lone: Gateway, traffic: Traffic, http: httpx.AsyncClient, plan: str
) -> None:
    headers = bearer(lone, plan)
    path = "/fal/run/sim/fault/fast/run"
    first = await http.post(path, json={}, headers=headers)
    await traffic.learn(1.5)

    async with traffic.of_calls() as sent:
        runs = (http.post(path, json={}, headers=headers) for _ in range(10))
        answers = await asyncio.gather(*runs)
        await asyncio.sleep(4 * PERIOD)

    assert {answer.status_code for answer in [first, *answers]} == {200}
    assert sent["open"] == sent["settle"] == (10 if plan == "bounded" else 0)
    assert 1 <= sent.pop("tally", 1) <= 4
    assert set(sent) <= {"open", "settle", "fgw:shards"}  # these are looked for now and then


async def test_who_has_to_wait_costs_little(
    lone: Gateway, traffic: Traffic, http: httpx.AsyncClient, wide_sim: Simulator
) -> None:
    """The queue is looked at now and then, not all the time."""
    headers = bearer(lone, "one")
    body = {"endpoint": "sim/fault/hold/waits", "input": {}}
    answers = [await http.post("/v1/jobs", json=body, headers=headers) for _ in range(3)]

    sent = await traffic.count(2.0)

    listed = (await http.get("/v1/jobs", headers=headers)).json()["jobs"]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert sorted(job["status"] for job in listed)[0] == "queued"
    assert 10 < sent < 300
    for job in answers:
        await http.post(f"/v1/jobs/{job.json()['id']}/cancel", headers=headers)
    assert wide_sim.calls(has="hold/waits", method="POST") >= 1


async def test_a_guess_costs_what_a_foreign_id_does_and_leaves_nothing(
    lone: Gateway, traffic: Traffic, http: httpx.AsyncClient
) -> None:
    """So no clock tells the one from the other, and whoever guesses a million fills nothing."""
    own, name = bearer(lone, "default"), f"stranger-{secrets.token_hex(4)}"
    stranger = {"authorization": f"Bearer {lone.token(name)}"}
    body = {"endpoint": "sim/fault/fast/guessed", "input": {}}
    job_id = (await http.post("/v1/jobs", json=body, headers=own)).json()["id"]
    await http.get(f"/v1/jobs/{job_id}?wait=20", headers=own)
    ways = ("/v1/jobs/@", "/v1/jobs/@/result", "/fal/queue/sim/fault/requests/@/status")

    async def asked(id: str) -> set[int]:
        told = [await http.get(way.replace("@", id), headers=stranger) for way in ways]
        told.append(await http.post(f"/v1/jobs/{id}/cancel", headers=stranger))
        return {answer.status_code for answer in told}

    await asked(job_id)
    await traffic.learn(1.5)
    async with traffic.of_calls() as of_foreign:
        foreign = [await asked(job_id) for _ in range(20)]
    ids = [f"{job_id[:24]}{secrets.token_hex(6)}" for _ in range(20)]
    async with traffic.of_calls() as of_guesses:
        guesses = [await asked(id) for id in ids]

    assert foreign == guesses == [{404}] * 20
    assert of_foreign["seen"] == of_guesses["seen"] == 80
    assert not any(id in what for id in (job_id, *ids) for what in of_foreign | of_guesses)
    left = Principal("default", Kind.USER, name).digest
    assert not [key for key in await traffic.keys() if any(each in key for each in (*ids, left))]
