"""Event streams, as a client hears them."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import anyio
import httpx

NEVER: Final = httpx.Timeout(10, read=None)


@dataclass(frozen=True, slots=True)
class Heard:
    """One block of a stream: an event, a comment, or a `retry:` alone."""

    at: float
    raw: str

    def field(self, name: str) -> str | None:
        found = [
            line.partition(":")[2].removeprefix(" ")
            for line in self.raw.split("\n")
            if line.startswith(f"{name}:")
        ]
        return "\n".join(found) if found else None

    @property
    def id(self) -> str | None:
        return self.field("id")

    @property
    def type(self) -> str | None:
        return self.field("event")

    @property
    def data(self) -> Any:
        text = self.field("data")
        return None if text is None else json.loads(text)

    @property
    def comment(self) -> bool:
        return self.raw.startswith(":")


class Ear:
    """Blocks of a stream, in order. Its end is None; a stream that is cut raises httpx's error."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._blocks = self._read()

    async def _read(self) -> AsyncGenerator[Heard]:
        kept = ""
        async for text in self.response.aiter_text():
            *blocks, kept = (kept + text).split("\n\n")
            now = time.monotonic()
            for block in blocks:
                yield Heard(now, block)
        assert kept == ""

    def __aiter__(self) -> AsyncIterator[Heard]:
        return self._blocks

    async def block(self, within: float = 12.0) -> Heard | None:
        with anyio.fail_after(within):
            return await anext(self._blocks, None)

    async def event(self, within: float = 12.0) -> Heard | None:
        """The next event, past comments and `retry:`."""
        with anyio.fail_after(within):
            async for block in self._blocks:
                if block.data is not None:
                    return block
        return None

    async def until(self, what: str, within: float = 12.0) -> list[Heard]:
        """All events up to the first of the type `what`, or with that status in fal's form."""
        heard: list[Heard] = []
        with anyio.fail_after(within):
            while True:
                event = await self.event(within)
                assert event is not None, f"ended before {what}: {heard}"
                heard.append(event)
                if what in (event.type, event.data.get("status")):
                    return heard

    async def rest(self, within: float = 12.0) -> list[Heard]:
        """All blocks to the end."""
        with anyio.fail_after(within):
            return [block async for block in self._blocks]


@asynccontextmanager
async def listen(
    client: httpx.AsyncClient, path: str, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[Ear]:
    """The stream at `path`, open."""
    async with client.stream("GET", path, headers=headers, timeout=NEVER) as response:
        if response.status_code != 200:
            await response.aread()
            raise AssertionError(f"{response.status_code}: {response.text}")
        yield Ear(response)


def numbers(heard: list[Heard]) -> list[int]:
    """The `n` of the ids `n-0`."""
    return [int((event.id or "").removesuffix("-0")) for event in heard]
