"""The sections of the settings. `description` goes into the documentation and the JSON Schema."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.core.issued import MAX_LISTED
from gateway.core.model import Scope
from gateway.settings.values import (
    BrowserOrigin,
    Count,
    Dollars,
    FalHost,
    FalKey,
    FalOrigin,
    Hash,
    InputField,
    KeyId,
    Name,
    Pattern,
    Pause,
    Proxy,
    RedisUrl,
    Seconds,
    Size,
    Units,
)

MIB = 2**20


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Tls(Section):
    cert: Path | None = Field(
        default=None, description="Certificate chain (PEM), to serve https here"
    )
    key: Path | None = Field(default=None, description="Its private key (PEM)")


class Redis(Section):
    url: RedisUrl | None = Field(
        default=None,
        description="Redis to use; unset: the gateway starts one of its own in `data_dir`",
    )


class Cors(Section):
    origins: tuple[BrowserOrigin, ...] = Field(
        default=(), description="Origins of the web pages that may call from browsers"
    )


class Fal(Section):
    key: FalKey | None = Field(
        default=None,
        description="fal's key, `id:secret`; also as `FAL_KEY_ID` with `FAL_KEY_SECRET`; "
        "needed unless there are `accounts`",
    )
    cap: Count | None = Field(
        default=None, description="Jobs that the account of this key runs at once at most"
    )
    origins: dict[FalHost, FalOrigin] = Field(
        default_factory=dict,
        description="fal host -> origin to call in its place",
    )
    user_id: Name | None = Field(
        default=None, description="The account's id that signed webhooks must carry; unset: any"
    )
    submit_timeout: Seconds = Field(default=60.0, description="Wait for fal's answer to a submit")
    call_timeout: Seconds = Field(
        default=30.0, description="Wait for any other short answer of fal"
    )
    connect_timeout: Seconds = Field(default=5.0, description="Wait for a connection to fal")
    probe_pause: Annotated[Seconds, Field(le=600)] = Field(
        default=30.0,
        description="Until an account whose key fal refused is probed; doubles up to 10 minutes",
    )
    run_timeout: Seconds = Field(default=3600.0, description="Wait for the answer to a direct run")
    max_calls: Count = Field(default=100, description="Calls to fal at a time, in each process")
    max_streams: Count = Field(default=1000, description="Held streams from fal, in each process")


class KeyEntry(Section):
    name: Name = Field(description="The key's principal; keep it when the key is rotated")
    hash: Hash = Field(description="`sha256:` and the hex SHA-256 of the whole key")
    team: Name = Field(default="default", description="Its team")
    plan: Name = Field(default="default", description="Its plan")
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = Field(
        default=(Scope.SUBMIT,), description="Of `submit`, `read`, `mint`, `admin`"
    )
    id: KeyId | None = Field(
        default=None, description="Its part between `fgw_` and the secret; `origins` need it"
    )
    origins: Annotated[tuple[BrowserOrigin, ...], Field(max_length=MAX_LISTED)] = Field(
        default=(), description="Pages that may use it, and its tokens, from browsers; none: any"
    )
    networks: Annotated[tuple[Proxy, ...], Field(max_length=MAX_LISTED)] = Field(
        default=(), description="Addresses and networks that it may be used from; none: any"
    )


class PriceEntry(Section):
    endpoint: Pattern = Field(description="Endpoints that it is for; the first that matches counts")
    unit_price: Dollars | None = Field(
        default=None, description="Dollars a unit, in place of fal's; unset: fal's counts"
    )
    unit: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        default="unit", description="What is counted, for people"
    )
    units: Units = Field(default=Decimal(1), description="Units that one call uses, estimated")
    times: Annotated[tuple[InputField, ...], Field(max_length=8)] = Field(
        default=(), description="Input fields by whose value `units` is multiplied"
    )


class Results(Section):
    max: Size = Field(
        default=16 * MIB, description="Larger results are not kept, but fetched from fal"
    )
    retention: Annotated[Seconds, Field(ge=60)] = Field(
        default=86_400.0, description="How long a result is kept after the end"
    )


class Bodies(Section):
    max: Size = Field(default=32 * MIB, description="Largest request body")
    in_flight: Size = Field(
        default=256 * MIB,
        description="Bodies that a process holds at a time, a quarter of it for one caller",
    )


class Streams(Section):
    per_principal: Count = Field(
        default=100,
        description="Streams, long polls and large results that one caller may have open",
    )


class Deliveries(Section):
    attempts: Annotated[Count, Field(le=100)] = Field(
        default=5, description="Attempts to deliver a client's webhook"
    )


class Log(Section):
    format: Literal["text", "json"] = Field(default="text", description="Lines for people, or JSON")
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged"
    )


class Drain(Section):
    grace: Pause = Field(
        default=25.0, description="How long open requests may take to end at a stop"
    )
    delay: Pause = Field(
        default=0.0, description="How long to serve on, not ready, before a stop begins"
    )
