"""The gateway as processes: one socket, our own Redis where none is given, workers."""

import asyncio
import atexit
import gc
import logging
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import parent_process
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from gateway import __version__
from gateway.app import Deployment, build
from gateway.core.errors import StoreUnavailable
from gateway.logs import logging_to_stderr
from gateway.protocol import BoundedHttp
from gateway.settings import Settings, secret_keys, warnings
from gateway.sockets import KEEP_ALIVE
from gateway.store.connect import commands
from gateway.store.examine import ERROR, examine
from gateway.store.server import RedisNotStarted, own_redis
from gateway.store.tether import end_with_parent

BACKLOG = 2048
"""Connections that wait to be taken at most."""

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
        listening.listen(BACKLOG)  # who comes before the application is up, waits
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


def serve(deployment: Deployment, listening: socket.socket) -> int:
    """Serve until told to stop; the exit code. A worker that dies is replaced."""
    settings = deployment.settings
    for warning in warnings(settings):
        _log.warning(warning)
    host, port = listening.getsockname()[:2]
    _log.info("fal-gateway %s serves on %s port %s", __version__, host, port)
    server = _config(deployment)
    if settings.workers > 1:
        Multiprocess(server, [listening]).run()
        return 0
    worker = uvicorn.Server(server)
    with _end_of_sigterm():
        worker.run([listening])
    return 0 if worker.started else 3


@contextmanager
def _end_of_sigterm() -> Generator[None]:
    """uvicorn raises the signal again that it has obeyed: to have been told to stop is no error."""

    def stop(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:  # to be told once more, while ending, changes nothing
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _worker(deployment: Deployment) -> Starlette:
    """The application. In a process of its own it logs as its parent does, to its very end.

    It goes with its parent: one that was killed must not leave somebody on its socket.
    """
    parent = parent_process()
    if parent is not None and parent.pid is not None:
        if not end_with_parent(parent.pid):
            raise SystemExit("the parent process has gone")
        log = deployment.settings.log
        stack = ExitStack()
        stack.enter_context(logging_to_stderr(log.format, log.level))
        atexit.register(stack.close)
    application = build(deployment)
    gc.freeze()  # all this stays: no search for garbage shall hold requests up to look through it
    return application


def _config(deployment: Deployment) -> uvicorn.Config:
    settings = deployment.settings
    return uvicorn.Config(
        partial(_worker, deployment),
        factory=True,
        host=settings.host,
        port=deployment.port,
        workers=settings.workers,
        http=BoundedHttp,
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # `web.address` knows whom to believe, and what
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.drain.grace),
        ssl_certfile=settings.tls.cert,
        ssl_keyfile=settings.tls.key,
    )
