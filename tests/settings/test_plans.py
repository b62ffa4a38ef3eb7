"""A plan, as the file and the admin API have it."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import BadBody
from gateway.core.limits import Away, Budget, Limit, Measure, Of, Period, Queue, Unit
from gateway.core.model import CONTROL_HEADERS, Plan
from gateway.core.rules import Rule
from gateway.settings import SettingsError, load
from gateway.settings.plans import plan_from, plan_json

MIB = 2**20
BODIES = 32 * MIB
EXAMPLE = Path(__file__).parents[2] / "deploy" / "gateway.example.yaml"
FAL = {"FAL_KEY": "synthetic-id:synthetic-secret"}

WHOLE = """
visitors: {plan: pro}
plans:
  free: {}
  pro:
    endpoints: ["fal-ai/flux/**"]
    deny: ["fal-ai/flux/dev/expensive"]
    rules:
      - {endpoint: "fal-ai/flux/**", path: num_images, max: 4, default: 1}
      - {endpoint: "**", path: "loras[*].path", hosts: ["*.fal.media"]}
      - {endpoint: "**", path: seed, force: null}
      - {endpoint: "**", path: output_format, enum: [jpeg, 1, true]}
    client_headers: [x-fal-queue-priority]
    forced_headers: {x-app-fal-disable-fallback: "true"}
    client_webhooks: true
    webhook_hosts: ["*.example.com"]
    max_body: 8MiB
    max_upload: 100MiB
    limits:
      - {rate: 10/s, burst: 20}
      - {in_flight: 5}
      - {in_flight: 50, of: team}
      - {jobs: 1000/day, of: team, shadow: true}
      - {streams: 20}
      - {uploads: 1GiB/day, away: local}
      - {rate: 5/h, of: address, name: slow}
    budgets:
      - {usd: 5, per: day}
      - {units: "1000.5", per: month, of: team}
    queue: {length: 10, wait: 60}
    grants: [free]
