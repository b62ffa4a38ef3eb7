"""JWTs of the app's own users: whose keys may have signed one, and what it says of its bearer.

The arithmetic is PyJWT's. Which algorithm, which key and which claims, we decide: the header of
a JWT is its bearer's word, so of it nothing is used but `alg` and `kid`, to choose among what the
settings and the issuer's own key set allow (RFC 8725).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NoReturn

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK, PyJWTError
from jwt.api_jws import PyJWS
from jwt.utils import base64url_decode

from gateway.core.credentials import MAX_JWT
from gateway.core.errors import Unauthenticated
from gateway.core.model import Kind, Principal, is_user_name
from gateway.core.slices import each_once
from gateway.core.tokens import MAX_LIFETIME, SKEW
from gateway.core.webhooks import is_safe

MAX_KEYS: Final = 32
"""Keys of one issuer that are looked at."""
MIN_RSA: Final = 2048
MAX_RSA: Final = 8192
"""Bits."""

_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
ALGORITHMS: Final = _RSA | {*_CURVES.values(), "EdDSA"}
"""All that may be pinned: none where who verifies could sign as well."""

_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_HASHED: Final = "sub:"
_SUBJECT: Final = re.compile(r"[!-~]{1,255}")
_JTI: Final = re.compile(r"[!-~]{1,128}")

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
Path = tuple[str, ...]
"""Where a claim stands: its name, or the names on the way to it."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who may sign JWTs for users of ours, and what they get. The name stands in revocations."""

    name: str
    issuer: str
    audience: str
    algorithms: frozenset[str]
    jwks_url: str | None = None
    public_key: str | None = None
    """PEM; in place of an address of keys."""
    principal: Path = ("sub",)
    prefix: str = ""
    """Of its users' names, to keep them apart from those of other issuers of a team."""
    team: str = "default"
    team_claim: Path | None = None
    teams: Mapping[str, str] = field(default_factory=dict)
    """Teams by what the claim says."""
    plan: str = "default"
    plan_claim: Path | None = None
    plans: frozenset[str] = frozenset()
    """The plans that the claim may name."""

    @property
    def kid(self) -> str:
        """What stands for the key that a token was minted with."""
        return f"iss:{self.name}"


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key, and the pinned algorithms that it fits."""

    kid: str | None
    algorithms: frozenset[str]
    key: PublicKey


@dataclass(frozen=True, slots=True)
class Unverified:
    """A JWT in form, of which nothing is known to be true."""

    text: str = field(repr=False)
    algorithm: str
    kid: str | None
    claims: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom a verified JWT stands for, until when. Times are Unix seconds."""

    issuer: Issuer
    principal: Principal
    plan: str
    jti: str
    issued_at: float
    expires_at: float


def unverified(text: str) -> Unverified:
    """A JWT, taken apart. Raises `Unauthenticated`.

    A name that stands twice is refused: who reads the one and who reads the other disagree.
    """
    if len(text) > MAX_JWT or not _FORM.fullmatch(text):
        _refuse()
    head, body, _ = text.split(".")
    header, claims = _object(head), _object(body)
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)):
        _refuse()
    if {"crit", "b64"} & header.keys():  # RFC 7515, 4.1.11: we know no such extension
        _refuse()
    return Unverified(text, algorithm, kid, claims)


def issuer_of(jwt: Unverified, issuers: Sequence[Issuer]) -> Issuer:
    """Who says to have made it, for us. Raises `Unauthenticated` for nobody we know."""
    named = [issuer for issuer in issuers if issuer.issuer == jwt.claims.get("iss")]
    if not named:
        raise Unauthenticated("the credential's issuer is not known")
    said = jwt.claims.get("aud")
    audiences = [said] if isinstance(said, str) else said
    if not isinstance(audiences, list) or not all(isinstance(text, str) for text in audiences):
        _refuse()
    for issuer in named:
        if issuer.audience in audiences:
            if jwt.algorithm not in issuer.algorithms:
                _refuse()
            return issuer
    raise Unauthenticated("the credential is meant for another audience")


def bearer(jwt: Unverified, issuer: Issuer, keys: Sequence[IssuerKey], now: float) -> Bearer:
    """Whom it stands for, once one of `keys` has signed it. Raises `Unauthenticated`."""
    if not any(_signed(jwt, key) for key in keys):
        _refuse()
    issued_at, expires_at = _times(jwt.claims, now)
    team, plan = issuer.team, issuer.plan
    if issuer.team_claim and (said := _claim(jwt.claims, issuer.team_claim)) is not None:
        if not isinstance(said, str) or said not in issuer.teams:
            raise Unauthenticated("the credential is of a team that is not known")
        team = issuer.teams[said]
    if issuer.plan_claim and (said := _claim(jwt.claims, issuer.plan_claim)) is not None:
        if not isinstance(said, str) or said not in issuer.plans:
            raise Unauthenticated("the credential is of a plan that is not known")
        plan = said
    return Bearer(
        issuer=issuer,
        principal=Principal(team, Kind.USER, _user(jwt.claims, issuer)),
        plan=plan,
        jti=f"{issuer.kid}:{_jti(jwt)}",
        issued_at=issued_at,
        expires_at=expires_at,
    )


