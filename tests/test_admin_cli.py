"""The commands for operators, as processes, against a running gateway."""

import json
import os
import secrets
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trustme

from tests.harness import (
    KEYS,
    NO_TLS,
    Gateway,
    Process,
    Running,
    Simulator,
    clean_env,
    free_port,
    reachable,
    wait_for,
)
from tests.test_cli import command

ADMIN: Final = "the-admin-key-of-the-tests-0123456789"


@pytest.fixture(scope="module")
def managed(running: Running, sim: Simulator) -> Gateway:
    return running.gateway(sim, env={"GATEWAY_ADMIN_KEY": ADMIN})


def done(gateway: Gateway, folder: Path, *arguments: str) -> str:
    """What the command prints, as the operator of that gateway."""
    ended = command(folder, *arguments, "--url", gateway.direct, GATEWAY_ADMIN_KEY=ADMIN)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def status_of(gateway: Gateway, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{gateway.direct}/v1/jobs", headers=headers, verify=NO_TLS).status_code


def test_a_key_is_made_shown_rotated_and_revoked(managed: Gateway, tmp_path: Path) -> None:
    name = f"cli-{secrets.token_hex(4)}"
    made = done(managed, tmp_path, "keys", "create", name, "--scope", "mint", "--expires", "90d")
    text = made.split()[0]
    key_id = text.split("_")[1]
    assert status_of(managed, text) == 200

    shown: dict[str, Any] = json.loads(done(managed, tmp_path, "keys", "show", key_id, "--json"))
    new: dict[str, Any] = json.loads(
        done(managed, tmp_path, "keys", "rotate", key_id, "--overlap", "1h", "--json")
    )
    listed = done(managed, tmp_path, "keys", "list")
    gone = done(managed, tmp_path, "keys", "revoke", new["key"])
    wait_for(lambda: status_of(managed, new["key"]) == 401, within=2.0)

    assert made.count(text) == 1
    assert (shown["name"], shown["scopes"]) == (name, ["mint"])
    assert shown["expires_at"] is not None
    assert "key" not in shown
    assert new["name"] == name
    lines = {line.split()[0]: line for line in listed.splitlines()}
    assert lines[key_id].endswith(f"rotated to {new['id']}")
    assert lines[new["id"]].endswith("good")
    assert text not in listed
    assert "revoked" in gone
    assert status_of(managed, text) == 200


def test_a_plan_is_written_from_yaml_and_usage_is_a_table(managed: Gateway, tmp_path: Path) -> None:
    name = f"plan-{secrets.token_hex(4)}"
    (tmp_path / "plan.yaml").write_text("endpoints: [fal-ai/echo]\nlimits:\n  - {in_flight: 5}\n")
    done(managed, tmp_path, "plans", "put", name, "plan.yaml")
    plans = {each["name"]: each for each in json.loads(
        done(managed, tmp_path, "plans", "list", "--json"))}  # fmt: skip
    head = done(managed, tmp_path, "usage", "--team", "nobody").splitlines()

    assert plans[name]["rules"] == {"endpoints": ["fal-ai/echo"], "limits": [{"in_flight": 5}]}
    assert plans["default"]["in_settings"] is True
    assert [line.split() for line in head] == [
        ["day", "team", "principal", "endpoint", "jobs", "units", "cost"]
    ]


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["keys", "list"], {}, "GATEWAY_ADMIN_KEY is not set"),
        (["keys", "list"], {"GATEWAY_ADMIN_KEY": ADMIN[::-1]}, "does not know this admin key"),
        (["keys", "list", "--url", "nowhere"], {"GATEWAY_ADMIN_KEY": ADMIN}, "--url must be"),
        (
            ["keys", "list", "--url", "http://127.0.0.1:1"],
            {"GATEWAY_ADMIN_KEY": ADMIN},
            "is it running?",
        ),
        (["keys", "create", "a b"], {"GATEWAY_ADMIN_KEY": ADMIN}, "is no name: letters"),
        (["keys", "create", "x", "--plan", "none"], {"GATEWAY_ADMIN_KEY": ADMIN}, "plan"),
        (["keys", "show", "abcdefgh"], {"GATEWAY_ADMIN_KEY": ADMIN}, "no such key"),
    ],
)
def test_what_fails_says_in_one_line_what_to_do(
    arguments: list[str], env: dict[str, str], said: str, managed: Gateway, tmp_path: Path
) -> None:
    url = [] if "--url" in arguments else ["--url", managed.direct]
    ended = command(tmp_path, *arguments, *url, **env)

    assert ended.returncode in {1, 2}
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ADMIN not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "rules", [b"limits: [", b"endpoints: [\xff]", b"deny: [2026-01-01]", b".nan"]
)
def test_a_file_of_rules_that_is_no_plan_is_named(rules: bytes, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_bytes(rules)
    arguments = ["plans", "put", "x", "plan.yaml", "--url", "http://127.0.0.1:1"]
    ended = command(tmp_path, *arguments, GATEWAY_ADMIN_KEY=ADMIN)

    assert ended.returncode == 1
    assert ended.stderr.startswith("fal-gateway: plan.yaml: ")
    assert len(ended.stderr.splitlines()) == 1


def test_a_reader_who_has_read_enough_is_no_mistake(managed: Gateway, tmp_path: Path) -> None:
    """Such as `keys create ... | head -n 1`."""
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "wb") as stdout:
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", "keys", "list", "--url", managed.direct],
            cwd=tmp_path, env=clean_env(GATEWAY_ADMIN_KEY=ADMIN, PYTHONUNBUFFERED="1"),
            stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=30,
        )  # fmt: skip

    assert (ended.returncode, ended.stderr) == (0, "")


