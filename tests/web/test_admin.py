"""The admin API, over HTTP: by the operator, by a team's own admin, and by everybody else."""

import csv
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import httpx
import pytest

from gateway.core.tokens import Purpose
from gateway.web.routes import described_paths
from tests.harness import CONFIG, KEYS, NO_TLS, Gateway, Running, Simulator, token, wait_for
from tests.web.wire import ended, problem, seen_by_a_stranger, submitted, visitor

pytestmark = pytest.mark.anyio

ADMIN: Final = "the-admin-key-of-the-tests-0123456789"
KEY_FORM: Final = {
    "id", "name", "team", "plan", "scopes", "expires_at", "origins", "networks", "created_at",
    "created_by", "revoked_at", "replaced_by", "version",
}  # fmt: skip


@pytest.fixture(scope="module")
def managed(running: Running, sim: Simulator) -> Gateway:
    """With an admin key."""
    return running.gateway(sim, env={"GATEWAY_ADMIN_KEY": ADMIN}, config=CONFIG)


def operator(gateway: Gateway) -> httpx.AsyncClient:
    return holder(gateway, ADMIN)


def holder(gateway: Gateway, text: str) -> httpx.AsyncClient:
    """A client with that credential."""
    return visitor(gateway.url, headers={"authorization": f"Bearer {text}"})


def fresh(stem: str) -> str:
    return f"{stem}-{secrets.token_hex(4)}"


def status_of(gateway: Gateway, text: str) -> int:
    """What somebody with that credential is answered."""
    headers = {"authorization": f"Bearer {text}"}
    return httpx.get(f"{gateway.url}/v1/jobs", headers=headers, verify=NO_TLS).status_code


async def made(http: httpx.AsyncClient, **wish: Any) -> dict[str, Any]:
    answer = await http.post("/admin/v1/keys", json={"name": fresh("key"), **wish})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


