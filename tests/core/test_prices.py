"""Money is exact: sums of parts are the whole, and nobody pays less than fal asks."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import prices
from gateway.core.prices import Estimate, Override, Price

USD = Price(Decimal("0.025"), "image")
UNIT_PRICES = st.decimals(0, 10**6, allow_nan=False, allow_infinity=False, places=9)
UNITS = st.integers(0, 10**15)


@given(UNIT_PRICES, st.integers(0, 10**9))
def test_cost_is_rounded_up_by_less_than_a_millionth(unit_price: Decimal, units: int) -> None:
    told = prices.cost(units, prices.price_text(Price(unit_price, "image")))

    exact = unit_price * units  # in millionths
    assert told - 1 < exact <= told


@given(
    st.decimals(0, 10**4, allow_nan=False, allow_infinity=False, places=9),
    st.lists(st.integers(0, 10**9), max_size=20),
)
def test_parts_cost_what_the_whole_does(unit_price: Decimal, parts: list[int]) -> None:
    """But for the rounding of each, always to fal's side."""
    text = prices.price_text(Price(unit_price, "image"))

    apart = sum(prices.cost(units, text) for units in parts)
    assert 0 <= apart - prices.cost(sum(parts), text) <= len(parts)


@given(st.decimals(0, 10**9, allow_nan=False, allow_infinity=False, places=6))
def test_units_are_read_as_they_are_written(units: Decimal) -> None:
    assert prices.billed_units(format(units, "f")) == int(units * 10**6)


@given(UNITS)
def test_money_as_text_is_exact(micros: int) -> None:
    text = prices.usd_text(micros)

    assert Decimal(text) * 10**6 == micros
    assert "." not in text or not text.endswith("0")


@pytest.mark.parametrize(
    ("text", "units"),
    [("1", 10**6), ("2.5", 2_500_000), ("1.5e-2", 15_000), ("0", 0), ("0.0000001", 1),
     ("1e9", 10**15), ("1e10", None), ("", None), (None, None), ("1..2", None), ("-1", None),
     ("+1", None), ("NaN", None), ("inf", None), ("1,5", None), ("\u0663", None), ("1_0", None),
     ("9" * 40, None), ("1e999", None), (" 1", None)],
)  # fmt: skip
def test_billed_units(text: str | None, units: int | None) -> None:
    assert prices.billed_units(text) == units


def test_estimate_of_a_price() -> None:
    assert prices.estimate(USD, None, b"") == Estimate(25_000, 10**6, "25000")
    assert prices.estimate(None, None, b"") == Estimate(None, 10**6, "")


def test_estimate_is_multiplied_by_the_input() -> None:
    override = Override("**", units=Decimal("0.5"), times=("num_images", "duration"))
    body = json.dumps({"num_images": 3, "duration": "8s", "prompt": "9"}).encode()

    assert prices.estimate(USD, override, body) == Estimate(300_000, 12_000_000, "25000")


@pytest.mark.parametrize(
    ("value", "factor"),
    [("4", 4), ("2.5", 2.5), ('"5"', 5), ('"8s"', 8), ("1e3", 1000), ("0", 1), ("-4", 1),
     ('"-4"', 1), ("null", 1), ("true", 1), ("[4]", 1), ('{"a":4}', 1), ('"1080p"', 1),
     ('""', 1), ("1e80", 10**6), ("9" * 400, 10**6), ("9." + "9" * 400, 10**6),
     ('"' + "9" * 400 + '"', 10**6), ("0.5", 1), ("1e-99", 1), ('"\u0663"', 3),
     ('"\\u0034\\u0030"', 40), ('" 40 "', 40), ('"+40"', 40), ('"4_0"', 40), ('"40 s"', 40),
     ('"9.' + "0" * 30 + '"', 9), ('"9.' + "0" * 400 + '"', 10**6), ("4." + "0" * 40, 4),
     ('"inf"', 10**6), ('"nan"', 1), ('"1e999999999999999999999"', 10**6),
     ('"' + " " * 400 + '40"', 40), ('"9 lives"', 1), ('"\\ud83d\\ude00"', 1)],
)  # fmt: skip
def test_absurd_factors_are_bounded(value: str, factor: float) -> None:
    """Nothing makes an estimate smaller than it is without the field."""
    override = Override("**", times=("n",))
    body = b'{"n": %s}' % value.encode()

    assert prices.estimate(None, override, body).units == round(factor * 10**6)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'"n"', b"[" * 100_000, b"null"])
def test_unreadable_input_counts_once(body: bytes) -> None:
    """fal refuses it; an estimate there must be."""
    assert prices.estimate(USD, Override("**", times=("n",)), body).units == 10**6


@given(st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e300) | st.integers(0, 10**40)))
def test_estimates_are_bounded(fields: dict[str, float]) -> None:
    override = Override("**", units=Decimal(10**9), times=("a", "b", "c"))
    price = Price(Decimal(10**6), "image")

    told = prices.estimate(price, override, json.dumps(fields).encode())
    assert 0 < told.units <= 10**15
    assert told.usd is not None
    assert 0 < told.usd <= 10**15


def test_the_first_override_that_matches_counts() -> None:
    first, second = Override("fal-ai/flux/**"), Override("**")

    assert prices.chosen((first, second), "fal-ai/flux/dev") is first
    assert prices.chosen((first, second), "fal-ai/other") is second
    assert prices.chosen((first,), "fal-ai/other") is None


@pytest.mark.parametrize(("status", "told"), [(200, "2"), (422, "2"), (499, "2"), (500, None)])
def test_what_fal_could_not_do_is_free(status: int, told: str | None) -> None:
    assert prices.units_told(status, {"x-fal-billable-units": "2"}) == told
