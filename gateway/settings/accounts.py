"""The accounts at fal in the settings: FAL_KEY's, called `main`, and those of the file."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, model_validator

from gateway.core.accounts import MAIN, Account, open_to
from gateway.settings.sections import Fal, Section
from gateway.settings.sources import Clash, SettingsError, secret_in
from gateway.settings.values import Count, FalKey, Name


class AccountEntry(Section):
    key: FalKey | None = Field(default=None, description="Its key at fal, `id:secret`")
    key_file: Path | None = Field(default=None, description="A file that holds its key")
    user_id: Name | None = Field(
        default=None, description="Its id that signed webhooks must carry; unset: any"
    )
    weight: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="Its share of new jobs; 0: it only ends those that it has"
    )
    cap: Count | None = Field(default=None, description="Jobs that it runs at once at most")
    teams: tuple[Name, ...] = Field(
        default=(), description="Teams pinned to it: it serves no others, they use no others"
    )

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        """The key out of its file. What is wrong otherwise, the fields say."""
        if not isinstance(given, dict) or not isinstance(given.get("key_file"), str | Path):
            return given
        if given.get("key") is not None:
            raise ValueError("has key and key_file; give one of them")
        try:
            return {**given, "key": secret_in(Path(given["key_file"]))}
        except SettingsError as error:
            raise ValueError(f"key_file: {error}") from None

    @model_validator(mode="after")
    def _has_key(self) -> Self:
        if self.key is None:
            raise ValueError("has no key; give key or key_file")
        return self


def accounts(fal: Fal, entries: Mapping[str, AccountEntry]) -> dict[str, tuple[Account, SecretStr]]:
    """Every account with its key, FAL_KEY's first."""
    found = {}
    if fal.key is not None:
        found[MAIN] = Account(MAIN, user_id=fal.user_id, cap=fal.cap), fal.key
    for name, entry in entries.items():
        assert entry.key is not None
        account = Account(name, entry.user_id, entry.weight, entry.cap, entry.teams)
        found[name] = account, entry.key
    return found


def clashes(
    fal: Fal, entries: Mapping[str, AccountEntry], teams: Collection[str]
) -> Iterator[Clash]:
    """What does not go together; `teams` are those of the keys."""
    if fal.key is None:
        yield from _ownerless(fal)
    elif MAIN in entries:
        yield Clash(("accounts", MAIN), "is the name of FAL_KEY's account; take another")
    yield from _twins(fal, entries)
    known = [account for account, _ in accounts(fal, entries).values()]
    pinned = {team for account in known for team in account.teams}
    for team in sorted(pinned.union(teams)):
        if known and not open_to(known, team):
            yield Clash(
                ("accounts",), f"none is left for the team {team}: pinned elsewhere, or weight 0"
            )
    if known and not any(account.weight for account in known):
        yield Clash(("accounts",), "all have weight 0: none takes new jobs")


def _ownerless(fal: Fal) -> Iterator[Clash]:
    for name in ("user_id", "cap"):
        if getattr(fal, name) is not None:
            yield Clash(("fal", name), "is for the account of FAL_KEY, which is not set")


def _twins(fal: Fal, entries: Mapping[str, AccountEntry]) -> Iterator[Clash]:
    seen = set() if fal.key is None else {fal.key.get_secret_value()}
    for name, entry in entries.items():
        assert entry.key is not None
        key = entry.key.get_secret_value()
        if key in seen:
            yield Clash(("accounts", name, "key"), "is the same key as another account's")
        seen.add(key)
