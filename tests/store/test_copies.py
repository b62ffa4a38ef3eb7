"""A copy keeps itself up to date, through outages too."""

import asyncio
import logging

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.store import copies
from gateway.store.copies import Copy
from tests.held import comes_true

pytestmark = pytest.mark.anyio


class Count(Copy):
    """How often it was read, from something that may be away."""

    def __init__(self) -> None:
        super().__init__("counts")
        self.away = False
        self.tries = self.reads = 0

    async def _read(self) -> None:
        self.tries += 1
        await asyncio.sleep(0)
        if self.away:
            raise ConnectionError
        self.reads += 1


async def test_a_copy_is_read_again_and_again_and_an_outage_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(copies, "PERIOD", 0.001)
    copy = Count()
    running = asyncio.ensure_future(copy.run())
    await comes_true(lambda: copy.reads > 3)
    copy.away, tries = True, copy.tries
    await comes_true(lambda: copy.tries > tries + 3)
    copy.away, reads = False, copy.reads
    await comes_true(lambda: copy.reads > reads + 3)
    running.cancel()

    assert [record.getMessage() for record in caplog.records] == [
        "looks at counts interrupted: store_unavailable",
        "looks at counts work again",
    ]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


async def test_a_copy_that_cannot_be_read_grows_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Count()
    before = copy.loaded, copy.fresh()
    await copy.look()
    young = copy.loaded, copy.fresh()
    monkeypatch.setattr(copies, "STALE", -1.0)

    assert before == (False, False)
    assert young == (True, True)
    assert (copy.loaded, copy.fresh()) == (True, False)


async def test_however_many_want_what_is_new_it_is_read_once_or_twice() -> None:
    copy = Count()
    await copy.look()
    await asyncio.gather(*(copy.catch_up() for _ in range(50)))
    assert 2 <= copy.reads <= 3


async def test_nobody_asks_a_store_that_is_away_for_what_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = Count()
    await copy.look()
    copy.away = True
    await copy.catch_up()
    tries = copy.tries
    monkeypatch.setattr(copies, "STALE", -1.0)
    await copy.catch_up()

    assert (tries, copy.tries) == (2, 2)


async def test_a_recent_copy_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Count()
    for _ in range(3):
        await copy.recent()
    once = copy.reads
    monkeypatch.setattr(copies, "RECENT", -1.0)
    await copy.recent()

    assert (once, copy.reads) == (1, 2)
    copy.away = True
    with pytest.raises(StoreUnavailable):
        await copy.recent()
