"""A page of another origin with `@fal-ai/client`, unmodified, and the gateway as its proxy."""

from typing import Any, Final

import pytest
from anyio import Path

from tests.clients import browser, programs
from tests.clients.browser import Tab
from tests.clients.programs import JS, Node
from tests.clients.servers import Site
from tests.harness import Gateway, Simulator

pytestmark = pytest.mark.anyio
browser.needed()
programs.node_needed()

PREFLIGHT: Final = b"access-control-max-age: 7200"


@pytest.fixture(scope="module")
async def page_elsewhere(node: Node, site: Site, clip: str) -> str:
    """The path of a page on `site`."""
    module = await node("bundle", names=["fal", "ApiError"])
    site.files |= {
        "/fal.js": ("text/javascript", module.encode()),
        "/clip.wav": ("audio/wav", await Path(clip).read_bytes()),
        "/app.html": ("text/html", await Path(JS / "page.html").read_bytes()),
    }
    return "/app.html"


async def subscribed(tab: Tab, gateway: Gateway, address: str, **options: Any) -> dict[str, Any]:
    """What the page at `address` hears."""
    await tab.page.goto(address)
    await tab.see("#ready")
    given = {
        "proxy": f"{gateway.url}/api/fal/proxy",
        "token": gateway.token("elsewhere"),
        "strength": options.pop("strength", 0.5),
        "options": options,
    }
    heard: dict[str, Any] = await tab.page.evaluate("(given) => window.subscribe(given)", given)
    return heard


@pytest.mark.parametrize("options", [{"pollInterval": 50}, {"mode": "streaming"}], ids=str)
async def test_subscribe_asks_for_leave_once(
    tab: Tab, stage: Gateway, site: Site, page_elsewhere: str, options: dict[str, Any]
) -> None:
    """Not with each poll: a preflight would double them."""
    received = Path(stage.folder / "received.bin")
    before = (await received.read_bytes()).count(PREFLIGHT)

    heard = await subscribed(tab, stage, site.origin + page_elsewhere, **options)

    async with stage.http("elsewhere") as http:
        job = (await http.get(f"/v1/jobs/{heard['requestId']}")).json()
    assert job["status"] == "completed"
    assert heard["duration"] == pytest.approx(3.0, abs=0.01)
    assert list(dict.fromkeys(heard["updates"])) == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    assert len(heard["updates"]) > 3
    assert (await received.read_bytes()).count(PREFLIGHT) - before == 1


async def test_errors_are_readable_from_another_origin(
    tab: Tab, stage: Gateway, site: Site, page_elsewhere: str
) -> None:
    heard = await subscribed(tab, stage, site.origin + page_elsewhere, strength=7, pollInterval=50)

    assert (heard["name"], heard["status"]) == ("ValidationError", 422)
    assert heard["requestId"]
    assert [each["loc"] for each in heard["fieldErrors"]] == [["body", "strength"]]


async def test_a_page_of_an_origin_that_is_not_configured_gets_nothing(
    tab: Tab, stage: Gateway, slow_sim: Simulator, site: Site, page_elsewhere: str
) -> None:
    stranger = site.origin.replace("127.0.0.1", "localhost")
    before = len(slow_sim.journal())

    heard = await subscribed(tab, stage, stranger + page_elsewhere)

    assert heard["message"] == "Failed to fetch"
    assert heard["api"] is False
    assert len(slow_sim.journal()) == before
    assert any("blocked by CORS policy" in text for text in tab.complaints)
    tab.complaints.clear()
