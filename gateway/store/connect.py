"""Where Redis connections come from, and how its errors are told."""

import asyncio
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from gateway.core.errors import StoreUnavailable

WAIT: Final = 2.0
"""Seconds that any wait for Redis may take, other than listening."""
CONNECTIONS: Final = 64
"""Connections a process holds at most."""

_RESETS: Final[tuple[type[RedisError], ...]] = (RedisConnectionError,)
"""Tried once more, on a new connection: every write here may be made twice. A timeout is not."""


class _Cancellable(AbstractConnection):
    """A connection that tells of every cancellation.

    redis-py bounds a write by `asyncio.wait_for`, which before Python 3.12 forgets a cancellation
    that comes just when the write has ended (https://github.com/python/cpython/issues/86296).
    Whoever was to end, because its client has gone or the process stops, would go on for good.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        bound, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(bound):
                await super().send_packed_command(command, check_health)
        finally:
            self.socket_timeout = bound


class _Tcp(_Cancellable, Connection):
    pass


class _Tls(_Cancellable, SSLConnection):
    pass


class _Unix(_Cancellable, UnixDomainSocketConnection):
    pass


_CANCELLABLE: Final[dict[type[AbstractConnection], type[AbstractConnection]]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


def commands(url: str) -> Redis:
    """A client for everything but listening: bytes in and out, every wait at most `WAIT`."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=WAIT,
        socket_timeout=WAIT,
        socket_connect_timeout=WAIT,
        retry=Retry(ConstantBackoff(0.05), 1, supported_errors=_RESETS),
    )
    pool.connection_class = _CANCELLABLE[pool.connection_class]
    return Redis.from_pool(pool)


def listener(url: str) -> Redis:
    """A client for pub/sub alone. redis-py 8 ends reads after 5 s unless told otherwise."""
    keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
    return Redis.from_url(url, socket_timeout=None, socket_connect_timeout=WAIT, **keepalive)


def script(redis: Redis, name: str, *preludes: str) -> AsyncScript:
    """The script in `lua/{name}.lua`: sent by its hash, loaded on first use.

    `preludes` are files there that go before it: Redis has no other way to share Lua.
    """
    return redis.register_script(source(name, *preludes))


def source(name: str, *preludes: str) -> str:
    """What is sent to Redis for the script `name`."""
    folder = files("gateway.store.lua")
    return "".join(folder.joinpath(f"{part}.lua").read_text() for part in (*preludes, name))


@contextmanager
def translated() -> Generator[None]:
    """Nothing above this floor sees a Redis error."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable("the gateway's ledger cannot be reached; try again") from error


async def call(script: AsyncScript, keys: list[str], *args: str | bytes | float) -> Any:
    """What `script` returns. Raises `StoreUnavailable`."""
    with translated():
        return await script(keys=keys, args=list(args))
