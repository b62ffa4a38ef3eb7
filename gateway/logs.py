"""One line for each thing that happened, as text or as JSON. Whoever reads the lines may stop
reading: what does not fit into the queue is dropped, and the service goes on, and comes to its end.
"""

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from typing import Any, Final, Literal

PENDING: Final = 10_000
"""Lines that wait to be written at most."""
LONGEST: Final = 2000
"""Characters of a value at most."""
LAST_LINES: Final = 2.0
"""Seconds at the end in which lines are still written."""

_STDERR: Final = 2

_IN_MESSAGE: Final = frozenset({"method", "route", "status"})
"""What a program wants in fields of their own, and people have read in the message."""
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextmanager
def logging_to_stderr(form: Literal["text", "json"], level: str) -> Generator[None]:
    """Log there for as long as this is entered, from a thread of its own."""
    lines: _Lines = queue.SimpleQueue()
    formatter = _Json() if form == "json" else _Text()
    writer = threading.Thread(target=_write, args=(lines, formatter), name="log", daemon=True)
    root = logging.getLogger()
    before, handler = root.level, _Dropping(lines)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in ("uvicorn.error", "asyncio", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    writer.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        lines.put(None)
        writer.join(LAST_LINES)


_Lines = queue.SimpleQueue[logging.LogRecord | None]
"""None comes last. Of Python's queues the one that costs a request least."""


def _write(lines: _Lines, formatter: logging.Formatter) -> None:
    """Not by a handler, nor to `sys.stderr`: Python's exit waits for the locks that those hold
    for as long as nobody reads what they write."""
    for record in iter(lines.get, None):
        try:
            text = f"{formatter.format(record)}\n".encode(errors="backslashreplace")
        except Exception as error:  # noqa: BLE001 - the outermost of a loop
            text = f"a line of {record.name} cannot be written: {type(error).__name__}\n".encode()
        with suppress(OSError):
            while text:
                text = text[os.write(_STDERR, text) :]


class _Dropping(QueueHandler):
    def __init__(self, lines: _Lines) -> None:
        super().__init__(lines)
        self._lines = lines

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._lines.qsize() < PENDING:
            self._lines.put(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """With its traceback as text, and its `extra` as it is."""
        record.message = record.getMessage()
        record.msg, record.args = record.message, None
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        return record


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _short(record.getMessage()),
            **{name: _plain(value) for name, value in _extra(record)},
        }
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(
            f"{name}={_word(value)}"
            for name, value in _extra(record)
            if name not in _IN_MESSAGE and value not in ("", None)
        )
        message = _escaped(_short(record.getMessage()))
        line = f"{_time(record)} {record.levelname.lower():7} {message}  {facts}".rstrip()
        traceback = map(_escaped, (record.exc_text or "").split("\n"))
        return "\n".join([line, *traceback]) if record.exc_text else line


def _extra(record: logging.LogRecord) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(record).items() if name not in _STANDARD]


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + (
        f".{int(record.msecs):03d}Z"
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | bool | None) else _short(str(value))


def _word(value: Any) -> str:
    text = _escaped(_short(str(value)))
    return json.dumps(text) if " " in text or text == "" else text


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def _escaped(text: str) -> str:
    """Whatever a stranger wrote stays on one line and moves no cursor."""
    return text.encode("ascii", "backslashreplace").decode().translate(_CONTROLS)


_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
