"""GET /v1/usage and /v1/me: exact numbers, one's own alone."""

import copy
import csv
import io
import time
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from gateway.core import periods
from gateway.core.model import JobRef, Kind, Principal, State
from gateway.core.usage import csv_line
from gateway.store import keys
from gateway.store.connect import commands
from gateway.store.settlements import Bill, Settlements
from tests.harness import CONFIG, Gateway, Running, Simulator
from tests.web.wire import problem

pytestmark = pytest.mark.anyio

TEAM = "counting"
DAY = 86_400


@pytest.fixture(scope="module")
def counter(running: Running, sim: Simulator) -> Gateway:
    config: dict[str, Any] = copy.deepcopy(dict(CONFIG))
    config["plans"]["bounded"] = {
        "endpoints": ["fal-ai/**"],
        "deny": ["fal-ai/dear"],
        "limits": [{"rate": "10/h"}, {"jobs": "5/day"}, {"in_flight": 7, "of": "team"}],
        "budgets": [{"usd": 5, "per": "day"}, {"units": 100, "per": "month", "of": "team"}],
    }
    for key in config["keys"]:
        if key["name"] in {"member", "reader"}:
            key |= {"team": TEAM, "plan": "bounded"}
    return running.gateway(sim, config=config)


def ref(principal: Principal, endpoint: str) -> JobRef:
    job_id = keys.shard_of_team(principal.team) + "0" * 6 + "-0000-4000-8000-" + "0" * 12
    return JobRef(job_id, principal, endpoint, time.time())


