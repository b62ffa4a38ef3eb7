"""What the operator writes, and what it means; every mistake is named on one line."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.core import fal
from gateway.core.credentials import from_headers, key_hash
from gateway.core.model import Key, Plan, Scope
from gateway.settings import Settings, SettingsError, load, secret_keys, warnings

FAL = {"FAL_KEY": "synthetic-id:synthetic-secret"}
SECRET = "s" * 32
API_KEY = "fgw_abcd1234_" + "S" * 20
HASH = "sha256:" + "0" * 64
SIMULATED = {host: f"http://127.0.0.1:9100/{host}" for host in fal.HOSTS}


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


def test_defaults_are_closed_and_local() -> None:
    settings = load(FAL)

    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8787, 1)
    assert settings.anonymous == "off"
    assert settings.plans == {"default": Plan("default")}
    assert settings.all_keys == ()
    assert not settings.simulated
    assert settings.accounts["main"][1].get_secret_value() == FAL["FAL_KEY"]


def test_variables_mirror_the_paths_of_the_file() -> None:
    settings = load(
        FAL
        | {
            "GATEWAY_PORT": "0",
            "GATEWAY_PUBLIC_URL": "https://gw.example.com/",
            "GATEWAY_PLAYGROUND": "true",
            "GATEWAY_CORS_ORIGINS": "https://app.example.com, http://localhost:3000",
            "GATEWAY_TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/8",
            "GATEWAY_FAL_ORIGINS": '{"queue.fal.run": "http://127.0.0.1:9100/queue.fal.run"}',
            "GATEWAY_BODIES_IN_FLIGHT": "1GiB",
            "GATEWAY_RESULTS_MAX": "32MB",
            "GATEWAY_RESULTS_RETENTION": "1m",
            "GATEWAY_FAL_CALL_TIMEOUT": "2.5",
            "GATEWAY_DRAIN_DELAY": "1.5 s",
            "GATEWAY_LOG_FORMAT": "json",
            "GATEWAY_ADMIN_KEY": "admin" * 4,
            "GATEWAY_REDIS_URL": "rediss://user:pw@redis.example.com:6380/2?ssl_cert_reqs=required",
            "GATEWAY_SECRET_KEYS": f"{SECRET}1,{SECRET}2",
            "HOME": "/root",
            "FAL_RUN_HOST": "a client's, not ours",
        }
    )

    assert settings.port == 0
    assert settings.public_url == "https://gw.example.com"
    assert settings.playground
    assert settings.cors.origins == ("https://app.example.com", "http://localhost:3000")
    assert settings.trusted_proxies == ("127.0.0.1", "10.0.0.0/8")
    assert settings.fal.origins == {"queue.fal.run": "http://127.0.0.1:9100/queue.fal.run"}
    assert not settings.simulated
    assert settings.bodies.in_flight == 2**30
    assert settings.results.max == 32_000_000
    assert settings.results.retention == 60
    assert settings.fal.call_timeout == 2.5
    assert settings.drain.delay == 1.5
    assert settings.log.format == "json"
    assert secret_keys(settings) == [f"{SECRET}1", f"{SECRET}2"]


def test_keys_of_the_file_and_of_the_variable(tmp_path: Path) -> None:
    settings = made(
        tmp_path,
        f"plans: {{pro: {{}}}}\nkeys:\n- {{name: ci, hash: '{HASH}', team: red, plan: pro, "
        "scopes: [read, submit]}\n",
        FAL | {"GATEWAY_API_KEYS": API_KEY},
    )

    digest = f"sha256:{sha256(API_KEY.encode()).hexdigest()}"
    assert settings.all_keys == (
        Key("ci", HASH, "red", "pro", frozenset({Scope.READ, Scope.SUBMIT})),
        Key("abcd1234", digest, scopes=frozenset({Scope.SUBMIT, Scope.MINT}), id="abcd1234"),
    )


@pytest.mark.parametrize("key", [API_KEY, f"fgw_{'a' * 128}_{'S' * 512}"])
def test_a_key_that_is_taken_here_can_be_shown(key: str) -> None:
    settings = load(FAL | {"GATEWAY_API_KEYS": key})
    presented = from_headers([(b"authorization", f"Bearer {key}".encode())])

    assert presented is not None
    assert [known.hash for known in settings.all_keys] == [key_hash(presented.text)]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PORT", "x", "must be a valid integer"),
        ("PORT", "65536", "less than or equal to 65535"),
        ("PORT", "-1", "greater than or equal to 0"),
        ("WORKERS", "0", "greater than or equal to 1"),
        ("ANONYMOUS", "yes", "must be 'off', 'loopback' or 'on'"),
        ("ANONYMOUS", "on", "on needs a plan for visitors"),
        ("PUBLIC_URL", "gw.example.com", "must be http(s)://host"),
        ("PUBLIC_URL", "http://gw.example.com", "must be https"),
        ("PUBLIC_URL", "http://127.0.0.1.example.com", "must be https"),
        ("PUBLIC_URL", "https://gw.example.com/path", "without user, path"),
        ("PUBLIC_URL", "https://user:canary@gw.example.com", "without user"),
        ("PUBLIC_URL", "https://gw.example.com?q", "without user"),
        ("PUBLIC_URL", "https://gw.example.com:99999", "must be http(s)://host"),
        ("PUBLIC_URL", "https://1.2.3.4.5", "must be http(s)://host"),
        ("PUBLIC_URL", "https://[::1", "must be http(s)://host"),
        ("PUBLIC_URL", "https://gw.example.com\n", "must be http(s)://host"),
        ("CLIENT_URL", "ftp://gw.example.com", "must be http(s)://host"),
        ("CORS_ORIGINS", "*", "must be an exact origin"),
        ("CORS_ORIGINS", "https://*.example.com", "must be an exact origin"),
        ("CORS_ORIGINS", "null", "must be an exact origin"),
        ("CORS_ORIGINS", "https://app.example.com/", "must be an exact origin"),
        ("CORS_ORIGINS", "https://App.example.com", "must be an exact origin"),
        ("CORS_ORIGINS", "https://app.example.com:443", "no default port"),
        ("TRUSTED_PROXIES", "*", "must be an IP address or a network"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "no host bits set"),
        ("ENDPOINTS", "fal-ai//flux", "must be an endpoint pattern"),
        ("ENDPOINTS", "/fal-ai", "must be an endpoint pattern"),
        ("ENDPOINTS", "fal-ai/fl*x", "must be an endpoint pattern"),
        ("ENDPOINTS", "fal-ai/../x", "must be an endpoint pattern"),
        ("ENDPOINTS", "fal-ai/***", "must be an endpoint pattern"),
        ("ENDPOINTS", "flux", "must be an endpoint pattern"),
        ("ENDPOINTS", "fal-ai/flux/requests/*", "must be an endpoint pattern"),
        ("FAL_ORIGINS", "http://127.0.0.1", "must be JSON"),
        ("FAL_ORIGINS", "[]", "must be a table"),
        ("FAL_ORIGINS", '{"evil.example": "https://x"}', "must be a host of fal"),
        ("FAL_ORIGINS", '{"fal.run": "http://10.0.0.1"}', "only a loopback address"),
        ("FAL_ORIGINS", '{"fal.run": "https://x/a/../b"}', "must be https://host"),
        ("FAL_ORIGINS", '{"fal.run": "https://x/a?b"}', "must be https://host"),
        ("FAL_USER_ID", "a b", "must be 1 to 128"),
        ("FAL_CALL_TIMEOUT", "inf", "finite number"),
        ("FAL_CALL_TIMEOUT", "nan", "finite number"),
        ("FAL_CALL_TIMEOUT", "0", "greater than 0"),
        ("FAL_CALL_TIMEOUT", "1 week", "must be a time"),
        ("RESULTS_RETENTION", "30s", "greater than or equal to 60"),
        ("RESULTS_RETENTION", "0.5", "greater than or equal to 60"),
        ("DELIVERIES_ATTEMPTS", "101", "less than or equal to 100"),
        ("RESULTS_MAX", "16 MiBs", "must be a size"),
        ("RESULTS_MAX", "iB", "must be a size"),
        ("RESULTS_MAX", "-1", "must be a size"),
        ("BODIES_MAX", "1GiB", "must be at least bodies.max"),
        ("LOG_LEVEL", "loud", "must be 'debug'"),
        ("SECRET_KEYS", "canary", "at least 32 bytes"),
        ("SECRET_KEYS", "", "must not be empty"),
        ("SECRET_KEYS", ",", "must not be empty"),
        ("API_KEYS", "fgw_canary", "must have the form fgw_<id>_<secret>"),
        ("API_KEYS", f"fgw_{'a' * 129}_{'S' * 20}", "must have the form fgw_<id>_<secret>"),
        ("API_KEYS", f"fgw_abcd1234_{'S' * 513}", "must have the form fgw_<id>_<secret>"),
        ("API_KEYS", f"{API_KEY}\x00", "must have the form fgw_<id>_<secret>"),
        ("API_KEYS", f"{API_KEY},{API_KEY}x", "has the same name"),
        ("ADMIN_KEY", "canary canary", "nor hold whitespace"),
        ("ADMIN_KEY", "canary" * 2, "must have at least 16 characters"),
        ("ADMIN_KEY", "canary:" * 3, "no colon"),
        ("ADMIN_KEY", f"fgw_canary12_{'S' * 20}", "not begin with fgw_"),
        (
            "KEYS",
            f'[{{"name": "a", "hash": "{HASH}", "origins": ["https://a.example"]}}]',
            "is not set",
        ),
        (
            "KEYS",
            f'[{{"name": "a", "hash": "{HASH}", "origins": ["*"]}}]',
            "must be an exact origin",
        ),
        (
            "KEYS",
            f'[{{"name": "a", "hash": "{HASH}", "networks": ["10.0.0.1/8"]}}]',
            "must be an IP",
        ),
        ("KEYS", f'[{{"name": "a", "hash": "{HASH}", "id": "A"}}]', "must be 8 to 128 of a-z 0-9"),
        ("REDIS_URL", "redis://canary", "is not set: with a Redis of yours"),
        ("REDIS_URL", "http://canary", "must be redis://"),
        ("REDIS_URL", "redis://", "must be redis://"),
        ("REDIS_URL", "unix://", "must be redis://"),
        ("REDIS_URL", "redis+sentinel://canary/main", "come in a later version"),
        ("REDIS_URL", "rediss+cluster://canary", "come in a later version"),
        ("TLS_CERT", "/etc/hostname", "certificate and key go together"),
        ("PLANS", '{"pro": {"max_body": "33MiB"}}', "must be at most bodies.max"),
        ("PLANS", '{"a b": {}}', "must be 1 to 128"),
        ("PLANS", '{"pro": {}, "pro": {}}', "must be JSON, each name once"),
        ("PLANS", '{"pro": {"deny": ["a/b"], "deny": []}}', "must be JSON, each name once"),
        ("PLANS", '{"pro": {"max_bdy": 1}}', "the nearest one known is max_body"),
        ("KEYS", json.dumps([{"name": "a", "hash": "canary"}]), "must be sha256:"),
        ("KEYS", json.dumps([{"name": "a", "hash": HASH, "plan": "b"}]), "a plan that exists"),
        ("KEYS", json.dumps([{"name": "a", "hash": HASH, "scopes": []}]), "at least 1 item"),
        ("KEYS", json.dumps([{"name": "a b", "hash": HASH}]), "must be 1 to 128"),
        (
            "KEYS",
            json.dumps([{"name": "a", "hash": HASH}, {"name": "b", "hash": HASH}]),
            "same key",
        ),
    ],
)
def test_a_wrong_value_stops_the_start(name: str, value: str, expected: str) -> None:
    message = refusal(FAL | {f"GATEWAY_{name}": value})

    assert expected in message
    assert message.startswith("GATEWAY_")
    assert "canary" not in message


@pytest.mark.parametrize("key", ["", "a b", "a\n", "a:b\x00", "a:\u00e9", " a"])
def test_a_key_that_no_header_can_hold(key: str) -> None:
    assert refusal({"FAL_KEY": key}).startswith("FAL_KEY: ")


@pytest.mark.parametrize(
    "value",
    ["https://gw.example.com:8443", "http://127.0.0.1:8787", "http://[::1]:80", "http://localhost"],
)
def test_a_public_url_that_will_do(value: str) -> None:
    assert load(FAL | {"GATEWAY_PUBLIC_URL": value}).public_url == value


def test_anonymous_loopback_does_not_go_with_a_public_gateway() -> None:
    local = FAL | {"GATEWAY_ANONYMOUS": "loopback"}

    assert refusal(local | {"GATEWAY_PUBLIC_URL": "https://gw.example.com"}) == (
        "GATEWAY_ANONYMOUS: loopback does not go with a public URL that is not loopback"
    )
    assert load(local | {"GATEWAY_PUBLIC_URL": "http://127.0.0.1:8787"}).anonymous == "loopback"
    assert load(local).anonymous == "loopback"


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
def test_not_everybody_is_a_trusted_proxy(everybody: str) -> None:
    told = refusal(FAL | {"GATEWAY_TRUSTED_PROXIES": f"10.0.0.0/8,{everybody}"})

    assert told.startswith("GATEWAY_TRUSTED_PROXIES[1]: trusts everybody")
    assert load(FAL | {"GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8"})


def test_certificate_and_key_are_files(tmp_path: Path) -> None:
    (tmp_path / "cert").touch()
    environ = FAL | {"GATEWAY_TLS_CERT": f"{tmp_path}/cert", "GATEWAY_TLS_KEY": f"{tmp_path}/key"}

    assert refusal(environ) == "GATEWAY_TLS_KEY: must be a file that exists"
    (tmp_path / "key").touch()
    assert load(environ).tls.key == tmp_path / "key"


def test_settings_do_not_change_and_do_not_tell() -> None:
    settings = load(
        FAL
        | {
            "GATEWAY_SECRET_KEYS": SECRET,
            "GATEWAY_REDIS_URL": "redis://u:canary@h",
            "GATEWAY_API_KEYS": API_KEY,
            "GATEWAY_ADMIN_KEY": "canary" * 3,
        }
    )

    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1
    with pytest.raises(ValueError, match="frozen"):
        settings.fal.max_calls = 1
    shown = f"{settings!r} {settings} {settings.model_dump()}"
    assert not [s for s in ("canary", SECRET, API_KEY, "synthetic") if s in shown]
    assert "8787" in shown


def test_made_directly_they_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "GATEWAY_PORT", "HOST", "FAL"):
        monkeypatch.setenv(name, "1")

    assert Settings.model_validate({"fal": {"key": "a:b"}}).port == 8787


def test_no_plan_takes_larger_bodies_than_the_gateway() -> None:
    settings = load(FAL | {"GATEWAY_BODIES_MAX": "1MiB", "GATEWAY_PLANS": '{"pro": {}}'})

    assert [plan.max_body for plan in settings.plans.values()] == [2**20, 2**20]


def test_warnings() -> None:
    nothing = warnings(load(FAL))
    assert [text.split()[0] for text in nothing] == [
        "GATEWAY_FAL_USER_ID",
        "GATEWAY_PUBLIC_URL",
        "no",
    ]

    complete = FAL | {
        "GATEWAY_FAL_USER_ID": "account",
        "GATEWAY_PUBLIC_URL": "https://gw.example.com",
        "GATEWAY_PLANS": '{"pro": {"endpoints": ["fal-ai/**"]}}',
    }
    assert warnings(load(complete)) == []


@pytest.mark.parametrize(
    ("origins", "simulated"),
    [
        ({}, False),
        ({"fal.run": "https://proxy.example.com"}, False),
        ({"fal.run": "http://127.0.0.1:1", "queue.fal.run": "https://proxy.example.com"}, False),
        ({"fal.run": "http://127.0.0.1:1", "queue.fal.run": "http://localhost:1/q"}, False),
        (SIMULATED, True),
        (SIMULATED | {fal.RUN: "http://[::1]:2"}, True),
        (SIMULATED | {fal.RUN: "https://127.0.0.1:1"}, False),
        (SIMULATED | {fal.RUN: "https://proxy.example.com"}, False),
        *(({h: o for h, o in SIMULATED.items() if h != without}, False) for without in fal.HOSTS),
    ],
)
def test_simulated(origins: dict[str, str], simulated: bool) -> None:
    """One host on this machine may be a proxy of the real fal's."""
    settings = load(FAL | {"GATEWAY_FAL_ORIGINS": json.dumps(origins)})

    assert (settings.simulated, settings.loopback_webhooks) == (simulated, simulated)


