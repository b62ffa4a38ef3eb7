"""A way to Redis that can be shut: at once, or around one step of one script."""

import contextlib
import socket
import threading
from hashlib import sha1
from types import TracebackType
from typing import Self

from gateway.store import ledger, settlements
from gateway.store.connect import source


class Gate:
    """Relays TCP to the socket file of a Redis. What is shut stays shut until `open`."""

    def __init__(self, redis_url: str) -> None:
        self._socket = redis_url.removeprefix("unix://")
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self.shut_at = threading.Event()
        """Set once the gate has shut by itself."""
        self._open = True
        self._before: bytes | None = None
        self._after: bytes | None = None
        self._untold: int | None = None
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()
        self.shut()

    def shut(self) -> None:
        """End all connections, and let no new one come about."""
        with self._lock:
            self._open = False
            for pair in self._pairs:
                _end(pair)
        self.shut_at.set()

    def open(self) -> None:
        with self._lock:
            self._open, self._before, self._after = True, None, None
            self._untold = None
        self.shut_at.clear()

    def shut_before(self, script: str) -> None:
        """Shut as soon as this script is called: it never reaches Redis."""
        self._before = _sha(script)

    def shut_after(self, script: str) -> None:
        """Shut once Redis has run this script, and its caller heard of it."""
        self._after = _sha(script)

    def lose_answer(self, script: str, time: int = 1) -> None:
        """Shut once Redis has run this script so many times, and nobody heard of the last."""
        self._after, self._untold = _sha(script), time

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        redis = socket.socket(socket.AF_UNIX)
        pair = (client, redis)
        with self._lock:
            if not self._open:
                _end(pair)
                return
            redis.connect(self._socket)
            self._pairs.add(pair)
        waits = threading.Event()
        threading.Thread(target=self._back, args=(pair, waits), daemon=True).start()
        try:
            while data := client.recv(65536):
                if self._before is not None and self._before in data:
                    self.shut()
                if self._after is not None and self._after in data:
                    waits.set()
                redis.sendall(data)
        except OSError:
            pass
        self._forget(pair)

    def _back(self, pair: tuple[socket.socket, socket.socket], waits: threading.Event) -> None:
        client, redis = pair
        try:
            while data := redis.recv(65536):
                told = waits.is_set() and not data.startswith(b"-NOSCRIPT")
                if told and self._untold is not None:
                    waits.clear()
                    self._untold -= 1
                    if self._untold == 0:
                        self.shut()
                        break
                client.sendall(data)
                if told and self._untold is None:
                    self.shut()
        except OSError:
            pass
        self._forget(pair)

    def _forget(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        _end(pair)


def _sha(script: str) -> bytes:
    """The name by which a script is called."""
    preludes = ledger.PRELUDES | settlements.PRELUDES
    text = source(script, *preludes.get(script, ()))
    return sha1(text.encode(), usedforsecurity=False).hexdigest().encode()


def _end(pair: tuple[socket.socket, socket.socket]) -> None:
    for end in pair:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
