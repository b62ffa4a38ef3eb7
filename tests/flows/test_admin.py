"""Who may make which keys and plans, and what is on record of it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.core.credentials import Presented, has_checksum
from gateway.core.errors import (
    BadBody,
    Conflict,
    Forbidden,
    NotFound,
    OriginNotAllowed,
    PreconditionFailed,
    StoreUnavailable,
    Unauthenticated,
)
from gateway.core.issued import KeyChange, KeyRecord, KeyWish
from gateway.core.model import Caller, Key, Kind, Principal, Scope
from gateway.core.tokens import VISITOR_LIFETIME, Claims, Purpose
from gateway.flows.authenticate import Place, acting_for, authenticate, read_pass, still_good
from gateway.flows.issue import (
    TEAM_KEYS,
    Issued,
    change_key,
    create_key,
    list_keys,
    revoke_key,
    rotate_key,
    show_key,
)
from gateway.flows.managing import Actor, acting, audit, operator
from gateway.flows.mint import Wish, mint_token, open_session, stream_pass
from gateway.flows.oversee import standing
from gateway.flows.planning import delete_plan, list_plans, put_plan, show_plan
from gateway.flows.revoke import Target, revoke
from gateway.flows.services import Services
from gateway.store import copies, keys
from gateway.store.connect import commands
from gateway.store.registry import KeyWrite
from tests.flows.office import ADMIN_KEY, BOUND_KEY, FILE_KEY, OPERATOR, an_office, called
from tests.harness import free_port

pytestmark = pytest.mark.anyio

AT_HOME = Place(["https://a.example"])


@pytest.fixture
async def services(store: str) -> AsyncGenerator[Services]:
    async with an_office(store) as services:
        yield services


@pytest.fixture
async def redis(store: str) -> AsyncGenerator[Redis]:
    async with commands(store) as redis:
        yield redis


async def team_admin(services: Services, team: str = "red", **more: Any) -> Actor:
    wish = KeyWish(team, "boss", scopes=("admin",), **more)
    issued = await create_key(services, OPERATOR, wish)
    return acting(await called(services, issued.text), "request-2", "192.0.2.2")


def later(services: Services, seconds: float) -> Services:
    clock = services.clock
    return replace(services, clock=lambda: clock() + seconds)


# Keys


async def test_a_new_key_is_what_was_wished_for_and_its_text_is_nowhere(
    services: Services, redis: Redis
) -> None:
    wish = KeyWish("red", "app", scopes=("submit", "read"), expires_in=60)

    issued = await create_key(services, OPERATOR, wish)

    caller = await called(services, issued.text)
    assert has_checksum(issued.text)
    assert caller.principal == Principal("red", Kind.KEY, "app")
    assert caller.scopes == {Scope.SUBMIT, Scope.READ}
    assert (caller.kid, caller.plan.name) == (issued.record.id, "default")
    assert caller.expires_at == issued.record.key.expires_at
    assert await show_key(services, OPERATOR, caller.kid) == issued.record
    secret = issued.text.rpartition("_")[2]
    kept = [await redis.hgetall(keys.REGISTRY_KEYS), await redis.xrange(keys.AUDIT)]
    assert secret not in f"{kept} {issued!r}"
    assert issued.record.key.hash in str(kept)


@pytest.mark.parametrize(
    ("field", "wish"),
    [
        ("team", KeyWish("", "app")),
        ("team", KeyWish("a/b", "app")),
        ("name", KeyWish("red", "-")),
        ("name", KeyWish("red", "a b")),
        ("name", KeyWish("red", "n" * 129)),
        ("name", KeyWish("red", "app\n")),
        ("plan", KeyWish("red", "app", plan="none")),
        ("scopes", KeyWish("red", "app", scopes=())),
        ("scopes", KeyWish("red", "app", scopes=("submit", "root"))),
        ("expires_in", KeyWish("red", "app", expires_in=0)),
        ("expires_in", KeyWish("red", "app", expires_in=-1)),
        ("expires_in", KeyWish("red", "app", expires_in=10**12)),
        ("origins[0]", KeyWish("red", "app", origins=("*",))),
        ("origins[1]", KeyWish("red", "app", origins=("https://a.example", "https://B.example"))),
        ("origins[0]", KeyWish("red", "app", origins=("https://a.example/",))),
        ("origins[0]", KeyWish("red", "app", origins=("https://a.example:443",))),
        ("origins[0]", KeyWish("red", "app", origins=("null",))),
        ("origins", KeyWish("red", "app", origins=("https://a.example",) * 101)),
        ("networks[0]", KeyWish("red", "app", networks=("10.0.0.1/8",))),
        ("networks[0]", KeyWish("red", "app", networks=("host.example",))),
        ("networks", KeyWish("red", "app", networks=("10.0.0.1",) * 101)),
    ],
)
async def test_a_wish_that_makes_no_sense_is_named(
    field: str, wish: KeyWish, services: Services
) -> None:
    with pytest.raises(BadBody) as refused:
        await create_key(services, OPERATOR, wish)

    assert str(refused.value).startswith(field)
    assert await audit(services, OPERATOR) == ()


async def test_a_name_is_taken_by_keys_of_either_kind(services: Services) -> None:
    await create_key(services, OPERATOR, KeyWish("red", "app"))

    for team, name in (("red", "app"), ("default", "in-file")):
        with pytest.raises(Conflict):
            await create_key(services, OPERATOR, KeyWish(team, name))

    await create_key(services, OPERATOR, KeyWish("blue", "app"))
    await create_key(services, OPERATOR, KeyWish("red", "in-file"))


async def test_lists_are_in_pages_and_lose_nobody(services: Services) -> None:
    made = [
        (await create_key(services, OPERATOR, KeyWish(team, f"n{number}"))).record.id
        for number in range(4)
        for team in ("red", "blue")
    ]
    found, cursor = [], None
    while True:
        page = await list_keys(services, OPERATOR, cursor=cursor, limit=3)
        found += [record.id for record in page.records]
        cursor = page.cursor
        if cursor is None:
            break

    assert sorted(found) == sorted(made)
    red = await list_keys(services, OPERATOR, team="red")
    assert [record.key.name for record in red.records] == ["n3", "n2", "n1", "n0"]
    for bad in ("", "x", "1-", "1-AAAAAAAA", "-1-aaaaaaaa"):
        with pytest.raises(BadBody):
            await list_keys(services, OPERATOR, cursor=bad)
    for limit in (0, -1, 201):
        with pytest.raises(BadBody):
            await list_keys(services, OPERATOR, limit=limit)


async def test_rotation_overlaps_and_stays_the_same_principal(services: Services) -> None:
    wish = KeyWish("red", "app", scopes=("mint",), expires_in=1000, origins=("https://a.example",))
    old = await create_key(services, OPERATOR, wish)
    token = mint_token(services, await called(services, old.text), Wish(user="u")).text

    new = await rotate_key(services, OPERATOR, old.record.id, 100)

    before, after = later(services, 99), later(services, 101)
    assert await called(before, old.text)
    assert (await called(before, token)).principal.name == "u"
    caller = await called(after, new.text)
    assert caller.principal == Principal("red", Kind.KEY, "app")
    assert new.record.key.origins == ("https://a.example",)
    for text in (old.text, token):
        with pytest.raises(Unauthenticated):
            await called(after, text)
    with pytest.raises(Conflict):
        await rotate_key(services, OPERATOR, old.record.id)
    with pytest.raises(Conflict):
        await change_key(services, OPERATOR, old.record.id, KeyChange(expires_in=None))
    with pytest.raises(BadBody, match="overlap"):
        await rotate_key(services, OPERATOR, new.record.id, -1)
    with pytest.raises(BadBody, match="overlap"):
        await rotate_key(services, OPERATOR, new.record.id, 31 * 86_400)


async def test_rotation_never_gives_the_old_key_time(services: Services) -> None:
    old = await create_key(services, OPERATOR, KeyWish("red", "app", expires_in=10))
    await rotate_key(services, OPERATOR, old.record.id, 100)

    with pytest.raises(Unauthenticated):
        await called(later(services, 11), old.text)
    assert await called(later(services, 9), old.text)


async def test_one_of_many_rotations_wins(services: Services) -> None:
    """No two successors: whoever came second is told, and no key of theirs is good."""
    old = await create_key(services, OPERATOR, KeyWish("red", "app"))

    outcomes = await asyncio.gather(
        *(rotate_key(services, OPERATOR, old.record.id, 60) for _ in range(5)),
        return_exceptions=True,
    )

    assert sum(isinstance(outcome, Issued) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 4
    assert len((await list_keys(services, OPERATOR)).records) == 2


async def test_changes_are_seen_and_never_lost(services: Services) -> None:
    issued = await create_key(services, OPERATOR, KeyWish("red", "app", expires_in=60))
    key_id = issued.record.id
    change = KeyChange(scopes=("read",), expires_in=None, networks=("10.0.0.0/8",))

    changed = await change_key(services, OPERATOR, key_id, change, issued.record.version)

    assert changed.key == replace(
        issued.record.key,
        scopes=frozenset({Scope.READ}),
        expires_at=None,
        networks=("10.0.0.0/8",),
    )
    with pytest.raises(PreconditionFailed, match="version"):
        await change_key(services, OPERATOR, key_id, KeyChange(), issued.record.version)
    for bad in (
        KeyChange(plan="none"),
        KeyChange(scopes=()),
        KeyChange(expires_in=0),
        KeyChange(origins=("*",)),
        KeyChange(networks=("x",)),
    ):
        with pytest.raises(BadBody):
            await change_key(services, OPERATOR, key_id, bad)
    assert await show_key(services, OPERATOR, key_id) == changed


async def test_of_many_changes_to_one_version_one_is_made(services: Services) -> None:
    issued = await create_key(services, OPERATOR, KeyWish("red", "app"))
    seen = issued.record.version

    outcomes = await asyncio.gather(
        *(
            change_key(services, OPERATOR, issued.record.id, KeyChange(scopes=(name,)), seen)
            for name in ("read", "mint", "submit") * 3
        ),
        return_exceptions=True,
    )

    done = [each for each in outcomes if isinstance(each, KeyRecord)]
    assert sum(isinstance(each, PreconditionFailed) for each in outcomes) == 8
    assert [await show_key(services, OPERATOR, issued.record.id)] == done


async def test_a_revoked_key_takes_its_tokens_and_streams_along(services: Services) -> None:
    issued = await create_key(services, OPERATOR, KeyWish("red", "app", scopes=("mint",)))
    caller = await called(services, issued.text)
    token = mint_token(services, caller, Wish(user="u")).text
    session = open_session(services, caller).text
    user = await called(services, token)
    assert still_good(services, user)

    revoked = await revoke_key(services, OPERATOR, issued.record.id)
    again = await revoke_key(services, OPERATOR, issued.record.id)

    assert services.revocations.revoked([f"key:{issued.record.id}"], services.clock())
    assert revoked.revoked_at is not None
    assert again == revoked
    for presented in (
        Presented(issued.text, "key"),
        Presented(token, "token"),
        Presented(session, "session"),
    ):
        with pytest.raises(Unauthenticated):
            await authenticate(services, presented, loopback=False)
    assert not still_good(services, user)
    assert not still_good(services, caller)
    with pytest.raises(Conflict):
        await change_key(services, OPERATOR, issued.record.id, KeyChange())
    with pytest.raises(Conflict):
        await rotate_key(services, OPERATOR, issued.record.id)
    fresh = await create_key(services, OPERATOR, KeyWish("red", "app"))
    assert await called(services, fresh.text)


async def test_a_key_that_ended_takes_its_tokens_along_without_a_revocation(
    services: Services, redis: Redis
) -> None:
    """Its own end, brought forward, or a revocation that only the registry tells of."""
    issued = await create_key(services, OPERATOR, KeyWish("red", "app", scopes=("mint",)))
    token = mint_token(services, await called(services, issued.text), Wish(user="u")).text
    user = await called(services, token)
    change = KeyChange(expires_in=10)
    await change_key(services, OPERATOR, issued.record.id, change)
    assert await called(later(services, 9), token)

    with pytest.raises(Unauthenticated):
        await called(later(services, 11), token)
    assert not still_good(later(services, 11), user)

    await revoke_key(services, OPERATOR, issued.record.id)
    await redis.delete(keys.REVOKED)
    await redis.incr(keys.REVOKED_VERSION)
    await services.revocations.look()
    with pytest.raises(Unauthenticated):
        await called(services, token)


async def test_a_token_has_no_more_than_its_key_by_now(services: Services) -> None:
    wish = KeyWish("red", "app", scopes=("read", "mint", "admin"))
    await put_plan(services, OPERATOR, "pro", {"endpoints": ["fal-ai/flux/**"]})
    issued = await create_key(services, OPERATOR, replace(wish, plan="pro"))
    caller = await called(services, issued.text)
    session = Presented(open_session(services, caller).text, "session")
    token = mint_token(services, caller, Wish(user="u", scopes=frozenset(Scope))).text
    assert (await authenticate(services, session, loopback=False)).scopes == {Scope.READ}
    assert (await called(services, token)).scopes == {Scope.SUBMIT, Scope.READ}

    await change_key(services, OPERATOR, issued.record.id, KeyChange(scopes=("mint",)))
    assert (await authenticate(services, session, loopback=False)).scopes == set()
    await change_key(services, OPERATOR, issued.record.id, KeyChange(plan="default"))

    with pytest.raises(Unauthenticated):
        await called(services, token)


async def test_keys_that_ended_long_ago_are_forgotten(services: Services) -> None:
    ids = [
        (await create_key(services, OPERATOR, KeyWish("red", f"n{n}", expires_in=5))).record.id
        for n in range(3)
    ]
    kept = await create_key(services, OPERATOR, KeyWish("red", "kept"))
    await revoke_key(services, OPERATOR, ids[0])
    month = later(services, 29 * 86_400)
    await create_key(month, OPERATOR, KeyWish("red", "x"))
    still = {record.id for record in services.directory.registry.records()}

    await create_key(later(services, 31 * 86_400), OPERATOR, KeyWish("red", "y"))

    assert still >= set(ids)
    left = {record.id for record in services.directory.registry.records()}
    assert left.isdisjoint(ids)
    assert kept.record.id in left


# Where a key may be used


@pytest.mark.parametrize(
    ("origins", "good"),
    [
        ((), True),
        (("https://a.example",), True),
        (("https://b.example",), False),
        (("https://a.example.evil.example",), False),
        (("null",), False),
        (("https://a.example", "https://b.example"), False),
    ],
)
async def test_pages_of_other_origins_are_refused_with_tokens_too(
    origins: tuple[str, ...], good: bool, services: Services
) -> None:
    wish = KeyWish("red", "app", scopes=("mint",), origins=("https://a.example",))
    text = (await create_key(services, OPERATOR, wish)).text
    token = mint_token(services, await called(services, text), Wish(user="u")).text

    for each in (text, token):
        if good:
            assert await called(services, each, Place(origins))
        else:
            with pytest.raises(OriginNotAllowed):
                await called(services, each, Place(origins))


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("10.1.2.3", True),
        ("2001:db8::1", True),
        ("11.0.0.1", False),
        ("2001:db9::1", False),
        ("unknown", False),
        ("", False),
    ],
)
async def test_networks_bind_the_key_and_not_its_tokens(
    address: str, good: bool, services: Services
) -> None:
    wish = KeyWish("red", "app", scopes=("mint",), networks=("10.0.0.0/8", "2001:db8::/32"))
    text = (await create_key(services, OPERATOR, wish)).text
    inside = Place((), "10.0.0.1")
    token = mint_token(services, await called(services, text, inside), Wish(user="u")).text

    if good:
        assert await called(services, text, Place((), address))
    else:
        with pytest.raises(Forbidden):
            await called(services, text, Place((), address))
    assert await called(services, token, Place((), address))


async def test_a_pass_of_a_new_key_is_bound_to_its_origins_in_every_process_at_once(
    store: str, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "PERIOD", 60.0)  # by itself the other one looks no more
    async with an_office(store) as other:
        await other.directory.registry.look()
        wish = KeyWish("red", "app", origins=("https://a.example",))
        issued = await create_key(services, OPERATOR, wish)
        text = stream_pass(services, await called(services, issued.text, AT_HOME), None).text

        with pytest.raises(OriginNotAllowed):
            await read_pass(other, text, Place(["https://b.example"]))

        assert (await read_pass(other, text, AT_HOME)).read_only


async def test_a_key_of_the_settings_can_be_bound_too(services: Services) -> None:
    home = Place(("https://a.example",), "10.0.0.1")
    token = mint_token(services, await called(services, BOUND_KEY, home), Wish(user="u")).text

    with pytest.raises(Forbidden):
        await called(services, BOUND_KEY, replace(home, address="11.0.0.1"))
    for text in (BOUND_KEY, token):
        assert await called(services, text, home)
        with pytest.raises(OriginNotAllowed):
            await called(services, text, replace(home, origins=("https://b.example",)))


async def test_without_redis_keys_of_the_settings_work_and_others_are_not_judged() -> None:
    async with an_office(f"redis://127.0.0.1:{free_port()}") as services:
        assert (await called(services, FILE_KEY)).principal.name == "in-file"
        with pytest.raises(StoreUnavailable):
            await called(services, "fgw_abcdefghijkl_" + "A" * 36)


async def test_an_unknown_key_is_refused(services: Services) -> None:
    with pytest.raises(Unauthenticated):
        await called(services, "fgw_abcdefghijkl_" + "A" * 36)


# Who may


async def test_scope_admin_makes_an_actor_and_nothing_else_does(services: Services) -> None:
    plan = services.directory.get("default")
    assert plan is not None
    caller = Caller(
        principal=Principal("red", Kind.KEY, "k"),
        plan=plan,
        scopes=frozenset(Scope),
        kid="k" * 8,
        revocable=(),
        issued_at=0.0,
    )

    assert acting(caller).team == "red"
    for less in (
        replace(caller, scopes=frozenset(Scope) - {Scope.ADMIN}),
        replace(caller, read_only=True),
        acting_for(services, caller, "user"),
    ):
        with pytest.raises(Forbidden):
            acting(less)


@pytest.mark.parametrize(
    ("presented", "good"),
    [
        (Presented(ADMIN_KEY, "token"), True),
        (Presented(ADMIN_KEY, "session"), False),
        (Presented(ADMIN_KEY + "x", "token"), False),
        (Presented("", "token"), False),
        (Presented(FILE_KEY, "key"), False),
        (None, False),
    ],
)
async def test_the_operator_is_known_by_the_admin_key_alone(
    presented: Presented | None, good: bool, services: Services
) -> None:
    assert operator(services, presented) is good
    assert not operator(replace(services, operator_hash=None), presented)
    assert ADMIN_KEY not in repr(services)


async def test_a_team_admin_manages_its_own_team(services: Services) -> None:
    boss = await team_admin(services)
    foreign = await create_key(services, OPERATOR, KeyWish("blue", "app"))
    own = await create_key(services, boss, KeyWish("red", "app", scopes=("mint", "read")))

    for act in (
        show_key(services, boss, foreign.record.id),
        rotate_key(services, boss, foreign.record.id),
        change_key(services, boss, foreign.record.id, KeyChange()),
        revoke_key(services, boss, foreign.record.id),
        revoke(services, boss, Target(key=foreign.record.id)),
        revoke(services, boss, Target(key="infile0001")),
        show_key(services, boss, "abcdefghijkl"),
    ):
        with pytest.raises(NotFound) as refused:
            await act
        assert str(refused.value) == "there is no such key"
    with pytest.raises(Forbidden):
        await create_key(services, boss, KeyWish("blue", "mine"))
    with pytest.raises(Forbidden):
        await list_keys(services, boss, team="blue")
    listed = await list_keys(services, boss)
    assert {record.key.name for record in listed.records} == {"boss", "app"}
    assert (await rotate_key(services, boss, own.record.id)).record.key.team == "red"
    assert await called(services, foreign.text)


async def test_a_team_admin_gives_nobody_more_than_it_has(services: Services) -> None:
    await put_plan(services, OPERATOR, "free", {"endpoints": ["a/b"]})
    await put_plan(services, OPERATOR, "pro", {"endpoints": ["**"], "grants": ["free"]})
    boss = await team_admin(services, plan="pro")
    other = await create_key(services, OPERATOR, KeyWish("red", "other", scopes=("admin",)))
    gold = await create_key(services, OPERATOR, KeyWish("red", "gold", plan="spare"))
    assert boss.kid is not None

    for act in (
        create_key(services, boss, KeyWish("red", "a", plan="pro", scopes=("admin",))),
        create_key(services, boss, KeyWish("red", "a", plan="spare")),
        rotate_key(services, boss, other.record.id),
        rotate_key(services, boss, gold.record.id),
        change_key(services, boss, gold.record.id, KeyChange(networks=())),
        change_key(services, boss, gold.record.id, KeyChange(plan="free")),
        change_key(services, boss, boss.kid, KeyChange(expires_in=None)),
        put_plan(services, boss, "mine", {}),
        delete_plan(services, boss, "free"),
        audit(services, boss),
        revoke(services, boss, Target(jti="abc")),
        revoke(services, boss, Target(principal="user:u", team="blue")),
    ):
        with pytest.raises(Forbidden):
            await act
    for plan in ("pro", "free"):
        made = await create_key(services, boss, KeyWish("red", plan, plan=plan))
        with pytest.raises(Forbidden):
            await change_key(services, boss, made.record.id, KeyChange(scopes=("admin",)))
        with pytest.raises(Forbidden):
            await change_key(services, boss, made.record.id, KeyChange(plan="spare"))
    assert [plan.name for plan in await list_plans(services, boss)] == ["free", "pro"]
    with pytest.raises(NotFound):
        await show_plan(services, boss, "spare")


async def test_a_team_admin_may_renew_its_key_but_not_its_time(services: Services) -> None:
    boss = await team_admin(services, expires_in=100)
    assert boss.kid is not None

    renewed = await rotate_key(later(services, 50), boss, boss.kid, 10)

    first = await show_key(services, OPERATOR, boss.kid)
    assert renewed.record.key.expires_at == pytest.approx(first.created_at + 100, abs=5)
    assert Scope.ADMIN in renewed.record.key.scopes


# Plans


async def test_a_plan_counts_everywhere_at_once(store: str, services: Services) -> None:
    made = await put_plan(services, OPERATOR, "pro", {"endpoints": ["fal-ai/flux/**"]})
    text = (await create_key(services, OPERATOR, KeyWish("red", "a", plan="pro"))).text
    changed = await put_plan(
        services, OPERATOR, "pro", {"endpoints": ["fal-ai/echo"]}, made.version
    )

    async with an_office(store) as other:
        assert (await called(other, text)).plan.endpoints == ("fal-ai/echo",)
        assert await show_plan(other, OPERATOR, "pro") == changed
    for seen in (made.version, 0):
        with pytest.raises(PreconditionFailed):
            await put_plan(services, OPERATOR, "pro", {}, seen)
    shown = await show_plan(services, OPERATOR, "default")
    assert shown.rules["endpoints"] == ["fal-ai/echo"]
    listed = await list_plans(services, OPERATOR)
    assert [(plan.name, plan.in_file) for plan in listed] == [
        ("default", True),
        ("pro", False),
        ("spare", True),
    ]


@pytest.mark.parametrize(
    ("name", "rules", "says"),
    [
        ("a b", {}, "name"),
        ("pro", {"endpionts": []}, "endpionts"),
        ("pro", {"endpoints": "a/b"}, "endpoints"),
        ("pro", {"endpoints": ["//"]}, "endpoints"),
        ("pro", {"max_body": -1}, "max_body"),
        ("pro", {"max_body": float("nan")}, "JSON"),
        ("pro", {"grants": ["nobody"]}, "grants"),
        ("pro", {"limits": [{"jobs": "5/day", "of": "address"}]}, "visitors"),
        ("pro", {"endpoints": ["\ud800/a"]}, "JSON"),
        ("pro", {"endpoints": [f"owner/model-{number}" for number in range(5000)]}, "bytes"),
    ],
)
async def test_a_plan_that_makes_no_sense_is_refused(
    name: str, rules: dict[str, Any], says: str, services: Services
) -> None:
    with pytest.raises(BadBody, match=says):
        await put_plan(services, OPERATOR, name, rules)

    assert "pro" not in {plan.name for plan in await list_plans(services, OPERATOR)}


async def test_plans_of_the_settings_stay_as_they_are(services: Services) -> None:
    for act in (
        put_plan(services, OPERATOR, "default", {"endpoints": ["**"]}),
        delete_plan(services, OPERATOR, "spare"),
    ):
        with pytest.raises(Conflict):
            await act


async def test_a_plan_in_use_is_not_deleted(services: Services) -> None:
    await put_plan(services, OPERATOR, "free", {})
    await put_plan(services, OPERATOR, "pro", {"grants": ["free"]})
    issued = await create_key(services, OPERATOR, KeyWish("red", "a", plan="pro"))

    with pytest.raises(Conflict, match=issued.record.id):
        await delete_plan(services, OPERATOR, "pro")
    with pytest.raises(Conflict, match="pro"):
        await delete_plan(services, OPERATOR, "free")
    await revoke_key(services, OPERATOR, issued.record.id)
    await delete_plan(services, OPERATOR, "pro")
    await delete_plan(services, OPERATOR, "free")

    with pytest.raises(NotFound):
        await delete_plan(services, OPERATOR, "pro")
    with pytest.raises(BadBody, match="plan"):
        await create_key(services, OPERATOR, KeyWish("red", "b", plan="pro"))


async def test_a_plan_goes_or_gets_a_key_never_both(store: str, services: Services) -> None:
    async with an_office(store) as other:
        for turn in range(10):
            name = f"p{turn}"
            await put_plan(services, OPERATOR, name, {})
            await other.directory.registry.look()
            made, gone = await asyncio.gather(
                create_key(other, OPERATOR, KeyWish("red", name, plan=name)),
                delete_plan(services, OPERATOR, name),
                return_exceptions=True,
            )

            await services.directory.registry.look()
            there = services.directory.registry.has_plan(name)
            assert there == isinstance(made, Issued)
            assert (gone is None) != there
        await put_plan(services, OPERATOR, "last", {})
        await other.directory.registry.look()
        await delete_plan(services, OPERATOR, "last")
        with pytest.raises((Conflict, BadBody)):  # whether it has heard of that already or not
            await create_key(other, OPERATOR, KeyWish("red", "last", plan="last"))


async def test_a_plan_that_cannot_be_read_refuses_its_callers_alone(
    services: Services, redis: Redis
) -> None:
    """Two versions of the gateway at one Redis."""
    await put_plan(services, OPERATOR, "pro", {"endpoints": ["a/b"]})
    text = (await create_key(services, OPERATOR, KeyWish("red", "a", plan="pro"))).text
    good = (await create_key(services, OPERATOR, KeyWish("red", "b"))).text
    kept = json.loads(await redis.hget(keys.REGISTRY_PLANS, "pro") or b"")
    kept["record"]["rules"]["of-tomorrow"] = True
    await redis.hset(keys.REGISTRY_PLANS, "pro", json.dumps(kept))
    version = await redis.incr(keys.REGISTRY_VERSION)
    await redis.zadd(keys.REGISTRY_CHANGES, {"ppro": version})

    await services.directory.registry.look()

    with pytest.raises(Forbidden, match="pro"):
        await called(services, text)
    assert await called(services, good)


# Revocations of others


async def test_a_user_is_signed_out_everywhere_and_may_come_again(services: Services) -> None:
    boss = await team_admin(services)
    minter = await create_key(services, boss, KeyWish("red", "app", scopes=("mint",)))
    caller = await called(services, minter.text)
    old = mint_token(services, caller, Wish(user="u")).text
    other = mint_token(services, caller, Wish(user="v")).text

    await revoke(services, boss, Target(principal="user:u"))

    with pytest.raises(Unauthenticated):
        await called(services, old)
    assert await called(services, other)
    soon = later(services, 2)
    assert await called(soon, mint_token(soon, caller, Wish(user="u")).text)


async def test_what_a_name_was_given_so_far_is_taken_back(services: Services, redis: Redis) -> None:
    """Keys of the settings have no time of their own: for them it must be for good."""
    text = (await create_key(services, OPERATOR, KeyWish("red", "app"))).text
    for kind, name in (("key", "app"), ("user", "u")):
        await revoke(services, OPERATOR, Target(principal=f"{kind}:{name}", team="red"))

    with pytest.raises(Unauthenticated):
        await called(services, text)
    issued = (await list_keys(services, OPERATOR)).records[0]
    await revoke_key(services, OPERATOR, issued.id)
    fresh = await create_key(later(services, 2), OPERATOR, KeyWish("red", "app"))
    assert await called(services, fresh.text)
    assert await redis.zscore(keys.REVOKED_UNTIL, "principal:red/key:app") is None
    assert await redis.zscore(keys.REVOKED_UNTIL, "principal:red/user:u") is not None


async def test_a_token_is_taken_back_by_its_text_and_by_its_jti(services: Services) -> None:
    boss, stranger = await team_admin(services), await team_admin(services, "blue")
    minter = await create_key(services, boss, KeyWish("red", "app", scopes=("mint",)))
    caller = await called(services, minter.text)
    first, second, third = (mint_token(services, caller, Wish(user="u")) for _ in range(3))

    with pytest.raises(Forbidden):
        await revoke(services, stranger, Target(token=first.text))
    await revoke(services, boss, Target(token=first.text))
    await revoke(services, OPERATOR, Target(jti=second.claims.jti))

    for each in (first, second):
        with pytest.raises(Unauthenticated):
            await called(services, each.text)
    assert await called(services, third.text)


async def test_what_is_no_key_is_not_remembered_for_good(services: Services, redis: Redis) -> None:
    """Else an admin of one team could fill what all processes keep in memory."""
    boss = await team_admin(services)
    for name in ("nobody", "boss"):
        await revoke(services, boss, Target(principal=f"key:{name}"))
    await revoke(services, OPERATOR, Target(principal="key:in-file", team="default"))

    for name, kept in (("red/key:nobody", False), ("red/key:boss", True)):
        until = await redis.zscore(keys.REVOKED_UNTIL, f"principal:{name}")
        assert (until is None) is kept
    assert await redis.zscore(keys.REVOKED_UNTIL, "principal:default/key:in-file") is None


async def test_the_admins_of_one_team_leave_room_for_others(services: Services) -> None:
    boss, other = await team_admin(services), await team_admin(services, "blue")
    registry = services.directory.registry
    for start in range(1, TEAM_KEYS, 500):
        made = [
            KeyRecord(Key(f"n{n}", f"sha256:{n:064x}", team="red", id=f"filled{n:06}"), 1.0, "test")
            for n in range(start, min(start + 500, TEAM_KEYS))
        ]
        await registry.write([KeyWrite(record) for record in made])

    with pytest.raises(Forbidden, match="5000"):
        await create_key(services, boss, KeyWish("red", "more"))
    assert boss.kid is not None
    with pytest.raises(Forbidden, match="5000"):
        await rotate_key(services, boss, boss.kid)
    assert await create_key(services, other, KeyWish("blue", "more"))
    assert await create_key(services, OPERATOR, KeyWish("red", "more"))


async def test_a_visitors_cookie_is_taken_back_for_as_long_as_it_lives(
    services: Services, redis: Redis
) -> None:
    now = int(services.clock())
    who = Principal("visitors", Kind.ANONYMOUS, "a" * 32)
    ends = now + VISITOR_LIFETIME
    claims = Claims(Purpose.VISITOR, "a" * 32, "visitor", who, "default", now, ends)

    await revoke(services, OPERATOR, Target(token=services.seals.issue(claims)))

    until = await redis.zscore(keys.REVOKED_UNTIL, f"jti:{claims.jti}")
    assert until is not None
    assert until >= ends


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (Target(jti="iss:login:a|b/c"), "jti:iss:login:a|b/c"),
        (Target(key="iss:login"), "key:iss:login"),
    ],
)
async def test_jwts_are_taken_back_by_the_names_that_they_have_here(
    target: Target, name: str, services: Services
) -> None:
    boss = await team_admin(services)
    with pytest.raises((Forbidden, NotFound)):
        await revoke(services, boss, target)

    await revoke(services, OPERATOR, target)

    now = services.clock()
    assert services.revocations.revoked([name], now)
    assert not services.revocations.revoked([name], now + 2)


@pytest.mark.parametrize("rotated", [False, True])
async def test_a_key_stands_with_the_limits_of_the_plan_that_it_has_now(
    rotated: bool, services: Services
) -> None:
    """Of the settings, issued, or issued anew: with no word of a plan in the question."""
    old = (await create_key(services, OPERATOR, KeyWish("red", "app"))).record.id
    if rotated:
        old = (await rotate_key(later(services, 1), OPERATOR, old)).record.id
    await change_key(services, OPERATOR, old, KeyChange(plan="spare"))

    for team, name, plan in (
        ("red", "app", "spare"),
        ("default", "in-file", "default"),
        ("default", "bound", "spare"),
        ("default", "short000001", "default"),
    ):
        stands = await standing(services, OPERATOR, team, f"key:{name}", None)
        assert (stands.principal, stands.plan) == (Principal(team, Kind.KEY, name), plan)


async def test_an_admin_learns_of_no_plan_but_those_of_its_team(services: Services) -> None:
    await put_plan(services, OPERATOR, "secret", {"limits": [{"jobs": "5/day"}]})
    await put_plan(services, OPERATOR, "gold", {"limits": [{"jobs": "7/day"}]})
    boss = await team_admin(services)
    for name in ("secret", "gold", "none"):
        with pytest.raises(NotFound):
            await standing(services, boss, None, None, name)

    await create_key(services, OPERATOR, KeyWish("red", "rich", plan="gold"))

    assert (await standing(services, boss, None, None, "gold")).plan == "gold"
    assert (await standing(services, boss, None, "key:rich", None)).plan == "gold"
    assert (await standing(services, boss, None, None, None)).plan == "default"
    assert (await standing(services, OPERATOR, None, None, "secret")).plan == "secret"


async def test_a_key_of_the_settings_is_taken_back_for_good(services: Services) -> None:
    caller = await called(services, FILE_KEY)
    token = mint_token(services, caller, Wish(user="u")).text

    await revoke(services, OPERATOR, Target(key="infile0001"))

    for text in (FILE_KEY, token):
        with pytest.raises(Unauthenticated):
            await called(services, text)


@pytest.mark.parametrize(
    "target",
    [
        Target(),
        Target(key="abcdefgh", jti="x"),
        Target(principal="user:u"),
        Target(principal="user:", team="red"),
        Target(principal="robot:r", team="red"),
        Target(principal="user", team="red"),
        Target(principal="user:a b", team="red"),
        Target(principal="user:u", team="a/b"),
        Target(token="no.token"),
        Target(jti=""),
        Target(jti="a b"),
    ],
)
async def test_a_target_that_is_none_is_refused(target: Target, services: Services) -> None:
    with pytest.raises(BadBody):
        await revoke(services, OPERATOR, target)


# The record


async def test_every_act_is_on_record_before_it_is_done(services: Services) -> None:
    boss = await team_admin(services)
    made = await create_key(services, boss, KeyWish("red", "app"))
    await put_plan(services, OPERATOR, "pro", {"endpoints": ["a/b"]})
    with pytest.raises(Conflict):
        await create_key(services, boss, KeyWish("red", "app"))
    await revoke(services, OPERATOR, Target(principal="user:u", team="red"))

    entries = await audit(services, OPERATOR)

    told = [(entry.actor, entry.action, entry.failed) for entry in entries]
    assert told == [
        ("operator", "key.create", None),
        ("red/key:boss", "key.create", None),
        ("operator", "plan.put", None),
        ("red/key:boss", "key.create", None),
        ("red/key:boss", "key.create", "conflict"),
        ("operator", "revoke", None),
    ]
    assert (entries[1].subject, entries[1].detail["name"]) == (made.record.id, "app")
    assert (entries[1].request_id, entries[1].address) == ("request-2", "192.0.2.2")
    assert entries[-1].subject == "principal:red/user:u"
    rest = await audit(services, OPERATOR, after=entries[3].id, limit=1)
    assert rest == (entries[4],)
    for bad in ("x", "", "1", "1-x"):
        with pytest.raises(BadBody):
            await audit(services, OPERATOR, after=bad)


async def test_what_cannot_be_recorded_is_not_done(services: Services, redis: Redis) -> None:
    issued = await create_key(services, OPERATOR, KeyWish("red", "app"))
    await redis.set(keys.AUDIT, "in the way")

    with pytest.raises(StoreUnavailable):
        await create_key(services, OPERATOR, KeyWish("red", "more"))
    with pytest.raises(StoreUnavailable):
        await revoke_key(services, OPERATOR, issued.record.id)

    assert [record.key.name for record in services.directory.registry.records()] == ["app"]
    assert await called(services, issued.text)