"""
MEANT = Plan(
    name="pro",
    endpoints=("fal-ai/flux/**",),
    deny=("fal-ai/flux/dev/expensive",),
    rules=(
        Rule("fal-ai/flux/**", "num_images", max=4, default="1"),
        Rule("**", "loras[*].path", hosts=("*.fal.media",)),
        Rule("**", "seed", force="null"),
        Rule("**", "output_format", enum=('"jpeg"', "1", "true")),
    ),
    client_webhooks=True,
    webhook_hosts=("*.example.com",),
    max_body=8 * MIB,
    max_upload=100 * MIB,
    client_headers=frozenset({"x-fal-queue-priority"}),
    forced_headers=(("x-app-fal-disable-fallback", "true"),),
    limits=(
        Limit("principal-rate", Measure.RATE, Of.PRINCIPAL, 10, per=1, burst=20),
        Limit("principal-in-flight", Measure.IN_FLIGHT, Of.PRINCIPAL, 5),
        Limit("team-in-flight", Measure.IN_FLIGHT, Of.TEAM, 50),
        Limit("team-jobs", Measure.JOBS, Of.TEAM, 1000, shadow=True),
        Limit("principal-streams", Measure.STREAMS, Of.PRINCIPAL, 20),
        Limit("principal-uploads", Measure.UPLOADS, Of.PRINCIPAL, 2**30, away=Away.LOCAL),
        Limit("slow", Measure.RATE, Of.ADDRESS, 5, per=3600),
    ),
    budgets=(
        Budget("principal-usd-day", Of.PRINCIPAL, 5_000_000, Unit.USD, Period.DAY),
        Budget("team-units-month", Of.TEAM, 1_000_500_000, Unit.UNITS, Period.MONTH),
    ),
    queue=Queue(length=10, wait=60),
    grants=("free",),
)


def in_file(tmp_path: Path, text: str) -> dict[str, Plan]:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    return dict(load(FAL, file).plans)


def test_everything_a_plan_can_say(tmp_path: Path) -> None:
    plans = in_file(tmp_path, WHOLE)

    assert plans["pro"] == MEANT
    assert plans["free"] == Plan("free")
    assert Plan("free").client_headers == CONTROL_HEADERS


def test_shown_as_json_it_is_the_same_plan() -> None:
    shown = json.loads(json.dumps(plan_json(MEANT)))

    assert plan_from("pro", shown, BODIES) == MEANT
    assert shown["rules"][0] == {
        "endpoint": "fal-ai/flux/**", "path": "num_images", "max": 4, "default": 1,
    }  # fmt: skip
    assert shown["rules"][2] == {"endpoint": "**", "path": "seed", "force": None}
    assert shown["limits"][0] == {"rate": "10/s", "burst": 20, "name": "principal-rate"}
    assert shown["budgets"][1]["units"] == "1000.5"
    assert plan_json(plan_from("empty", {}, BODIES)) == {}


def test_a_plan_without_a_word_is_closed() -> None:
    assert plan_from("empty", {}, BODIES) == Plan("empty")
    assert plan_from("small", {}, MIB).max_body == MIB


@pytest.mark.parametrize(
    ("text", "amount", "per"),
    [
        ("10/s", 10, 1),
        ("10/second", 10, 1),
        ("100/m", 100, 60),
        ("10/min", 10, 60),
        ("5/h", 5, 3600),
        ("7/day", 7, 86_400),
        ("7/d", 7, 86_400),
    ],
)
def test_a_rate(text: str, amount: int, per: int) -> None:
    [limit] = plan_from("p", {"limits": [{"rate": text}]}, BODIES).limits

    assert (limit.amount, limit.per, limit.burst) == (amount, per, 0)


@pytest.mark.parametrize(
    ("amount", "micros"),
    [
        (5, 5_000_000),
        (0.1, 100_000),
        ("0.000001", 1),
        ("9000000", 9 * 10**12),
        ("0.29", 290_000),
        (1.1, 1_100_000),
    ],
)
def test_money_is_exact(amount: object, micros: int) -> None:
    value = {"budgets": [{"usd": amount, "per": "day"}]}

    assert plan_from("p", value, BODIES).budgets[0].amount == micros


ENDPOINTS = {"endpoints": ["fal-ai/flux/**"]}


def rule(**more: Any) -> dict[str, Any]:
    return ENDPOINTS | {"rules": [{"endpoint": "**", "path": "x"} | more]}


def limit(**fields: Any) -> dict[str, Any]:
    return {"limits": [fields]}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"rule": []}, "rule: unknown setting; the nearest one known is rules"),
    ({"endpoints": "fal-ai/flux"}, "endpoints: must be a list"),
    ({"endpoints": ["flux"]}, "endpoints[0]: must be an endpoint pattern"),
    ({"deny": ["a/../b"]}, "deny[0]: must be an endpoint pattern"),
    (ENDPOINTS | {"deny": ["fal-ai/other"]}, "deny[0]: matches nothing"),
    (rule(endpoint="fal-ai/other/**", max=1), "rules[0].endpoint: matches nothing"),
    ({"rules": [{"endpoint": "a/b", "path": "x", "max": 1}]}, "rules[0].endpoint: matches nothing"),
    (rule(), "rules[0]: does nothing"),
    (rule(forbid=False), "rules[0]: does nothing"),
    (rule(maxi=1), "rules[0].maxi: unknown setting; the nearest one known is max"),
    (rule(max="4"), "rules[0].max: must be a number"),
    (rule(max=True), "rules[0].max: must be a number"),
    (rule(max=float("nan")), "rules[0]: max: must be a number"),
    (rule(min=float("-inf")), "rules[0]: min: must be a number"),
    (rule(max=10**400), "rules[0]: max: must be a number"),
    (rule(max=1, min=2), "rules[0]: min: is more than max"),
    (rule(max_length=-1), "rules[0].max_length: must be greater than or equal to 0"),
    (rule(max_length=1.5), "rules[0].max_length: "),
    (rule(enum=[]), "rules[0]: enum: must have 1 to 100"),
    (rule(enum="ab"), "rules[0].enum: must be a list"),
    (rule(enum=[[1]]), "rules[0]: enum: must hold strings"),
    (rule(hosts=["*"]), "rules[0]: hosts: must each be a host"),
    (rule(force=float("inf")), "rules[0]: force: must be a JSON value"),
    (rule(path="a..b", max=1), "rules[0]: path: must be names"),
    (rule(path=".".join("abcdefghi"), max=1), "rules[0]: path: is more than 8 steps"),
    (rule(force=9, max=4), "rules[0]: sets a value that it refuses itself: x: at most 4"),
    (
        ENDPOINTS | {"rules": [{"endpoint": "**", "path": "x", "force": 1}] * 2},
        "rules[1]: contradicts rules[0]: both have a force for x",
    ),
    ({"client_headers": ["x-fal-store-io"]}, "client_headers[0]: must be one of"),
    ({"client_headers": ["authorization"]}, "client_headers[0]: must be one of"),
    (
        {"forced_headers": {"authorization": "x"}},
        "forced_headers: authorization: must be a control",
    ),
    ({"forced_headers": {"x-fal-target-url": "x"}}, "forced_headers: x-fal-target-url: must be"),
    ({"forced_headers": {"x-fal-a": "b\r\nc"}}, "forced_headers: x-fal-a: must be 1 to 1024"),
    ({"webhook_hosts": ["*"]}, "webhook_hosts[0]: must be a host"),
    ({"webhook_hosts": ["https://example.com"]}, "webhook_hosts[0]: must be a host"),
    ({"max_body": "64MiB"}, "max_body: must be at most bodies.max"),
    ({"max_body": -1}, "max_body: must be greater than"),
    ({"max_upload": 0}, "max_upload: must be greater than"),
    (limit(), "limits[0]: needs exactly one of rate, in_flight, jobs, streams, uploads"),
    (limit(rate="1/s", jobs="1/day"), "limits[0]: needs exactly one of"),
    *(
        (limit(rate=text), "limits[0].rate: must be ")
        for text in (
            *("0/s", "-1/s", "1.5/s", "10/w", "10", "/s", "10/", "1MiB/s", "1e3/s", "10/s/s"),
            *("\u0661/s", "9999999999/s", "", "10/S", "nan/s", 10, True),
        )
    ),
    (limit(jobs="10/s"), "limits[0].jobs: must be like 1000/day"),
    (limit(jobs="1kB/day"), "limits[0].jobs: must be like 1000/day"),
    (limit(uploads="1GiB/h"), "limits[0].uploads: must be like 1GiB/day"),
    (limit(in_flight=0), "limits[0].in_flight: must be greater than"),
    (limit(in_flight=True), "limits[0].in_flight: must be a whole number"),
    (limit(in_flight=1, burst=2), "limits[0]: burst is for a rate only"),
    (limit(in_flight=1, of="address"), "limits[0]: of: address is for rate and jobs only"),
    (limit(streams=1, of="address"), "limits[0]: of: address is for rate and jobs only"),
    (limit(uploads="1B/day", of="address"), "limits[0]: of: address is for rate and jobs only"),
    (
        limit(in_flight=1, away="local"),
        "limits[0]: away: local is for rate, streams and uploads only",
    ),
    (limit(in_flight=1, of="everybody"), "limits[0].of: must be 'principal', 'team' or 'address'"),
    (limit(in_flight=1, name="A b"), "limits[0].name: must be 1 to 40 of a-z 0-9 -"),
    (limit(in_flight=1, name="a" * 41), "limits[0].name: must be 1 to 40"),
    ({"limits": [{"rate": "1/s"}, {"rate": "9/m"}]}, "limits[1].name: principal-rate is the name"),
    (
        limit(rate="1/s", name="x") | {"budgets": [{"usd": 1, "per": "day", "name": "x"}]},
        "budgets[0].name: x is the name of another",
    ),
    ({"limits": [{"in_flight": n + 1, "name": f"n{n}"} for n in range(21)]}, "limits: "),
    *(
        ({"budgets": [{"usd": amount, "per": "day"}]}, "budgets[0].usd: must be ")
        for amount in (0, -1, 9_000_001, "1.0000001", 1e-7, "1e3", True, "nan", "", " 5", [5])
    ),
    ({"budgets": [{"per": "day"}]}, "budgets[0]: needs exactly one of usd, units"),
    ({"budgets": [{"usd": 1, "units": 1, "per": "day"}]}, "budgets[0]: needs exactly one of"),
    ({"budgets": [{"usd": 1}]}, "budgets[0].per: is not set"),
    ({"budgets": [{"usd": 1, "per": "year"}]}, "budgets[0].per: must be 'day', 'week' or 'month'"),
    ({"budgets": [{"usd": 1, "per": "day", "of": "address"}]}, "budgets[0]: of must be principal"),
    ({"queue": {"length": 0}}, "queue.length: must be greater than"),
    ({"queue": {"length": 10, "team_length": 9}}, "queue: team_length must be at least length"),
    ({"queue": {"team_bytes": 0}}, "queue.team_bytes: must be greater than"),
    ({"queue": {"team_bytes": "7MiB"}}, "queue.team_bytes: must be at least max_body"),
    (
        {"max_body": "2MiB", "queue": {"team_bytes": "1MiB"}},
        "queue.team_bytes: must be at least max_body",
    ),
    ({"queue": {"wait": 0}}, "queue.wait: must be greater than 0"),
    ({"queue": {"wait": 10**6}}, "queue.wait: must be less than"),
    ({"queue": {"weight": 0}}, "queue.weight: must be greater"),
    ({"queue": {"priority": 10}}, "queue.priority: must be less"),
    ({"grants": ["a b"]}, "grants[0]: must be 1 to 128"),
]


@pytest.mark.parametrize(
    ("value", "expected"), BAD, ids=[f"{n}-{e}" for n, (_, e) in enumerate(BAD)]
)
def test_a_mistake_is_named(value: dict[str, Any], expected: str) -> None:
    with pytest.raises(BadBody) as caught:
        plan_from("p", value, BODIES)

    assert str(caught.value).startswith(expected)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "../x", "\u00e9"])
def test_a_plan_has_a_plain_name(name: str) -> None:
    with pytest.raises(BadBody, match="must be 1 to 128"):
        plan_from(name, {}, BODIES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plans:\n  p:\n    endpoints: [a/b]\n    deny:\n    - c/d\n", ":5: plans.p.deny[0]: "),
        ("plans:\n  p:\n    limits:\n    - rate: 0/s\n", ":4: plans.p.limits[0].rate: "),
        ("plans:\n  p:\n    grants: [nobody]\n", ":3: plans.p.grants[0]: must be the name of a"),
        (
            "plans:\n  p:\n    endpoints: ['**']\n    rules:\n"
            "    - {endpoint: '**', path: x, forbid: true}\n"
            "    - {endpoint: a/b, path: x.y, force: 1}\n",
            ":6: plans.p.rules[1]: contradicts rules[0]: x: this field is not allowed",
        ),
        ("bodies: {max: 1MiB}\nplans: {p: {max_body: 2MiB}}\n", ":2: plans.p.max_body: must be at"),
    ],
)
def test_in_the_file_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        in_file(tmp_path, text)

    assert str(caught.value).startswith(f"{tmp_path / 'gateway.yaml'}{expected}")


def test_rules_are_for_the_endpoints_in_effect(tmp_path: Path) -> None:
    """A variable may have taken the place of the file's."""
    file = tmp_path / "gateway.yaml"
    file.write_text("plans: {default: {rules: [{endpoint: a/b, path: x, max: 1}]}}")

    assert load(FAL | {"GATEWAY_ENDPOINTS": "a/**"}, file).plans["default"].endpoints == ("a/**",)
    with pytest.raises(SettingsError, match=r"plans\.default\.rules\[0\]\.endpoint: matches noth"):
        load(FAL | {"GATEWAY_ENDPOINTS": "c/**"}, file)


def test_the_example_is_a_file_that_starts() -> None:
    plans = load(FAL, EXAMPLE).plans

    assert plans["pro"].rules
    assert plans["pro"].limits
