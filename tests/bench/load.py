"""A closed loop of one request over many connections, and what came back a second."""

import asyncio
import sys
import time
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass
class Count:
    done: int = 0
    wrong: int = 0
    delays: list[float] = field(default_factory=list)


class Caller(asyncio.Protocol):
    """Sends `request` again as soon as its answer is whole. Answers have a content-length."""

    def __init__(self, request: bytes, kind: bytes, count: Count) -> None:
        self._request = request
        self._kind = kind
        self._count = count
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not one by name
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (size := _size(self._data)) is not None and len(self._data) >= size:
            ok = self._data[9:10] == self._kind
            self._data = self._data[size:]
            self._count.done += 1
            self._count.wrong += not ok
            self._count.delays.append(time.perf_counter() - self._sent_at)
            self._send()


def _size(data: bytes) -> int | None:
    """Of the first answer in `data`, head and body; None while its head is not whole."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    lowered = head.lower()
    mark = lowered.find(b"content-length: ")
    if mark >= 0:
        return len(head) + 4 + int(lowered[mark + 16 :].split(b"\r\n", 1)[0])
    stop = rest.find(b"0\r\n\r\n")  # chunked: up to the last chunk
    return None if stop < 0 else len(head) + 4 + stop + 5


async def load(port: int, request: bytes, connections: int, seconds: float, kind: bytes) -> Count:
    loop = asyncio.get_running_loop()
    count = Count()
    made: list[tuple[Any, Any]] = [
        await loop.create_connection(lambda: Caller(request, kind, count), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.sleep(1.0)  # warm
    count.done = count.wrong = 0
    count.delays.clear()
    await asyncio.sleep(seconds)
    for transport, _ in made:
        transport.abort()
    return count


def main() -> None:
    """`load PORT CONNECTIONS SECONDS KIND < request`: a line with the rate, the median and p99.

    KIND is the first digit of the answers that are expected.
    """
    port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    request = sys.stdin.buffer.read()
    count = asyncio.run(load(port, request, connections, seconds, sys.argv[4].encode()))
    delays = sorted(count.delays) or [0.0]
    middle, high = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
    print(f"{count.done / seconds:.0f} {middle * 1000:.2f} {high * 1000:.2f} {count.wrong}")


if __name__ == "__main__":
    main()
