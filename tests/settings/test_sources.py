"""Where settings are written, and how a mistake there is pointed at."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.core.model import Plan
from gateway.settings import Settings, SettingsError, load, secret_keys

FAL = {"FAL_KEY": "synthetic-id:synthetic-secret"}
SECRET = "s" * 32
HASH = "sha256:" + "0" * 64


def made(tmp_path: Path, text: str, environ: Mapping[str, str] = FAL) -> Settings:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    return load(environ, file)


def refusal(environ: Mapping[str, str], file: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ, file)
    message = str(caught.value)
    assert message.isprintable()
    return message


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "port: 9000\nhost: 0.0.0.0\nfal: {user_id: account, max_calls: 7}\n"
        "plans: {default: {endpoints: [a/b], client_webhooks: true}, pro: {max_body: 1MiB}}\n"
    )

    settings = load(
        FAL
        | {
            "GATEWAY_CONFIG": str(file),
            "GATEWAY_PORT": "9001",
            "GATEWAY_FAL_MAX_CALLS": "8",
            "GATEWAY_ENDPOINTS": "fal-ai/**, x/*",
        }
    )

    assert (settings.port, settings.host) == (9001, "0.0.0.0")
    assert (settings.fal.user_id, settings.fal.max_calls) == ("account", 8)
    assert settings.plans == {
        "default": Plan("default", ("fal-ai/**", "x/*"), client_webhooks=True),
        "pro": Plan("pro", max_body=2**20),
    }


def test_defaults_count_where_nobody_says_anything(tmp_path: Path) -> None:
    defaults = FAL | {"GATEWAY_ENDPOINTS": "**", "GATEWAY_PORT": "1", "GATEWAY_WORKERS": "2"}
    file = tmp_path / "gateway.yaml"
    file.write_text("fal: {user_id: account}\nplans: {default: {endpoints: [a/b]}}\nport: 3\n")

    settings = load({}, file, defaults)

    assert (settings.port, settings.workers, settings.fal.user_id) == (3, 2, "account")
    assert settings.accounts["main"][1].get_secret_value() == FAL["FAL_KEY"]
    assert settings.plans["default"].endpoints == ("a/b",)
    assert load({}, None, defaults).plans["default"].endpoints == ("**",)
    assert load({"GATEWAY_ENDPOINTS": "c/d"}, None, defaults).endpoints == ("c/d",)


def test_a_path_that_is_passed_comes_before_the_variable(tmp_path: Path) -> None:
    assert made(tmp_path, "port: 1", FAL | {"GATEWAY_CONFIG": "/none"}).port == 1


@pytest.mark.parametrize(("written", "means"), [("off", "off"), ("loopback", "loopback")])
def test_yaml_takes_off_for_a_truth_value_and_we_do_not(
    tmp_path: Path, written: str, means: str
) -> None:
    assert made(tmp_path, f"anonymous: {written}").anonymous == means


def test_the_key_may_come_in_halves_or_from_files(tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.write_text("secret\n")
    halves = {"FAL_KEY_ID": "id", "FAL_KEY_SECRET": "secret"}

    for environ in (halves, {"FAL_KEY_ID": "id", "FAL_KEY_SECRET_FILE": str(half)}):
        assert load(environ).accounts["main"][1].get_secret_value() == "id:secret"
    assert load(FAL | halves).accounts["main"][1].get_secret_value() == FAL["FAL_KEY"]
    assert refusal({"FAL_KEY_ID": "id"}).startswith("FAL_KEY_SECRET: is not set")


def test_secrets_come_from_files(tmp_path: Path) -> None:
    for name, text in {
        "key": "a:b\n",
        "secrets": f"{SECRET}1\n{SECRET}2\n",
        "redis": "redis://h\n",
    }.items():
        (tmp_path / name).write_text(text)

    settings = load(
        {
            "FAL_KEY_FILE": str(tmp_path / "key"),
            "GATEWAY_SECRET_KEYS_FILE": str(tmp_path / "secrets"),
            "GATEWAY_REDIS_URL_FILE": str(tmp_path / "redis"),
        }
    )

    assert settings.fal.key is not None
    assert settings.fal.key.get_secret_value() == "a:b"
    assert secret_keys(settings) == [f"{SECRET}1", f"{SECRET}2"]
    assert settings.redis.url
    assert settings.redis.url.get_secret_value() == "redis://h"


def test_a_secret_file_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "key").write_text("a:b")

    for environ, expected in (
        ({"FAL_KEY_FILE": str(tmp_path / "empty")}, "FAL_KEY_FILE: the file is empty"),
        ({"FAL_KEY_FILE": str(tmp_path / "none")}, "FAL_KEY_FILE: cannot read"),
        (FAL | {"FAL_KEY_FILE": str(tmp_path / "key")}, "FAL_KEY_FILE: FAL_KEY is set too"),
        ({"FAL_KEY_FILE": "/dev/zero"}, "is larger than"),
        (FAL | {"GATEWAY_PORT_FILE": str(tmp_path / "key")}, "GATEWAY_PORT_FILE: unknown"),
    ):
        assert expected in refusal(environ)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("GATEWAY_PROT", "GATEWAY_PORT"),
        ("GATEWAY_FAL_KEY", "FAL_KEY"),
        ("GATEWAY_ENDPOINT", "GATEWAY_ENDPOINTS"),
        ("GATEWAY_API_KEY", "GATEWAY_API_KEYS"),
        ("GATEWAY_TLS", "GATEWAY_TLS_"),
        ("GATEWAY_DELIVERIES_ALLOW_LOOPBACK", "GATEWAY_"),
        ("GATEWAY_FAL__USER_ID", "GATEWAY_FAL_USER_ID"),
        ("GATEWAY_", "GATEWAY_"),
    ],
)
def test_an_unknown_variable_stops_the_start(name: str, near: str) -> None:
    message = refusal(FAL | {name: "canary"})

    assert message.startswith(f"{name}: unknown setting; the nearest one known is {near}")
    assert "canary" not in message


def test_variables_of_kubernetes_service_links_are_not_ours() -> None:
    settings = load(
        FAL
        | {
            "GATEWAY_PORT": "tcp://10.0.0.1:8787",
            "GATEWAY_SERVICE_HOST": "10.0.0.1",
            "GATEWAY_SERVICE_PORT": "8787",
            "GATEWAY_SERVICE_PORT_HTTP": "8787",
            "GATEWAY_PORT_8787_TCP": "tcp://10.0.0.1:8787",
            "GATEWAY_PORT_8787_TCP_PROTO": "tcp",
            "GATEWAY_PORT_8787_TCP_PORT": "8787",
            "GATEWAY_PORT_8787_TCP_ADDR": "10.0.0.1",
            "GATEWAY_REDIS_PORT": "tcp://10.0.0.2:6379",
            "GATEWAY_REDIS_SERVICE_HOST": "10.0.0.2",
            "GATEWAY_REDIS_PORT_6379_TCP_ADDR": "10.0.0.2",
        }
    )

    assert settings.port == 8787
    assert "GATEWAY_REDIS_PORT" in refusal(FAL | {"GATEWAY_REDIS_PORT": "6379"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port: 1\npublik_url: x\n", ":2: publik_url: unknown setting; the nearest one known is "),
        ("plans:\n  default:\n    endpoints:\n    - a/b\n    - //\n", ":5: plans.default.endpoi"),
        ("plans:\n  default:\n    endpoint: []\n", ":3: plans.default.endpoint: unknown setting;"),
        ("fal:\n  key: a\n  key: b\n", ":3: fal.key: is given twice"),
        ("keys:\n- name: a\n", ":2: keys[0].hash: is not set"),
        (f"keys:\n- name: a\n  hash: {HASH}\n  scopes: [all]\n", ":4: keys[0].scopes[0]: must be"),
        (
            f"keys:\n- {{name: a, hash: '{HASH}'}}\n- {{name: a, hash: '{HASH}'}}",
            ":3: keys[1]: has",
        ),
        ("anonymous: on", ":1: anonymous: on needs a plan"),
        ("endpoints: [a/b]\nplans: {default: {endpoints: [c/d]}}", ":1: endpoints: plans.default."),
        ("tls:\n", ":1: tls: must be a section"),
        ("- port: 1", ":1: must be a mapping"),
        ("port", ":1: must be a mapping"),
        ("port: [", ":1: must be YAML"),
        ("a: !!python/object:os.system {}", ":1: a: unknown setting"),
        ("a: !!python/name:os.system x", ":1: a: must be a plain value"),
        ("a: &a [*a]", "is nested too deep"),
        ("port: 1\x00", "must be YAML"),
        ('"a\\nb": 1', ": a?b: unknown setting"),
        ("1: 2", ":1: [1]: unknown setting"),
        ("? [a]\n: 1", "unknown setting"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)

    message = refusal(FAL, file)

    assert expected in message
    assert message.startswith(str(file))


def test_a_file_that_is_empty_or_not_there(tmp_path: Path) -> None:
    assert made(tmp_path, "# nothing yet\n").port == 8787
    assert "cannot read" in refusal(FAL | {"GATEWAY_CONFIG": str(tmp_path / "none")})
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "must be UTF-8" in refusal(FAL, tmp_path / "binary")


def test_an_empty_variable_is_as_good_as_none(tmp_path: Path) -> None:
    """As compose files pass them: `${GATEWAY_PORT:-}`."""
    empty = {"GATEWAY_PORT": "", "GATEWAY_REDIS_URL": "", "GATEWAY_CONFIG": "", "FAL_KEY_FILE": ""}

    assert load(FAL | empty) == load(FAL)