def test_after_run_a_key_is_made_without_any_setting(tmp_path: Path) -> None:
    """The admin key is kept in the data directory, for its owner's eyes alone."""
    port = free_port()
    process = Process(["run"], clean_env(GATEWAY_PORT=str(port)), tmp_path / "log", tmp_path)
    process.start()
    try:
        wait_for(lambda: reachable(f"http://127.0.0.1:{port}/readyz"), process=process)
        made = command(tmp_path, "keys", "create", "app", "--json", GATEWAY_PORT=str(port))
    finally:
        process.stop()

    kept = tmp_path / "data" / "admin_key"
    assert json.loads(made.stdout)["created_by"] == "operator"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "fal-gateway keys create" in process.text()
    assert kept.read_text().strip() not in process.text()


def test_serve_makes_no_admin_key(managed: Gateway) -> None:
    assert not (managed.folder / "data" / "admin_key").exists()


def test_run_with_plans_of_ones_own_gives_no_token_that_opens_nothing(tmp_path: Path) -> None:
    """And a certificate of one's own is trusted where SSL_CERT_FILE names it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    certificate.write_to_path(tmp_path / "tls.pem")
    (tmp_path / "plans.yaml").write_text(
        "plans:\n  default: {endpoints: []}\n  member: {endpoints: [fal-ai/**]}\n"
    )
    port = free_port()
    given = {
        "GATEWAY_PORT": str(port),
        "GATEWAY_CONFIG": "plans.yaml",
        "GATEWAY_TLS_CERT": "tls.pem",
        "GATEWAY_TLS_KEY": "tls.pem",
    }
    process = Process(["run"], clean_env(**given), tmp_path / "log", tmp_path)
    process.start()
    create = ["keys", "create", "app", "--plan", "member"]
    try:
        wait_for(lambda: "serves on" in process.text(), process=process)
        unknown = command(tmp_path, *create, **given)
        trusted = {**given, "SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        made = command(tmp_path, *create, **trusted, FAL_KEY=KEYS["member"])  # as a member has it
    finally:
        process.stop()

    assert "#token=" not in process.text()
    assert f"keys create my-app --url https://127.0.0.1:{port} --plan" in process.text()
    assert unknown.returncode == 1
    assert "is not trusted here" in unknown.stderr
    assert made.stdout.startswith("fgw_")
