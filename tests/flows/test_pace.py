"""What is remembered for long is not done too often: sessions opened, and acts of teams' admins."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

import pytest
from redis.asyncio import Redis

from gateway.core.errors import LimitReached
from gateway.core.issued import KeyWish
from gateway.core.limits import Limit, Measure, Of
from gateway.flows.authenticate import acting_for
from gateway.flows.issue import create_key, list_keys
from gateway.flows.managing import Actor, acting, audit
from gateway.flows.mint import open_session
from gateway.flows.pace import ACTS, SIGN_INS, Pace
from gateway.flows.revoke import Target, revoke
from gateway.flows.services import Services
from gateway.store import keys
from gateway.store.audit import DETAIL
from gateway.store.connect import commands
from tests.flows.office import FILE_KEY, OPERATOR, an_office, called

pytestmark = pytest.mark.anyio

TWO_A_SECOND = Limit("two", Measure.RATE, Of.TEAM, amount=2, per=1)


@dataclass
class Clock:
    """Microseconds."""

    now: int = 10**12

    def __call__(self) -> int:
        return self.now


@pytest.fixture
async def redis(store: str) -> AsyncGenerator[Redis]:
    async with commands(store) as redis:
        yield redis


@pytest.fixture
async def services(store: str) -> AsyncGenerator[Services]:
    """With clocks that stand still."""
    async with an_office(store) as services:
        yield replace(
            services, sign_ins=Pace(SIGN_INS, clock=Clock()), acts=Pace(ACTS, clock=Clock())
        )


def test_each_has_its_own_pace() -> None:
    clock = Clock()
    pace = Pace(TWO_A_SECOND, clock=clock)

    pace.take("a")
    pace.take("a")
    with pytest.raises(LimitReached) as caught:
        pace.take("a")
    pace.take("b")
    clock.now += round(caught.value.wait * 1_000_000)
    pace.take("a")

    assert caught.value.wait == 0.5
    assert caught.value.retry_after == 1


def test_no_more_than_so_many_are_remembered() -> None:
    pace = Pace(TWO_A_SECOND, most=3, clock=Clock())

    for name in "abcd":
        pace.take(name)

    assert len(pace) == 3


async def test_a_principal_opens_so_many_sessions_and_others_go_on(services: Services) -> None:
    """To sign out of each would be remembered for a day, in Redis and in every process."""
    backend = await called(services, FILE_KEY)
    user, other = (acting_for(services, backend, name) for name in ("u-1", "u-2"))

    for _ in range(SIGN_INS.burst):
        open_session(services, user)
    with pytest.raises(LimitReached, match="sign-ins"):
        open_session(services, user)

    assert open_session(services, other)
    assert open_session(services, backend)


async def boss_of(services: Services, team: str) -> Actor:
    made = await create_key(services, OPERATOR, KeyWish(team, "boss", scopes=("admin",)))
    return acting(await called(services, made.text))


async def test_the_admins_of_a_team_do_so_much_and_others_go_on(
    services: Services, redis: Redis
) -> None:
    """Each act is on record, and of one that takes credentials back there is more to remember."""
    red, blue = await boss_of(services, "red"), await boss_of(services, "blue")
    for number in range(ACTS.burst):
        await revoke(services, red, Target(principal=f"user:u{number}"))
    before = await redis.xlen(keys.AUDIT), await redis.hlen(keys.REVOKED)

    with pytest.raises(LimitReached, match="admin-acts"):
        await revoke(services, red, Target(principal="user:more"))
    with pytest.raises(LimitReached, match="admin-acts"):
        await create_key(services, red, KeyWish("red", "more"))

    assert (await redis.xlen(keys.AUDIT), await redis.hlen(keys.REVOKED)) == before
    assert len((await list_keys(services, red)).records) == 1
    await revoke(services, blue, Target(principal="user:u"))
    for number in range(ACTS.burst + 1):
        await revoke(services, OPERATOR, Target(principal=f"user:v{number}", team="red"))


async def test_of_a_long_detail_the_record_keeps_the_beginning(services: Services) -> None:
    """100,000 entries, each with all that a key may name, would fill Redis."""
    origins = tuple(f"https://{'a' * 60}.{'b' * 60}.{number}.example" for number in range(100))
    await create_key(services, OPERATOR, KeyWish("red", "long", origins=origins))
    await create_key(services, OPERATOR, KeyWish("red", "short", origins=origins[:2]))

    long, short = (entry.detail for entry in await audit(services, OPERATOR))

    assert set(long) == {"begins", "sha256"}
    assert len(long["begins"]) == DETAIL
    assert long["begins"].startswith(
        '{"expires_at": null, "name": "long", "networks": [], "origins"'
    )
    assert len(long["sha256"]) == 64
    assert short["origins"] == list(origins[:2])
    assert short["name"] == "short"
