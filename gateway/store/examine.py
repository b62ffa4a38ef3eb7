"""Whether a Redis is fit to keep the ledger."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.store.connect import WAIT, translated

_OLDEST: Final = (6, 2)
ERROR: Final = "error: "
"""How the texts begin that should stop the start; the others are warnings."""


async def examine(redis: Redis) -> list[str]:
    """What the operator should know of this Redis; see `ERROR`. Raises `StoreUnavailable`.

    Managed servers forbid CONFIG, and some users INFO: what cannot be seen is not judged.
    """
    with translated():
        async with asyncio.timeout(2 * WAIT):
            return judged(await _info(redis), await _save(redis))


def judged(info: Mapping[str, Any], save: str | None) -> list[str]:
    """The same, from what INFO says and from the setting `save` (None where not known)."""
    if not info:
        return ["this Redis does not show its INFO: make sure that it persists and never evicts"]
    found = []
    version = str(info.get("redis_version", ""))
    if (number := re.match(r"(\d+)\.(\d+)", version)) and tuple(
        map(int, number.groups())
    ) < _OLDEST:
        found.append(f"{ERROR}Redis {version} is too old: 6.2 or later is needed")
    if info.get("cluster_enabled"):
        found.append(f"{ERROR}this Redis is a node of a cluster, which is not supported yet")
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        found.append(
            f"this Redis throws away data when it is full (maxmemory-policy {policy}): "
            "jobs can be lost; set noeviction"
        )
    if info.get("aof_enabled") == 0 and save == "":
        found.append(
            "this Redis keeps nothing on disk: a restart loses every job; set appendonly yes"
        )
    return found


async def _info(redis: Redis) -> Mapping[str, Any]:
    try:
        info: Mapping[str, Any] = await redis.info()
    except ResponseError:
        return {}
    return info


async def _save(redis: Redis) -> str | None:
    try:
        reply: Any = await redis.config_get("save")
    except ResponseError:
        return None
    for value in reply.values():
        return value.decode() if isinstance(value, bytes) else str(value)
    return None