def parse_key_set(body: bytes, algorithms: frozenset[str]) -> tuple[IssuerKey, ...]:
    """The keys of a JSON Web Key Set that fit `algorithms`. Raises `ValueError` without any."""
    try:
        entries = json.loads(body)["keys"][:MAX_KEYS]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise ValueError("not a set of keys") from None
    found = [_from_jwk(entry, algorithms) for entry in entries if isinstance(entry, dict)]
    keys = tuple(key for key in found if key is not None)
    if not keys:
        raise ValueError("no key in it fits the algorithms")
    return keys


def parse_pem(text: str, algorithms: frozenset[str]) -> IssuerKey:
    """A public key as PEM. Raises `ValueError`, saying what is wrong with it."""
    try:
        key = load_pem_public_key(text.encode())
    except Exception:  # noqa: BLE001 - cryptography's errors have no common base
        raise ValueError("must be a public key as PEM (-----BEGIN PUBLIC KEY-----)") from None
    fitting = _fitting(key) & algorithms
    if not fitting or not isinstance(key, PublicKey):
        raise ValueError(f"does not fit {', '.join(sorted(algorithms))}, or is too short")
    return IssuerKey(None, fitting, key)


def _from_jwk(entry: dict[str, Any], algorithms: frozenset[str]) -> IssuerKey | None:
    """A key for signatures, public, for one of the algorithms; None for any other."""
    kid, named, uses = entry.get("kid"), entry.get("alg"), entry.get("key_ops", ["verify"])
    if "d" in entry or "k" in entry:
        return None
    if not all(value is None or isinstance(value, str) for value in (kid, named)):
        return None
    if entry.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses:
        return None
    wanted = {named} if named is not None else algorithms
    wanted = wanted & algorithms & _of_type(entry)
    if not wanted:
        return None
    try:
        key = PyJWK(entry, algorithm=min(wanted)).key
    except (PyJWTError, ValueError, TypeError):
        return None
    fitting = wanted & _fitting(key)
    return IssuerKey(kid, frozenset(fitting), key) if fitting else None


def _of_type(entry: dict[str, Any]) -> frozenset[str]:
    """The algorithms whose class reads a key of this type."""
    match entry.get("kty"):
        case "RSA":
            return _RSA
        case "EC":
            return frozenset(_CURVES.values())
        case "OKP":
            return frozenset({"EdDSA"})
        case _:
            return frozenset()


def _fitting(key: object) -> frozenset[str]:
    """The algorithms for which a key is of the right type, and long enough."""
    match key:
        case RSAPublicKey() if MIN_RSA <= key.key_size <= MAX_RSA:
            return _RSA
        case EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return frozenset({_CURVES[key.curve.name]})
        case Ed25519PublicKey() if is_safe(key.public_bytes_raw()):
            return frozenset({"EdDSA"})
        case _:
            return frozenset()


def _signed(jwt: Unverified, key: IssuerKey) -> bool:
    if jwt.algorithm not in key.algorithms:
        return False
    try:
        PyJWS(algorithms=[jwt.algorithm]).decode(jwt.text, key.key, algorithms=[jwt.algorithm])
    except (PyJWTError, ValueError):
        return False
    return True


def _times(claims: Mapping[str, Any], now: float) -> tuple[float, float]:
    """When it was issued, and until when it is good: a day at most, whatever it says."""
    issued_at, expires_at = _time(claims.get("iat")), _time(claims.get("exp"))
    begins = max(issued_at, _time(claims["nbf"]) if "nbf" in claims else issued_at)
    if expires_at <= issued_at:
        _refuse()
    expires_at = min(expires_at, issued_at + MAX_LIFETIME)
    if now >= expires_at + SKEW:
        raise Unauthenticated("the credential is expired")
    if now < begins - SKEW:
        raise Unauthenticated("the credential is not good yet")
    return issued_at, expires_at


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        _refuse()
    return float(value)


def _user(claims: Mapping[str, Any], issuer: Issuer) -> str:
    """The user's name. What cannot be one (`auth0|5f7c`) goes by its hash, as `sub:<hex>`."""
    said = _claim(claims, issuer.principal)
    if not isinstance(said, str) or not _SUBJECT.fullmatch(said):
        _refuse()
    name = issuer.prefix + said
    if is_user_name(name) and not said.startswith(_HASHED):
        return name
    return f"{issuer.prefix}{_HASHED}{sha256(said.encode()).hexdigest()[:32]}"


def _jti(jwt: Unverified) -> str:
    """Its own name for itself, or a hash: what it can be revoked by.

    The hash is of what is signed: of a signature there may be more than one (ECDSA).
    """
    said = jwt.claims.get("jti")
    if said is not None and not isinstance(said, str):
        _refuse()
    if said is not None and _JTI.fullmatch(said):
        return said
    signed = jwt.text.rpartition(".")[0]
    return sha256((said or signed).encode(errors="surrogatepass")).hexdigest()[:32]


def _claim(claims: Mapping[str, Any], path: Path) -> Any:
    value: Any = claims
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _object(part: str) -> dict[str, Any]:
    """One part of a JWT, read so that no two readers can read it differently."""
    try:
        value = json.loads(
            base64url_decode(part).decode(), object_pairs_hook=each_once, parse_constant=_constant
        )
    except (ValueError, RecursionError):
        _refuse()
    if not isinstance(value, dict):
        _refuse()
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse() -> NoReturn:
    raise Unauthenticated("the credential is not valid")
