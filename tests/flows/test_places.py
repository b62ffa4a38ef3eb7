"""Places at accounts that run only so many jobs at once: none lapses, and none is lost."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Generator
from types import SimpleNamespace
from typing import cast

import pytest

from gateway.core.accounts import Account
from gateway.flows.places import Place
from gateway.flows.services import Services
from gateway.store.connect import commands
from gateway.store.server import OwnRedis
from gateway.store.slots import Slots
from gateway.upstream.accounts import Accounts
from gateway.upstream.health import Health
from tests.chaos.gate import Gate
from tests.harness import Files

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def gate(files: Files) -> Generator[Gate]:
    with OwnRedis(files.folder("places")) as server, Gate(server.url) as gate:
        yield gate


@pytest.fixture
async def services(gate: Gate) -> AsyncGenerator[Services]:
    """Of all services, those that places need, with one account of a name of its own."""
    account = Account(f"a{secrets.token_hex(6)}", cap=2)
    async with commands(gate.url) as redis:
        accounts = Accounts([account], {}, Health())
        parts = SimpleNamespace(accounts=accounts, slots=Slots(redis), room=asyncio.Event())
        yield cast(Services, parts)


async def test_a_run_keeps_its_place_for_as_long_as_it_lasts(services: Services) -> None:
    [account] = services.accounts.all
    place = Place(services, "run", direct=True, lives=0.3)
    await place.take(account.name)
    keeping = asyncio.create_task(place.keep())

    running = []
    for _ in range(10):
        await asyncio.sleep(0.1)
        running.append(await services.slots.running(account.name))
    keeping.cancel()
    await place.free()

    assert running == [1] * 10
    assert await services.slots.running(account.name) == 0


async def test_a_place_that_nobody_heard_of_is_given_back(services: Services, gate: Gate) -> None:
    [account] = services.accounts.all
    await Place(services, "before", direct=True, lives=0.01).hurry(account.name)
    place = Place(services, "unheard", direct=True)

    gate.lose_answer("take")
    await place.hurry(account.name)
    gate.open()
    before = await services.slots.running(account.name)
    await place.free()

    assert before == 1
    assert await services.slots.running(account.name) == 0
