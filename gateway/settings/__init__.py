"""The gateway's settings: read once, checked at the start, then passed by hand.

The only module that reads the environment. What single values must look like is in `values`,
where they are written in `sources`, the parts of the file in `sections`.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, TypeAdapter, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.core.accounts import MAIN, Account
from gateway.core.credentials import key_hash, key_id
from gateway.core.fal import HOSTS
from gateway.core.model import Key, Plan, Scope
from gateway.settings import accounts, values
from gateway.settings.accounts import AccountEntry
from gateway.settings.clashes import clashes
from gateway.settings.issuers import IssuerEntry
from gateway.settings.kept import create_file
from gateway.settings.plan_sections import PlanRules
from gateway.settings.plans import plan_of
from gateway.settings.sections import (
    Bodies,
    Cors,
    Deliveries,
    Drain,
    Fal,
    KeyEntry,
    Log,
    PriceEntry,
    Redis,
    Results,
    Streams,
    Tls,
)
from gateway.settings.sources import (
    CONFIG,
    KEY,
    KEY_PAIR,
    Place,
    Route,
    SettingsError,
    Written,
    explained,
    from_environment,
    from_file,
    variable,
)
from gateway.settings.values import (
    AccountName,
    AdminKey,
    ApiKey,
    BaseUrl,
    Name,
    Pattern,
    Port,
    Proxy,
    PublicUrl,
    SecretKey,
)
from gateway.settings.visitors import Visitors

__all__ = ["Settings", "SettingsError", "load", "load_without_fal", "secret_keys", "warnings"]

_DEFAULT: Final = "default"
"""The team and the plan of whoever has no other."""
_DEFAULT_ENDPOINTS: Final = ("plans", _DEFAULT, "endpoints")
_FAL_KEYS: Final = {name + end for name in (KEY, *KEY_PAIR) for end in ("", "_FILE")}


class Settings(BaseSettings):
    """Every setting. Made by `load`; made directly, it reads no environment and no file."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on")
    port: Port = Field(default=8787, description="Port to listen on")
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="Processes that serve"
    )
    public_url: PublicUrl | None = Field(
        default=None,
        description="Where fal reaches the gateway; unset: it asks fal instead (pull mode)",
    )
    client_url: BaseUrl | None = Field(
        default=None,
        description="Where clients reach it, for URLs in answers; default `public_url`",
    )
    anonymous: Annotated[Literal["off", "loopback", "on"], values.Switch] = Field(
        default="off", description="Who needs no credential: nobody (`off`), `loopback`, all (`on`)"
    )
    data_dir: Path = Field(
        default=Path("data"), description="Where the gateway's own Redis keeps its file"
    )
    playground: bool = Field(default=False, description="Whether `/` shows the playground")
    secret_keys: tuple[SecretKey, ...] = Field(
        default=(), description="Signing secrets, oldest first; unset: generated with the own Redis"
    )
    api_keys: tuple[ApiKey, ...] = Field(
        default=(), description="Keys of the default team, with the scopes `submit` and `mint`"
    )
    admin_key: AdminKey | None = Field(default=None, description="Credential of the admin API")
    trusted_proxies: tuple[Proxy, ...] = Field(
        default=(), description="Addresses and networks of the proxies before the gateway"
    )
    endpoints: tuple[Pattern, ...] = Field(
        default=(), description="Endpoints that the default plan allows, in place of its own"
    )
    tls: Tls = Tls()
    redis: Redis = Redis()
    cors: Cors = Cors()
    fal: Fal = Fal()
    account_entries: dict[AccountName, AccountEntry] = Field(
        alias="accounts", default_factory=dict, description="Accounts at fal by name"
    )
    plan_rules: dict[Name, PlanRules] = Field(
        alias="plans", default_factory=dict, description="Plans by name"
    )
    key_entries: tuple[KeyEntry, ...] = Field(alias="keys", default=(), description="Keys")
    prices: tuple[PriceEntry, ...] = Field(
        default=(), max_length=1000, description="What the operator knows better than fal's prices"
    )
    issuers: tuple[IssuerEntry, ...] = Field(
        default=(), description="Whose JWTs are good for users of ours"
    )
    visitors: Visitors = Visitors()
    results: Results = Results()
    bodies: Bodies = Bodies()
    streams: Streams = Streams()
    deliveries: Deliveries = Deliveries()
    log: Log = Log()
    drain: Drain = Drain()

    _places: dict[Route, Place] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` reads the sources: pydantic's own name neither a misspelt variable nor a line."""
        return (init_settings,)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for clash in clashes(self):
            raise clash
        return self

    @property
    def places(self) -> Mapping[Route, Place]:
        """Where each value was written; what is missing here is a default."""
        return MappingProxyType(self._places)

    def located(self, places: Mapping[Route, Place]) -> Self:
        """The same settings, knowing where they were written."""
        copy = self.model_copy()
        copy._places = dict(places)
        return copy

    @property
    def simulated(self) -> bool:
        """Whether a simulator on this machine plays all of fal."""
        origins = self.fal.origins
        return origins.keys() >= set(HOSTS) and all(
            origin.startswith("http:") and values.loopback(origin) for origin in origins.values()
        )

    @property
    def loopback_webhooks(self) -> bool:
        """Whether clients may name webhooks on this machine: where they are all on it too."""
        return self.simulated and (self.public_url is None or values.loopback(self.public_url))

    @property
    def plans(self) -> Mapping[str, Plan]:
        """The plans by name. There is always one called `default`."""
        return {
            name: plan_of(name, rules, self.bodies.max)
            for name, rules in self.effective_rules.items()
        }

    @property
    def effective_rules(self) -> Mapping[str, PlanRules]:
        """The same, as they are written, with `endpoints` in their place."""
        rules = {_DEFAULT: PlanRules()} | self.plan_rules
        if self.endpoints:
            update = {"endpoints": self.endpoints}
            rules[_DEFAULT] = rules[_DEFAULT].model_copy(update=update)
        return rules

    @property
    def accounts(self) -> Mapping[str, tuple[Account, SecretStr]]:
        """The accounts at fal by name, with their keys. That of FAL_KEY is `main`."""
        return accounts.accounts(self.fal, self.account_entries)

    @property
    def all_keys(self) -> tuple[Key, ...]:
        """The keys of the file and those of `api_keys`. A key's hash tells it from all others."""
        return (*map(_key, self.key_entries), *self._short_keys())

    def _short_keys(self) -> Iterator[Key]:
        for secret in self.api_keys:
            text = secret.get_secret_value()
            name = key_id(text)
            scopes = frozenset({Scope.SUBMIT, Scope.MINT})
            yield Key(name, key_hash(text), scopes=scopes, id=name)


def load(
    environ: Mapping[str, str] = os.environ,
    file: Path | None = None,
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> Settings:
    """The settings of this environment and of one file: `file`, or what GATEWAY_CONFIG names.

    The environment wins; `defaults` are variables that count where neither says anything.
    Raises `SettingsError`.
    """
    in_file = _in_file(environ, file)
    if {("endpoints",), _DEFAULT_ENDPOINTS} <= in_file.places.keys():
        place = in_file.places[("endpoints",)]
        raise SettingsError(f"{place}: endpoints: {'.'.join(_DEFAULT_ENDPOINTS)} is given too")
    environ = {**_left(defaults, environ, in_file), **environ}
    written = in_file.under(from_environment(Settings, environ))
    if not _fal_is_in(written):
        raise SettingsError(
            f"{KEY}: is not set; fal's key is needed, here, by {KEY}_FILE or in accounts"
        )
    try:
        settings = Settings(**written.values)
    except ValidationError as error:
        raise SettingsError(explained(Settings, error, written)) from None
    return settings.located(written.places)


def load_without_fal(environ: Mapping[str, str] = os.environ, file: Path | None = None) -> Settings:
    """The same for what never calls fal. FAL_KEY may be missing, or a key of the gateway, as
    fal's clients have it."""
    kept = {name: text for name, text in environ.items() if name not in _FAL_KEYS}
    return load(kept, file, {KEY: "not:needed"})


def fal_is_given(environ: Mapping[str, str] = os.environ, file: Path | None = None) -> bool:
    """Whether environment or file say what fal's key is, so that no simulator is meant."""
    written = _in_file(environ, file).under(from_environment(Settings, environ))
    return _fal_is_in(written)


def _fal_is_in(written: Written) -> bool:
    return ("fal", "key") in written.places or bool(written.values.get("accounts"))


def _left(
    defaults: Mapping[str, str], environ: Mapping[str, str], in_file: Written
) -> dict[str, str]:
    """The defaults for what neither environment nor file speaks of."""
    given = {variable(route) for route in in_file.places}
    given |= {name.removesuffix("_FILE") for name in environ}
    if _DEFAULT_ENDPOINTS in in_file.places:
        given.add(variable(("endpoints",)))
    if {KEY_PAIR[0], variable(("accounts",))} & environ.keys() or _fal_is_in(in_file):
        given.add(KEY)
    return {name: text for name, text in defaults.items() if name not in given}


def _in_file(environ: Mapping[str, str], file: Path | None) -> Written:
    path = file or environ.get(CONFIG)
    return from_file(Path(path)) if path else Written()


def warnings(settings: Settings) -> list[str]:
    """What the operator should know of, though the gateway can start."""
    found = []
    for name, (account, _) in settings.accounts.items():
        if account.user_id is None:
            where = "GATEWAY_FAL_USER_ID" if name == MAIN else f"accounts.{name}.user_id"
            found.append(f"{where} is not set: webhooks of any fal account are accepted")
    if settings.public_url is None:
        found.append("GATEWAY_PUBLIC_URL is not set: pull mode, the gateway asks fal for ends")
    if not any(plan.endpoints for plan in settings.plans.values()):
        found.append("no endpoints are allowed: set GATEWAY_ENDPOINTS, or endpoints in a plan")
    return found


def secret_keys(settings: Settings, *, create: bool = True) -> list[str]:
    """The signing secrets, oldest first. When none are set, they are kept in the data directory.

    Safe to call from several processes at once: one creates them, all read the same.
    Raises `SettingsError`, also for none where they are not to be created.
    """
    if settings.secret_keys:
        return [secret.get_secret_value() for secret in settings.secret_keys]
    path = settings.data_dir / "secret_keys"
    try:
        if not path.exists() and not create:
            raise SettingsError(
                f"{path}: is not there: start the gateway in this folder first, or set "
                "GATEWAY_SECRET_KEYS or GATEWAY_DATA_DIR as it has them"
            )
        if not path.exists():
            settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            create_file(path, secrets.token_hex(32))
        kept = TypeAdapter(list[SecretKey]).validate_python(path.read_text().split())
    except OSError as error:
        raise SettingsError(f"{error.filename or path}: {error.strerror}") from None
    except ValueError:
        kept = []
    if not kept:
        raise SettingsError(f"{path}: must hold secrets of at least 32 bytes, one a line")
    return [secret.get_secret_value() for secret in kept]


def _key(entry: KeyEntry) -> Key:
    return Key(
        name=entry.name,
        hash=entry.hash,
        team=entry.team,
        plan=entry.plan,
        scopes=frozenset(entry.scopes),
        id=entry.id,
        origins=entry.origins,
        networks=entry.networks,
    )
