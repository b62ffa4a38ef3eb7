"""Which account a call goes to, whose keys are taken out of answers, and what is free to ask."""

import random
from collections import Counter
from functools import partial

import pytest

from gateway.core.accounts import Account, Out, open_to
from gateway.core.errors import KeyRefused, NotSent, Unavailable
from gateway.upstream.accounts import Accounts
from gateway.upstream.fal import Fal, Timeouts
from gateway.upstream.health import Health
from gateway.upstream.session import Pools
from tests.upstream.conftest import FAL_ID, KEY, Server, always, client, reply

pytestmark = pytest.mark.anyio

SECOND = "fk_second_5c1e:77b0d1f3a9c24e68"
NOW = 1_800_000_000.0


def accounts(out: Pools, *known: Account, health: Health | None = None) -> Accounts:
    """Accounts in front of no fal."""
    fals = {account.name: client(out, "http://localhost:9") for account in known}
    chance = random.Random(7).random
    return Accounts(known, fals, health or Health(lambda: NOW), chance)


def shares(accounts: Accounts, team: str = "any") -> Counter[str]:
    return Counter(accounts.choices(team)[0] for _ in range(3000))


async def test_weights_are_honoured(out: Pools) -> None:
    known = accounts(out, Account("a", weight=1), Account("b", weight=4), Account("c", weight=0))

    found = shares(known)

    assert set(found) == {"a", "b"}
    assert 0.17 < found["a"] / 3000 < 0.23
    assert all(sorted(known.choices("any")) == ["a", "b"] for _ in range(100))


@pytest.mark.parametrize(
    ("team", "expected"),
    [("red", {"r1", "r2"}), ("blue", {"b", "r2"}), ("other", {"free"}), ("", {"free"})],
)
async def test_teams_are_pinned_to_accounts(out: Pools, team: str, expected: set[str]) -> None:
    known = accounts(
        out,
        Account("free"),
        Account("r1", teams=("red",)),
        Account("r2", teams=("red", "blue")),
        Account("b", teams=("blue",)),
    )

    assert set(known.choices(team)) == expected


def test_a_team_that_is_pinned_to_an_account_without_weight_has_none() -> None:
    """It does not fall back on those of others."""
    drained = Account("a", weight=0, teams=("red",))

    assert open_to([drained, Account("b")], "red") == ()
    assert open_to([drained, Account("b")], "blue") == (Account("b"),)


async def test_one_cap_is_enough_to_have_places(out: Pools) -> None:
    assert not accounts(out, Account("a"), Account("b")).capped
    assert accounts(out, Account("a"), Account("b", cap=1)).capped


async def test_a_team_without_an_account(out: Pools) -> None:
    known = accounts(out, Account("a", teams=("red",)))

    assert known.choices("blue") == []
    with pytest.raises(KeyRefused):
        known.chosen("blue")
    assert known.chosen("red") == "a"


async def test_refused_accounts_are_left_out_while_there_are_others(out: Pools) -> None:
    health = Health(lambda: NOW)
    known = accounts(out, Account("a"), Account("b"), Account("c", teams=("red",)), health=health)

    health.refused("a", 403)
    assert set(shares(known)) == {"b"}
    assert known.out("a") == Out(NOW, 403)
    health.refused("b", 401)
    assert set(shares(known)) == {"a", "b"}  # one of them may work after all
    health.worked("a")
    assert known.choices("any") == ["a"]
    health.refused("c", 403)
    assert known.choices("red") == ["c"]


async def test_a_job_stays_with_its_account(out: Pools) -> None:
    known = accounts(out, Account("a"), Account("b"))

    assert known.of("b") is known.of("b")
    assert known.of("b") is not known.of("a")
    assert known.of("") is known.of("a")
    assert known.account("b") == Account("b")
    assert known.account("gone") is None
    with pytest.raises(Unavailable, match="not configured any more"):
        known.of("gone")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [(["u1"], {"u1"}), (["u1", "u2"], {"u1", "u2"}), (["u1", None], None), ([None], None)],
)
async def test_whose_webhooks_are_believed(
    out: Pools, ids: list[str | None], expected: set[str] | None
) -> None:
    known = accounts(out, *(Account(f"a{n}", user_id=id) for n, id in enumerate(ids)))

    assert known.user_ids == expected


async def test_who_signed_a_webhook(out: Pools) -> None:
    named = [Account("a", "u1"), Account("b", "u2"), Account("b2", "u2")]
    known, one_bare = accounts(out, *named), accounts(out, *named, Account("c"))

    assert [known.signer(id) for id in ("u1", "u2", "u3")] == ["a", "b", ""]
    assert one_bare.signer("u3") == "c"
    assert accounts(out, Account("c"), Account("d")).signer("u3") == ""


