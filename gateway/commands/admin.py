"""Commands for operators: keys, plans and usage of a running gateway, by its admin API."""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.core.issued import MAX_OVERLAP
from gateway.core.operators import NotDone

if TYPE_CHECKING:
    from gateway.commands.admin_api import Api

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_NAMED: Final = "letters, digits and . _ @ + -, a letter or digit first, at most 128 in all"
_KEY: Final = re.compile(r"fgw_([a-z0-9]+)(?:_[A-Za-z0-9]*)?")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_KEY_COLUMNS: Final = ("id", "name", "team", "plan", "scopes", "expires_at", "state")
_USAGE_COLUMNS: Final = ("day", "team", "principal", "endpoint", "jobs", "units", "cost")


def _create(api: "Api", parsed: argparse.Namespace) -> None:
    if not _NAME.fullmatch(parsed.name):
        raise NotDone(f"{parsed.name!r} is no name: {_NAMED}")
    wish = {
        "name": parsed.name,
        "team": parsed.team,
        "plan": parsed.plan,
        "scopes": parsed.scope,
        "expires_in": parsed.expires,
        "origins": parsed.origin,
        "networks": parsed.network,
    }
    given = {name: value for name, value in wish.items() if value is not None}
    _show_new(api.ask("POST", "keys", json=given), parsed)


def _rotate(api: "Api", parsed: argparse.Namespace) -> None:
    new = api.ask("POST", f"keys/{parsed.id}/rotate", json={"overlap": parsed.overlap})
    _show_new(new, parsed)
    if not parsed.json:
        print(f"The old key {parsed.id} is good for {parsed.overlap} s more.")


def _show_new(key: dict[str, Any], parsed: argparse.Namespace) -> None:
    if parsed.json:
        print(json.dumps(key, indent=2))
        return
    print(f"{key['key']}\n")
    print("This is the key. It is shown this once: put it where its holder keeps secrets, such as")
    print("FAL_KEY for fal's clients with this gateway as their host, or a server's environment.\n")
    _print_keys([key])


def _list(api: "Api", parsed: argparse.Namespace) -> None:
    params = {"limit": "200", **({"team": parsed.team} if parsed.team else {})}
    keys = list(api.pages("keys", params, "keys"))
    print(json.dumps(keys, indent=2)) if parsed.json else _print_keys(keys)


def _show(api: "Api", parsed: argparse.Namespace) -> None:
    _one(api.ask("GET", f"keys/{parsed.id}"), parsed)


def _revoke(api: "Api", parsed: argparse.Namespace) -> None:
    _one(api.ask("DELETE", f"keys/{parsed.id}"), parsed)
    if not parsed.json:
        print("\nIt is refused everywhere within a second, with all tokens made with it.")


def _one(key: dict[str, Any], parsed: argparse.Namespace) -> None:
    print(json.dumps(key, indent=2)) if parsed.json else _print_keys([key])


def _print_keys(keys: Iterable[dict[str, Any]]) -> None:
    _table(_KEY_COLUMNS, [{**key, "state": _state(key)} for key in keys])


def _state(key: dict[str, Any]) -> str:
    if key["revoked_at"]:
        return "revoked"
    return f"rotated to {key['replaced_by']}" if key["replaced_by"] else "good"


def _plans(api: "Api", parsed: argparse.Namespace) -> None:
    plans = api.ask("GET", "plans")["plans"]
    if parsed.json:
        print(json.dumps(plans, indent=2))
        return
    places = {True: "settings", False: "admin API"}
    _table(
        ("name", "from", "changed_at"),
        [{**each, "from": places[each["in_settings"]]} for each in plans],
    )


def _put_plan(api: "Api", parsed: argparse.Namespace) -> None:
    plan = api.ask("PUT", f"plans/{parsed.name}", json=api.rules(parsed.file))
    print(json.dumps(plan, indent=2) if parsed.json else f"The plan {plan['name']} is as written.")


