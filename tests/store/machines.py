"""What the state machines of this folder have in common: a Redis, an event loop, a team."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from gateway.core.model import Kind, Principal
from gateway.store.connect import commands
from tests.store.doors import Door

T = TypeVar("T")


class Machine(RuleBasedStateMachine):
    """Each run has teams of its own, so that nothing need be flushed."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis = commands(url)
        self.door = Door(self.redis)
        teams = [secrets.token_hex(8) for _ in range(2)]
        self.people = [
            Principal(teams[0], Kind.USER, "alice"),
            Principal(teams[0], Kind.USER, "bob"),
            Principal(teams[1], Kind.USER, "alice"),
        ]

    def do(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return self.runner.run(awaited())

    def all(self, works: Iterable[Awaitable[T]]) -> list[T]:
        """What they give, all at once."""

        async def gathered() -> list[T]:
            return list(await asyncio.gather(*works))

        return self.do(gathered())

    def finish(self) -> None:
        """What must hold once all is over."""

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.do(self.redis.aclose())
            self.runner.close()


def run(machine: Callable[[str], Machine], url: str, examples: int = 10) -> None:
    bounds = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
    )
    run_state_machine_as_test(lambda: machine(url), settings=bounds)  # type: ignore[arg-type]
