"""Server-sent events, both ways. Source: https://html.spec.whatwg.org, "Server-sent events"."""

import re
from typing import Final

EVENT_MAX: Final = 2**20
"""Bytes of one upstream line, and of one upstream event."""

_LINE_END: Final = re.compile("\r\n|\r|\n")
_LINE_END_BYTES: Final = re.compile(b"\r\n|\r|\n")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BOM: Final = b"\xef\xbb\xbf"


def event(
    data: str, *, id: str | None = None, event: str | None = None, retry: int | None = None
) -> bytes:
    """One event. `retry` is milliseconds.

    `data` may be anything: it can neither end its event nor begin another. `id` and `event`
    are ours; `ValueError` for one that is not of letters, digits, dots and dashes.
    """
    named = (("event", event), ("id", id))
    head = [f"{field}: {_name(value)}" for field, value in named if value is not None]
    if retry is not None:
        head.append(f"retry: {int(retry)}")
    return _block([*head, *(f"data: {line}" for line in _lines(data))])


def comment(text: str = "") -> bytes:
    """A comment: keeps a connection alive, and is ignored by every reader."""
    return _block([f": {line}" for line in _lines(text)])


class Parser:
    """The data of upstream's events, from bytes cut anywhere. Comments and all else are ignored."""

    def __init__(self, *, max_bytes: int = EVENT_MAX) -> None:
        self._max = max_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._first = True

    def feed(self, chunk: bytes) -> list[str]:
        """The data of the events that these bytes complete. Raises `ValueError` over the bound."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        *ended, rest = _LINE_END_BYTES.split(chunk)
        self._after_cr = self._after_cr or chunk.endswith(b"\r")
        found = [text for end in ended if (text := self._end_line(end)) is not None]
        self._grow(rest)
        return found

    def _end_line(self, end: bytes) -> str | None:
        """Take a line; the data of the event that it closes, if it closes one."""
        self._grow(end)
        line = bytes(self._line)
        self._line.clear()
        if self._first:
            line = line.removeprefix(_BOM)
            self._first = False
        if not line:
            return self._close()
        field, _, value = line.partition(b":")
        if field == b"data":
            self._add(value.removeprefix(b" "))
        return None

    def _close(self) -> str | None:
        data, self._data, self._size = self._data, [], 0
        return b"\n".join(data).decode(errors="replace") if data else None

    def _add(self, value: bytes) -> None:
        self._data.append(value)
        self._size += len(value) + 1
        if self._size > self._max:
            raise ValueError("an event is too large")

    def _grow(self, part: bytes) -> None:
        self._line += part
        if len(self._line) > self._max:
            raise ValueError("a line is too long")


def _lines(text: str) -> list[str]:
    return _LINE_END.split(text.replace("\0", ""))


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("not the name or id of an event")
    return value


def _block(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n\n").encode(errors="replace")
