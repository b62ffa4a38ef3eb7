"""A place on this machine that clients' webhooks are sent to."""

import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """What came, and what is answered: each of `statuses` once, then the last one for ever."""

    url: str
    statuses: list[int]
    came: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    location: str | None = None

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.came]


@contextmanager
def receiving(*statuses: int, location: str | None = None) -> Generator[Receiver]:
    """A receiver that answers with `statuses`; redirects lead to `location`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    receiver = Receiver(url, list(statuses) or [200], location=location)
    server.receiver = receiver  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass
class Silent:
    """Takes connections and never answers. `callers` are those that it holds."""

    port: int
    callers: list[socket.socket] = field(default_factory=list)


@contextmanager
def silence() -> Generator[Silent]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        silent = Silent(server.getsockname()[1])
        thread = threading.Thread(target=_hold, args=(server, silent), daemon=True)
        thread.start()
        try:
            yield silent
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for caller in silent.callers:
                caller.close()


def _hold(server: socket.socket, silent: Silent) -> None:
    with suppress(OSError):  # the end of `silence`
        while True:
            silent.callers.append(server.accept()[0])


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver: Receiver = self.server.receiver  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver.came.append((self.path, headers, body))
        left = receiver.statuses
        status = left.pop(0) if len(left) > 1 else left[0]
        self.send_response(status)
        if receiver.location is not None and 300 <= status < 400:
            self.send_header("location", receiver.location)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_PUT = do_POST  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass
