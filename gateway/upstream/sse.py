"""Server-sent events, as fal writes them: only `data` counts."""

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Final

MAX_EVENT: Final = 1024 * 1024
"""Bytes of one event."""


async def events(pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """The data of each event. What is cut off at the end is no event.

    Raises `ValueError` for an event over `MAX_EVENT`.
    """
    data: list[bytes] = []
    size = 0
    async for line in _lines(pieces):
        size += len(line)
        if size > MAX_EVENT:
            raise ValueError("an event is too large")
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line:
            if data:
                yield b"\n".join(data)
            data, size = [], 0


async def _lines(pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """Lines that end in LF or CR LF. A lone CR, which SSE allows too, JSON never holds bare."""
    kept = bytearray()
    async for piece in pieces:
        kept += piece
        if len(kept) > 2 * MAX_EVENT:
            raise ValueError("a line is too large")
        if b"\n" not in piece:
            continue
        *lines, last = bytes(kept).split(b"\n")
        kept = bytearray(last)
        for line in lines:
            yield line.removesuffix(b"\r")
