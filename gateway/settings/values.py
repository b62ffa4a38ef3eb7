"""The forms that single settings have to take. Each is a type that checks itself.

Messages say what was expected and never repeat the value: it may be a secret.
"""

import re
from decimal import Decimal
from enum import Enum
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from gateway.core.credentials import KEY_FORM, KEY_PREFIX
from gateway.core.endpoints import check_pattern
from gateway.core.fal import HOSTS
from gateway.core.limits import DAY
from gateway.core.prices import PRICE_MAX, UNITS_MAX
from gateway.core.weburl import check_host_pattern

_UNITS: Final = {"": 1, "b": 1} | {
    f"{prefix}{infix}b": base**power
    for infix, base in (("", 1000), ("i", 1024))
    for power, prefix in enumerate("kmg", start=1)
}
_SIZE: Final = re.compile(r"(\d{1,15}) ?([KMG]?i?B)?", re.ASCII | re.IGNORECASE)
_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])"
    r"(:(?P<port>[1-9][0-9]{0,4}))?"
)
_PATH: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_KEY_ID: Final = re.compile(r"[a-z0-9]{8,128}")
_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_ACCOUNT: Final = re.compile(r"[a-z0-9-]{1,32}")
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_REDIS: Final = re.compile(r"(?:rediss?://([^/?#\s]*@)?[^/?#@\s]+|unix://([^/?#\s]*@)?/)[^\s]*")
PER: Final = {"s": 1, "m": 60, "h": 3600, "d": DAY} | {
    "sec": 1, "second": 1, "min": 60, "minute": 60, "hour": 3600, "day": DAY,
}  # fmt: skip
"""Seconds of the units of a rate."""
_TIME: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?([smhd])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": DAY}
_PACE: Final = re.compile(r"([^/]{1,20})/ ?([a-z]{1,6})")
_MONEY: Final = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,6})?")
_MONEY_MAX: Final = 9_000_000
"""A hundred of these in millionths still are whole numbers in Lua."""
_LIMIT_NAME: Final = re.compile(r"[a-z0-9-]{1,40}")
_ADMIN_LENGTH: Final = 16
_SECRET_BYTES: Final = 32
"""As long as the output of the hash below the signatures."""


def loopback(url: str) -> bool:
    """Whether an origin, with or without a path, names this machine itself."""
    match = _ORIGIN.match(url)
    host = match["host"].strip("[]") if match else ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _size(value: Any) -> Any:
    """Bytes, from a number or a text such as `16MiB` or `32 MB`."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    unit = (match[2] or "").lower() if match else "?"
    if match is None or unit not in _UNITS:
        raise ValueError("must be a size: a number of bytes, or one with a unit like 16MiB or 32MB")
    return int(match[1]) * _UNITS[unit]


def amount_of(text: str) -> tuple[int, int]:
    """`100/m` as amount and seconds; 0 seconds where there is no slash. Raises `ValueError`."""
    pace = _PACE.fullmatch(text)
    amount = _size((pace[1] if pace else text).strip())
    return amount, PER[pace[2]] if pace else 0


def _paced(expected: str, units: tuple[int, ...], *, sizes: bool = False) -> AfterValidator:
    def check(text: str) -> str:
        try:
            amount, per = amount_of(text)
        except (ValueError, KeyError):
            amount, per = 0, 0
        plain = sizes or not any(letter.isalpha() for letter in text.partition("/")[0])
        if per not in units or not plain or not 1 <= amount <= (2**50 if sizes else 10**9):
            raise ValueError(f"must be like {expected}, not 0")
        return text

    return AfterValidator(check)


def seconds_of(value: Any) -> Any:
    """Seconds, from a number or a text such as `30d`."""
    if not isinstance(value, str):
        return value
    if match := _TIME.fullmatch(value.strip()):
        return float(match[1]) * _SECONDS[match[2]]
    try:
        return float(value)
    except ValueError:
        raise ValueError(
            "must be a time: a number of seconds, or one with a unit like 30d or 12h"
        ) from None


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    return value


def _counted(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def _money(value: Any) -> Decimal:
    text = str(value)
    if isinstance(value, bool) or not _MONEY.fullmatch(text):
        raise ValueError("must be an amount such as 5 or 0.25, with at most 6 decimals")
    if not 0 < Decimal(text) <= _MONEY_MAX:
        raise ValueError(f"must be more than 0 and at most {_MONEY_MAX}")
    return Decimal(text)


def _host_pattern(text: str) -> str:
    try:
        check_host_pattern(text)
    except ValueError as error:
        raise ValueError(f"must be {error}: files.example.com, *.example.com") from None
    return text


def _switch(value: Any) -> Any:
    """A word; YAML reads a bare `on` or `off` as a truth value."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _pattern(text: str) -> str:
    try:
        check_pattern(text)
    except ValueError:
        raise ValueError(
            "must be an endpoint pattern such as fal-ai/flux/**: owner and alias at least, of "
            "letters, digits, '.', '_', '-', or * (one segment) or ** (any number), with single "
            "slashes between"
        ) from None
    return text


