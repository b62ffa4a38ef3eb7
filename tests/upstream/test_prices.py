"""fal's prices: asked for once, kept for a while, and never guessed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from gateway.core import fal
from gateway.core.errors import KeyRefused, PricesUnavailable, Unavailable, Upstream
from gateway.core.prices import Price
from gateway.upstream import prices
from gateway.upstream.answers import PENDING
from gateway.upstream.fal import Fal, Timeouts
from gateway.upstream.prices import ABSENT, FRESH, PAUSE, USABLE, Prices
from gateway.upstream.session import Pools
from tests.upstream.conftest import FAL_ID, KEY, Request, Server, always, reply

pytestmark = pytest.mark.anyio

ENDPOINT = "fal-ai/flux/dev"
IMAGE = Price(Decimal("0.025"), "image")


def row(price: str = "0.025", endpoint: str = ENDPOINT, currency: str = "USD") -> bytes:
    return (
        b'{"prices":[{"endpoint_id":"%s","unit_price":%s,"unit":"image","currency":"%s"}],'
        b'"next_cursor":null,"has_more":false}'
        % (endpoint.encode(), price.encode(), currency.encode())
    )


@pytest.fixture
def api(out: Pools, server: Server) -> Fal:
    return Fal(out, KEY, {fal.API: f"{server.origin}/api"}, Timeouts(5, 5, 5, 5))


async def test_a_price_is_asked_for(api: Fal, server: Server) -> None:
    """With our key; the number to the letter."""
    server.behave = always(reply(200, row("0.0000125")))

    assert await api.price(ENDPOINT) == Price(Decimal("0.0000125"), "image")
    asked = server.requests[0]
    assert asked.path == "/api/v1/models/pricing?endpoint_id=fal-ai/flux/dev"
    assert asked.headers["authorization"] == f"Key {KEY}"


@pytest.mark.parametrize(
    "answer", [reply(404, b"{}"), reply(200, row(endpoint="fal-ai/other")),
               reply(200, b'{"prices":[]}')]
)  # fmt: skip
async def test_no_price(api: Fal, server: Server, answer: bytes) -> None:
    server.behave = always(answer)

    assert await api.price(ENDPOINT) is None


@pytest.mark.parametrize(
    "answer",
    [reply(500), reply(200, b"<html>"), reply(200, b"{}"), reply(200, row("-1")),
     reply(200, row("1e99")), reply(200, row('"x"')), reply(200, row("null")),
     reply(200, b"x" * 2**21), reply(302, location="/"), reply(429)],
)  # fmt: skip
async def test_no_answer(api: Fal, server: Server, answer: bytes) -> None:
    server.behave = always(answer)

    with pytest.raises(Exception, match="fal") as caught:
        await api.price(ENDPOINT)
    assert isinstance(caught.value, Upstream)


class Switch:
    """fal's list, as a function that may become another."""

    def __init__(self, to: Callable[[str], Awaitable[Price | None]]) -> None:
        self.to = to

    async def __call__(self, endpoint: str) -> Price | None:
        return await self.to(endpoint)


class List:
    """fal's list, as a function; what is an error is raised."""

    def __init__(self, *answers: Price | Exception | None) -> None:
        self.answers: list[Price | Exception | None] = list(answers)
        self.asked: list[str] = []

    async def __call__(self, endpoint: str) -> Price | None:
        self.asked.append(endpoint)
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_one_ask_for_many_calls() -> None:
    """At the same time, and for an hour."""
    asked = List(IMAGE)
    known = Prices(asked)

    told = await asyncio.gather(*(known.of(ENDPOINT, 0.0) for _ in range(20)))
    assert set(told) == {IMAGE}
    assert await known.of(ENDPOINT, FRESH - 1) == IMAGE
    assert asked.asked == [ENDPOINT]
    await known.of(ENDPOINT, FRESH + 1)
    assert asked.asked == [ENDPOINT] * 2


async def test_who_goes_away_leaves_no_mark() -> None:
    """The next caller asks anew."""
    there = asyncio.Event()

    async def hang(endpoint: str) -> Price | None:
        there.set()
        await asyncio.get_running_loop().create_future()
        return None

    asked = Switch(hang)
    known = Prices(asked)
    async with asyncio.TaskGroup() as tasks:
        gone = tasks.create_task(known.of(ENDPOINT, 0.0))
        await there.wait()
        gone.cancel()
    asked.to = List(IMAGE)
    assert await known.of(ENDPOINT, 0.0) == IMAGE


