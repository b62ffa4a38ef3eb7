"""What reached the simulator: every call to a fal host, in order."""

import time
from collections import Counter, deque
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.sim.access import Access

MAX_ENTRIES: Final = 5_000


class Journal:
    """The last calls, and how many connections of each sort are open."""

    def __init__(self) -> None:
        self.entries: deque[dict[str, Any]] = deque(maxlen=MAX_ENTRIES)
        self.open: Counter[str] = Counter(status_streams=0, run_streams=0, held=0)

    @contextmanager
    def counting(self, sort: str) -> Generator[None]:
        """Count a connection as open for as long as the block lasts."""
        self.open[sort] += 1
        try:
            yield
        finally:
            self.open[sort] -= 1


class Recorder:
    """Writes each call into the journal of the running simulator."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_sim/"):
            await self._app(scope, receive, send)
            return
        entry = self._entry(scope)
        journal: Journal = scope["state"]["sim"].journal
        journal.entries.append(entry)
        digest = sha256()

        async def hear() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                digest.update(message.get("body", b""))
                entry["length"] += len(message.get("body", b""))
                entry["sha256"] = digest.hexdigest()
            return message

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
            await send(message)

        await self._app(scope, hear, say)

    def _entry(self, scope: Scope) -> dict[str, Any]:
        """Path and query as they came; no value of a header that could be a secret."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        _, host, path = (scope["raw_path"].decode("latin-1") + "/").split("/", 2)
        authorization = headers.get("authorization")
        account = self._access.account(authorization)
        return {
            "at": time.time(),
            "method": scope["method"],
            "host": host,
            "path": f"/{path.removesuffix('/')}",
            "query": scope["query_string"].decode("latin-1"),
            "headers": [name.decode("latin-1") for name, _ in scope["headers"]],
            "fal_headers": {k: v for k, v in headers.items() if k.startswith("x-fal-")},
            "authorized": None if authorization is None else account is not None,
            "account": account,
            "cookie": "cookie" in headers,
            "length": 0,
            "sha256": sha256().hexdigest(),
            "status": None,
        }
