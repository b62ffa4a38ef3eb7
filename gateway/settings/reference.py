"""The settings, shown: what is in effect, what a file may hold, and the documentation."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.core.model import Plan
from gateway.settings import Settings
from gateway.settings.accounts import AccountEntry
from gateway.settings.issuers import IssuerEntry
from gateway.settings.plan_sections import (
    BudgetEntry,
    LimitEntry,
    PlanRules,
    QueueEntry,
    RuleEntry,
)
from gateway.settings.plans import plan_json
from gateway.settings.sections import KeyEntry
from gateway.settings.sources import KEY_PAIR, Leaf, Place, Route, leaves, variable
from gateway.settings.values import Bound

_SCHEMA: Final = "https://json-schema.org/draft/2020-12/schema"
_NO_VARIABLE: Final = ""
_MASK: Final = "***"
_HEAD: Final = f"""\
# Settings

<!-- Written by `gateway.settings.reference.reference()`; a test compares. -->

Settings come from the environment and from one YAML file, which `GATEWAY_CONFIG` names. The
environment wins. A variable's name is the path in the file, in upper case, joined by `_`. In a
variable, lists are separated by commas; tables, and lists of tables, are JSON. An empty variable
counts as not set. Sizes are bytes or have a unit (`16MiB`, `32MB`); times are
seconds or have one (`90s`, `15m`, `12h`, `30d`).

Each secret (*) can also be read from a file: `GATEWAY_ADMIN_KEY_FILE=/run/secrets/admin`. fal's
key may come in halves, `{KEY_PAIR[0]}` and `{KEY_PAIR[1]}`.

A wrong value, and a name that the gateway does not know, stop the start.

| in the file | variable | default | meaning |
|---|---|---|---|
"""
_BOUNDS: Final = """
## Bounds

Nothing in the gateway grows or waits without a limit. These limits are settings:

| bound | default | meaning |
|---|---|---|
"""


def check(settings: Settings) -> str:
    """The configuration in effect, as YAML: secrets masked, and where each value came from."""
    data = settings.model_dump(mode="json", by_alias=True)
    data["plans"] = {name: _plan(plan) for name, plan in settings.plans.items()}
    for leaf in leaves(Settings):
        if leaf.secret:
            _mask(data, leaf.route)
    for entry in data["accounts"].values():
        entry["key"] = _MASK
    places = dict(settings.places)
    if ("endpoints",) in places:
        places[("plans", "default", "endpoints")] = places[("endpoints",)]
    return "".join(_lines(data, (), places))


def _plan(plan: Plan) -> dict[str, Any]:
    """A plan with its defaults; in its lists, what is said."""
    whole = PlanRules().model_dump(mode="json")
    return whole | plan_json(plan) | {"max_body": plan.max_body}


def schema() -> dict[str, Any]:
    """The JSON Schema of the file. Nothing is required there: the rest may be in variables."""
    made = Settings.model_json_schema(by_alias=True)
    for model in (made, made["$defs"]["Fal"]):
        model.pop("required", None)
    return {"$schema": _SCHEMA, **made, "title": "fal-gateway's configuration file"}


def reference() -> str:
    """The documentation of every setting, as Markdown."""
    every = list(_documented())
    rows = [
        _row(f"`{path}`", f"{name} (*)" if leaf.secret else name, _default(leaf), _meaning(leaf))
        for path, name, leaf in every
    ]
    bounds = [
        _row(f"`{path}`", _default(leaf), _meaning(leaf))
        for path, _, leaf in every
        if _bound(leaf.info)
    ]
    return _HEAD + "".join(rows) + _BOUNDS + "".join(bounds)


def _mask(data: dict[str, Any], route: Route) -> None:
    section = data
    for name in route[:-1]:
        section = section[name]
    value = section[route[-1]]
    section[route[-1]] = [_MASK] * len(value) if isinstance(value, list) else value and _MASK


def _lines(
    section: Mapping[str, Any], above: Route, places: Mapping[Route, Place]
) -> Iterator[str]:
    for name, value in section.items():
        route = (*above, name)
        margin = "  " * len(above)
        if isinstance(value, dict) and value:
            yield f"{margin}{_yaml(name)}:{_comment(route, places)}\n"
            yield from _lines(value, route, places)
        else:
            yield f"{margin}{_yaml(name)}: {_yaml(value)}{_comment(route, places)}\n"


def _yaml(value: Any) -> str:
    """A value on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=2**20, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _comment(route: Route, places: Mapping[Route, Place]) -> str:
    return f"  # {places[route]}" if route in places else ""


_INNER: Final[Mapping[str, tuple[str, type[BaseModel]]]] = {
    "plans": ("plans.<name>", PlanRules),
    "plans.<name>.rules": ("plans.<name>.rules[]", RuleEntry),
    "plans.<name>.limits": ("plans.<name>.limits[]", LimitEntry),
    "plans.<name>.budgets": ("plans.<name>.budgets[]", BudgetEntry),
    "plans.<name>.queue": ("plans.<name>.queue", QueueEntry),
    "keys": ("keys[]", KeyEntry),
    "accounts": ("accounts.<name>", AccountEntry),
    "issuers": ("issuers[]", IssuerEntry),
}
"""Which section each table of them has, and how its paths begin."""


def _documented() -> Iterator[tuple[str, str, Leaf]]:
    """Path, variable and leaf of every setting, with those inside tables."""
    for leaf in leaves(Settings):
        path = ".".join(leaf.route)
        yield path, f"`{variable(leaf.route)}`", leaf
        yield from _within(path)


def _within(path: str) -> Iterator[tuple[str, str, Leaf]]:
    if path not in _INNER:
        return
    prefix, model = _INNER[path]
    for below in leaves(model):
        inner = f"{prefix}.{'.'.join(below.route)}"
        yield inner, _NO_VARIABLE, below
        yield from _within(inner)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _meaning(leaf: Leaf) -> str:
    return leaf.info.description or ""


def _default(leaf: Leaf) -> str:
    if leaf.info.is_required():
        return "required"
    value = leaf.info.get_default(call_default_factory=True, validated_data={})
    if value is None or value == () or value == {}:
        return ""
    match _bound(leaf.info):
        case Bound.BYTES:
            return f"{value // 2**20} MiB"
        case Bound.SECONDS:
            return f"{value:,.0f} s"
        case _:
            return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    """A default as one would write it in a variable."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bound(info: FieldInfo) -> Bound | None:
    """What kind of bound a setting is, if it is one."""
    return next((mark for mark in info.metadata if isinstance(mark, Bound)), None)
