"""An upstream that costs next to nothing, and a bare Starlette app to compare with."""

import asyncio
import sys
from typing import cast

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FAL_ID = "11111111-2222-4333-8444-555555555555"
ANSWER = (
    b'{"request_id": "' + FAL_ID.encode() + b'", "status": "IN_QUEUE", "queue_position": 0, '
    b'"text": "' + b"x" * 200 + b'"}'
)


class Upstream(asyncio.Protocol):
    """Answers each request with `ANSWER`; bodies come with a content-length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not one by name
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while True:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            lowered = head.lower()
            mark = lowered.find(b"content-length: ")
            size = int(lowered[mark + 16 :].split(b"\r\n", 1)[0]) if mark >= 0 else 0
            if len(rest) < size:
                return
            self._data = rest[size:]
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                b"x-fal-request-id: %s\r\n"
                b"content-length: %d\r\n\r\n%s" % (FAL_ID.encode(), len(ANSWER), ANSWER)
            )


async def upstream(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


async def answer(request: Request) -> Response:
    await request.body()
    return Response(ANSWER, media_type="application/json")


def main() -> None:
    """`stub upstream PORT` or `stub bare PORT`."""
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "upstream":
        uvloop.run(upstream(port))
    else:
        app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"])])
        uvicorn.run(app, port=port, log_level="error", access_log=False, ws="none")


if __name__ == "__main__":
    main()
