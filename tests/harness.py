"""Real processes for tests: gateway, simulator, Redis. Nothing is patched.

Every byte that clients get from a gateway runs through a `Tap`, which keeps it: at the end of
the test run all of it, the logs and Redis are searched for the fal key (see conftest).
"""

import base64
import contextlib
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from gateway.core import fal
from gateway.core.model import Kind, Principal
from gateway.core.tokens import Claims, Purpose, Seals
from gateway.store.server import own_redis

CANARY: Final = "fk-canary-7f3a9b1c:0d5e62a8c4419f7be3d05a1192847c6f"
"""The fal key of all tests. It must turn up nowhere."""
SECRET: Final = "a signing secret of the tests that is long enough"
SIM_USER: Final = "sim-user"
NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that talk plain http: making a context of their own takes each 30 ms."""
PACE: Final = 0.05
"""How fast the simulator's jobs run: about 0.3 s each."""

KEYS: Final = {
    "backend": "fgw_backend01_AAAAAAAAAAAAAAAAAAAAAAAA",
    "member": "fgw_member001_BBBBBBBBBBBBBBBBBBBBBBBB",
    "reader": "fgw_reader001_CCCCCCCCCCCCCCCCCCCCCCCC",
    "other": "fgw_other0001_DDDDDDDDDDDDDDDDDDDDDDDD",
}
"""By name: `backend` may mint, `reader` reads its team's jobs; `other` is in another team."""

CONFIG: Final = {
    "plans": {
        "default": {"endpoints": ["**"], "client_webhooks": True},
        "narrow": {"endpoints": ["fal-ai/flux/**", "fal-ai/echo"]},
        "realtime": {"endpoints": ["fal-ai/fast-sdxl"], "realtime_tokens": True},
    },
    "keys": [
        {"name": "backend", "scopes": ["submit", "mint"]},
        {"name": "member", "scopes": ["submit"]},
        {"name": "reader", "scopes": ["submit", "read"]},
        {"name": "other", "team": "other-team", "scopes": ["submit", "read", "mint"]},
    ],
}


class Tap:
    """A TCP relay that keeps what comes from `port`, the bytes that clients receive."""

    def __init__(self, port: int, keep: Path) -> None:
        self._port = port
        self._keep = keep.open("ab")
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._port))
        except OSError:
            client.close()
            return
        threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
        self._pump(server, client, True)

    def _pump(self, source: socket.socket, sink: socket.socket, kept: bool) -> None:
        try:
            while data := source.recv(65536):
                if kept:
                    with self._lock:
                        self._keep.write(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def close(self) -> None:
        self._listener.close()
        with self._lock:
            self._keep.flush()


@dataclass
class Process:
    """A program of ours, its output in a file; ended by its id alone."""

    arguments: list[str]
    env: dict[str, str]
    log: Path
    cwd: Path
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "gateway", *self.arguments],
                env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.cwd,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        assert self.popen is not None
        self.popen.wait(10)

    def stop(self, within: float = 40.0) -> int:
        """SIGTERM, and the exit code."""
        assert self.popen is not None
        if self.popen.poll() is None:
            self.popen.terminate()
        return self.popen.wait(within)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def clean_env(**more: str) -> dict[str, str]:
    """The environment without what could configure a gateway."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GATEWAY_", "FAL_"))
    }
    root = str(Path(__file__).parents[1])
    return {**kept, "PYTHONPATH": root, "PYTHONWARNINGS": "default", **more}


_PORTS = range(10_000, 32_000)
"""Below those that Linux gives to outgoing connections: one of these is not taken by chance."""


def free_port() -> int:
    """Free now, and likely to be so in a moment."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