def _usage(api: "Api", parsed: argparse.Namespace) -> None:
    asked = {"from": parsed.since, "to": parsed.until, "team": parsed.team}
    params = {name: value for name, value in asked.items() if value}
    usage = api.ask("GET", "usage", params=params)
    print(json.dumps(usage, indent=2)) if parsed.json else _table(_USAGE_COLUMNS, usage["rows"])


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Aligned, with a head."""
    lines = [[column.replace("_", " ") for column in columns]]
    lines += [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return ",".join(map(str, value)) or "-" if isinstance(value, list) else str(value)


def _duration(text: str) -> int:
    """Seconds of `90`, `15m`, `12h` or `30d`."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 3600, 12h or 30d")
    return int(match[1]) * _UNITS[match[2] or "s"]


def _overlap(text: str) -> int:
    seconds = _duration(text)
    if seconds > MAX_OVERLAP:
        raise argparse.ArgumentTypeError(f"{text!r} is too long: at most {MAX_OVERLAP // 86_400}d")
    return seconds


def _identifier(text: str) -> str:
    """What can stand in a path as it is."""
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no id and no name: {_NAMED}")
    return text


def _key_id(text: str) -> str:
    """The id of a key, or of the key that is given whole: its secret is not sent."""
    whole = _KEY.fullmatch(text)
    return whole[1] if whole else _identifier(text)


Act = Callable[["Api", argparse.Namespace], None]
AddParser = Callable[..., argparse.ArgumentParser]
"""What argparse has for adding a command."""


def add_commands(commands: AddParser) -> None:
    """Adds `keys`, `plans` and `usage` to the command line."""
    keys = _group(commands, "keys", "Make, list, rotate and revoke keys.")
    create = _act(keys, "create", _create, "Make a key, and show it this once.")
    create.add_argument("name", help="its holder, whose jobs it finds again after a rotation")
    create.add_argument("--team", help="its team; default: default")
    create.add_argument("--plan", help="its plan; default: default")
    create.add_argument(
        "--scope", action="append", choices=["submit", "read", "mint", "admin"],
        help="what it may do; repeatable; default: submit",
    )  # fmt: skip
    create.add_argument("--expires", type=_duration, help="when it ends, such as 90d; else never")
    create.add_argument("--origin", action="append", help="a page that may use it; repeatable")
    create.add_argument("--network", action="append", help="from where; repeatable")
    listing = _act(keys, "list", _list, "List the keys that were made by command or admin API.")
    listing.add_argument("--team", help="of this team alone")
    for name, act, about in (
        ("show", _show, "Show a key, without its text."),
        ("revoke", _revoke, "Revoke a key, and all tokens made with it."),
        ("rotate", _rotate, "Make another key in place of one."),
    ):
        added = _act(keys, name, act, about)
        added.add_argument("id", type=_key_id, help="its id, the part after fgw_, or all of it")
    added.add_argument(
        "--overlap", type=_overlap, default=0, help="how long the old one lives on, such as 1d"
    )
    plans = _group(commands, "plans", "List plans, and write them.")
    _act(plans, "list", _plans, "List all plans.")
    put = _act(plans, "put", _put_plan, "Make a plan, or write it anew.")
    put.add_argument("name", type=_identifier)
    put.add_argument("file", help="its rules, YAML or JSON as in the settings; - reads them here")
    usage = _act(commands, "usage", _usage, "Show what was used, by day, principal and endpoint.")
    usage.add_argument("--from", dest="since", help="first day, YYYY-MM-DD; default 30 days ago")
    usage.add_argument("--to", dest="until", help="last day; default today")
    usage.add_argument("--team", help="of this team alone")


def _group(commands: AddParser, name: str, about: str) -> AddParser:
    added = commands(name, help=about, description=about)
    return added.add_subparsers(required=True, metavar="command").add_parser


def _act(commands: AddParser, name: str, act: Act, about: str) -> argparse.ArgumentParser:
    def load() -> Callable[[argparse.Namespace], int]:
        from gateway.commands.admin_api import reached

        def run(parsed: argparse.Namespace) -> int:
            with reached(parsed) as api:
                act(api, parsed)
            return 0

        return run

    added = commands(name, help=about, description=about)
    added.set_defaults(load=load)
    added.add_argument("--config", type=Path, help="the gateway's YAML file, if it has one")
    added.add_argument("--url", help="where the gateway is; default: on this machine")
    added.add_argument("--json", action="store_true", help="print JSON, for programs")
    return added
