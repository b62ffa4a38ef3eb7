"""Keys and plans that the admin API makes, as values, and what they may say."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final

from msgspec import UNSET, UnsetType

from gateway.core.errors import BadBody
from gateway.core.model import Key, Scope
from gateway.core.weburl import is_origin

NAME_FORM: Final = "1 to 128 letters, digits or . _ @ + -, the first a letter or digit"
"""For messages: of teams, keys and plans."""
MAX_KEY_LIFETIME: Final = 10 * 366 * 86_400
"""Seconds a key may be issued for; without an end it lives until it is revoked."""
MAX_OVERLAP: Final = 30 * 86_400
"""Seconds that a key may live on beside the one that replaces it."""
MAX_LISTED: Final = 100
"""Origins, and networks, that a key may name."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")


@dataclass(frozen=True, slots=True)
class KeyWish:
    """A key to be made. `expires_in` is seconds; None: it lives until it is revoked."""

    team: str
    name: str
    plan: str = "default"
    scopes: tuple[str, ...] = (Scope.SUBMIT.value,)
    expires_in: int | None = None
    origins: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What is to change of a key. `UNSET` leaves a part as it is; `expires_in` counts from now,
    None takes the end away."""

    plan: str | UnsetType = UNSET
    scopes: tuple[str, ...] | UnsetType = UNSET
    expires_in: int | UnsetType | None = UNSET
    origins: tuple[str, ...] | UnsetType = UNSET
    networks: tuple[str, ...] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An issued key as it is kept. `key.id` is always there. Times are Unix seconds.

    `version` grows with each change of anything in the registry, so it tells changes of one
    record apart.
    """

    key: Key
    created_at: float
    created_by: str
    revoked_at: float | None = None
    replaced_by: str | None = None
    """The id of the key that it was rotated to."""
    version: int = 0

    @property
    def id(self) -> str:
        assert self.key.id is not None
        return self.key.id

    def live(self, now: float) -> bool:
        """Is it neither revoked nor expired?"""
        expires_at = self.key.expires_at
        return self.revoked_at is None and (expires_at is None or now < expires_at)


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan with its rules in JSON, as the admin API takes and gives them. Unix seconds.

    One of the settings is `in_file`: the admin API cannot change it.
    """

    name: str
    rules: dict[str, Any] = field(default_factory=dict)
    created_at: float = 0.0
    changed_at: float = 0.0
    version: int = 0
    in_file: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit record. `at` is Unix seconds; `failed` an error's code."""

    id: str
    at: float
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    request_id: str
    address: str
    failed: str | None = None


def check_name(field: str, text: str) -> None:
    """Raises `BadBody` for what cannot be the name of a team, a key or a plan."""
    if not _NAME.fullmatch(text):
        raise BadBody(f"{field} must be {NAME_FORM}")


def checked_scopes(names: tuple[str, ...]) -> frozenset[Scope]:
    """Raises `BadBody`."""
    known = {scope.value for scope in Scope}
    if not names or not set(names) <= known:
        raise BadBody(f"scopes must be one or more of {', '.join(sorted(known))}")
    return frozenset(map(Scope, names))


def check_lifetime(seconds: int | None) -> None:
    """Raises `BadBody`."""
    if seconds is not None and not 1 <= seconds <= MAX_KEY_LIFETIME:
        raise BadBody(f"expires_in must be from 1 to {MAX_KEY_LIFETIME} seconds, or null")


def check_origins(origins: tuple[str, ...]) -> None:
    """Raises `BadBody`."""
    if len(origins) > MAX_LISTED:
        raise BadBody(f"origins must be at most {MAX_LISTED}")
    for index, origin in enumerate(origins):
        if not is_origin(origin):
            raise BadBody(
                f"origins[{index}] must be an origin as browsers send it, such as "
                "https://app.example.com: lower case, no path, no default port"
            )


def check_networks(networks: tuple[str, ...]) -> None:
    """Raises `BadBody`."""
    if len(networks) > MAX_LISTED:
        raise BadBody(f"networks must be at most {MAX_LISTED}")
    for index, network in enumerate(networks):
        try:
            ip_network(network)
        except ValueError:
            raise BadBody(
                f"networks[{index}] must be an IP address or a network such as 10.0.0.0/8 "
                "(no host bits set)"
            ) from None