@asynccontextmanager
async def team_admin(gateway: Gateway, team: str, **wish: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """Whoever manages a team, with a key that the operator gave."""
    async with operator(gateway) as http:
        key = await made(http, team=team, scopes=["submit", "admin"], **wish)
    async with holder(gateway, key["key"]) as client:
        yield client


# Keys


async def test_a_new_key_is_shown_once_and_lets_its_holder_in(managed: Gateway) -> None:
    async with operator(managed) as http:
        key = await made(http, team="acme", scopes=["submit", "mint"])
        shown = await http.get(f"/admin/v1/keys/{key['id']}")
        listed = await http.get("/admin/v1/keys", params={"team": "acme"})
    async with holder(managed, key["key"]) as own:
        token = await own.post("/v1/tokens", json={"user": "ada"})

    assert key.keys() == KEY_FORM | {"key"}
    assert key["key"].startswith(f"fgw_{key['id']}_")
    assert shown.json() == {name: key[name] for name in KEY_FORM}
    assert shown.headers["etag"] == f'"{key["version"]}"'
    assert key["id"] in [each["id"] for each in listed.json()["keys"]]
    assert key["key"] not in shown.text + listed.text
    assert token.status_code == 201
    assert key["created_by"] == "operator"


async def test_lists_come_in_pages_newest_first(managed: Gateway) -> None:
    team = fresh("team")
    async with operator(managed) as http:
        ids = [(await made(http, team=team))["id"] for _ in range(3)]
        first = (await http.get("/admin/v1/keys", params={"team": team, "limit": 2})).json()
        query = {"team": team, "cursor": first["next"]}
        second = (await http.get("/admin/v1/keys", params=query)).json()

    assert {each["id"] for each in first["keys"] + second["keys"]} == set(ids)
    assert len(first["keys"]) == 2
    assert second["next"] is None


async def test_a_change_is_made_to_the_version_that_was_seen(managed: Gateway) -> None:
    async with operator(managed) as http:
        key = await made(http)
        path, seen = f"/admin/v1/keys/{key['id']}", {"if-match": f'"{key["version"]}"'}
        changed = await http.patch(path, json={"scopes": ["read"]}, headers=seen)
        late = await http.patch(path, json={"scopes": ["mint"]}, headers=seen)
        now = await http.get(path)

    assert changed.json()["scopes"] == ["read"]
    problem(late, 412, "precondition_failed")
    assert now.json()["scopes"] == ["read"]
    assert now.headers["etag"] == changed.headers["etag"] != f'"{key["version"]}"'


async def test_a_revoked_key_is_refused_within_a_second(managed: Gateway) -> None:
    async with operator(managed) as http:
        key, other = await made(http), await made(http)
        gone = await http.delete(f"/admin/v1/keys/{key['id']}")
        again = await http.delete(f"/admin/v1/keys/{key['id']}")
    wait_for(lambda: status_of(managed, key["key"]) == 401, within=2.0)

    assert gone.json()["revoked_at"] is not None
    assert again.status_code == 200
    assert status_of(managed, other["key"]) == 200


async def test_a_rotated_key_has_the_same_name_and_both_are_good_meanwhile(
    managed: Gateway,
) -> None:
    async with operator(managed) as http:
        old = await made(http)
        new = await http.post(f"/admin/v1/keys/{old['id']}/rotate", json={"overlap": 600})
        shown = (await http.get(f"/admin/v1/keys/{old['id']}")).json()
        twice = await http.post(f"/admin/v1/keys/{old['id']}/rotate")
    for text in (old["key"], new.json()["key"]):
        async with holder(managed, text) as own:
            assert (await own.get("/v1/jobs")).status_code == 200

    assert new.status_code == 201
    assert new.json()["name"] == old["name"]
    assert shown["replaced_by"] == new.json()["id"]
    assert shown["expires_at"] is not None
    problem(twice, 409, "conflict")


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "x", "nmae": "y"}, "nmae"),
        ({"name": "x", "team": "../x"}, "team"),
        ({"name": "x", "plan": "no-such-plan"}, "plan"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["root"]}, "scopes"),
        ({"name": "x", "expires_in": 0}, "expires_in"),
        ({"name": "x", "expires_in": 1.5}, "expires_in"),
        ({"name": "x", "expires_in": 10**12}, "expires_in"),
        ({"name": "x", "origins": ["https://a.example/"]}, "origins"),
        ({"name": "x", "origins": ["https://a.example:443"]}, "origins"),
        ({"name": "x", "origins": ["*"]}, "origins"),
        ({"name": "x", "networks": ["10.0.0.1/8"]}, "networks"),
    ],
)
async def test_a_wrong_wish_is_refused_naming_the_field(
    wish: dict[str, Any], named: str, managed: Gateway
) -> None:
    async with operator(managed) as http:
        refused = await http.post("/admin/v1/keys", json=wish)

    assert named in problem(refused, 400, "bad_body")["detail"]


async def test_origins_are_all_that_browsers_send(managed: Gateway) -> None:
    """With a port, of a page in development, and on an address."""
    origins = ["https://a.example:8443", "http://localhost:3000", "http://[::1]:3000"]
    async with operator(managed) as http:
        made = await http.post("/admin/v1/keys", json={"name": fresh("key"), "origins": origins})

    assert (made.status_code, made.json().get("origins")) == (201, origins)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/admin/v1/keys", '{"name":"@","scopes":["read"],"scopes":["mint"]}'),
        ("POST", "/admin/v1/keys", '{"name":"@","n\\u0061me":"@-2"}'),
        ("PUT", "/admin/v1/plans/@", '{"endpoints":["a/b"],"deny":["a/b"],"deny":[]}'),
        (
            "PUT",
            "/admin/v1/plans/@",
            '{"endpoints":["a/b"],"rules":[{"endpoint":"a/b","path":"n","max":4,"max":400}]}',
        ),
        (
            "POST",
            "/admin/v1/revocations",
            '{"principal":"user:@","principal":"user:@-2","team":"t"}',
        ),
    ],
)
async def test_a_name_that_stands_twice_is_refused(
    method: str, path: str, body: str, managed: Gateway
) -> None:
    """Of two rules one would be lost, and nobody would know."""
    name = fresh("twice")
    headers = {"content-type": "application/json"}
    async with operator(managed) as http:
        refused = await http.request(
            method, path.replace("@", name), content=body.replace("@", name), headers=headers
        )
        keys = (await http.get("/admin/v1/keys", params={"limit": 200})).json()["keys"]
        plan = await http.get(f"/admin/v1/plans/{name}")

    assert "twice" in problem(refused, 400, "bad_body")["detail"]
    assert not any(key["name"].startswith(name) for key in keys)
    problem(plan, 404, "not_found")


