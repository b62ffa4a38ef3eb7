"""What a call may cost, and what it did cost. Exact: decimals in, whole millionths out."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from typing import Final

import msgspec

from gateway.core import fal
from gateway.core.endpoints import allows
from gateway.core.limits import MICRO

FACTOR_MAX: Final = 10**6
"""What one input field can multiply an estimate by at most."""
UNITS_MAX: Final = 10**9
"""Units of one call, and the dollars of one, at most."""
PRICE_MAX: Final = 10**6
"""Dollars a unit at most."""
COST: Final = "x-gateway-cost"
"""The header that tells what a call did cost, in dollars."""

_EXACT: Final = Context(prec=60)
_UP: Final = Context(prec=60, rounding=ROUND_CEILING)
_NUMBER: Final = re.compile(r"[0-9]{1,16}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?")
_TEXT_MAX: Final = 64
"""Characters of an input's field that may be a number."""


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for one billable unit of an endpoint."""

    unit_price: Decimal
    unit: str
    """What is counted, in fal's word: `image`, `second`."""
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Override:
    """What the operator knows better about the endpoints that the pattern `endpoint` matches."""

    endpoint: str
    unit_price: Decimal | None = None
    """In place of fal's; None: fal's counts."""
    unit: str = "unit"
    units: Decimal = Decimal(1)
    """That one call uses, so far as is known before."""
    times: tuple[str, ...] = ()
    """Fields of the input by whose value `units` is multiplied; one that is absent counts 1."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is reserved for a call, in millionths. `usd` is None where no price was asked for.

    `price` is of a unit, in millionths of a dollar as decimal text, or empty.
    """

    usd: int | None
    units: int
    price: str


NOTHING: Final = Estimate(None, 0, "")


def chosen(overrides: Sequence[Override], endpoint: str) -> Override | None:
    """The first that matches."""
    return next((given for given in overrides if allows((given.endpoint,), endpoint)), None)


def estimate(price: Price | None, override: Override | None, body: bytes) -> Estimate:
    """What a call with the input `body` may cost; `price` is None where only units count."""
    known = override or Override("")
    units = known.units
    for factor in _factors(known.times, body):
        units = min(_EXACT.multiply(units, factor), Decimal(UNITS_MAX))
    counted = micros(units)
    if price is None:
        return Estimate(None, counted, "")
    text = price_text(price)
    return Estimate(cost(counted, text), counted, text)


def price_text(price: Price) -> str:
    """Millionths of a dollar a unit, as a job keeps it."""
    return format(_EXACT.multiply(price.unit_price, Decimal(MICRO)).normalize(_EXACT), "f")


def cost(units: int, price: str) -> int:
    """Millionths of a dollar for so many millionths of a unit, rounded up."""
    return _whole(_EXACT.divide(_EXACT.multiply(Decimal(units), Decimal(price)), Decimal(MICRO)))


def micros(number: Decimal) -> int:
    """Millionths, rounded up."""
    return _whole(_EXACT.multiply(number, Decimal(MICRO)))


def units_told(status: int, headers: Mapping[str, str]) -> str | None:
    """What fal's answer to a direct run says of its units: nothing where fal failed, which is
    free."""
    return headers.get(fal.BILLABLE_UNITS) if status < 500 else None


def billed_units(text: str | None) -> int | None:
    """Millionths of a unit in `x-fal-billable-units`; None where it is no number, or absurd."""
    number = _decimal(text or "")
    return None if number is None or number > UNITS_MAX else micros(number)


def usd_text(cost: int) -> str:
    """Dollars, as short as they can be written: `0.025`."""
    return f"{cost // MICRO}.{cost % MICRO:06d}".rstrip("0").rstrip(".")


def _whole(number: Decimal) -> int:
    return min(int(number.to_integral_value(context=_UP)), UNITS_MAX * MICRO)


def _factors(names: Sequence[str], body: bytes) -> list[Decimal]:
    if not names:
        return []
    try:
        fields = msgspec.json.decode(body or b"{}", type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []  # fal will not do anything with that
    return [_factor(bytes(fields[name])) for name in names if name in fields]


def _factor(raw: bytes) -> Decimal:
    """A number, or a text with one (some models take `"5"` or `"8s"`); for all else, 1.

    Never less, in whatever way a model's Python may read a number that a client writes: that
    must not make a reservation smaller.
    """
    text = msgspec.json.decode(raw, type=str) if raw[:1] == b'"' else raw.decode(errors="replace")
    text = text.strip().removesuffix("s")
    most, number = Decimal(FACTOR_MAX), None
    if len(text) <= _TEXT_MAX:
        with suppress(InvalidOperation):
            number = Decimal(text)
    if number is None:
        number = most if text[:1].isdigit() and text[-1:].isdigit() else Decimal(1)
    return Decimal(1) if number.is_nan() else min(max(number, Decimal(1)), most)


def _decimal(text: str) -> Decimal | None:
    return _EXACT.create_decimal(text) if _NUMBER.fullmatch(text) else None
