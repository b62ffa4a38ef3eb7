"""The command line. A command's module is imported when it is called, see `commands`."""

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway import __version__
from gateway.commands.admin import add_commands
from gateway.core.operators import NotDone
from gateway.core.tokens import TOKEN_LIFETIME

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the gateway refused, 2 a setting is wrong or something is missing,
    3 not started."""
    parsed = _parser().parse_args(arguments)
    try:
        return _imported(parsed.load)(parsed)
    except NotDone as error:
        print(f"fal-gateway: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever reads, such as `head -n 1`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        print(f"fal-gateway: {error.strerror or error}{place}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _imported(load: Callable[[], Command]) -> Command:
    """Imports make objects by the ten thousand, and no garbage: it is not searched for there."""
    gc.disable()
    try:
        return load()
    finally:
        gc.enable()


def _serve() -> Command:
    """Serve with the settings as they are."""
    from gateway.commands.serve import serve

    return serve


def _run() -> Command:
    """Serve at once: playground on, all endpoints allowed, and a simulator if there is no key."""
    from gateway.commands.serve import run

    return run


def _simulate() -> Command:
    """Serve a fal of our own, for offline work and tests."""
    from gateway.commands.simulate import simulate

    return simulate


def _token() -> Command:
    """Print a token for a user, signed with the secrets of the settings."""
    from gateway.commands.token import token

    return token


def _config() -> Command:
    """Print the effective configuration, or the JSON Schema of the file."""
    from gateway.commands.config import config

    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fal-gateway", description="A proxy and webhook gateway for fal.ai; it holds the key."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, load: Callable[[], Command]) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=load.__doc__, description=load.__doc__)
        added.set_defaults(load=load)
        return added

    for name, load in (("serve", _serve), ("run", _run)):
        _add_config(command(name, load))
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
    parser.add_argument("--port", type=_port, default=9100)
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
    parser.add_argument("--trust", type=Path, help="a certificate of webhooks' receivers, in PEM")
    parser.add_argument("--seed", type=int, help="makes its signing keys the same each time")


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError("must be a number from 0 to 65535")
    return int(text)
