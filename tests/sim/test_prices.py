"""The list of prices, and the units that calls use."""

import pytest

from tests.sim.conftest import Fal

pytestmark = pytest.mark.anyio

Params = list[tuple[str, str | int | float | bool | None]]
PRICES = "/api.fal.ai/v1/models/pricing"


async def test_prices_are_told(fal: Fal) -> None:
    """Several endpoints at once; without a key, nothing."""
    asked: Params = [("endpoint_id", "sim/one"), ("endpoint_id", "fal-ai/flux/dev")]
    listed = (await fal.http.get(PRICES, params=asked)).json()
    without = await fal.http.get(PRICES, params=asked, headers={"authorization": ""})

    assert [row["endpoint_id"] for row in listed["prices"]] == ["sim/one", "fal-ai/flux/dev"]
    assert all(row["currency"] == "USD" and row["unit_price"] > 0 for row in listed["prices"])
    assert (listed["next_cursor"], listed["has_more"], without.status_code) == (None, False, 401)


async def test_no_price(fal: Fal) -> None:
    """One endpoint without a price makes the whole answer a 404."""
    asked: Params = [("endpoint_id", "sim/one"), ("endpoint_id", "sim/unpriced/two")]

    assert (await fal.http.get(PRICES, params=asked)).status_code == 404
    assert (await fal.http.get(PRICES)).status_code == 422


async def test_price_is_set(fal: Fal) -> None:
    """To the letter, and until a reset; the list can go away."""
    await fal.http.post("/_sim/price/sim/one", params={"unit_price": "0.0000125", "unit": "step"})
    told = await fal.http.get(PRICES, params={"endpoint_id": "sim/one"})
    bad = await fal.http.post("/_sim/price/sim/one", params={"unit_price": "-1"})
    await fal.http.post("/_sim/prices?away=1")
    away = await fal.http.get(PRICES, params={"endpoint_id": "sim/one"})
    await fal.http.post("/_sim/reset")
    after = await fal.http.get(PRICES, params={"endpoint_id": "sim/one"})

    assert b'"unit_price":0.0000125,"unit":"step"' in told.content
    assert (bad.status_code, away.status_code, after.status_code) == (400, 503, 200)
    assert b"0.0000125" not in after.content


@pytest.mark.parametrize(
    ("endpoint", "units"),
    [("sim/units/2.5", "2.5"), ("sim/units/none", None), ("sim/units/-1", "1"), ("sim/x", "1")],
)
async def test_units(fal: Fal, endpoint: str, units: str | None) -> None:
    """Of jobs and of runs alike."""
    result = await fal.result(await fal.job(endpoint))
    run = await fal.http.post(f"/fal.run/{endpoint}", json={})

    assert result.headers.get("x-fal-billable-units") == units
    assert run.headers.get("x-fal-billable-units") == units


@pytest.mark.parametrize(("fault", "units"), [("fail-422", "0"), ("fail-503", None)])
async def test_units_of_failures(fal: Fal, fault: str, units: str | None) -> None:
    """A refused input is billed with nothing, fal's own trouble not at all."""
    result = await fal.result(await fal.job(f"sim/fault/{fault}"))

    assert result.headers.get("x-fal-billable-units") == units