class Simulator:
    """A running simulator, and its control routes. Those are asked synchronously."""

    def __init__(self, folder: Path, *, pace: float = PACE, **options: str | Sequence[str]) -> None:
        self.port = free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        arguments = [
            "simulate", "--port", str(self.port), "--pace", str(pace), "--key", CANARY,
            "--data-dir", str(folder / "simulator"), "--user-id", SIM_USER,
        ]  # fmt: skip
        for name, value in options.items():
            for one in [value] if isinstance(value, str) else value:
                arguments += [f"--{name.replace('_', '-')}", one]
        self.process = Process(arguments, clean_env(), folder / "simulator.log", folder)
        self.process.start()
        wait_for(lambda: reachable(f"{self.origin}/_sim/jobs"))

    @property
    def origins(self) -> str:
        """The value of GATEWAY_FAL_ORIGINS."""
        return json.dumps({host: f"{self.origin}/{host}" for host in fal.HOSTS})

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """An answer of `/_sim/...`, as JSON."""
        answer = httpx.request(
            method, f"{self.origin}/_sim/{path}", timeout=30, verify=NO_TLS, **options
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def journal(self) -> list[dict[str, Any]]:
        """Every call that came in, oldest first."""
        calls: list[dict[str, Any]] = self.ask("GET", "journal")
        return calls

    def calls(self, *, method: str | None = None, ends: str = "", has: str = "") -> int:
        """How many calls came in with this method, end of path, and part of the path."""
        return sum(
            1
            for call in self.journal()
            if (method is None or call["method"] == method)
            and call["path"].endswith(ends)
            and has in call["path"]
        )


@dataclass
class Gateway:
    """A running gateway. `url` leads through the tap, `direct` does not."""

    folder: Path
    redis_url: str
    sim: Simulator | None
    env: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=lambda: dict(CONFIG))

    def __post_init__(self) -> None:
        self.port = free_port()
        self.tap = Tap(self.port, self.folder / "received.bin")
        config = self.folder / "gateway.yaml"
        config.write_text(json.dumps(_with_hashes(self.config)))
        env = {
            "FAL_KEY": CANARY,
            "GATEWAY_CONFIG": str(config),
            "GATEWAY_PORT": str(self.port),
            "GATEWAY_REDIS_URL": self.redis_url,
            "GATEWAY_SECRET_KEYS": SECRET,
            "GATEWAY_DATA_DIR": str(self.folder / "data"),
        }
        if self.sim is not None:
            env |= {
                "GATEWAY_FAL_ORIGINS": self.sim.origins,
                "GATEWAY_FAL_USER_ID": SIM_USER,
                "GATEWAY_PUBLIC_URL": self.direct,
                "GATEWAY_CLIENT_URL": self.url,
            }
        env |= self.env
        env = {name: value for name, value in env.items() if value != ""}
        self.process = Process(
            ["serve"], clean_env(**env), self.folder / "gateway.log", self.folder
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.tap.port}"

    @property
    def direct(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process.start()
        wait_for(lambda: reachable(f"{self.direct}/readyz"), process=self.process)

    def workers(self) -> list[int]:
        """The ids of worker processes, where there is more than one."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-f", "multiprocessing.spawn"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return [int(line) for line in found.stdout.split()]

    def token(self, user: str = "alice", team: str = "default", **claims: Any) -> str:
        return token(user, team, **claims)

    def http(self, user: str | None = "alice", key: str | None = None) -> httpx.AsyncClient:
        """A client as a user (with a token), as the holder of a key of `KEYS`, or as nobody."""
        headers = {}
        if key is not None:
            headers["authorization"] = f"Bearer {KEYS[key]}"
        elif user is not None:
            headers["authorization"] = f"Bearer {self.token(user)}"
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60, verify=NO_TLS)

    def log_lines(self) -> str:
        return self.process.text()


def token(
    user: str = "alice",
    team: str = "default",
    *,
    plan: str = "default",
    purpose: Purpose = Purpose.TOKEN,
    lifetime: int = 3600,
    **more: Any,
) -> str:
    """A credential that gateways with `SECRET` take."""
    now = int(time.time())
    claims = Claims(
        purpose=purpose,
        jti=more.pop("jti", secrets.token_hex(16)),
        kid=more.pop("kid", "test"),
        principal=Principal(team, Kind.USER, user),
        plan=plan,
        issued_at=more.pop("issued_at", now),
        expires_at=more.pop("expires_at", now + lifetime),
        **more,
    )
    return Seals([SECRET]).issue(claims)


def _with_hashes(config: Mapping[str, Any]) -> dict[str, Any]:
    keys = [
        {**key, "hash": key.get("hash") or _hash(KEYS[key["name"]])}
        for key in config.get("keys", [])
    ]
    return {**config, "keys": keys}


def _hash(key: str) -> str:
    return f"sha256:{sha256(key.encode()).hexdigest()}"


def reachable(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, verify=NO_TLS).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(
    condition: Callable[[], Any], within: float = 20.0, process: Process | None = None
) -> Any:
    """What `condition` gives as soon as it is true; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if found := condition():
            return found
        if process is not None and process.popen is not None and process.popen.poll() is not None:
            raise AssertionError(f"ended early:\n{process.text()[-3000:]}")
        time.sleep(0.02)
    raise AssertionError(f"did not come true within {within} s" + _tail(process))


def _tail(process: Process | None) -> str:
    return "" if process is None else f":\n{process.text()[-3000:]}"


def leaks(data: bytes) -> list[str]:
    """The forms of the fal key that `data` holds."""
    secret = CANARY.partition(":")[2].encode()
    forms = {
        "clear": CANARY.encode(),
        "secret": secret,
        "percent": CANARY.replace(":", "%3A").encode(),
        "hex": CANARY.encode().hex().encode(),
        **{f"base64+{shift}": part for shift, part in enumerate(_base64_cores(CANARY.encode()))},
        **{f"base64s+{shift}": part for shift, part in enumerate(_base64_cores(secret))},
    }
    lowered = data.lower()
    return [
        name
        for name, form in forms.items()
        if form in data
        or (name in {"clear", "secret", "hex", "percent"} and form.lower() in lowered)
    ]


def _base64_cores(secret: bytes) -> Generator[bytes]:
    """What is left of `secret` in base64 whatever stands before and after it."""
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + secret)
        yield whole[4 : len(whole) // 4 * 4 - 4]


class Files:
    """A numbered folder for each process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._count = 0

    def folder(self, name: str) -> Path:
        self._count += 1
        folder = self.root / f"{self._count:03d}-{name}"
        folder.mkdir()
        return folder


@dataclass(frozen=True)
class _Store:
    url: str
    end: contextlib.ExitStack


class Running:
    """Starts processes for tests, and stops them all in the end."""

    def __init__(self, files: Files, redis_url: str) -> None:
        self.files = files
        self.redis_url = redis_url
        self._gateways: list[Gateway] = []
        self._simulators: list[Simulator] = []
        self.main: Simulator | None = None
        self._stores: dict[Simulator, _Store] = {}
        self._kept: set[int] = set()

    @contextlib.contextmanager
    def module(self) -> Generator[None]:
        """What is started in here ends with it, unless it was to be kept: it would idle on."""
        gateways, simulators = len(self._gateways), len(self._simulators)
        try:
            yield
        finally:
            for gateway in self._gateways[gateways:]:
                if id(gateway) not in self._kept:
                    self._end(gateway.process)
            for simulator in self._simulators[simulators:]:
                if id(simulator) not in self._kept:
                    self._end_simulator(simulator)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for gateway in self._gateways:
            self._end(gateway.process)
            gateway.tap.close()
        for simulator in self._simulators:
            self._end_simulator(simulator)

    def _end_simulator(self, simulator: Simulator) -> None:
        self._end(simulator.process)
        if store := self._stores.pop(simulator, None):
            store.end.close()

    def _end(self, process: Process) -> None:
        if process.popen is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.signal(signal.SIGCONT)
        if process.popen.poll() is None:
            process.popen.terminate()
        try:
            process.popen.wait(8)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            process.popen.wait(8)

    def simulator(self, *, keep: bool = False, **options: Any) -> Simulator:
        """`keep`: for the whole run, not only for the test file."""
        simulator = Simulator(self.files.folder("sim"), **options)
        self._simulators.append(simulator)
        if keep:
            self._kept.add(id(simulator))
        return simulator

    def redis_of(self, sim: Simulator | None) -> str:
        """Where gateways in front of `sim` keep their jobs. Each simulator but the run's first has
        a Redis of its own: a gateway that asks another fal about a job learns nothing of it."""
        if sim is None or sim is self.main:
            return self.redis_url
        if sim not in self._stores:
            end = contextlib.ExitStack()
            url = end.enter_context(own_redis(self.files.folder("redis")))
            self._stores[sim] = _Store(url, end)
        return self._stores[sim].url

    def gateway(
        self,
        sim: Simulator | None,
        *,
        env: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        redis_url: str | None = None,
        start: bool = True,
        keep: bool = False,
    ) -> Gateway:
        """A gateway of one's own. A variable set to "" is left out. `keep`: for the whole run, not
        only for the test file."""
        gateway = Gateway(
            self.files.folder("gateway"),
            self.redis_of(sim) if redis_url is None else redis_url,
            sim,
            dict(env or {}),
            dict(CONFIG if config is None else config),
        )
        self._gateways.append(gateway)
        if keep:
            self._kept.add(id(gateway))
        if start:
            gateway.start()
        return gateway