@pytest.mark.parametrize(
    ("public_url", "open_"),
    [
        ("http://127.0.0.1:8787", True),
        ("https://localhost", True),
        ("https://gw.example.com", False),
    ],
)
def test_loopback_webhooks_are_for_a_gateway_on_this_machine(public_url: str, open_: bool) -> None:
    simulated = FAL | {"GATEWAY_FAL_ORIGINS": json.dumps(SIMULATED)}
    settings = load(simulated | {"GATEWAY_PUBLIC_URL": public_url})

    assert settings.loopback_webhooks is open_
    assert settings.simulated
    assert not load(FAL | {"GATEWAY_PUBLIC_URL": public_url}).loopback_webhooks


@pytest.mark.parametrize("attempt", range(20))
def test_secret_keys_are_made_once_and_are_ours_alone(tmp_path: Path, attempt: int) -> None:
    settings = load(FAL | {"GATEWAY_DATA_DIR": str(tmp_path / "new" / "data")})
    path = tmp_path / "new" / "data" / "secret_keys"
    together = threading.Barrier(8)

    def read(_: int) -> list[str]:
        together.wait(10)
        return secret_keys(settings)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(8)))

    secret = path.read_text().strip()
    assert found == [[secret]] * 8
    assert len(secret) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["secret_keys"]
    path.write_text(f"{secret}\n{SECRET}\n")
    assert secret_keys(settings) == [secret, SECRET]


@pytest.mark.parametrize("text", ["", "\n", "short\n", f"{SECRET}\nshort", "\u00ff\u0000"])
def test_secret_keys_that_are_damaged_are_not_replaced(tmp_path: Path, text: str) -> None:
    """New ones would end every session and orphan every open job's webhook."""
    settings = load(FAL | {"GATEWAY_DATA_DIR": str(tmp_path)})
    (tmp_path / "secret_keys").write_text(text, "latin-1")

    with pytest.raises(SettingsError, match="at least 32 bytes") as caught:
        secret_keys(settings)

    assert "short" not in str(caught.value)
    assert (tmp_path / "secret_keys").read_text("latin-1") == text


def test_a_data_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = load(FAL | {"GATEWAY_DATA_DIR": str(tmp_path / "file")})

    with pytest.raises(SettingsError, match=r"file.*: (Not a directory|File exists)"):
        secret_keys(settings)


def test_the_environment_is_read_by_default() -> None:
    code = "from gateway.settings import load; print(load().port)"
    environ = FAL | {"GATEWAY_PORT": "9009", "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)

    assert done.stdout == "9009\n", done.stderr
