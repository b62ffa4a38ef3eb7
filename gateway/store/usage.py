"""What was used, and how a caller stands, as Redis has counted it."""

from collections.abc import AsyncGenerator
from typing import Any, Final

from redis.asyncio import Redis

from gateway.core.limits import Of
from gateway.core.model import Caller, Principal
from gateway.core.usage import Read, Row, Span, rows_of
from gateway.store import keys
from gateway.store.connect import translated

AT_ONCE: Final = 100
"""Hashes, or names, read in one round trip."""


class Usage:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def of_principal(self, principal: Principal, span: Span) -> list[Row]:
        """By day, and endpoint."""
        shard = keys.shard_of_team(principal.team)
        return await self._rows(shard, principal.digest, span, principal.team, str(principal))

    async def of_team(self, team: str, span: Span) -> list[Row]:
        """Of all its principals together."""
        return await self._rows(keys.shard_of_team(team), keys.team_digest(team), span, team, "")

    async def people(self, team: str, span: Span) -> AsyncGenerator[str]:
        """`kind:name` of each principal of a team that was seen since the span began."""
        async for name in self._names(keys.people(team), span):
            yield name

    async def teams(self, span: Span) -> AsyncGenerator[str]:
        async for name in self._names(keys.TEAMS, span):
            yield name

    async def standing(self, caller: Caller) -> tuple[dict[Of, Read], float]:
        """What is counted of the caller, its team and its address, and Redis's time."""
        shard = keys.shard_of_team(caller.principal.team)
        subjects = {
            of: digest
            for of in Of
            if (digest := keys.subject(of, caller.principal, caller.address)) is not None
        }
        with translated():
            seconds, micros = await self._redis.time()
            now = round(seconds * 1000 + micros / 1000)
            async with self._redis.pipeline(transaction=False) as pipe:
                for digest in subjects.values():
                    pipe.hgetall(keys.meter(shard, digest))
                    pipe.hgetall(keys.spend(shard, digest))
                    pipe.zcount(keys.slots(shard, digest), f"({now}", "+inf")
                    pipe.zcount(keys.streams(shard, digest), f"({now}", "+inf")
                told = await pipe.execute()
        read = {
            of: Read(_text(meter), _text(spend), slots, streams)
            for of, (meter, spend, slots, streams) in zip(subjects, _fours(told), strict=True)
        }
        return read, now / 1000

    async def _rows(
        self, shard: str, digest: str, span: Span, team: str, principal: str
    ) -> list[Row]:
        days = span.days
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for day in days:
                    pipe.hgetall(keys.usage(shard, digest, day))
                told = await pipe.execute()
        found = zip(days, told, strict=True)
        return [row for day, each in found for row in rows_of(day, _text(each), team, principal)]

    async def _names(self, key: str, span: Span) -> AsyncGenerator[str]:
        """Of a list by the last day that each was seen, each once, while it may change."""
        since, seen = int(span.days[0]), set[str]()
        cursor = None
        while cursor != 0:
            with translated():
                found: Any = await self._redis.zscan(key, cursor or 0, count=AT_ONCE)
            cursor, pairs = found
            for name in (raw.decode() for raw, day in pairs if day >= since):
                if name not in seen:
                    seen.add(name)
                    yield name


def _text(told: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in told.items()}


def _fours(told: list[Any]) -> list[tuple[Any, ...]]:
    return [tuple(told[place : place + 4]) for place in range(0, len(told), 4)]