async def test_nobody_waits_for_a_new_price_but_who_asks() -> None:
    asked = Switch(List(IMAGE))
    known = Prices(asked)
    await known.of(ENDPOINT, 0.0)
    there, done = asyncio.Event(), asyncio.Event()

    async def slow(endpoint: str) -> Price | None:
        there.set()
        await done.wait()
        return Price(Decimal(1), "image")

    asked.to = slow
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(known.of(ENDPOINT, FRESH + 1))
        await there.wait()
        assert await known.of(ENDPOINT, FRESH + 1) == IMAGE
        done.set()
    assert first.result() == Price(Decimal(1), "image")
    assert await known.of(ENDPOINT, FRESH + 1) == Price(Decimal(1), "image")


@pytest.mark.parametrize("error", [Unavailable("away"), KeyRefused("locked"), TimeoutError()])
async def test_an_old_price_outlasts_an_outage(error: Exception) -> None:
    """For a day; and asks during it are few."""
    asked = List(IMAGE, error)
    known = Prices(asked)
    await known.of(ENDPOINT, 0.0)

    assert await known.of(ENDPOINT, FRESH + 1) == IMAGE
    assert await known.of(ENDPOINT, FRESH + PAUSE) == IMAGE
    assert len(asked.asked) == 2
    with pytest.raises(PricesUnavailable):
        await known.of(ENDPOINT, USABLE + 1)
    asked.answers = [IMAGE]
    assert await known.of(ENDPOINT, USABLE + PAUSE + 1) == IMAGE


async def test_never_known_and_away() -> None:
    """Refused at once for a while, then asked for again."""
    asked = List(Unavailable("away"))
    known = Prices(asked)

    for _ in range(3):
        with pytest.raises(PricesUnavailable):
            await known.of(ENDPOINT, 0.0)
    assert len(asked.asked) == 1
    asked.answers = [IMAGE]
    assert await known.of(ENDPOINT, PAUSE) == IMAGE


async def test_no_price_is_remembered_for_minutes() -> None:
    asked = List(None, IMAGE)
    known = Prices(asked)

    assert await known.of(ENDPOINT, 0.0) is None
    assert await known.of(ENDPOINT, ABSENT - 1) is None
    assert await known.of(ENDPOINT, ABSENT + 1) == IMAGE


async def test_other_currencies_are_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    known = Prices(List(Price(Decimal(3), "image", "EUR")))

    with caplog.at_level(logging.ERROR):
        assert await known.of(ENDPOINT, 0.0) is None
    assert "EUR" in caplog.text


async def test_endpoints_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were asked for longest ago go."""
    monkeypatch.setattr(prices, "ENDPOINTS", 3)
    asked = List(IMAGE)
    known = Prices(asked)
    for endpoint in ("a/1", "a/2", "a/3", "a/4", "a/2", "a/1"):
        await known.of(endpoint, 0.0)

    assert asked.asked == ["a/1", "a/2", "a/3", "a/4", "a/1"]


async def test_head_of_a_result(upstream: Fal, server: Server) -> None:
    """Units without the body; what is long is not even read."""
    size = 2**26
    head = b"HTTP/1.1 200 OK\r\nx-fal-billable-units: 2.5\r\ncontent-length: %d\r\n\r\n" % size

    async def behave(request: Request) -> None:
        await request.send(head)  # and never its body

    server.behave = behave
    result = await upstream.result_head(ENDPOINT, FAL_ID)

    assert result is not None
    assert result is not PENDING
    assert (result.status, result.body) == (200, None)
    assert result.headers["x-fal-billable-units"] == "2.5"


async def test_short_results_keep_their_connection(upstream: Fal, server: Server) -> None:
    server.behave = always(reply(200, b'{"a":1}', x_fal_billable_units="1"))
    for _ in range(3):
        await upstream.result_head(ENDPOINT, FAL_ID)

    assert server.connections == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(reply(202), PENDING), (reply(400, b'{"detail":"Request is still in progress"}'), PENDING),
     (reply(404, b'{"status":"NOT_FOUND"}'), None)],
)  # fmt: skip
async def test_no_head_yet(upstream: Fal, server: Server, answer: bytes, expected: object) -> None:
    server.behave = always(answer)

    assert await upstream.result_head(ENDPOINT, FAL_ID) is expected