# Who may


OTHERS: Final = {
    "nobody": {},
    "a guess": {"authorization": f"Bearer {ADMIN[:-1]}x"},
    "less": {"authorization": f"Bearer {ADMIN[:-1]}"},
    "more": {"authorization": f"Bearer {ADMIN}0"},
    "a cookie": {"cookie": f"fgw_session={ADMIN}"},
    "a key nobody made": {"authorization": "Bearer fgw_nobody0001_AAAAAAAAAAAAAAAAAAAAAAAA"},
}
SHORT_OF_SCOPE: Final = {
    "a key": {"authorization": f"Bearer {KEYS['backend']}"},
    "a token": {"authorization": f"Bearer {token()}"},
}
CALLS: Final = [
    (method, path.url.format(id="abcdefgh", name="default"))
    for path in described_paths()
    for method in path.operations
    if path.url.startswith("/admin/")
]
"""Every described call of the admin API."""


@pytest.mark.parametrize("who", OTHERS)
async def test_without_a_good_credential_all_is_401(who: str, managed: Gateway) -> None:
    async with visitor(managed.url, headers=OTHERS[who]) as http:
        for method, path in CALLS:
            problem(await http.request(method, path), 401, "unauthenticated")


@pytest.mark.parametrize("who", SHORT_OF_SCOPE)
async def test_without_the_scope_all_is_403(who: str, managed: Gateway) -> None:
    async with visitor(managed.url, headers=SHORT_OF_SCOPE[who]) as http:
        for method, path in CALLS:
            problem(await http.request(method, path), 403, "forbidden")


async def test_a_session_does_not_carry_the_scope(managed: Gateway) -> None:
    """Not even that of an admin: cookies come along with what other pages send."""
    async with team_admin(managed, fresh("team")) as http:
        signed_in = await http.post("/v1/session")
        cookie = {"cookie": f"fgw_session={signed_in.cookies['fgw_session']}"}
        async with visitor(managed.url, headers=cookie) as browser:
            refused = await browser.get("/admin/v1/keys")
        allowed = await http.get("/admin/v1/keys")

    problem(refused, 401, "unauthenticated")
    assert allowed.status_code == 200


async def test_no_token_of_ours_is_the_admin_key(managed: Gateway) -> None:
    for purpose in Purpose:
        async with holder(managed, token(purpose=purpose, lifetime=600)) as http:
            assert (await http.get("/admin/v1/keys")).status_code in {401, 403}


async def test_where_no_admin_key_is_set_nobody_is_the_operator(gateway: Gateway) -> None:
    for text in (ADMIN, "None", "none", "null"):
        async with holder(gateway, text) as http:
            problem(await http.get("/admin/v1/keys"), 401, "unauthenticated")


async def test_the_operators_key_is_no_way_into_the_rest(managed: Gateway) -> None:
    async with operator(managed) as http:
        problem(await http.get("/v1/jobs"), 401, "unauthenticated")
        assert (await http.get("/admin/v1/plans")).status_code == 200


# A team's own admin

OF_KEYS: Final = [
    (method, path.url)
    for path in described_paths()
    for method in path.operations
    if path.url.startswith("/admin/") and "{id}" in path.url
]
"""Every described call that names a key."""


def test_the_calls_that_name_a_key_are_found() -> None:
    assert {("GET", "/admin/v1/keys/{id}"), ("POST", "/admin/v1/keys/{id}/rotate")} < set(OF_KEYS)


async def test_an_admin_manages_the_keys_of_its_own_team(managed: Gateway) -> None:
    team = fresh("team")
    async with team_admin(managed, team) as http:
        key = await made(http)
        listed = (await http.get("/admin/v1/keys")).json()["keys"]
        gone = await http.delete(f"/admin/v1/keys/{key['id']}")

    assert key["team"] == team
    assert {each["team"] for each in listed} == {team}
    assert gone.json()["revoked_at"] is not None


