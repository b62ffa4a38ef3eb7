"""The gateway as processes: one socket, our own Redis where none is given, workers."""

import asyncio
import logging
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial

import uvicorn
from uvicorn.supervisors import Multiprocess

from gateway.app import Deployment, build
from gateway.core.errors import StoreUnavailable
from gateway.settings import Settings, secret_keys, warnings
from gateway.store.connect import commands
from gateway.store.examine import ERROR, examine
from gateway.store.server import RedisNotStarted, own_redis

KEEP_ALIVE = 75
"""Seconds that an idle connection of a client is kept."""

_log = logging.getLogger("gateway")


@contextmanager
def deployed(settings: Settings, listening: socket.socket) -> Generator[Deployment]:
    """What all workers share, running for as long as this is entered.

    Raises `SettingsError`, `RedisNotStarted`.
    """
    secrets = tuple(secret_keys(settings))
    with ExitStack() as stack:
        if settings.redis.url is not None:
            redis_url = settings.redis.url.get_secret_value()
        else:
            redis_url = stack.enter_context(own_redis(settings.data_dir))
        asyncio.run(_check(redis_url))
        yield Deployment(settings, redis_url, secrets, listening.getsockname()[1])


async def _check(redis_url: str) -> None:
    """Warn of a Redis that is not fit to keep the ledger. Raises `RedisNotStarted` if it is no use.

    One that is out of reach may come: until then the gateway is not ready.
    """
    async with commands(redis_url) as redis:
        try:
            findings = await examine(redis)
        except (StoreUnavailable, TimeoutError):
            findings = ["Redis is out of reach: the gateway is not ready until it answers"]
    for finding in findings:
        if finding.startswith(ERROR):
            raise RedisNotStarted(finding.removeprefix(ERROR))
        _log.warning(finding)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there soon. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    listening.set_inheritable(True)
    return listening


def serve(deployment: Deployment, listening: socket.socket) -> int:
    """Serve until told to stop; the exit code. A worker that dies is replaced."""
    settings = deployment.settings
    for warning in warnings(settings):
        _log.warning(warning)
    server = _config(deployment)
    if settings.workers > 1:
        Multiprocess(server, [listening]).run()
        return 0
    worker = uvicorn.Server(server)
    worker.run([listening])
    return 0 if worker.started else 3


def _config(deployment: Deployment) -> uvicorn.Config:
    settings = deployment.settings
    return uvicorn.Config(
        partial(build, deployment),
        factory=True,
        host=settings.host,
        port=deployment.port,
        workers=settings.workers,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=[str(proxy) for proxy in settings.trusted_proxies],
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.drain.grace),
        ssl_certfile=settings.tls.cert,
        ssl_keyfile=settings.tls.key,
    )
