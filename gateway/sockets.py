"""The socket that a server listens on, and how long its connections are kept."""

import socket
import sys
from typing import Final

KEEP_ALIVE: Final = 75
"""Seconds that an idle connection of a client is kept."""

SEND_BUFFER: Final = 256 * 1024
"""Bytes that the system takes for a client before it has read them."""
UNREAD_FOR: Final = 20
"""Seconds after which a client that takes nothing is cut off by the system."""


def bound(host: str, port: int) -> socket.socket:
    """A socket that is to listen there. Raises `OSError`, saying what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _bound_sending(listening)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise OSError(
            error.errno, f"cannot listen on {host} port {port}: {error.strerror}; "
            "choose another with GATEWAY_PORT (make run: PORT=...)"
        ) from None  # fmt: skip
    listening.set_inheritable(True)
    return listening


def _bound_sending(listening: socket.socket) -> None:
    """What a client does not read is kept neither at length nor for long. Connections inherit it.

    Without, the system takes megabytes for a client that has stopped reading, and waits for it
    for ever, since a connection is only closed once all that was sent has been taken.
    """
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    if sys.platform == "linux":
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_FOR * 1000)
