"""The sections of a plan. `description` goes into the documentation and the JSON Schema."""

import json
from decimal import Decimal
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, model_validator

from gateway.core.headers import MAX_FORCED, OFFERED, check_forced
from gateway.core.limits import Away, Measure, Of, Period, Queue, Unit
from gateway.core.model import CONTROL_HEADERS
from gateway.core.rulebook import MAX_RULES, check_rule
from gateway.core.rules import Rule
from gateway.settings.sections import MIB, Section
from gateway.settings.values import (
    Amount,
    Count,
    Daily,
    DailySize,
    HostPattern,
    LimitName,
    Name,
    Number,
    Pattern,
    Places,
    Rate,
    Seconds,
    Size,
)

MAX_LIMITS: Final = 20
"""Limits of one plan, and budgets: all of them are checked for each job."""
_QUEUE: Final = Queue()
_DAY: Final = 86_400
_RULE_NAMES: Final = ("max", "min", "max_length", "hosts", "forbid")


class RuleEntry(Section):
    endpoint: Pattern = Field(description="Endpoints that it is for")
    path: str = Field(description="The field: `num_images`, `image_size.width`, `loras[*].scale`")
    max: Number | None = Field(default=None, description="The largest number")
    min: Number | None = Field(default=None, description="The smallest number")
    enum: tuple[Any, ...] | None = Field(default=None, description="The values allowed")
    max_length: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        default=None, description="Characters of a string, items of a list"
    )
    hosts: tuple[str, ...] | None = Field(
        default=None,
        description="Where https URLs may lead: `files.example.com`, `*.example.com`; `data:`",
    )
    forbid: bool = Field(default=False, description="Whether the field must not be there at all")
    force: Any = Field(default=None, description="A value in place of whatever the client sent")
    default: Any = Field(default=None, description="A value where the client sent none, or null")

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        check_rule(self.rule)
        return self

    @property
    def rule(self) -> Rule:
        given = self.model_fields_set
        return Rule(
            endpoint=self.endpoint,
            path=self.path,
            max=self.max,
            min=self.min,
            enum=None if self.enum is None else tuple(_text("enum", v) for v in self.enum),
            max_length=self.max_length,
            hosts=self.hosts,
            forbid=self.forbid,
            force=_text("force", self.force) if "force" in given else None,
            default=_text("default", self.default) if "default" in given else None,
        )

    @classmethod
    def of_rule(cls, rule: Rule) -> Self:
        """The entry that a rule was made of."""
        values = {name: getattr(rule, name) for name in _RULE_NAMES}
        values |= {n: json.loads(t) for n in ("force", "default") if (t := getattr(rule, n))}
        if rule.enum is not None:
            values["enum"] = [json.loads(text) for text in rule.enum]
        return cls.model_validate({"endpoint": rule.endpoint, "path": rule.path} | values)

    @property
    def shown(self) -> dict[str, Any]:
        """As JSON, with a null where one is forced."""
        given = self.model_fields_set & {"force", "default"}
        shown = self.model_dump(mode="json", exclude_defaults=True)
        return shown | {name: getattr(self, name) for name in given}


class LimitEntry(Section):
    rate: Rate | None = Field(
        default=None, description="Submits, runs and uploads, evenly: `10/s`, `100/m`, `5/h`"
    )
    in_flight: Places | None = Field(default=None, description="Jobs and runs at once")
    jobs: Daily | None = Field(default=None, description="Jobs and runs: `1000/day`, UTC")
    streams: Places | None = Field(default=None, description="Open streams and held requests")
    uploads: DailySize | None = Field(default=None, description="Bytes of files: `1GiB/day`, UTC")
    name: LimitName | None = Field(
        default=None, description="In refusals; unset: like `principal-rate`"
    )
    of: Of = Field(
        default=Of.PRINCIPAL,
        description="Whose calls count together: `principal`, `team`; for visitors' rate and jobs "
        "`address`",
    )
    burst: Places | None = Field(
        default=None, description="Calls of a rate that may come at once; unset: its number"
    )
    shadow: bool = Field(default=False, description="Count and report, but do not refuse")
    away: Away = Field(
        default=Away.CLOSED,
        description="While Redis is away: `closed`, or for rate, streams and uploads `local`: each "
        "process counts",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        given = [measure for measure in Measure if getattr(self, measure) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(Measure)}")
        if self.burst is not None and self.measure is not Measure.RATE:
            raise ValueError("burst is for a rate only")
        if self.of is Of.ADDRESS and self.measure not in (Measure.RATE, Measure.JOBS):
            raise ValueError("of: address is for rate and jobs only")
        if self.away is Away.LOCAL and self.measure in (Measure.JOBS, Measure.IN_FLIGHT):
            raise ValueError("away: local is for rate, streams and uploads only")
        return self

    @property
    def measure(self) -> Measure:
        return next(measure for measure in Measure if getattr(self, measure) is not None)

    @property
    def text(self) -> str:
        """How much, as written."""
        return str(getattr(self, self.measure))

    @property
    def full_name(self) -> str:
        return self.name or f"{self.of}-{self.measure.replace('_', '-')}"


class BudgetEntry(Section):
    usd: Amount | None = Field(default=None, description="Dollars in each period")
    units: Amount | None = Field(default=None, description="fal's billable units in each period")
    per: Period = Field(description="`day`, `week` (from Monday) or `month`, UTC")
    name: LimitName | None = Field(
        default=None, description="In refusals; unset: like `principal-usd-day`"
    )
    of: Of = Field(default=Of.PRINCIPAL, description="Who shares it: `principal` or `team`")
    shadow: bool = Field(default=False, description="Count and report, but do not refuse")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.usd is None) == (self.units is None):
            raise ValueError("needs exactly one of usd, units")
        if self.of is Of.ADDRESS:
            raise ValueError("of must be principal or team: addresses have no budget")
        return self

    @property
    def unit(self) -> Unit:
        return Unit.UNITS if self.usd is None else Unit.USD

    @property
    def amount(self) -> Decimal:
        amount = self.units if self.usd is None else self.usd
        assert amount is not None
        return amount

    @property
    def full_name(self) -> str:
        return self.name or f"{self.of}-{self.unit}-{self.per}"