def _origin(text: str) -> bool:
    match = _ORIGIN.fullmatch(text)
    return match is not None and int(match["port"] or 0) < 2**16 and _host(match["host"])


def _host(host: str) -> bool:
    """Whether a host that looks like an address is one."""
    if not host.startswith("[") and not host.replace(".", "").isdigit():
        return True
    try:
        return bool(ip_address(host.strip("[]")))
    except ValueError:
        return False


def _base_url(text: str) -> str:
    """An address of this gateway, without a slash at its end."""
    text = text.removesuffix("/")
    if not _origin(text):
        raise ValueError(
            "must be http(s)://host or http(s)://host:port, in lower case, "
            "without user, path, query or fragment"
        )
    return text


def _public_url(text: str) -> str:
    if text.startswith("http:") and not loopback(text):
        raise ValueError("must be https: only a loopback address may be plain http")
    return text


def _browser_origin(text: str) -> str:
    default_port = {"http": ":80", "https": ":443"}.get(text.partition(":")[0], "?")
    if not _origin(text) or text.endswith(default_port):
        raise ValueError(
            "must be an exact origin as browsers send it, such as https://app.example.com: "
            "lower case, no *, no slash at the end, no default port"
        )
    return text


def _fal_host(text: str) -> str:
    if text not in HOSTS:
        raise ValueError(f"must be a host of fal: {', '.join(HOSTS)}")
    return text


def _fal_origin(text: str) -> str:
    text = text.removesuffix("/")
    match = _ORIGIN.match(text)
    whole = match is not None and _origin(match[0]) and _PATH.fullmatch(text[match.end() :])
    if not whole or (text.startswith("http:") and not loopback(text)):
        raise ValueError(
            "must be https://host[:port][/path]; only a loopback address may be plain http"
        )
    return text


def _proxy(text: str) -> str:
    try:
        ip_network(text)
    except ValueError:
        raise ValueError(
            "must be an IP address or a network such as 10.0.0.0/8 (no host bits set)"
        ) from None
    return text


