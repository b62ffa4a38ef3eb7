"""In which order a call meets the accounts, and when those that are out are tried after all."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Final

import pytest

from gateway.core.accounts import Account, Out
from gateway.core.errors import KeyRefused
from gateway.flows.accounts import AccountFull, on_an_account
from gateway.flows.services import Services
from gateway.upstream.accounts import Accounts
from gateway.upstream.health import Health
from gateway.upstream.verdicts import key_refused
from tests.flows.desk import database
from tests.flows.office import an_office

pytestmark = pytest.mark.anyio

NAMES: Final = ("a", "b", "c")
WORKS: Final = "works"
REFUSED: Final = "refused"
FULL: Final = "full"
LOCKED: Final = "locked"


@pytest.fixture(scope="module")
async def office(redis_url: str) -> AsyncGenerator[Services]:
    async with an_office(database(redis_url, 14)) as services:
        yield services


class Calls:
    """What fal makes of calls, by account; and which accounts were asked."""

    def __init__(self, behaves: Mapping[str, str], health: Health) -> None:
        self._behaves = behaves
        self._health = health
        self.asked: list[str] = []

    async def __call__(self, name: str) -> str:
        self.asked.append(name)
        if self._behaves[name] == FULL:
            raise AccountFull
        if self._behaves[name] in {REFUSED, LOCKED}:
            self._health.refused(name, 403)
            raise key_refused(403, b"User is locked." * (self._behaves[name] == LOCKED))
        return f"by {name}"


def front(
    office: Services, behaves: Mapping[str, str], out: set[str]
) -> tuple[Services, Health, Calls]:
    """Accounts of which some are known to be `out`."""
    health = Health(lambda: 0.0)
    health.told({name: Out(0.0, 403) for name in out}, {}, set())
    known = Accounts([Account(name) for name in behaves], {}, health)
    return replace(office, accounts=known), health, Calls(behaves, health)


async def test_one_that_is_out_is_tried_once_all_others_refuse(office: Services) -> None:
    """It may be good by now: it is in use again by this."""
    behaves = {"a": WORKS, "b": REFUSED, "c": REFUSED}
    services, health, calls = front(office, behaves, {"a"})

    assert await on_an_account(services, "any", calls, first="c") == ("a", "by a")

    assert calls.asked == ["c", "b", "a"]
    assert [name for name in NAMES if health.out(name)] == ["b", "c"]


@pytest.mark.parametrize("out", ["", "a", "abc"])
async def test_where_all_refuse_each_is_tried_once(office: Services, out: str) -> None:
    services, _, calls = front(office, dict.fromkeys(NAMES, REFUSED), set(out))

    with pytest.raises(KeyRefused) as refused:
        await on_an_account(services, "any", calls)

    assert str(refused.value) == "the gateway's account at fal is not usable"
    assert sorted(calls.asked) == list(NAMES)


@pytest.mark.parametrize("third", [FULL, REFUSED])
async def test_one_that_is_out_is_left_alone_while_another_is_full(
    office: Services, third: str
) -> None:
    """Calls wait for room; what is out comes back by a probe, not by all of them."""
    behaves = {"a": WORKS, "b": FULL, "c": third}
    services, health, calls = front(office, behaves, {"a"})

    with pytest.raises(AccountFull):
        await on_an_account(services, "any", calls, first="c")

    assert calls.asked == ["c", "b"]
    assert health.out("a") is not None


@pytest.mark.parametrize("locked", ["", "a", "b", "c", "ab", "bc", "abc"])
async def test_they_are_locked_only_where_all_of_them_are(office: Services, locked: str) -> None:
    """One that is open, and refuses, refuses this job: it would come back for ever."""
    behaves = {name: LOCKED if name in locked else REFUSED for name in NAMES}
    services, _, calls = front(office, behaves, {"c"})

    with pytest.raises(KeyRefused) as refused:
        await on_an_account(services, "any", calls, first="a")

    assert calls.asked == ["a", "b", "c"]
    assert refused.value.locked is (locked == "abc")


async def test_the_first_one_is_asked_first_and_no_other_where_it_works(office: Services) -> None:
    services, _, calls = front(office, dict.fromkeys(NAMES, WORKS), set())

    for name in NAMES:
        assert await on_an_account(services, "any", calls, first=name) == (name, f"by {name}")

    assert calls.asked == list(NAMES)
