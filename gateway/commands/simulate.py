"""A fal of our own, for offline work and tests."""

import argparse
import socket

import uvicorn

from gateway.commands import SIM_USER
from gateway.core.operators import NotStarted
from gateway.sim.app import SimConfig, build
from gateway.sockets import KEEP_ALIVE, bound


def simulate(parsed: argparse.Namespace) -> int:
    """Serve a fal of our own, for offline work and tests."""
    listening = (
        socket.socket(fileno=parsed.fd)
        if parsed.fd is not None
        else bound(parsed.host, parsed.port)
    )
    host, port = listening.getsockname()[:2]
    origin = parsed.origin or f"http://{host}:{port}"
    parsed.data_dir.mkdir(parents=True, exist_ok=True)
    if parsed.trust is not None and not parsed.trust.is_file():
        raise NotStarted(f"--trust: there is no file {parsed.trust}")
    keys: list[str] = parsed.key or []
    users: list[str] = parsed.user_id or [SIM_USER]
    concurrency: list[int] = parsed.concurrency or [2]
    app = build(
        SimConfig(
            origin=origin,
            data_dir=parsed.data_dir,
            keys=frozenset(keys) or None,
            user_id=users[0],
            users=dict(zip(keys, users, strict=False)),
            pace=parsed.pace,
            concurrency=concurrency[0],
            slots=dict(zip(keys, concurrency, strict=False)),
            seed=parsed.seed,
            trust=parsed.trust,
        )
    )
    if parsed.fd is None:
        print(f"simulator of fal at {origin}", flush=True)
    uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            timeout_graceful_shutdown=1,
            timeout_keep_alive=KEEP_ALIVE,
            ws="none",
        )
    ).run([listening])
    return 0
