"""Where settings are written, environment and file, and how a mistake there is pointed at."""

import difflib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from gateway.core.operators import NotStarted
from gateway.core.slices import each_once

Route = tuple[str, ...]
"""The path of a value in the file: `("plans", "default", "endpoints")`."""

PREFIX: Final = "GATEWAY_"
CONFIG: Final = "GATEWAY_CONFIG"
KEY: Final = "FAL_KEY"
KEY_PAIR: Final = ("FAL_KEY_ID", "FAL_KEY_SECRET")
_NAMED: Final[Mapping[Route, str]] = {("fal", "key"): KEY}
"""Settings whose variable has the name that fal gave it."""
_KEPT_EMPTY: Final = frozenset({"GATEWAY_SECRET_KEYS"})
"""Elsewhere an empty variable is as good as none; here it is a mistake to be told of."""
_FILE_LIMIT: Final = 2**20
_DEPTH_LIMIT: Final = 20
"""Levels of YAML: an alias may hold itself."""
_SERVICE_LINK: Final = re.compile(
    r"GATEWAY_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
"""https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables"""
_LINK_VALUE: Final = re.compile(r"(?:tcp|udp|sctp)://.*")
_PLAINER: Final = {
    "missing": "is not set",
    "model_type": "must be a section: names and values, further to the right",
    "dict_type": "must be a table: names and values",
    "tuple_type": "must be a list",
}
"""pydantic's words that only a programmer would understand."""


class SettingsError(NotStarted):
    """One line: which setting, and what was expected."""

    def __init__(self, text: str) -> None:
        super().__init__("".join(c if c.isprintable() else "?" for c in text))


class Clash(ValueError):
    """A setting that does not go with the others. `route` is the one to name."""

    def __init__(self, route: Route, text: str) -> None:
        super().__init__(text)
        self.route = route


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written: a variable, or (`line` given) a line of the file."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Written:
    """Values as they were written, nested as in the file, and the place of each."""

    values: dict[str, Any] = field(default_factory=dict, repr=False)
    places: dict[Route, Place] = field(default_factory=dict)

    def under(self, over: Self) -> "Written":
        """Both; where both have a value, the one of `over`."""
        merged = Written(_copied(self.values), dict(self.places))
        for route, place in over.places.items():
            for old in [old for old in merged.places if old[: len(route)] == route]:
                del merged.places[old]
            value: Any = over.values
            for name in route:
                value = value[name]
            merged.put(route, value, place)
        return merged

    def put(self, route: Route, value: Any, place: Place) -> None:
        section = self.values
        for name in route[:-1]:
            inner = section.get(name)
            section[name] = section = inner if isinstance(inner, dict) else {}
        section[route[-1]] = value
        self.places[route] = place

    def place(self, route: Route) -> tuple[Place, int]:
        """The place of a value or of what holds it, and how much of `route` that place covers."""
        for length in range(len(route), 0, -1):
            if found := self.places.get(route[:length]):
                return found, length
        return Place(variable(route)), len(route)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting: a value, a list or a table, but not a section."""

    route: Route
    info: FieldInfo

    @property
    def kind(self) -> Any:
        """Its type, without `| None`."""
        return _bare(self.info.annotation)

    @property
    def secret(self) -> bool:
        return _holds(self.info.annotation, SecretStr)


def leaves(model: type[BaseModel], above: Route = ()) -> Iterator[Leaf]:
    """Every setting of `model`, in the order of its fields."""
    for name, info in model.model_fields.items():
        route = (*above, info.alias or name)
        if _model(info.annotation):
            yield from leaves(_bare(info.annotation), route)
        else:
            yield Leaf(route, info)


def variable(route: Route) -> str:
    """The environment variable of a setting."""
    return _NAMED.get(route) or PREFIX + "_".join(route).upper()


def from_environment(model: type[BaseModel], environ: Mapping[str, str]) -> Written:
    """What the environment says of `model`'s settings. Raises `SettingsError`."""
    known = {variable(leaf.route): leaf for leaf in leaves(model)}
    secrets = {name for name, leaf in known.items() if leaf.secret}.union(KEY_PAIR)
    _refuse_unknown(environ, {*known, CONFIG, *KEY_PAIR, *(f"{name}_FILE" for name in secrets)})
    texts = {name: (environ[name], Place(name)) for name in known if _given(environ, name)}
    texts |= dict(_files(environ, secrets))
    _join_key(environ, texts)
    written = Written()
    for name, leaf in known.items():
        if name in texts:
            text, place = texts[name]
            written.put(leaf.route, _decoded(leaf, text, place), place)
    return written


def from_file(path: Path) -> Written:
    """What a YAML file says. Raises `SettingsError`."""
    try:
        node = yaml.compose(_text(path), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError(f"{path}:{line}: must be YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise SettingsError(f"{path}: must be YAML, in printable characters") from None
    places: dict[Route, Place] = {}
    values = _plain(node, (), str(path), places) if node else {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path}:1: must be a mapping of settings, such as port: 8787")
    return Written(values, places)


def explained(model: type[BaseModel], error: ValidationError, written: Written) -> str:
    """The first mistake, on one line: where, what, and what was expected there."""
    route, text = first_mistake(model, error)
    place, covered = written.place(route)
    inner = _dotted(route if place.line else route[covered:])
    joint = ": " if inner and (place.line or not inner.startswith("[")) else ""
    return f"{place}{joint}{inner}: {text}"


def first_mistake(model: type[BaseModel], error: ValidationError) -> tuple[Route, str]:
    """Where the first mistake is, and what was expected there."""
    first = error.errors(include_url=False, include_input=False)[0]
    cause = first.get("ctx", {}).get("error")
    route = tuple(str(step) for step in first["loc"] if step != "[key]")
    if isinstance(cause, Clash):
        route = cause.route
    text = str(cause) if isinstance(cause, ValueError) else first["msg"]
    if first["type"] == "extra_forbidden":
        text = "unknown setting" + nearest(route[-1], _names(model, route[:-1]))
    return route, _PLAINER.get(first["type"], text).replace("Input should", "must", 1)


def nearest(name: str, known: Collection[str]) -> str:
    """The end of a message on an unknown name."""
    if name.removeprefix(PREFIX) in known:
        return f"; the nearest one known is {name.removeprefix(PREFIX)}"
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return f"; the nearest one known is {close[0]}" if close else ""


def _refuse_unknown(environ: Mapping[str, str], known: set[str]) -> None:
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and not _linked(environ, name):
            raise SettingsError(f"{name}: unknown setting{nearest(name, known)}")


def _linked(environ: Mapping[str, str], name: str) -> bool:
    """Whether Kubernetes set a variable, for a service whose name happens to be like ours."""
    if name.endswith("_PORT") and _LINK_VALUE.fullmatch(environ[name]):
        return True
    return _SERVICE_LINK.fullmatch(name) is not None


def _given(environ: Mapping[str, str], name: str) -> bool:
    if name not in environ or _linked(environ, name):
        return False
    return bool(environ[name]) or name in _KEPT_EMPTY


def _files(
    environ: Mapping[str, str], secrets: Iterable[str]
) -> Iterator[tuple[str, tuple[str, Place]]]:
    """The secrets that `<NAME>_FILE` variables point to, under their own names."""
    for name in sorted(secrets):
        pointer = f"{name}_FILE"
        if not environ.get(pointer):
            continue
        if environ.get(name):
            raise SettingsError(f"{pointer}: {name} is set too; set one of them")
        text = secret_in(Path(environ[pointer]), f"{pointer}: ")
        yield name, (text, Place(pointer))


def secret_in(path: Path, prefix: str = "") -> str:
    """What a file holds, without the white space around it. Raises `SettingsError`."""
    text = _text(path, prefix).strip()
    if not text:
        raise SettingsError(f"{prefix}the file is empty")
    return text


def _join_key(environ: Mapping[str, str], texts: dict[str, tuple[str, Place]]) -> None:
    """fal's key from its two halves, unless it is given whole."""
    halves = {name: (environ[name], Place(name)) for name in KEY_PAIR if environ.get(name)}
    halves |= {name: texts.pop(name) for name in KEY_PAIR if name in texts}
    if KEY in texts or not halves:
        return
    for name in KEY_PAIR:
        if name not in halves:
            raise SettingsError(f"{name}: is not set; {KEY_PAIR[0]} and {KEY_PAIR[1]} go together")
    texts[KEY] = ":".join(halves[name][0] for name in KEY_PAIR), halves[KEY_PAIR[1]][1]


def _decoded(leaf: Leaf, text: str, place: Place) -> Any:
    """A variable's value: lists with commas, tables (and lists of them) as JSON."""
    origin = get_origin(leaf.kind)
    if origin is dict or (origin is tuple and _model(get_args(leaf.kind)[0])):
        try:
            return json.loads(text, object_pairs_hook=each_once)
        except (ValueError, RecursionError):
            raise SettingsError(f"{place}: must be JSON, each name once") from None
    if origin is tuple:
        return [item.strip() for item in re.split(r"[,\n]", text) if item.strip()]
    return text


def _text(path: Path, prefix: str = "") -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_FILE_LIMIT + 1)
        if len(raw) > _FILE_LIMIT:
            raise SettingsError(f"{prefix}{path}: is larger than {_FILE_LIMIT} bytes")
        return raw.decode()
    except UnicodeDecodeError:
        raise SettingsError(f"{prefix}{path}: must be UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise SettingsError(f"{prefix}cannot read {path}: {reason}") from None


def _plain(node: yaml.Node, route: Route, file: str, places: dict[Route, Place]) -> Any:
    """A YAML node as a plain value; `places` learns its line and those of all in it."""
    line = node.start_mark.line + 1
    places.setdefault(route, Place(file, line))
    if len(route) > _DEPTH_LIMIT:
        raise SettingsError(f"{file}:{line}: is nested too deep")
    if isinstance(node, yaml.MappingNode):
        return _table(node, route, file, places)
    if isinstance(node, yaml.SequenceNode):
        return [
            _plain(item, (*route, str(index)), file, places)
            for index, item in enumerate(node.value)
        ]
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError):
        raise SettingsError(f"{file}:{line}: {_dotted(route)}: must be a plain value") from None


def _table(
    node: yaml.MappingNode, route: Route, file: str, places: dict[Route, Place]
) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in table:
            raise SettingsError(f"{file}:{line}: {_dotted((*route, name))}: is given twice")
        places[(*route, name)] = Place(file, line)
        table[name] = _plain(value, (*route, name), file, places)
    return table


def _names(model: type[BaseModel], route: Sequence[str]) -> list[str]:
    """The names that are known where `route` leads."""
    kind: Any = model
    for step in route:
        kind = _bare(kind)
        if _model(kind):
            fields = {info.alias or name: info for name, info in kind.model_fields.items()}
            kind = fields[step].annotation if step in fields else None
        else:
            kind = next((k for k in get_args(kind) if _model(k)), None)
    kind = _bare(kind)
    return [i.alias or name for name, i in kind.model_fields.items()] if _model(kind) else []


def _model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _bare(kind: Any) -> Any:
    if get_origin(kind) in {Union, UnionType}:
        return next(arg for arg in get_args(kind) if arg is not NoneType)
    return kind


def _holds(kind: Any, wanted: type) -> bool:
    return kind is wanted or any(_holds(arg, wanted) for arg in get_args(kind))


def _dotted(route: Sequence[str]) -> str:
    """`keys[0].hash`"""
    return "".join(f"[{s}]" if s.isdigit() else f".{s}" for s in route).removeprefix(".")


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, dict) else v for k, v in values.items()}
