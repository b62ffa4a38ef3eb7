"""Issuers of JWTs in the settings: who else may say who a user is."""

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gateway.core.jwts import ALGORITHMS, Issuer, parse_pem
from gateway.settings.sections import Section
from gateway.settings.sources import Clash
from gateway.settings.values import Name, loopback

MAX_PEM: Final = 16 * 1024

_URL: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?:/[!-~]*)?")
_PREFIX: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._@+:-]{0,31})?")


def _algorithm(text: str) -> str:
    if text not in ALGORITHMS:
        raise ValueError(
            f"must be one of {', '.join(sorted(ALGORITHMS))}: whoever can check a JWT by "
            "another (none, HS256) can make one too"
        )
    return text


def _key_url(text: str) -> str:
    plain = text.startswith("http:") and not loopback(text)
    if not _URL.fullmatch(text) or plain or "#" in text or len(text) > 2048:
        raise ValueError("must be an https URL; only a loopback address may be plain http")
    return text


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise ValueError("must be at most 32 of A-Z a-z 0-9 . _ @ + : -, the first of A-Z a-z 0-9")
    return text


def _path(value: Any) -> Any:
    """A claim's name, or a list of the names that lead to it."""
    return (value,) if isinstance(value, str) else value


def _mapping(value: Any) -> Any:
    """A list of names stands for themselves."""
    return dict(zip(value, value, strict=True)) if isinstance(value, list | tuple) else value


Algorithm = Annotated[str, AfterValidator(_algorithm)]
KeyUrl = Annotated[str, AfterValidator(_key_url)]
Prefix = Annotated[str, AfterValidator(_prefix)]
Claim = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...],
    Field(min_length=1, max_length=5),
    BeforeValidator(_path, json_schema_input_type=str | list[str]),
]
Teams = Annotated[
    dict[str, Name], BeforeValidator(_mapping, json_schema_input_type=dict[str, str] | list[str])
]


class ClaimNames(Section):
    principal: Claim = Field(
        default=("sub",), description="The claim that names the user; a list leads into an object"
    )
    team: Claim | None = Field(default=None, description="The claim that names the team, if any")
    plan: Claim | None = Field(default=None, description="The claim that names the plan, if any")


class IssuerEntry(Section):
    name: Name | None = Field(
        default=None, description="For logs and revocations; unset: `issuer-` and its place"
    )
    issuer: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="What the claim `iss` says, to the letter"
    )
    audience: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="What the claim `aud` must say, or list"
    )
    jwks_url: KeyUrl | None = Field(default=None, description="Where it publishes its keys (https)")
    public_key: Annotated[str, Field(max_length=MAX_PEM)] | None = Field(
        default=None, description="Its one public key (PEM), in place of `jwks_url`"
    )
    public_key_file: Path | None = Field(default=None, description="The same, in a file")
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = Field(
        description="The ones it signs with: RS256, ES256, EdDSA, ..."
    )
    claims: ClaimNames = ClaimNames()
    prefix: Prefix | None = Field(default=None, description="What its users' names begin with here")
    team: Name = Field(default="default", description="The team of its users")
    teams: Teams = Field(
        default_factory=dict,
        description="Teams by what the claim says; a list where that is the team's name",
    )
    plan: Name = Field(default="default", description="The plan of its users")
    plans: tuple[Name, ...] = Field(default=(), description="Plans that the claim may name")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        """The key out of its file. What is wrong otherwise, the fields say."""
        if not isinstance(given, dict) or not isinstance(given.get("public_key_file"), str | Path):
            return given
        if given.get("public_key") is not None:
            raise ValueError("has public_key and public_key_file; give one of them")
        try:
            with Path(given["public_key_file"]).open("rb") as file:
                return {**given, "public_key": file.read(MAX_PEM + 1).decode("ascii", "replace")}
        except OSError as error:
            raise ValueError(f"public_key_file: {error.strerror}") from None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.jwks_url is None) == (self.public_key is None):
            raise ValueError("needs one of jwks_url, public_key and public_key_file")
        if self.public_key is not None:
            parse_pem(self.public_key, frozenset(self.algorithms))
        if (self.claims.team is None) != (not self.teams):
            raise ValueError("claims.team and teams go together: teams says what it may be")
        if (self.claims.plan is None) != (not self.plans):
            raise ValueError("claims.plan and plans go together: plans says what it may be")
        return self


def issuers(entries: Sequence[IssuerEntry]) -> tuple[Issuer, ...]:
    return tuple(
        Issuer(
            name=entry.name or f"issuer-{number}",
            issuer=entry.issuer,
            audience=entry.audience,
            algorithms=frozenset(entry.algorithms),
            jwks_url=entry.jwks_url,
            public_key=entry.public_key,
            principal=entry.claims.principal,
            prefix=entry.prefix or "",
            team=entry.team,
            team_claim=entry.claims.team,
            teams=entry.teams,
            plan=entry.plan,
            plan_claim=entry.claims.plan,
            plans=frozenset(entry.plans),
        )
        for number, entry in enumerate(entries, start=1)
    )


def clashes(entries: Sequence[IssuerEntry], plans: Collection[str]) -> Iterator[Clash]:
    """What does not go together; `plans` are the names of those that exist."""
    for index, entry in enumerate(entries):
        route = ("issuers", str(index))
        if entry.plan not in plans:
            yield Clash((*route, "plan"), "must be the name of a plan that exists")
        if not set(entry.plans) <= set(plans):
            yield Clash((*route, "plans"), "must be names of plans that exist")
    found = issuers(entries)
    for (_, one), (index, other) in combinations(enumerate(found), 2):
        route = ("issuers", str(index))
        if one.name == other.name:
            yield Clash((*route, "name"), "is the name of another issuer")
        if one.issuer == other.issuer and one.audience == other.audience:
            yield Clash((*route, "audience"), "is the same as another's of this issuer")
        if one.issuer != other.issuer and _share_users(one, other):
            yield Clash(
                (*route, "prefix"),
                "does not keep its users apart from another issuer's in the same team: give both "
                "a prefix, such as google: and apple:, none the beginning of the other",
            )


def _share_users(one: Issuer, other: Issuer) -> bool:
    """Could a user of one be taken for a user of the other?"""
    teams = {one.team, *one.teams.values()} & {other.team, *other.teams.values()}
    return bool(teams) and (
        one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    )
