"""Issuers of JWTs and anonymous visitors in the settings: what they need, and what clashes."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.core.tokens import VISITOR_LIFETIME
from gateway.settings import SettingsError, load
from gateway.settings.issuers import MAX_PEM, issuers

FAL: Final = {"FAL_KEY": "synthetic-id:canary-main"}
KEY: Final = ec.generate_private_key(ec.SECP256R1())
PEM: Final = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PRIVATE: Final = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
URL: Final = "https://login.example/.well-known/jwks.json"


def entry(**more: Any) -> dict[str, Any]:
    plain = {
        "issuer": "https://login.example/", "audience": "gw", "algorithms": ["ES256"],
        "jwks_url": URL,
    }  # fmt: skip
    return {name: value for name, value in (plain | more).items() if value is not None}


def refusal(file: Path, content: dict[str, Any]) -> str:
    file.write_text(json.dumps(content))
    with pytest.raises(SettingsError) as caught:
        load(FAL, file)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.yaml"


# Issuers


def test_an_issuer_is_read_whole(file: Path, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(PEM)
    first = entry(
        claims={"principal": "email", "team": "org", "plan": ["meta", "plan"]},
        teams=["acme"], plans=["pro"], team="users", plan="pro", prefix="a:", name="first",
    )  # fmt: skip
    second = entry(
        issuer="https://other.example", jwks_url=None, public_key_file=str(tmp_path / "key.pem"),
        prefix="b:", claims={"team": "org"}, teams={"o-1": "acme"},
    )  # fmt: skip
    file.write_text(json.dumps({"plans": {"pro": {}}, "issuers": [first, second]}))

    one, two = issuers(load(FAL, file).issuers)

    assert (one.name, one.jwks_url, one.public_key) == ("first", URL, None)
    assert (one.principal, one.team_claim, one.plan_claim) == (
        ("email",),
        ("org",),
        ("meta", "plan"),
    )
    assert (one.team, one.plan, one.teams, one.plans) == (
        "users", "pro", {"acme": "acme"}, frozenset({"pro"}),
    )  # fmt: skip
    assert (two.name, two.public_key, two.teams) == ("issuer-2", PEM, {"o-1": "acme"})
    assert (two.principal, two.team_claim, two.plan_claim) == (("sub",), ("org",), None)


def test_issuers_come_from_a_variable_too() -> None:
    settings = load(FAL | {"GATEWAY_ISSUERS": json.dumps([entry()])})

    [only] = issuers(settings.issuers)
    assert only.algorithms == {"ES256"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"algorithms": ["none"]}, "must be one of"),
        ({"algorithms": ["HS256"]}, "can make one too"),
        ({"algorithms": ["ES256", "HS512"]}, "can make one too"),
        ({"algorithms": ["es256"]}, "must be one of"),
        ({"algorithms": []}, "at least 1"),
        ({"algorithms": None}, "is not set"),
        ({"issuer": None}, "is not set"),
        ({"audience": ""}, "at least 1"),
        ({"audience": None}, "is not set"),
        ({"jwks_url": None}, "needs one of"),
        ({"public_key": PEM}, "needs one of"),
        ({"jwks_url": "http://login.example/jwks"}, "must be an https URL"),
        ({"jwks_url": "http://10.0.0.1/jwks"}, "must be an https URL"),
        ({"jwks_url": "file:///etc/passwd"}, "must be an https URL"),
        ({"jwks_url": "https://user:pw@login.example/jwks"}, "must be an https URL"),
        ({"jwks_url": "https://login.example/a b"}, "must be an https URL"),
        ({"jwks_url": "https://login.example/jwks#x"}, "must be an https URL"),
        ({"jwks_url": None, "public_key": "key"}, "public key as PEM"),
        ({"jwks_url": None, "public_key": PRIVATE}, "public key as PEM"),
        ({"jwks_url": None, "public_key": PEM, "algorithms": ["RS256"]}, "does not fit"),
        ({"jwks_url": None, "public_key_file": "/nowhere/key.pem"}, "No such file"),
        ({"public_key": PEM, "public_key_file": "/nowhere"}, "give one of them"),
        ({"claims": {"team": "org"}}, "go together"),
        ({"teams": ["acme"]}, "go together"),
        ({"claims": {"plan": "plan"}}, "go together"),
        ({"plans": ["default"]}, "go together"),
        ({"claims": {"principal": []}}, "at least 1"),
        ({"claims": {"role": "x"}}, "unknown setting"),
        ({"plan": "unknown"}, "name of a plan that exists"),
        ({"claims": {"plan": "p"}, "plans": ["default", "unknown"]}, "plans that exist"),
        ({"prefix": "a b"}, "must be at most 32"),
        ({"prefix": "x" * 33}, "must be at most 32"),
        ({"leeway": 600}, "unknown setting"),
    ],
)
def test_an_issuer_that_is_not_right_stops_the_start(
    wrong: dict[str, Any], told: str, file: Path
) -> None:
    message = refusal(file, {"issuers": [entry(**wrong)]})

    assert told in message
    assert PRIVATE not in message
    assert "issuers" in message
    file.write_text(json.dumps({"issuers": [entry()]}))
    assert len(load(FAL, file).issuers) == 1


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ([entry()], "the same as another's"),
        ([entry(name="x", audience="b"), entry(name="x", audience="c")], "the name of another"),
        ([entry(issuer="https://b.example")], "apart"),
        ([entry(issuer="https://b.example", prefix="b:")], "apart"),
    ],
)
def test_issuers_are_told_apart(others: list[dict[str, Any]], told: str, file: Path) -> None:
    """No user of one can be taken for a user of another."""
    assert told in refusal(file, {"issuers": [entry(), *others]})


def test_issuers_may_share_what_keeps_their_users_apart(file: Path) -> None:
    several = [
        entry(prefix="a:"),
        entry(prefix="a:", audience="second"),
        entry(prefix="b:", issuer="https://b.example"),
        entry(issuer="https://c.example", team="another"),
    ]
    file.write_text(json.dumps({"issuers": several}))

    assert len(load(FAL, file).issuers) == 4


def test_a_huge_key_is_not_read_whole(file: Path, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(b"A" * (MAX_PEM + 5))
    wrong = entry(jwks_url=None, public_key_file=str(tmp_path / "key.pem"))

    assert "at most" in refusal(file, {"issuers": [wrong]})


@pytest.mark.parametrize("url", ["http://127.0.0.1:9100/jwks", "http://localhost/jwks"])
def test_keys_on_this_machine_may_come_without_tls(url: str, file: Path) -> None:
    file.write_text(json.dumps({"issuers": [entry(jwks_url=url)]}))

    assert load(FAL, file).issuers[0].jwks_url == url


# Visitors


EACH: Final = {"jobs": "20/day", "of": "address"}
ALL: Final = {"jobs": "1000/day", "of": "team"}


def visited(*limits: dict[str, Any], plan: str = "visitors", **more: Any) -> dict[str, Any]:
    return {
        "anonymous": "on",
        "plans": {plan: {"endpoints": ["fal-ai/echo"], "limits": list(limits), **more}},
    }


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"anonymous": "on"}, "on needs a plan for visitors"),
        (visited(EACH, ALL, plan="others"), "on needs a plan for visitors"),
        (visited(), "a cap for each address"),
        (visited(ALL), "a cap for each address"),
        (visited(ALL, EACH | {"shadow": True}), "a cap for each address"),
        (visited(EACH), "a cap for all visitors together"),
        (visited(EACH, ALL | {"shadow": True}), "a cap for all visitors together"),
        (visited(EACH, {"jobs": "9/day"}), "a cap for all visitors together"),
        (visited(EACH, {"streams": 9, "of": "team"}), "a cap for all visitors together"),
        (visited(EACH, budgets=[{"usd": 5, "per": "day"}]), "a cap for all visitors together"),
        (
            visited(EACH, budgets=[{"usd": 5, "per": "day", "of": "team", "shadow": True}]),
            "a cap for all visitors together",
        ),
        (visited(EACH, ALL) | {"visitors": {"plan": "default"}}, "a cap for each address"),
        (visited(EACH, ALL) | {"visitors": {"lifetime": "31d"}}, "less than or equal"),
        (visited(EACH, ALL) | {"visitors": {"lifetime": "1"}}, "greater than or equal"),
        (visited(EACH, ALL) | {"visitors": {"lifetime": "soon"}}, "must be a time"),
        (visited(EACH, ALL) | {"cors": {"origins": ["*"]}}, "must be an exact origin"),
    ],
)
def test_visitors_without_caps_stop_the_start(
    content: dict[str, Any], told: str, file: Path
) -> None:
    assert told in refusal(file, content)


def test_what_is_of_an_address_is_for_visitors_alone(file: Path) -> None:
    """Nobody else has one here: such a limit would hold nobody back."""
    told = refusal(file, {"plans": {"default": {"limits": [ALL, EACH]}}})

    assert "plans.default.limits[1].of: address is for the plan of anonymous visitors" in told


@pytest.mark.parametrize(
    "content",
    [
        visited(EACH, ALL),
        visited({"rate": "1/m", "of": "address"}, {"rate": "10/s", "of": "team"}),
        visited(EACH, {"in_flight": 10, "of": "team"}),
        visited(EACH, budgets=[{"usd": 5, "per": "day", "of": "team"}]),
        visited(EACH, ALL, plan="guests") | {"visitors": {"plan": "guests", "lifetime": "12h"}},
    ],
)
def test_with_caps_they_are_let_in(content: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(content))

    settings = load(FAL, file)

    assert settings.anonymous == "on"
    assert settings.visitors.lifetime in (VISITOR_LIFETIME, 12 * 3600)


def test_the_environment_cannot_open_a_gateway_without_caps() -> None:
    with pytest.raises(SettingsError, match="GATEWAY_ANONYMOUS: on needs"):
        load(FAL | {"GATEWAY_ANONYMOUS": "on"})
