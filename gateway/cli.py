"""The command line: one function a command."""

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvicorn
from pydantic import SecretStr

from gateway import __version__
from gateway.admin_cli import NotDone, add_commands
from gateway.core import fal
from gateway.core.model import Kind, Principal
from gateway.core.tokens import MAX_LIFETIME, TOKEN_LIFETIME, Claims, Purpose, Seals
from gateway.logs import logging_to_stderr
from gateway.serving import bound, deployed, serve
from gateway.settings import (
    Settings,
    SettingsError,
    fal_is_given,
    load,
    load_without_fal,
    reference,
    secret_keys,
)
from gateway.settings.kept import admin_key
from gateway.sim.app import SimConfig
from gateway.sim.app import build as build_simulator
from gateway.store.server import RedisNotStarted, tethered

SIM_USER: Final = "sim-user"
"""The account that the simulator signs webhooks for, unless told otherwise."""

_FRIENDLY: Final = {"GATEWAY_ENDPOINTS": "**", "GATEWAY_PLAYGROUND": "true"}
"""For trying out; what the operator has set himself stays as it is."""

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the gateway refused, 2 a setting is wrong or something is missing,
    3 not started."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.command(parsed))
    except NotDone as error:
        print(f"fal-gateway: {error}", file=sys.stderr)
        return 1
    except (SettingsError, RedisNotStarted) as error:
        print(f"fal-gateway: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads, such as `head -n 1`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        print(f"fal-gateway: {error.strerror or error}{place}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _serve(parsed: argparse.Namespace) -> int:
    """Serve with the settings as they are."""
    return _until_stopped(load(file=parsed.config), None)


def _run(parsed: argparse.Namespace) -> int:
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
        return serve(deployment, listening)


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
    token = _token_for(signing, Principal("default", Kind.USER, "playground"), "default",
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


def _simulate(parsed: argparse.Namespace) -> int:
    """Serve a fal of our own, for offline work and tests."""
    listening = (
        socket.socket(fileno=parsed.fd)
        if parsed.fd is not None
        else bound(parsed.host, parsed.port)
    )
    host, port = listening.getsockname()[:2]
    origin = parsed.origin or f"http://{host}:{port}"
    parsed.data_dir.mkdir(parents=True, exist_ok=True)
    keys: list[str] = parsed.key or []
    users: list[str] = parsed.user_id or [SIM_USER]
    concurrency: list[int] = parsed.concurrency or [2]
    app = build_simulator(
        SimConfig(
            origin=origin,
            data_dir=parsed.data_dir,
            keys=frozenset(keys) or None,
            user_id=users[0],
            users=dict(zip(keys, users, strict=False)),
            pace=parsed.pace,
            concurrency=concurrency[0],
            slots=dict(zip(keys, concurrency, strict=False)),
            seed=parsed.seed,
        )
    )
    if parsed.fd is None:
        print(f"simulator of fal at {origin}", flush=True)
    uvicorn.Server(
        uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, ws="none")
    ).run([listening])
    return 0


def _token(parsed: argparse.Namespace) -> int:
    """Print a token for a user, signed with the secrets of the settings."""
    settings = load_without_fal(file=parsed.config)
    if parsed.plan not in settings.plans:
        raise SettingsError(
            f"there is no plan {parsed.plan!r}: "
            "--config or GATEWAY_CONFIG names the file that has it"
        )
    if not 1 <= parsed.lifetime <= MAX_LIFETIME:
        raise SettingsError(f"--lifetime must be from 1 to {MAX_LIFETIME} seconds")
    principal = Principal(parsed.team, Kind.USER, parsed.user)
    endpoints = tuple(parsed.endpoint) if parsed.endpoint else None
    signing = secret_keys(settings, create=False)
    print(_token_for(signing, principal, parsed.plan, parsed.lifetime, endpoints))
    return 0


def _token_for(
    signing: Sequence[str],
    principal: Principal,
    plan: str,
    lifetime: int,
    endpoints: tuple[str, ...] | None,
) -> str:
    now = int(time.time())
    claims = Claims(
        purpose=Purpose.TOKEN,
        jti=secrets.token_hex(16),
        kid="cli",
        principal=principal,
        plan=plan,
        issued_at=now,
        expires_at=now + lifetime,
        endpoints=endpoints,
    )
    return Seals(signing).issue(claims)


def _config(parsed: argparse.Namespace) -> int:
    """Print the effective configuration, or the JSON Schema of the file."""
    if parsed.what == "schema":
        print(json.dumps(reference.schema(), indent=2))
    else:
        print(reference.check(load(file=parsed.config)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fal-gateway", description="A proxy and webhook gateway for fal.ai; it holds the key."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Command) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        added.set_defaults(command=run)
        return added

    for name, run in (("serve", _serve), ("run", _run)):
        _add_config(command(name, run))
    _add_token(command("token", _token))
    _add_simulate(command("simulate", _simulate))
    what = command("config", _config)
    what.add_argument("what", choices=["check", "schema"])
    _add_config(what)
    add_commands(commands.add_parser)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="YAML file; default: GATEWAY_CONFIG")


def _add_token(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    parser.add_argument("--user", default="playground", help="whom it is for, such as user-42")
    parser.add_argument("--team", default="default", help="the user's team")
    parser.add_argument("--plan", default="default", help="the plan that it is good for")
    parser.add_argument("--endpoint", action="append", help="narrow to a pattern; repeatable")
    parser.add_argument("--lifetime", type=int, default=TOKEN_LIFETIME, help="seconds")


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--fd", type=int, help="an open socket to listen on, in place of a port")
    parser.add_argument("--origin", help="how others reach it; default: where it listens")
    parser.add_argument("--data-dir", type=Path, default=Path("data/simulator"))
    parser.add_argument("--key", action="append", help="a fal key that is good; repeatable")
    parser.add_argument(
        "--user-id", action="append", help="the account that it signs for; repeated: of each --key"
    )
    parser.add_argument("--pace", type=float, default=1.0, help="multiplies every waiting time")
    parser.add_argument(
        "--concurrency", type=int, action="append", help="jobs of an account running at once; "
        "repeated: of each --key"
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="makes its signing keys the same each time")
