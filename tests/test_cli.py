"""The command line, as processes."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from tests.harness import SECRET, Process, clean_env, free_port, reachable, wait_for


def command(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=folder, env=clean_env(**env), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "needless"),
    [
        ("", {"aiohttp", "asyncio", "cryptography", "httpx", "pydantic", "redis", "starlette"}),
        ("simulate", {"aiohttp", "prometheus_client", "pydantic", "redis", "yaml"}),
        ("token", {"aiohttp", "httpx", "redis", "starlette", "uvicorn"}),
        ("config", {"aiohttp", "httpx", "redis", "starlette", "uvicorn"}),
        ("admin_api", {"aiohttp", "redis", "starlette", "uvicorn"}),
        ("serve", set[str]()),
    ],
)
def test_a_command_does_not_wait_for_what_others_need(command: str, needless: set[str]) -> None:
    used = f"import gateway.commands.{command}" if command else ""
    program = f"import sys, gateway.cli\n{used}\nprint(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", program], text=True).split())

    assert loaded & needless == set()
    assert loaded >= ({f"gateway.commands.{command}"} if command else {"gateway.cli"})
    assert ("redis" in loaded) == (command == "serve")


def test_garbage_is_searched_for_again_after_the_imports() -> None:
    program = (
        "import gc, gateway.cli\ngateway.cli.main(['config', 'schema'])\nprint(gc.isenabled())"
    )

    assert subprocess.check_output([sys.executable, "-c", program]).endswith(b"\nTrue\n")


def test_no_search_for_garbage_looks_through_what_stays() -> None:
    program = """if True:
        import gc
        from gateway.app import Deployment
        from gateway.serving import _worker
        from gateway.settings import load

        _worker(Deployment(load({"FAL_KEY": "a:b"}), "unix:///nowhere", ("s" * 32,), 0))
        print(gc.get_freeze_count())
    """

    assert int(subprocess.check_output([sys.executable, "-c", program])) > 20_000


def test_config_check_masks_secrets(tmp_path: Path) -> None:
    done = command(tmp_path, "config", "check", FAL_KEY="id:secret", GATEWAY_SECRET_KEYS=SECRET)

    assert done.returncode == 0
    assert yaml.safe_load(done.stdout)["fal"]["key"] == "***"
    assert "secret" not in done.stdout.replace("secret_keys", "")


def test_config_schema_is_json(tmp_path: Path) -> None:
    assert json.loads(command(tmp_path, "config", "schema").stdout)["type"] == "object"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"GATEWAY_ENDPOINT": "**"}, "GATEWAY_ENDPOINTS"),
        ({"GATEWAY_PORT": "many"}, "GATEWAY_PORT"),
        ({"FAL_KEY": "fgw_backend01_AAAAAAAAAAAAAAAAAAAAAAAA"}, "not one of fal's"),
        ({"FAL_KEY": ""}, "FAL_KEY"),
    ],
)
def test_a_wrong_setting_stops_the_start_in_one_line(
    tmp_path: Path, env: dict[str, str], said: str
) -> None:
    done = command(tmp_path, "serve", **{"FAL_KEY": "id:secret", **env})

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command(tmp_path, "serve", FAL_KEY="id:secret", GATEWAY_PORT=str(port))

    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "GATEWAY_PORT" in done.stderr


@pytest.mark.parametrize("port", ["99999", "-1", "many"])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: str) -> None:
    done = command(tmp_path, "simulate", "--port", port)

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("must be a number from 0 to 65535")


def test_a_token_is_not_signed_with_secrets_of_nobody(tmp_path: Path) -> None:
    """In another folder than the gateway's, it would be refused without a word why."""
    done = command(tmp_path, "token")

    assert done.returncode == 2
    assert "secret_keys: is not there" in done.stderr
    assert not (tmp_path / "data").exists()


def test_the_example_file_is_right(tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "deploy" / "gateway.example.yaml"
    done = command(tmp_path, "config", "check", "--config", str(example), FAL_KEY="id:secret")

    assert done.returncode == 0, done.stderr


def test_run_serves_at_once_without_a_key(tmp_path: Path) -> None:
    """A simulator, a playground, a token that lets one in; and nothing is left afterwards."""
    port = free_port()
    process = Process(["run"], clean_env(GATEWAY_PORT=str(port)), tmp_path / "log", tmp_path)
    process.start()
    try:
        wait_for(lambda: reachable(f"http://127.0.0.1:{port}/readyz"), process=process)
        said = process.text()
        token = said.partition("#token=")[2].split()[0]
        page = httpx.get(f"http://127.0.0.1:{port}/")
        taken = httpx.post(
            f"http://127.0.0.1:{port}/v1/jobs",
            json={"endpoint": "any/thing", "input": {}},
            headers={"authorization": f"Bearer {token}", "host": "elsewhere.example"},
        )
        stranger = httpx.get(
            f"http://127.0.0.1:{port}/v1/jobs", headers={"host": "elsewhere.example"}
        )
        own = command(tmp_path, "token", GATEWAY_PORT=str(port)).stdout.strip()
        mine = httpx.get(
            f"http://127.0.0.1:{port}/v1/jobs", headers={"authorization": f"Bearer {own}"}
        )
    finally:
        process.signal(signal.SIGINT)
        assert process.popen is not None
        code = process.popen.wait(40)

    assert "SIMULATOR" in said
    assert page.headers["content-type"].startswith("text/html")
    assert (taken.status_code, stranger.status_code) == (202, 401)
    assert [job["id"] for job in mine.json()["jobs"]] == [taken.json()["id"]]
    assert code in {0, 130}
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False)
    assert left.stdout == b""


def test_run_with_a_key_lets_nobody_in_without_a_credential(tmp_path: Path) -> None:
    """What a call costs is real then."""
    port = free_port()
    env = clean_env(GATEWAY_PORT=str(port), FAL_KEY="id:secret")
    process = Process(["run"], env, tmp_path / "log", tmp_path)
    process.start()
    try:
        wait_for(lambda: reachable(f"http://127.0.0.1:{port}/readyz"), process=process)
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/jobs")
    finally:
        process.stop()

    assert answer.status_code == 401
    assert "SIMULATOR" not in process.text()
