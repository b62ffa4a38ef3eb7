"""Servers that are not the gateway: a page's own site, and the receiver of a client's webhook."""

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass
class Site:
    """Serves `files` by path to GET, and keeps the bodies that are POSTed to it."""

    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Path -> content type and bytes."""
    received: list[tuple[str, bytes]] = field(default_factory=list)
    """Path and body of each POST."""

    def __post_init__(self) -> None:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = site.files.get(self.path)
                self._answer(404 if found is None else 200, *(found or ("text/plain", b"")))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                site.received.append((self.path, body))
                self._answer(200, "text/plain", b"thanks")

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
