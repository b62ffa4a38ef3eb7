"""Judging a Redis, with real servers."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.core.errors import StoreUnavailable
from gateway.store.connect import commands
from gateway.store.examine import ERROR, examine, judged
from gateway.store.server import own_redis

pytestmark = pytest.mark.anyio

GOOD = {"redis_version": "7.0.15", "aof_enabled": 1, "maxmemory": 0, "cluster_enabled": 0}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with own_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Redis]:
    redis = commands(url)
    try:
        yield redis
    finally:
        await redis.aclose()


async def test_has_nothing_to_say_of_our_own(url: str) -> None:
    async with connected(url) as redis:
        assert await examine(redis) == []


async def test_warns_of_eviction_only_where_memory_is_limited(url: str) -> None:
    async with connected(url) as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        unlimited = await examine(redis)
        await redis.config_set("maxmemory", "100mb")
        limited = await examine(redis)
        await redis.config_set("maxmemory-policy", "noeviction")
        mended = await examine(redis)
        await redis.config_set("maxmemory", "0")

    assert (unlimited, mended) == ([], [])
    [warning] = limited
    assert "allkeys-lru" in warning
    assert not warning.startswith(ERROR)


async def test_warns_of_a_redis_that_forgets(url: str) -> None:
    async with connected(url) as redis:
        await redis.config_set("appendonly", "no")
        forgetful = await examine(redis)
        await redis.config_set("save", "900 1")
        snapshots = await examine(redis)
        await redis.config_set("save", "")
        await redis.config_set("appendonly", "yes")

    assert len(forgetful) == 1
    assert "restart loses every job" in forgetful[0]
    assert snapshots == []


async def test_tolerates_a_user_who_may_see_little(url: str) -> None:
    async with connected(url) as redis:
        for user, lacking in (("app", "-config"), ("blind", "-info")):
            await redis.acl_setuser(
                user, enabled=True, passwords=["+p"], keys=["*"], commands=["+@all", lacking]
            )
    with_user = url.replace("unix://", "unix://{}:p@")

    async with connected(with_user.format("app")) as redis:
        assert await examine(redis) == []
    async with connected(with_user.format("blind")) as redis:
        [warning] = await examine(redis)
    assert "does not show its INFO" in warning


async def test_a_redis_that_is_away_is_said_in_our_words(tmp_path: Path) -> None:
    async with connected(f"unix://{tmp_path}/none") as redis:
        with pytest.raises(StoreUnavailable):
            await examine(redis)


@pytest.mark.parametrize("version", ["5.0.14", "6.0.16", "6.1.240", "3.2"])
async def test_an_old_version_is_an_error(version: str) -> None:
    [text] = judged(GOOD | {"redis_version": version}, "")

    assert text.startswith(ERROR)
    assert version in text


@pytest.mark.parametrize("version", ["6.2.0", "7.2.4", "8.0", "10.0.1", "255.255.255", "unstable"])
async def test_a_version_that_will_do(version: str) -> None:
    assert judged(GOOD | {"redis_version": version}, "") == []


async def test_a_cluster_is_not_supported_yet() -> None:
    info: dict[str, Any] = GOOD | {"cluster_enabled": 1}

    [text] = judged(info, "")

    assert text.startswith(ERROR)