async def test_anothers_key_is_like_one_that_is_not_there(managed: Gateway) -> None:
    async with operator(managed) as http:
        foreign = await made(http, team=fresh("team"))
    async with team_admin(managed, fresh("team")) as http:
        for method, url in OF_KEYS:
            body: dict[str, Any] | None = {} if method in {"POST", "PATCH"} else None
            seen = [
                await http.request(method, url.format(id=key_id), json=body)
                for key_id in (foreign["id"], "abcdefghijklmnop")
            ]
            problem(seen[0], 404, "not_found")
            assert seen_by_a_stranger(seen[0]) == seen_by_a_stranger(seen[1])
        one = await http.post("/admin/v1/revocations", json={"key": foreign["id"]})
        two = await http.post("/admin/v1/revocations", json={"key": "abcdefghijklmnop"})
        assert seen_by_a_stranger(one) == seen_by_a_stranger(two)
        problem(one, 404, "not_found")
    async with holder(managed, foreign["key"]) as own:
        assert (await own.get("/v1/jobs")).status_code == 200


@pytest.mark.parametrize(
    "wish", [{"team": "another"}, {"scopes": ["admin"]}, {"plan": "realtime"}], ids=str
)
async def test_an_admin_gives_no_more_than_it_has(wish: dict[str, Any], managed: Gateway) -> None:
    async with team_admin(managed, fresh("team")) as http:
        refused = await http.post("/admin/v1/keys", json={"name": "x", **wish})
        allowed = await http.post("/admin/v1/keys", json={"name": "x"})

    problem(refused, 403, "forbidden")
    assert allowed.status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/admin/v1/plans/mine", {"endpoints": ["**"]}),
        ("DELETE", "/admin/v1/plans/default", None),
        ("GET", "/admin/v1/accounts", None),
        ("GET", "/admin/v1/audit", None),
        ("GET", "/admin/v1/keys?team=another", None),
        ("POST", "/admin/v1/revocations", {"jti": "0" * 32}),
        ("POST", "/admin/v1/revocations", {"principal": "user:ada", "team": "another"}),
    ],
)
async def test_what_concerns_all_teams_is_for_the_operator(
    method: str, path: str, body: Any, managed: Gateway
) -> None:
    async with team_admin(managed, fresh("team")) as http:
        problem(await http.request(method, path, json=body), 403, "forbidden")
        own = await http.get("/admin/v1/plans")

    assert [each["name"] for each in own.json()["plans"]] == ["default"]


@pytest.mark.parametrize("scopes", [["submit", "admin"], ["submit", "mint", "admin"]], ids=str)
async def test_who_acts_for_a_user_is_no_admin_meanwhile(
    scopes: list[str], managed: Gateway
) -> None:
    async with operator(managed) as http:
        key = await made(http, scopes=scopes)
    async with holder(managed, key["key"]) as http:
        acting = await http.get("/admin/v1/keys", headers={"x-gateway-principal": "ada"})
        allowed = await http.get("/admin/v1/keys")

    problem(acting, 403, "forbidden")
    assert allowed.status_code == 200


# Plans


async def test_a_plan_is_made_changed_and_deleted(managed: Gateway) -> None:
    path = f"/admin/v1/plans/{fresh('plan')}"
    rules = {"endpoints": ["fal-ai/echo"], "limits": [{"in_flight": 5}]}
    async with operator(managed) as http:
        first = await http.put(path, json=rules, headers={"if-none-match": "*"})
        taken = await http.put(path, json=rules, headers={"if-none-match": "*"})
        etag = {"if-match": first.headers["etag"]}
        second = await http.put(path, json={"endpoints": ["**"]}, headers=etag)
        late = await http.put(path, json=rules, headers=etag)
        shown = (await http.get(path)).json()
        gone = await http.delete(path)
        after = await http.get(path)

    assert first.status_code == 200, first.text
    assert first.json()["rules"] == rules
    problem(taken, 412, "precondition_failed")
    problem(late, 412, "precondition_failed")
    assert shown == second.json()
    assert shown["rules"] == {"endpoints": ["**"]}
    assert gone.status_code == 204
    problem(after, 404, "not_found")


async def test_a_plan_rules_the_keys_that_have_it(managed: Gateway) -> None:
    name = fresh("plan")
    async with operator(managed) as http:
        await http.put(f"/admin/v1/plans/{name}", json={"endpoints": ["fal-ai/echo"]})
        key = await made(http, plan=name)
        used = await http.delete(f"/admin/v1/plans/{name}")
    async with holder(managed, key["key"]) as own:
        inside = await own.post("/v1/jobs", json={"endpoint": "fal-ai/echo", "input": {}})
        outside = await own.post("/v1/jobs", json={"endpoint": "fal-ai/flux", "input": {}})

    assert inside.status_code == 202
    problem(outside, 403, "endpoint_not_allowed")
    problem(used, 409, "conflict")