def test_what_one_process_finds_out_is_told_to_all() -> None:
    health = Health(lambda: NOW)
    health.refused("a", 403)
    health.refused("a", 401)
    refused, worked = health.untold
    assert (refused, worked) == ({"a": Out(NOW, 403)}, set())

    health.refused("b", 401)  # while it is told
    health.told({"a": Out(NOW - 1, 403)}, refused, worked)

    assert health.out("a") == Out(NOW - 1, 403)
    assert health.untold == ({"b": Out(NOW, 401)}, set())
    health.told({}, {}, set())
    assert health.out("a") is None
    assert health.out("b") == Out(NOW, 401)


def test_a_job_that_worked_brings_an_account_back() -> None:
    health = Health(lambda: NOW)
    health.worked("a")
    assert health.untold == ({}, set())
    health.told({"a": Out(NOW, 403)}, {}, set())

    health.worked("a")

    assert health.out("a") is None
    assert health.untold == ({}, {"a"})
    health.told({"a": Out(NOW, 403)}, {}, set())  # not told yet
    assert health.out("a") is None
    health.told({}, {}, {"a"})
    assert health.untold == ({}, set())
    health.told({"a": Out(NOW, 403)}, {}, set())  # another process was refused
    assert health.out("a") is not None


def test_the_last_word_counts() -> None:
    health = Health(lambda: NOW)
    health.told({"a": Out(NOW, 403)}, {}, set())
    health.worked("a")
    health.refused("a", 401)
    assert health.out("a") is not None
    assert health.untold == ({}, set())

    health.refused("b", 401)
    health.worked("b")
    assert health.out("b") is None
    assert health.untold == ({}, {"b"})


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_heard_of(out: Pools, server: Server, status: int) -> None:
    heard: list[int] = []
    origins = {"queue.fal.run": server.origin, "api.fal.ai": server.origin}
    one = Fal(out, KEY, origins, Timeouts(), heard.append)
    server.behave = always(reply(status))

    with pytest.raises(KeyRefused) as refused:
        await one.submit("fal-ai/flux", b"{}", {}, None)

    assert (heard, refused.value.fal_status) == ([status], status)
    with pytest.raises(Unavailable):
        await one.price("fal-ai/flux")  # a key may do everything but that
    server.behave = always(reply(status, x_fal_request_id=FAL_ID))
    with pytest.raises(Unavailable):
        await one.status("fal-ai/flux", FAL_ID)
    assert heard == [status]


@pytest.mark.parametrize(
    ("status", "good"),
    [(404, True), (200, True), (202, True), (422, True), (401, False), (403, False)]
    + [(status, None) for status in (302, 408, 429, 500, 502, 503, 504)],
)
async def test_a_probe_costs_nothing(
    upstream: Fal, server: Server, status: int, good: bool | None
) -> None:
    server.behave = always(reply(status, b'{"status": "NOT_FOUND"}'))

    if good is None:
        with pytest.raises(Unavailable):
            await upstream.usable()
    else:
        assert await upstream.usable() is good
    (request,) = server.requests
    assert request.line.startswith("GET /queue.fal.run/fal-ai/flux/requests/")
    assert request.path.endswith("/status")


async def test_a_probe_that_reaches_nobody_says_nothing(out: Pools) -> None:
    with pytest.raises(NotSent):
        await client(out, "http://localhost:9").usable()


async def test_no_account_lets_anothers_key_through(out: Pools, server: Server) -> None:
    echoed = f'{{"request_id": "{FAL_ID}", "a": "{KEY}", "b": "{SECOND}"}}'.encode()
    keys = {"a": KEY, "b": SECOND}
    health = Health()
    timeouts = Timeouts()
    fals = {
        name: Fal(
            out, key, {"queue.fal.run": server.origin}, timeouts,
            partial(health.refused, name), keys.values(),
        )
        for name, key in keys.items()
    }  # fmt: skip
    server.behave = always(reply(200, echoed))

    for name in keys:
        result = await fals[name].result("fal-ai/flux", FAL_ID, 10_000)
        assert result is not None
        body = getattr(result, "body", b"")
        assert FAL_ID.encode() in body
        assert all(
            half.encode() not in body for key in keys.values() for half in key.split(":")[1:]
        )
    clean = Accounts([Account("a"), Account("b")], fals, health).redacted(echoed)
    assert SECOND.encode() not in clean
    assert KEY.encode() not in clean
