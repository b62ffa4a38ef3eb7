"""Several accounts at fal, and what does not go together."""

import json
from pathlib import Path

import pytest
import yaml

from gateway.core.accounts import Account
from gateway.settings import SettingsError, fal_is_given, load, reference, warnings

FAL = {"FAL_KEY": "synthetic-id:canary-main"}
HASH = "sha256:" + "0" * 64


def table(**entries: object) -> dict[str, str]:
    return {"GATEWAY_ACCOUNTS": json.dumps(entries)}


def test_fal_key_alone_is_the_account_main() -> None:
    settings = load(FAL | {"GATEWAY_FAL_USER_ID": "user_1", "GATEWAY_FAL_CAP": "3"})

    ((account, key),) = settings.accounts.values()
    assert account == Account("main", user_id="user_1", cap=3)
    assert key.get_secret_value() == FAL["FAL_KEY"]


def test_accounts_stand_beside_fal_key_or_alone(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" second:from-a-file \n")
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "accounts:\n"
        "  first: {key: 'first:canary', weight: 3, cap: 2, teams: [a, b], user_id: user_1}\n"
        f"  second: {{key_file: {tmp_path / 'key'}}}\n"
    )

    alone, both = load({}, file), load(FAL, file)

    assert [account for account, _ in alone.accounts.values()] == [
        Account("first", "user_1", 3, 2, ("a", "b")),
        Account("second"),
    ]
    assert alone.accounts["second"][1].get_secret_value() == "second:from-a-file"
    assert list(both.accounts) == ["main", "first", "second"]
    assert fal_is_given({}, file)
    assert not fal_is_given({}, None)
    assert next(text.split()[0] for text in warnings(alone)) == "accounts.second.user_id"


def test_a_default_key_is_none_where_there_are_accounts() -> None:
    settings = load(table(one={"key": "one:secret"}), defaults=FAL)

    assert list(settings.accounts) == ["one"]
    assert list(load({}, defaults=FAL).accounts) == ["main"]


def test_keys_are_masked(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("two:canary")
    accounts = table(one={"key": "one:canary"}, two={"key_file": str(tmp_path / "key")})

    shown = reference.check(load(accounts))

    assert "canary" not in shown
    assert yaml.safe_load(shown)["accounts"]["one"]["key"] == "***"
    assert "canary" not in repr(load(accounts))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("One: {key: 'x:y'}", "accounts.One: must be 1 to 32 of a-z 0-9 -"),
        ("a.b: {key: 'x:y'}", "must be 1 to 32 of"),
        (f"{'a' * 33}: {{key: 'x:y'}}", "must be 1 to 32 of"),
        ("one: {key: 'x:y', cap: 0}", "accounts.one.cap: must be greater than or equal to 1"),
        ("one: {key: 'x:y', weight: -1}", "accounts.one.weight: must be greater than or equal to"),
        ("one: {key: 'x:y', wieght: 1}", "accounts.one.wieght: unknown setting; the nearest"),
        ("one: {cap: 1}", "accounts.one: has no key"),
        ("one: {key: 'x:y', key_file: /tmp/key}", "accounts.one: has key and key_file"),
        ("one: {key_file: /nowhere/key}", "accounts.one: key_file: cannot read /nowhere/key"),
        ("one: {key: fgw_backend01_AAAAAAAAAAAAAAAAAAAAAAAA}", "accounts.one.key: is a key of the"),
        ("main: {key: 'x:y'}", "accounts.main: is the name of FAL_KEY's account"),
        ("one: {key: 'synthetic-id:canary-main'}", "accounts.one.key: is the same key"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"accounts:\n  {line}\n")

    with pytest.raises(SettingsError) as caught:
        load(FAL, file)

    assert str(caught.value).startswith(f"{file}:2: ")
    assert told in str(caught.value)
    assert "canary" not in str(caught.value)


def test_two_accounts_with_one_key() -> None:
    with pytest.raises(SettingsError, match=r"two\.key: is the same key"):
        load(table(one={"key": "x:y"}, two={"key": "x:y"}))


@pytest.mark.parametrize(
    "more",
    [
        {"one": {"key": "x:1", "teams": ["a"]}},  # none for the team of the key below
        {"one": {"key": "x:1", "weight": 0}},
        {"one": {"key": "x:1"}, "two": {"key": "x:2", "teams": ["pinned"], "weight": 0}},
    ],
)
def test_a_team_without_an_account(more: dict[str, object]) -> None:
    keys = json.dumps([{"name": "backend", "hash": HASH}])
    teams = {"GATEWAY_KEYS": keys}

    with pytest.raises(SettingsError, match=r"none is left for the team (default|pinned)"):
        load(table(**more) | teams)

    assert load(table(**more, free={"key": "x:3", "teams": ["default", "pinned"]}) | teams)


def test_no_account_that_takes_new_jobs() -> None:
    with pytest.raises(SettingsError, match="all have weight 0"):
        load(table(one={"key": "x:1", "weight": 0}, two={"key": "x:2", "weight": 0}))

    assert load(table(one={"key": "x:1", "weight": 0}, two={"key": "x:2"}))


@pytest.mark.parametrize("name", ["USER_ID", "CAP"])
def test_what_is_meant_for_fal_keys_account_needs_it(name: str) -> None:
    accounts = table(one={"key": "x:y"})

    with pytest.raises(SettingsError, match=f"GATEWAY_FAL_{name}: is for the account of FAL_KEY"):
        load(accounts | {f"GATEWAY_FAL_{name}": "7"})

    assert load(accounts | FAL | {f"GATEWAY_FAL_{name}": "7"})
