"""An operator copies `env.example` to `.env` and starts the file as it is."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import load

ROOT = Path(__file__).parents[2]
ENV_EXAMPLE = ROOT / "deploy" / "env.example"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def composer() -> list[str] | None:
    """The command that reads compose files here, of either generation."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    plugin = ["docker", "compose"]
    if shutil.which("docker") and not subprocess.run([*plugin, "version"], check=False).returncode:
        return plugin
    return None


def printed(code: str) -> str:
    """What a line of Python prints."""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def test_compose_reads_the_file_and_the_environment(tmp_path: Path) -> None:
    command = composer()
    if command is None:
        pytest.skip("neither docker-compose nor docker compose is installed")
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    filled = ENV_EXAMPLE.read_text().replace("FAL_KEY=\n", "FAL_KEY=made:up\n", 1)
    (tmp_path / ".env").write_text(filled)

    read = subprocess.run(
        [*command, "config"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert read.returncode == 0, read.stderr
    gateway = yaml.safe_load(read.stdout)["services"]["gateway"]
    assert gateway["environment"]["FAL_KEY"] == "made:up"
    assert gateway["environment"]["GATEWAY_REDIS_URL"] == "redis://redis:6379/0"
    assert "127.0.0.1" in json.dumps(gateway["ports"])


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_has_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["restart"] == "unless-stopped"
    assert not {"privileged", "cap_add", "network_mode", "pid"} & service.keys()


def test_nobody_but_the_gateway_reaches_the_store() -> None:
    on_its_network = {name for name, one in SERVICES.items() if "store" in one["networks"]}

    assert COMPOSE["networks"]["store"]["internal"] is True
    assert SERVICES["redis"]["networks"] == ["store"]
    assert "ports" not in SERVICES["redis"]
    assert on_its_network == {"gateway", "redis"}


def test_the_gateway_waits_for_the_store_and_leaves_in_its_own_time() -> None:
    gateway = SERVICES["gateway"]

    assert gateway["depends_on"]["redis"]["condition"] == "service_healthy"
    assert gateway["stop_grace_period"] == "35s"
    assert gateway["env_file"] == ".env"


def test_the_store_keeps_jobs_through_restarts_and_never_evicts_them() -> None:
    command: list[str] = SERVICES["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))

    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "everysec"
    assert options["--maxmemory-policy"] == "noeviction"
    assert SERVICES["redis"]["volumes"] == ["redis-data:/data"]


def test_a_server_takes_the_stores_command(tmp_path: Path) -> None:
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        pytest.skip("no redis-server or valkey-server is installed")
    socket = tmp_path / "s"

    started = subprocess.Popen(
        [server, *SERVICES["redis"]["command"][1:], "--port", "0", "--unixsocket", str(socket)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout
        said = next((line for line in started.stdout if "eady to accept" in line), None)
    finally:
        started.terminate()
        started.communicate(timeout=10)

    assert said is not None


@pytest.mark.parametrize("optional", [False, True], ids=["as it is", "with all that is offered"])
def test_the_gateway_takes_the_example_once_it_is_filled_in(optional: bool) -> None:
    """With the commands for making secrets that stand in its own comments."""
    text = re.sub(r"^#(?=[A-Z_]+=)", "" if optional else "#", ENV_EXAMPLE.read_text(), flags=re.M)
    made = [printed(code) for code in re.findall(r'python3 -c "(.+)"$', text, re.MULTILINE)]
    filled = {"FAL_KEY": "made:up"} | dict(
        zip(["GATEWAY_SECRET_KEYS", "GATEWAY_API_KEYS"], made, strict=True)
    )
    filled |= {"GATEWAY_ADMIN_KEY": made[0][::-1], "GATEWAY_FAL_USER_ID": "user_made_up"}
    given = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
    environ = {name: value or filled[name] for name, value in given.items()}

    settings = load(environ | {"GATEWAY_REDIS_URL": "redis://redis:6379/0"})

    assert settings.fal.key is not None
    assert settings.fal.key.get_secret_value() == "made:up"
    assert len(settings.all_keys) == 1


def test_the_example_holds_no_secret_and_asks_for_what_is_needed() -> None:
    given = dict(re.findall(r"^([A-Z_]+)=(.*)$", ENV_EXAMPLE.read_text(), re.MULTILINE))

    assert given == {
        "FAL_KEY": "",
        "GATEWAY_SECRET_KEYS": "",
        "GATEWAY_API_KEYS": "",
        "GATEWAY_ENDPOINTS": "fal-ai/flux/**",
    }