def _secret_key(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < _SECRET_BYTES:
        raise ValueError(f"must be at least {_SECRET_BYTES} bytes long (openssl rand -hex 32)")
    return secret


def _api_key(secret: SecretStr) -> SecretStr:
    if not KEY_FORM.fullmatch(secret.get_secret_value()):
        raise ValueError(
            "must have the form fgw_<id>_<secret>: an id of 8 to 128 of a-z 0-9, "
            "a secret of 20 to 512 of A-Z a-z 0-9"
        )
    return secret


def _fal_key(secret: SecretStr) -> SecretStr:
    """fal's key, not one of the gateway's: their variable for fal's Python client is the same."""
    if secret.get_secret_value().startswith(KEY_PREFIX):
        raise ValueError("is a key of the gateway, not one of fal's (id:secret)")
    return secret


def _credential(secret: SecretStr) -> SecretStr:
    """What can stand in an HTTP header."""
    text = secret.get_secret_value()
    if not text or not all("!" <= char <= "~" for char in text):
        raise ValueError("must not be empty, nor hold whitespace or control characters")
    return secret


def _admin_key(secret: SecretStr) -> SecretStr:
    """What cannot be guessed, and what is read as no other sort of credential."""
    text = secret.get_secret_value()
    if len(text) < _ADMIN_LENGTH or ":" in text or text.startswith(KEY_PREFIX):
        raise ValueError(
            f"must have at least {_ADMIN_LENGTH} characters, no colon, and not begin with "
            f"{KEY_PREFIX} (openssl rand -hex 32)"
        )
    return secret


def _redis_url(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text.startswith(("redis+", "rediss+")):
        raise ValueError("Sentinel and Cluster come in a later version; give redis:// or rediss://")
    if not _REDIS.fullmatch(text):
        raise ValueError("must be redis://host:port/db, rediss://host:port/db or unix:///path")
    return secret


def _matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"must be {expected}")
        return text

    return AfterValidator(check)


class Bound(Enum):
    """Marks a setting that bounds something, for the table in the documentation; in what unit."""

    BYTES = "bytes"
    SECONDS = "seconds"
    COUNT = "count"


_BYTES: Final = BeforeValidator(_size, json_schema_input_type=int | str)
Size = Annotated[int, Field(ge=1, le=2**40), _BYTES, Bound.BYTES]
"""Bytes."""
Time = BeforeValidator(seconds_of, json_schema_input_type=float | str)
Seconds = Annotated[float, Field(gt=0, le=10**8, allow_inf_nan=False), Time, Bound.SECONDS]
Pause = Annotated[float, Field(ge=0, le=10**8, allow_inf_nan=False), Time, Bound.SECONDS]
"""Seconds, or none."""
Count = Annotated[int, Field(ge=1, le=10**9), Bound.COUNT]
Dollars = Annotated[Decimal, Field(ge=0, le=PRICE_MAX, decimal_places=12, allow_inf_nan=False)]
Units = Annotated[Decimal, Field(ge=0, le=UNITS_MAX, decimal_places=6, allow_inf_nan=False)]
Number = Annotated[Any, AfterValidator(_number), WithJsonSchema({"type": "number"})]
"""As it is written, so that 4 is shown as 4."""
Places = Annotated[Count, BeforeValidator(_counted)]
Rate = Annotated[str, _paced("10/s, 100/m, 5/h or 1000/day", tuple(PER.values()))]
Daily = Annotated[str, _paced("1000/day", (DAY,))]
DailySize = Annotated[str, _paced("1GiB/day", (DAY,), sizes=True)]
Amount = Annotated[Decimal, BeforeValidator(_money, json_schema_input_type=float | str)]
"""Of money, or of units."""
Port = Annotated[int, Field(ge=0, le=65535)]
Switch = BeforeValidator(_switch)

Pattern = Annotated[str, AfterValidator(_pattern)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
PublicUrl = Annotated[str, AfterValidator(_base_url), AfterValidator(_public_url)]
BrowserOrigin = Annotated[str, AfterValidator(_browser_origin)]
FalHost = Annotated[str, AfterValidator(_fal_host)]
FalOrigin = Annotated[str, AfterValidator(_fal_origin)]
Proxy = Annotated[str, AfterValidator(_proxy)]
Name = Annotated[str, _matching(_NAME, "1 to 128 letters, digits or . _ @ + -")]
AccountName = Annotated[str, _matching(_ACCOUNT, "1 to 32 of a-z 0-9 -")]
InputField = Annotated[str, _matching(_FIELD, "a name of an input's field: letters, digits and _")]
LimitName = Annotated[str, _matching(_LIMIT_NAME, "1 to 40 of a-z 0-9 -")]
HostPattern = Annotated[str, AfterValidator(_host_pattern)]
KeyId = Annotated[str, _matching(_KEY_ID, "8 to 128 of a-z 0-9")]
Hash = Annotated[str, _matching(_HASH, "sha256: and the 64 hex digits of the whole key's hash")]

SecretKey = Annotated[SecretStr, AfterValidator(_secret_key)]
ApiKey = Annotated[SecretStr, AfterValidator(_api_key)]
Credential = Annotated[SecretStr, AfterValidator(_credential)]
AdminKey = Annotated[SecretStr, AfterValidator(_credential), AfterValidator(_admin_key)]
FalKey = Annotated[SecretStr, AfterValidator(_credential), AfterValidator(_fal_key)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
