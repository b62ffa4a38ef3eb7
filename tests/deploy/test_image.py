"""The image, without Docker: its file list, and its own command in its own environment."""

import fnmatch
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's lines, those that were broken put together again."""
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    split = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return [(word, rest) for word, rest in split]


def last(word: str) -> str:
    """What the final stage says for one instruction."""
    return [rest for name, rest in instructions() if name == word][-1]


def command(text: str) -> list[str]:
    """An instruction in exec form: with a shell between, a signal would not arrive."""
    words: list[str] = json.loads(text)
    return words


def copied() -> list[str]:
    """What the image takes from the repository."""
    lines = [rest.split() for word, rest in instructions() if word == "COPY"]
    return [source for line in lines if not line[0].startswith("--from") for source in line[:-1]]


def test_all_that_is_copied_is_there_and_not_ignored() -> None:
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in patterns if line.startswith("!")}

    assert [source for source in copied() if not (ROOT / source).exists()] == []
    assert let_in == set(copied())


def test_nothing_private_can_get_into_the_image() -> None:
    let_in = copied()

    for private in (".env", "data", ".git", ".venv", "tests", "gateway.yaml"):
        assert not any(fnmatch.fnmatch(private, source) for source in let_in)


def test_packages_come_from_the_locks_as_wheels() -> None:
    installs = [one for _, rest in instructions() for one in re.findall(r"pip install [^&]*", rest)]
    from_lock = [one for one in installs if "-r " in one]

    assert len(from_lock) == 2
    assert all("--require-hashes" in one and "--only-binary=:all:" in one for one in from_lock)
    assert all("--no-deps --no-index" in one for one in installs if one not in from_lock)


def test_it_runs_as_a_fixed_user_without_rights() -> None:
    assert last("USER") == "10001:10001"
    assert "--uid 10001 --user-group" in last("RUN")
    assert last("VOLUME") == "/data"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def redis(folder: Path) -> Generator[str]:
    """The URL of a server of our own."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        pytest.skip("no redis-server or valkey-server is installed")
    port = free_port()
    started = subprocess.Popen(
        [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        started.terminate()
        started.wait(timeout=10)


def image_environment(data: Path, redis_url: str, port: int) -> dict[str, str]:
    """The image's own environment with its places moved here, and what an operator adds."""
    said = dict(pair.split("=", 1) for pair in shlex.split(last("ENV")))
    bin_here = str(Path(sys.executable).parent)
    moved = {
        name: value.replace("/opt/gateway/bin", bin_here).replace("/data", str(data))
        for name, value in said.items()
    }
    return moved | {
        "FAL_KEY": "made:up",
        "GATEWAY_ENDPOINTS": "fal-ai/flux/**",
        "GATEWAY_PORT": str(port),
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_SECRET_KEYS": "a secret that is only for this test and long enough",
    }


def healthy(env: dict[str, str]) -> bool:
    """Whether the image's own health check passes."""
    _, check = last("HEALTHCHECK").split("CMD ", 1)
    moved = [
        word.replace("/opt/gateway/healthcheck.py", str(ROOT / "deploy" / "healthcheck.py"))
        for word in command(check)
    ]
    return not subprocess.run(
        moved, env=env, capture_output=True, timeout=10, check=False
    ).returncode


def status(port: int, path: str) -> int:
    """What somebody without a credential is told."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def becomes_healthy(running: subprocess.Popen[bytes], env: dict[str, str]) -> bool:
    """Asks as Docker does, until the gateway answers or has died."""
    deadline = time.monotonic() + 30
    while running.poll() is None and time.monotonic() < deadline:
        if healthy(env):
            return True
        time.sleep(0.1)  # as the orchestrator does: there is no event to wait for
    return False


def test_the_health_check_fails_without_a_gateway() -> None:
    assert not healthy({"PATH": os.environ["PATH"], "GATEWAY_PORT": str(free_port())})


def test_its_command_serves_in_its_environment_and_leaves_on_sigterm(tmp_path: Path) -> None:
    port = free_port()
    with redis(tmp_path) as url:
        env = image_environment(tmp_path, url, port)
        running = subprocess.Popen(
            [*command(last("ENTRYPOINT")), *command(last("CMD"))],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            came_up = becomes_healthy(running, env)
            stranger = status(port, "/v1/jobs") if came_up else None
            running.send_signal(signal.SIGTERM)
            said, _ = running.communicate(timeout=35)
        finally:
            running.kill()

    assert came_up, said.decode()
    assert stranger == http.client.UNAUTHORIZED
    assert running.returncode == 0, said.decode()
