"""Events come out whole, however the bytes were cut, and never larger than they may be."""

from collections.abc import AsyncGenerator

import pytest

from gateway.upstream.sse import MAX_EVENT, events

pytestmark = pytest.mark.anyio

STREAM = (
    ": a comment\n\n"
    'data: {"a":\n'
    "data: 1}\r\n\r\n"
    "event: named\nid: 7\nretry: 5\ndata:é\n\n"
    "database: no\n\n"
    "data: cut"
).encode()
HEARD = [b'{"a":\n1}', "é".encode()]


async def cut(data: bytes, size: int) -> AsyncGenerator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
async def test_events_are_whole(size: int) -> None:
    assert [event async for event in events(cut(STREAM, size))] == HEARD


@pytest.mark.parametrize("size", [1000, 4 * MAX_EVENT])
async def test_an_event_has_a_limit(size: int) -> None:
    lines = b"data: x\n" * (MAX_EVENT // 7 + 1)

    with pytest.raises(ValueError, match="event is too large"):
        [event async for event in events(cut(lines, size))]


async def test_a_line_has_a_limit() -> None:
    with pytest.raises(ValueError, match="line is too large"):
        [event async for event in events(cut(b"x" * 3 * MAX_EVENT, 2**16))]


async def test_a_long_stream_has_none() -> None:
    """The limit is of one event."""
    event = b"data: " + b"x" * (MAX_EVENT // 2) + b"\n\n"

    assert len([event async for event in events(cut(event * 5, 2**16))]) == 5
