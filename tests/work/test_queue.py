"""Who waits is let go, whoever else waits."""

import json
import time
from collections.abc import Iterable
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.core.model import JobRef, Kind, Principal
from gateway.flows.entry import new_ref
from gateway.store import keys
from gateway.store.connect import commands
from gateway.store.records import ref_fields
from tests.flows.desk import database, eventually
from tests.flows.office import an_office

pytestmark = pytest.mark.anyio

MANY = 1500


def refs(team: str, many: int) -> list[JobRef]:
    who = Principal(team, Kind.USER, "u")
    return [new_ref(who, "fal-ai/echo", time.time()) for _ in range(many)]


async def let_wait(redis: Redis, jobs: Iterable[JobRef]) -> None:
    """As if they had waited since long ago, each by its team's one token."""
    pipe = redis.pipeline(transaction=False)
    for turn, ref in enumerate(jobs):
        told, team = ref_fields(ref), ref.principal.team
        source = json.dumps(["kid", 1.0, f"jti:{team}"])
        fields: dict[Any, Any] = dict(zip(told[::2], told[1::2], strict=True)) | {
            "id": ref.id, "created": int(ref.created_at * 1000), "state": "queued", "sign": 1,
            "version": "1-0", "waiting": 1, "waited": 1, "plan": "default", "by": source,
        }  # fmt: skip
        pipe.hset(keys.job(ref.id), mapping=fields)
        pipe.set(keys.queue_input(ref.id), b"{}\n{}")
        pipe.zadd(keys.holding(ref)[2], {ref.id: turn})
    await pipe.execute()


async def test_nobody_waits_until_all_who_wait_by_what_was_revoked_have_ended(
    redis_url: str,
) -> None:
    url, stamp = database(redis_url, 14), time.time_ns()
    red, (blue,) = refs(f"red-{stamp}", MANY), refs(f"blue-{stamp}", 1)
    async with an_office(url) as services, commands(url) as redis:
        await let_wait(redis, [*red, blue])
        await services.revocations.revoke([f"jti:{red[0].principal.team}"], time.time())
        team = red[0].principal.team
        await redis.zadd(keys.QUEUES, {team: time.time(), blue.principal.team: time.time()})
        await services.revocations.revoke(["jti:of-nobody"], time.time())

        async def let_go() -> bool:
            return bool(await redis.hexists(keys.job(blue.id), "attempt"))

        async def ended() -> bool:
            return not await redis.zcard(keys.holding(red[0])[2])

        await eventually(let_go)
        at_once = not await ended()
        await eventually(ended)

    assert at_once
