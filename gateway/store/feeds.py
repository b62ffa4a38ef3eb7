"""What happened, in order: the streams of events, and the wake-ups that say there is more."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.core.model import Event, Principal
from gateway.store import keys
from gateway.store.connect import translated
from gateway.store.outages import Outage
from gateway.store.records import event_of

LOOK: Final = 2.0
"""Seconds after which a watcher looks at Redis even if nothing rang: a wake-up can be lost."""
PAGE: Final = 200
"""Events read at once."""

_log = logging.getLogger("gateway.store")


@dataclass(frozen=True, slots=True)
class Page:
    """Events after a place. `gap` says that older ones have gone, and the client must fetch."""

    events: tuple[Event, ...]
    gap: bool


class Feeds:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def of_job(self, job_id: str, after: str) -> Page:
        return await self._page(keys.events(job_id), after)

    async def of_principal(self, principal: Principal, after: str) -> Page:
        return await self._page(keys.feed(principal), after)

    async def of_team(self, team: str, after: str) -> Page:
        return await self._page(keys.team_feed(team), after)

    async def last_of_principal(self, principal: Principal) -> str:
        return await self._last(keys.feed(principal))

    async def last_of_team(self, team: str) -> str:
        return await self._last(keys.team_feed(team))

    async def _page(self, key: str, after: str) -> Page:
        """Events with an id above `after`. A place above the last event is from a lost history."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.xrange(key, f"({after}", "+", count=PAGE)
                pipe.xrange(key, "-", "+", count=1)
                pipe.xrevrange(key, "+", "-", count=1)
                entries, oldest, newest = await pipe.execute()
        events = tuple(event_of(id, fields) for id, fields in entries)
        return Page(events, _gap(after, oldest, newest))

    async def _last(self, key: str) -> str:
        with translated():
            newest: Any = await self._redis.xrevrange(key, "+", "-", count=1)
        return newest[0][0].decode() if newest else "0-0"


def _gap(
    after: str, oldest: list[tuple[bytes, object]], newest: list[tuple[bytes, object]]
) -> bool:
    place = number(after)
    if not newest:
        return place > 0
    return place > number(newest[0][0].decode()) or 0 < place < number(oldest[0][0].decode()) - 1


def number(event_id: str) -> int:
    """`n` of an id `n-0`."""
    return int(event_id.partition("-")[0])


topic_of_job = keys.events
topic_of_principal = keys.feed
topic_of_team = keys.team_feed


class Wakes:
    """Rings the bells of watchers when Redis says that something happened to it.

    It carries no news, so a lost wake-up costs time, never truth: watchers look again after
    `LOOK` anyway, and all bells ring after a reconnect.
    """

    def __init__(self, listener: Redis) -> None:
        self._listener = listener
        self._bells: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._stirred: set[str] = set()

    def stirred(self) -> set[str]:
        """The shards that something happened in since this was asked last."""
        stirred, self._stirred = self._stirred, set()
        return stirred

    @contextmanager
    def bell(self, *topics: str) -> Generator[asyncio.Event]:
        """An event that is set when any of `topics` (see `topic_of_job`) may have news."""
        bell = asyncio.Event()
        for topic in topics:
            self._bells[topic].add(bell)
        try:
            yield bell
        finally:
            for topic in topics:
                self._bells[topic].discard(bell)
                if not self._bells[topic]:
                    del self._bells[topic]

    def _ring(self, topic: str) -> None:
        for bell in self._bells.get(topic, ()):
            bell.set()

    async def run(self) -> None:
        """Listen until cancelled, through every loss of connection."""
        outage = Outage(_log, "wake-ups")
        while True:
            try:
                async with self._subscribed() as messages:
                    outage.over()
                    self.ring_all()
                    async for message in messages:
                        topics = message.split()
                        self._stirred |= {keys.shard_in(topic) for topic in topics[:1]}
                        for topic in topics:
                            self._ring(topic)
            except (RedisError, OSError) as error:
                outage.begun(type(error).__name__)
                await asyncio.sleep(0.5)

    @asynccontextmanager
    async def _subscribed(self) -> AsyncGenerator[AsyncGenerator[str]]:
        async with self._listener.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(keys.WAKE)

            async def texts() -> AsyncGenerator[str]:
                async for message in channel.listen():
                    yield message["data"].decode()

            yield texts()

    def ring_all(self) -> None:
        """Have everybody look."""
        for bells in self._bells.values():
            for bell in bells:
                bell.set()


async def rung(bell: asyncio.Event, timeout: float = LOOK) -> bool:
    """True when `bell` rang within `timeout` seconds; it is silent again afterwards."""
    try:
        async with asyncio.timeout(timeout):
            await bell.wait()
    except TimeoutError:
        return False
    bell.clear()
    return True
