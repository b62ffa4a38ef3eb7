"""Four processes at once: a limit lets in exactly what it says, a budget what fits."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Generator
from typing import Any

import pytest
from redis import Redis as SyncRedis

from gateway.core import periods
from gateway.core.limits import MICRO, Period, Unit
from gateway.store import keys
from tests.harness import clean_env

PROCESSES = 4
ROUNDS = int(os.environ.get("RACE_ROUNDS", "5"))


class Hammers:
    """The processes, all of which play each round at the same time."""

    def __init__(self, url: str) -> None:
        self.redis = SyncRedis.from_url(url)
        self.now = time.time()
        self._all = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.store.hammer", url],
                env=clean_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for _ in range(PROCESSES)
        ]  # fmt: skip

    def play(self, orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for hammer, order in zip(self._all, orders, strict=True):
            assert hammer.stdin is not None
            hammer.stdin.write(json.dumps(order | {"now": self.now}) + "\n")
            hammer.stdin.flush()
        return [self._heard(hammer) for hammer in self._all]

    @staticmethod
    def _heard(hammer: subprocess.Popen[str]) -> dict[str, Any]:
        assert hammer.stdout is not None
        answer: dict[str, Any] = json.loads(hammer.stdout.readline())
        return answer

    def open(self, team: str, plan: str, times: int) -> list[list[str]]:
        """Ids of the jobs that were let in, by process."""
        order = {"do": "open", "team": team, "plan": plan, "times": times // PROCESSES}
        answers = self.play([order | {"who": f"user-{n}"} for n in range(PROCESSES)])
        return [answer["opened"] for answer in answers]

    def spend(self, team: str) -> dict[str, int]:
        key = keys.spend(keys.shard_of_team(team), keys.team_digest(team))
        fields: Any = self.redis.hgetall(key)
        return {name.decode(): int(value) for name, value in fields.items()}

    def stop(self) -> None:
        for hammer in self._all:
            hammer.communicate(timeout=10)
        self.redis.close()


@pytest.fixture(scope="module")
def hammers(node_url: str) -> Generator[Hammers]:
    hammers = Hammers(node_url)
    yield hammers
    hammers.stop()


def test_a_thousand_submits_against_a_limit_of_a_hundred(hammers: Hammers) -> None:
    for _ in range(ROUNDS):
        team = secrets.token_hex(8)
        opened = hammers.open(team, "limit", 1000)

        assert sum(map(len, opened)) == 100
        slots = keys.slots(keys.shard_of_team(team), keys.team_digest(team))
        assert hammers.redis.zcard(slots) == 100


def test_five_hundred_submits_against_a_budget_that_fits_thirty_seven(hammers: Hammers) -> None:
    for _ in range(ROUNDS):
        team = secrets.token_hex(8)
        opened = hammers.open(team, "budget", 500)
        reserved = hammers.spend(team)
        orders = [
            {"do": "end", "team": team, "who": f"user-{n}", "ids": ids}
            for n, ids in enumerate(opened)
        ]
        units = sum(answer["units"] for answer in hammers.play(orders))

        assert sum(map(len, opened)) == 37
        assert (reserved["held:usd"], reserved["held:units"]) == (37 * MICRO, 37 * MICRO)
        spent = hammers.spend(team)
        assert (spent["held:usd"], spent["held:units"]) == (0, 0)
        for per in Period:
            assert spent[periods.field(per, Unit.UNITS, hammers.now)] == units * MICRO
            assert spent[periods.field(per, Unit.USD, hammers.now)] == 3 * units
