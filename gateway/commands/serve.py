"""The gateway itself: with the settings as they are, or at once, for trying out."""

import argparse
import json
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from gateway import __version__
from gateway.commands import SIM_USER
from gateway.commands.token import signed
from gateway.core import fal
from gateway.core.model import Kind, Principal
from gateway.core.tokens import MAX_LIFETIME
from gateway.logs import logging_to_stderr
from gateway.serving import deployed
from gateway.serving import serve as serve_until_stopped
from gateway.settings import Settings, SettingsError, fal_is_given, load
from gateway.settings.kept import admin_key
from gateway.sockets import bound
from gateway.store.tether import tethered

_FRIENDLY: Final = {"GATEWAY_ENDPOINTS": "**", "GATEWAY_PLAYGROUND": "true"}
"""For trying out; what the operator has set himself stays as it is."""


def serve(parsed: argparse.Namespace) -> int:
    """Serve with the settings as they are."""
    return _until_stopped(load(file=parsed.config), None)


def run(parsed: argparse.Namespace) -> int:
    """Serve at once: playground on, all endpoints allowed, and a simulator if there is no key."""
    file: Path | None = parsed.config
    if fal_is_given(file=file):  # what a call costs is real: nobody without a credential
        return _until_stopped(_managed(load(file=file, defaults=_FRIENDLY)), None)
    settings = load(file=file, defaults={"FAL_KEY": "simulated:key"})
    with _simulator(settings) as origin:
        return _until_stopped(_managed(_free(file, _simulated(settings, origin))), origin)


def _managed(settings: Settings) -> Settings:
    """The same with an admin key: where none is set, one is kept in the data directory."""
    key = admin_key(settings.admin_key, settings.data_dir, create=True)
    return settings.model_copy(update={"admin_key": SecretStr(key)})


def _free(file: Path | None, simulated: Mapping[str, str]) -> Settings:
    """Settings for trying out in front of the simulator: all on this machine are let in."""
    defaults = {**_FRIENDLY, **simulated}
    try:
        return load(file=file, defaults={**defaults, "GATEWAY_ANONYMOUS": "loopback"})
    except SettingsError:
        # It does not go with a public URL: then the printed token is the way in.
        return load(file=file, defaults=defaults)


def _until_stopped(settings: Settings, simulator: str | None) -> int:
    with (
        logging_to_stderr(settings.log.format, settings.log.level),
        bound(settings.host, settings.port) as listening,
        deployed(settings, listening) as deployment,
    ):
        if settings.playground:
            _welcome(settings, deployment.port, deployment.secrets, simulator)
        return serve_until_stopped(deployment, listening)


def _welcome(settings: Settings, port: int, signing: Sequence[str], simulator: str | None) -> None:
    """Where to go, and the token that lets one in."""
    scheme = "https" if settings.tls.cert else "http"
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
    address = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    lines = ["", f"fal-gateway {__version__}", "", *_ways_in(settings, address, signing), ""]
    if simulator is not None:
        lines[2:2] = [
            "",
            "  *** FAL_KEY IS NOT SET: fal is played by a SIMULATOR at",
            f"  *** {simulator}. Nothing is generated for real, nothing is paid.",
        ]
    print("\n".join(lines), flush=True)


def _ways_in(settings: Settings, address: str, signing: Sequence[str]) -> Generator[str]:
    """Addresses and a token; no token where it would open nothing."""
    create = f"{_ourselves()} keys create my-app --url {address}"
    if not settings.plans["default"].endpoints:
        yield f"  Proxy URL   {address}/api/fal/proxy"
        yield "              The plan default allows no endpoint: call with a key of another plan."
        if settings.admin_key is not None:
            yield f"  Make a key  {create} --plan <one of yours>"
        return
    token = signed(signing, Principal("default", Kind.USER, "playground"), "default",
                       MAX_LIFETIME, None)  # fmt: skip
    yield f"  Playground  {address}/#token={token}"
    yield f"  Proxy URL   {address}/api/fal/proxy"
    yield f"  Token       {token}"
    yield "              (a day; for curl: -H 'Authorization: Bearer <token>')"
    if settings.anonymous == "loopback":
        yield "              Programs on this machine are let in without it."
    if settings.admin_key is not None:
        yield f"  Make a key  {create}"


def _ourselves() -> str:
    """The command as it is called from here: in a clone it is on nobody's path."""
    program = Path(sys.argv[0]).absolute()
    here = program.name == "fal-gateway" and program.is_relative_to(Path.cwd())
    return str(program.relative_to(Path.cwd())) if here else "fal-gateway"


@contextmanager
def _simulator(settings: Settings) -> Generator[str]:
    """A simulator in a process of its own, ended with us; its origin.

    On the port after ours where that is free: what it stored is found again after a restart.
    """
    with _near(settings.port) as listening:
        listening.listen()  # who comes before the simulator is up, waits
        port = listening.getsockname()[1]
        command = [
            sys.executable, "-m", "gateway", "simulate", "--fd", str(listening.fileno()),
            "--data-dir", str(settings.data_dir / "simulator"),
        ]  # fmt: skip
        if settings.tls.cert is not None:
            command += ["--trust", str(settings.tls.cert)]
        process = subprocess.Popen(tethered(command), pass_fds=(listening.fileno(),))  # noqa: S603
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _near(port: int) -> socket.socket:
    try:
        return bound("127.0.0.1", port + 1 if 0 < port < 65535 else 0)
    except OSError:
        return bound("127.0.0.1", 0)


def _simulated(settings: Settings, origin: str) -> dict[str, str]:
    """What makes a gateway use the simulator at `origin`, and be reached by it."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
    defaults = {
        "FAL_KEY": "simulated:key",
        "GATEWAY_FAL_ORIGINS": json.dumps({host: f"{origin}/{host}" for host in fal.HOSTS}),
        "GATEWAY_FAL_USER_ID": SIM_USER,
    }
    if host in {"127.0.0.1", "localhost"} and settings.port:
        scheme = "https" if settings.tls.cert else "http"
        defaults["GATEWAY_PUBLIC_URL"] = f"{scheme}://{host}:{settings.port}"
    return defaults