class QueueEntry(Section):
    length: Annotated[Count, Field(le=100_000)] = Field(
        default=_QUEUE.length, description="Jobs of one principal that may wait in the gateway"
    )
    team_length: Annotated[Count, Field(le=1_000_000)] = Field(
        default=_QUEUE.team_length, description="Those of its whole team"
    )
    team_bytes: Size = Field(
        default=_QUEUE.team_bytes,
        description="What the inputs of these take up in Redis; at least `max_body`",
    )
    wait: Annotated[Seconds, Field(le=_DAY)] = Field(
        default=_QUEUE.wait, description="How long a job may wait"
    )
    weight: Annotated[int, Field(ge=1, le=100)] = Field(
        default=_QUEUE.weight, description="Turns that a principal gets, compared with the others"
    )
    priority: Annotated[int, Field(ge=0, le=9)] = Field(
        default=_QUEUE.priority, description="Class, 0 first; within one, principals take turns"
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.team_length < self.length:
            raise ValueError("team_length must be at least length")
        return self


def _header(name: str) -> str:
    if name not in OFFERED:
        raise ValueError(f"must be one of {', '.join(sorted(OFFERED))}")
    return name


def _forced(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        try:
            check_forced(name, value)
        except ValueError as error:
            shown = name[:64] if name.isascii() else "a name"
            raise ValueError(f"{shown}: {error}") from None
    return headers


def _text(name: str, value: Any) -> str:
    """A value of the file as JSON, which has no dates, and names that are strings alone."""
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise ValueError(f"{name}: must be a JSON value") from None


class PlanRules(Section):
    endpoints: tuple[Pattern, ...] = Field(
        default=(), description="Endpoints allowed; `*` is one segment, `**` any number"
    )
    deny: Annotated[tuple[Pattern, ...], Field(max_length=MAX_RULES)] = Field(
        default=(), description="Endpoints that are not allowed all the same"
    )
    rules: Annotated[tuple[RuleEntry, ...], Field(max_length=MAX_RULES)] = Field(
        default=(), description="What the input of a model may be"
    )
    client_headers: tuple[Annotated[str, AfterValidator(_header)], ...] = Field(
        default=tuple(sorted(CONTROL_HEADERS)), description="fal's headers that callers may set"
    )
    forced_headers: Annotated[
        dict[str, str], Field(max_length=MAX_FORCED), AfterValidator(_forced)
    ] = Field(default_factory=dict, description="Headers that fal gets with every submit and run")
    client_webhooks: bool = Field(default=False, description="Whether callers may name webhooks")
    webhook_hosts: Annotated[tuple[HostPattern, ...], Field(max_length=MAX_RULES)] = Field(
        default=(), description="Where those may lead, exact or `*.example.com`; none: anywhere"
    )
    realtime_tokens: bool = Field(
        default=False,
        description="Whether callers may get realtime tokens, for apps without rules",
    )
    max_body: Size = Field(
        default=32 * MIB, description="Largest request body; at most `bodies.max`"
    )
    max_upload: Size | None = Field(
        default=None, description="Largest file that is uploaded through the gateway"
    )
    limits: Annotated[tuple[LimitEntry, ...], Field(max_length=MAX_LIMITS)] = Field(
        default=(), description="How fast, and how much at once"
    )
    budgets: Annotated[tuple[BudgetEntry, ...], Field(max_length=MAX_LIMITS)] = Field(
        default=(), description="How much money, or how many of fal's units"
    )
    queue: QueueEntry | None = Field(
        default=None, description="How jobs wait for room at fal; unset: they are refused"
    )
    grants: tuple[Name, ...] = Field(
        default=(), description="Other plans that keys of this one may give to their tokens"
    )