@pytest.mark.parametrize(
    "rules",
    [
        {"endpoint": ["**"]},
        {"endpoints": ["a"]},
        {"limits": [{"rate": "-1/s"}]},
        {"limits": [{"in_flight": -1}]},
        {"budgets": [{"usd": -1, "per": "day"}]},
        {"grants": ["no-such-plan"]},
        {"rules": [{"endpoint": "**", "path": "[", "max": 1}]},
        {"max_body": "many"},
        [],
        "",
        None,
    ],
    ids=str,
)
async def test_a_plan_that_cannot_be_is_refused(rules: Any, managed: Gateway) -> None:
    path = f"/admin/v1/plans/{fresh('plan')}"
    async with operator(managed) as http:
        problem(await http.put(path, json=rules), 400, "bad_body")
        problem(await http.get(path), 404, "not_found")


async def test_plans_of_the_settings_are_shown_and_not_changed(managed: Gateway) -> None:
    async with operator(managed) as http:
        shown = (await http.get("/admin/v1/plans/default")).json()
        changed = await http.put("/admin/v1/plans/default", json={"endpoints": ["**"]})
        deleted = await http.delete("/admin/v1/plans/default")

    assert shown["in_settings"] is True
    assert shown["rules"]["endpoints"] == ["**"]
    problem(changed, 409, "conflict")
    problem(deleted, 409, "conflict")


# Revocations


@pytest.mark.parametrize("what", ["token", "principal", "key"])
async def test_what_is_taken_back_is_refused_within_a_second(what: str, managed: Gateway) -> None:
    user = fresh("user")
    async with operator(managed) as http:
        key = await made(http, team="acme", scopes=["mint"])
        async with holder(managed, key["key"]) as own:
            text = (await own.post("/v1/tokens", json={"user": user})).json()["token"]
            other = (await own.post("/v1/tokens", json={"user": fresh("user")})).json()["token"]
        body = {
            "token": {"token": text},
            "principal": {"principal": f"user:{user}", "team": "acme"},
            "key": {"key": key["id"]},
        }[what]
        done = await http.post("/admin/v1/revocations", json=body)
    status = {
        name: lambda each=each: (
            httpx.get(
                f"{managed.url}/v1/jobs", headers={"authorization": f"Bearer {each}"}
            ).status_code
        )
        for name, each in {"held": text, "other": other}.items()
    }
    wait_for(lambda: status["held"]() == 401, within=2.0)

    assert done.status_code == 204
    assert status_of(managed, other) == (401 if what == "key" else 200)


@pytest.mark.parametrize(
    "body", [{}, {"key": "a" * 16, "jti": "0" * 32}, {"jti": ""}, {"principal": "ada"}], ids=str
)
async def test_a_revocation_names_one_thing(body: dict[str, str], managed: Gateway) -> None:
    async with operator(managed) as http:
        refused = await http.post("/admin/v1/revocations", json=body)

    problem(refused, 400, "bad_body")


# Accounts, and the record


async def test_accounts_are_told_without_their_keys(managed: Gateway) -> None:
    async with operator(managed) as http:
        told = (await http.get("/admin/v1/accounts")).json()["accounts"]

    assert [(each["name"], each["alert"]) for each in told] == [("main", None)]
    assert "key" not in told[0]


async def test_monitoring_is_told_how_accounts_and_queues_stand(
    managed: Gateway, gateway: Gateway
) -> None:
    async with operator(managed) as http:
        told = await http.get("/metrics")

    assert told.headers["content-type"].startswith("text/plain")
    assert 'fal_gateway_account_out{account="main"} 0.0' in told.text.splitlines()
    assert any(line.startswith("fal_gateway_waiting_jobs ") for line in told.text.splitlines())
    async with gateway.http() as http:
        assert (await http.get("/metrics")).status_code == 403


