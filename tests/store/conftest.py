"""A Redis of its own for each test folder run, as one node of a cluster that has all slots.

So Redis itself refuses a script whose keys lie in two slots.
"""

import subprocess
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.store import keys
from gateway.store.connect import commands
from gateway.store.server import find_server
from tests.harness import free_port, wait_for


@pytest.fixture(scope="session")
def node_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    folder = tmp_path_factory.mktemp("node")
    port = next(port for port in iter(free_port, None) if port < 22_000)  # + 10,000: the bus
    server = subprocess.Popen(
        [
            str(find_server()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder),
            "--save", "", "--logfile", str(folder / "redis.log"), "--cluster-enabled", "yes",
        ]
    )  # fmt: skip
    client = SyncRedis(port=port)
    try:
        wait_for(lambda: _has_all_slots(client), within=15)
        yield f"redis://127.0.0.1:{port}"
    finally:
        client.close()
        server.terminate()
        server.wait(10)


def _has_all_slots(client: SyncRedis) -> bool:
    try:
        info: Any = client.cluster("INFO")
        if info["cluster_slots_assigned"] != "16384":
            client.cluster("ADDSLOTS", *range(16384))
        return bool(info["cluster_state"] == "ok")
    except RedisConnectionError:
        return False


@pytest.fixture
async def node(node_url: str) -> AsyncGenerator[Redis]:
    """Empty at the start; at the end every key must be due to expire, but for the few that stay."""
    async with commands(node_url) as redis:
        await redis.flushall()
        yield redis
        immortal = [
            key.decode()
            async for key in redis.scan_iter()
            if await redis.ttl(key) < 0
            and key.decode() not in keys.PERMANENT
            and not key.endswith((b":due", b":outbox"))
        ]
        assert immortal == []


@pytest.fixture
def scripts() -> Path:
    return Path(keys.__file__).parent / "lua"