@pytest.fixture
async def used(counter: Gateway) -> AsyncGenerator[Gateway]:
    """alice: 2 runs today, 1 yesterday; bob: 1 today."""
    alice, bob = Principal(TEAM, Kind.USER, "alice"), Principal(TEAM, Kind.USER, "bob")
    async with commands(counter.redis_url) as redis:
        store = Settlements(redis, 60)
        for principal, ago, endpoint, units in (
            (alice, 0, "fal-ai/one", 1_500_000), (alice, 0, "fal-ai/two", 10**6),
            (alice, 1, "fal-ai/one", 10**6), (bob, 0, "fal-ai/one", 3 * 10**6),
        ):  # fmt: skip
            at = time.time() - ago * DAY
            made = ref(principal, endpoint)
            bill = Bill(State.COMPLETED, at, units, units // 40, run=True)
            await store.settle(made, bill, None, at)
            await redis.delete(keys.job(made.id))
        yield counter
        shard = keys.shard_of_team(TEAM)
        for digest in (alice.digest, bob.digest, keys.team_digest(TEAM)):
            for ago in (0, 1):
                await redis.delete(keys.usage(shard, digest, periods.day(time.time() - ago * DAY)))
            await redis.delete(keys.spend(shard, digest))


async def usage(http: httpx.AsyncClient, **query: str) -> Any:
    answer = await http.get("/v1/usage", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def user(gateway: Gateway, name: str = "alice", **claims: Any) -> httpx.AsyncClient:
    token = gateway.token(name, team=TEAM, plan="bounded", **claims)
    return httpx.AsyncClient(
        base_url=gateway.direct, headers={"authorization": f"Bearer {token}"}, timeout=30
    )


async def test_own_usage(used: Gateway) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    async with user(used) as http:
        told = await usage(http)
        only_today = await usage(http, **{"from": today, "to": today})

    assert (told["team"], told["principal"], told["to"]) == (TEAM, "user:alice", today)
    assert told["total"] == {
        "jobs": 3, "completed": 3, "failed": 0, "cancelled": 0, "expired": 0,
        "units": "3.5", "cost": "0.0875",
    }  # fmt: skip
    assert [(row["day"] == today, row["endpoint"], row["units"]) for row in told["rows"]] == [
        (False, "fal-ai/one", "1"), (True, "fal-ai/one", "1.5"), (True, "fal-ai/two", "1")
    ]  # fmt: skip
    assert (only_today["total"]["jobs"], only_today["from"]) == (2, today)


async def test_team_usage_needs_the_scope(used: Gateway) -> None:
    async with used.http(key="reader") as reader, user(used) as alice:
        team = await usage(reader, scope="team")
        own = await usage(reader)
        refused = await alice.get("/v1/usage?scope=team")

    assert (team["principal"], team["total"]["jobs"], team["total"]["units"]) == (None, 4, "6.5")
    assert own["total"]["jobs"] == 0
    assert refused.status_code == 403


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/jobs", "/v1/events"])
async def test_a_scope_that_is_none_is_no_silent_own(used: Gateway, path: str) -> None:
    async with used.http(key="reader") as reader:
        problem(await reader.get(f"{path}?scope=teams"), 400, "bad_body")


@pytest.mark.parametrize(
    "query",
    [
        "from=2026-01-01&to=2026-04-11", "from=2026-02-02&to=2026-02-01", "from=2026-02-30",
        "from=20260201", "from=2026-W05-1", "to=", "from=0001-01-01", "to=tomorrow",
        "from=2026-02-01T00:00",
    ],
)  # fmt: skip
async def test_spans_are_bounded(counter: Gateway, query: str) -> None:
    async with user(counter) as http:
        assert (await http.get(f"/v1/usage?{query}")).status_code == 400
        assert (await http.get("/v1/usage?from=2026-01-01&to=2026-04-10")).status_code == 200
        assert (await http.get("/v1/usage?to=0001-01-01")).status_code == 200


async def test_credentials_for_single_jobs_see_no_usage(counter: Gateway) -> None:
    jobs = frozenset({"00000000-0000-4000-8000-000000000000"})
    async with user(counter, jobs=jobs) as http:
        assert (await http.get("/v1/usage")).status_code == 403


async def test_nobody(counter: Gateway) -> None:
    async with counter.http(user=None) as http:
        assert (await http.get("/v1/usage")).status_code == 401
        assert (await http.get("/v1/me")).status_code == 401


async def test_me_of_a_user(used: Gateway) -> None:
    """Its own numbers, not its team's."""
    async with user(used, endpoints=("fal-ai/one",)) as http:
        told = (await http.get("/v1/me")).json()

    assert (told["team"], told["principal"], told["plan"]) == (TEAM, "user:alice", "bounded")
    assert (told["endpoints"], told["deny"]) == (["fal-ai/one"], ["fal-ai/dear"])
    assert told["expires_at"].endswith("Z")
    assert [limit["measure"] for limit in told["limits"]] == ["rate", "jobs"]
    [budget] = told["budgets"]
    assert budget["resets_at"].endswith("T00:00:00Z")
    del budget["resets_at"]
    assert budget == {
        "name": "principal-usd-day", "of": "principal", "unit": "usd", "per": "day", "amount": "5",
        "spent": "0.0625", "reserved": "0", "remaining": "4.9375", "shadow": False,
    }  # fmt: skip


async def test_me_counts_calls(used: Gateway) -> None:
    async with user(used, "carol") as http:
        before = (await http.get("/v1/me")).json()["limits"]
        run = await http.post("/fal/run/fal-ai/one", json={})
        after = (await http.get("/v1/me")).json()["limits"]

    assert run.status_code == 200
    assert [(limit["used"], limit["remaining"]) for limit in before] == [(0, 10), (0, 5)]
    assert [(limit["used"], limit["remaining"]) for limit in after] == [(1, 9), (1, 4)]
    assert 0 < after[0]["reset"] <= 360
    assert 0 < after[1]["reset"] <= DAY


async def test_me_of_a_member_tells_the_team(used: Gateway) -> None:
    async with used.http(key="member") as http:
        told = (await http.get("/v1/me")).json()

    assert [limit["of"] for limit in told["limits"]] == ["principal", "principal", "team"]
    assert told["budgets"][1]["spent"] == "6.5"
    assert told["expires_at"] is None


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_no_field_is_a_formula(text: str) -> None:
    written = csv_line(["a", text, 'say "x", y']).decode()
    [read] = csv.reader(io.StringIO(written, newline=""))

    assert read == ["a", f"'{text}", 'say "x", y']
    assert csv_line(["plain", "user:alice"]) == b"plain,user:alice\r\n"