async def test_every_act_leaves_a_record_and_no_secret(managed: Gateway) -> None:
    async with operator(managed) as http:
        key = await made(http)
        await http.delete(f"/admin/v1/keys/{key['id']}")
        await http.put("/admin/v1/plans/default", json={})
        entries: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            answer = await http.get("/admin/v1/audit", params={"limit": "100", **after})
            assert key["key"] not in answer.text
            page = answer.json()
            entries += page["entries"]
            if page["next"] is None:
                break
            after = {"after": page["next"]}

    mine = [each for each in entries if each["subject"] == key["id"]]
    assert [each["action"] for each in mine] == ["key.create", "key.revoke"]
    assert {each["actor"] for each in mine} == {"operator"}
    assert all(each["request"] and each["address"] for each in mine)
    assert [each["id"] for each in entries] == sorted(
        (each["id"] for each in entries), key=lambda id: tuple(map(int, id.split("-")))
    )


# What was used, and how others stand


async def test_usage_is_told_of_one_team_or_all_as_json_and_csv(managed: Gateway) -> None:
    team = fresh("team")
    async with operator(managed) as http:
        key = await made(http, team=team)
        async with holder(managed, key["key"]) as own:
            await ended(own, await submitted(own))

        async def rows(**query: str) -> list[dict[str, Any]]:
            told = await http.get("/admin/v1/usage", params=query)
            found: list[dict[str, Any]] = told.json()["rows"]
            return found

        await until(lambda: rows(team=team))
        mine, other, everybody = await rows(team=team), await rows(team="no-one"), await rows()
        sheet = await http.get("/admin/v1/usage", params={"team": team, "format": "csv"})
        wrong = await http.get("/admin/v1/usage", params={"from": "2026-02-30"})
    async with team_admin(managed, fresh("team")) as elsewhere:
        theirs = (await elsewhere.get("/admin/v1/usage")).json()["rows"]

    assert [(row["principal"], row["endpoint"]) for row in mine] == [
        (f"key:{key['name']}", "fal-ai/echo")
    ]
    assert other == theirs == []
    assert mine[0] in everybody
    lines = list(csv.DictReader(sheet.text.splitlines()))
    assert [(line["team"], line["completed"]) for line in lines] == [(team, "1")]
    assert sheet.headers["content-type"].startswith("text/csv")
    problem(wrong, 400, "bad_body")


async def until(found: Callable[[], Awaitable[Any]]) -> None:
    """Returns once it finds something: usage is written when a job is settled."""
    with anyio.fail_after(20):
        while not await found():  # noqa: ASYNC110 - another process does it
            await anyio.sleep(0.05)


async def test_an_admin_sees_the_usage_and_the_limits_of_its_team_alone(managed: Gateway) -> None:
    team = fresh("team")
    async with team_admin(managed, team) as http:
        own = await http.get("/admin/v1/limits")
        for path in ("/admin/v1/usage", "/admin/v1/limits"):
            problem(await http.get(path, params={"team": "acme"}), 403, "forbidden")
        used = await http.get("/admin/v1/usage")

    assert own.json()["team"] == team
    assert {row["team"] for row in used.json()["rows"]} <= {team}


async def test_it_is_told_how_somebody_stands(managed: Gateway) -> None:
    plan, team = fresh("plan"), fresh("team")
    rules = {
        "endpoints": ["**"],
        "limits": [{"jobs": "5/day"}, {"jobs": "1/day", "of": "team", "shadow": True}],
        "budgets": [{"usd": 5, "per": "day"}],
    }
    async with operator(managed) as http:
        await http.put(f"/admin/v1/plans/{plan}", json=rules)
        key = await made(http, team=team, plan=plan)
        async with holder(managed, key["key"]) as own:
            for _ in range(2):
                await submitted(own)
        query = {"team": team, "principal": f"key:{key['name']}"}
        stands = (await http.get("/admin/v1/limits", params=query)).json()
        of_team = (await http.get("/admin/v1/limits", params={"team": team, "plan": plan})).json()
        nobody = await http.get("/admin/v1/limits", params={"team": team, "plan": "no-plan"})

    assert stands["plan"] == plan
    assert {each["name"]: (each["used"], each["would_refuse"]) for each in stands["limits"]} == {
        "principal-jobs": (2, 0),
        "team-jobs": (2, 1),
    }
    assert [each["amount"] for each in stands["budgets"]] == ["5"]
    assert [each["name"] for each in of_team["limits"]] == ["team-jobs"]
    problem(nobody, 404, "not_found")
