"""What fal's answers say. Bytes in, values out; no I/O."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from gateway.core import fal
from gateway.core.model import Progress, State
from gateway.core.prices import PRICE_MAX, Price

MAX_POSITION: Final = 10**9
MAX_LOG: Final = 8192
"""Bytes of a log line's message; the rest is cut off."""
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

T = TypeVar("T")

_ID: Final = re.compile(r"[A-Za-z0-9-]{8,64}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{8,8192}")
_URL: Final = re.compile(r"[!#-\[\]-~]{1,8192}")
_STATES: Final = {
    fal.Status.IN_QUEUE: State.QUEUED,
    fal.Status.IN_PROGRESS: State.RUNNING,
    # Which end it was, only the result tells.
    fal.Status.COMPLETED: State.RUNNING,
}


@dataclass(frozen=True, slots=True)
class Submitted:
    """fal took the job, as `fal_id`."""

    fal_id: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Refusal:
    """fal certainly did not do it, and says why."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Result:
    """How a job ended. `body` is None when it is larger than the caller wanted."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None = field(repr=False)


class Pending(Enum):
    """No result yet."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING


@dataclass(frozen=True, slots=True)
class Answer:
    """fal's answer while it is still coming. `chunks` raises `Unavailable` when it is cut."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes] = field(repr=False)


class _Status(msgspec.Struct):
    """Fields of a queue answer. Only `status` must be right: the others are passed over if not."""

    status: object = None
    request_id: object = None
    queue_position: object = None
    logs: msgspec.Raw = msgspec.Raw()
    error: object = None
    error_type: object = None


def is_id(text: str) -> bool:
    """Whether `text` looks like a request id of fal's: a UUID today."""
    return _ID.fullmatch(text) is not None


def progress(body: bytes) -> Progress:
    """Of a status answer, or of one event of the status stream. Raises `ValueError`."""
    answer = _status(body)
    if answer.status not in _STATES:
        raise ValueError("no status of fal's")
    return _progress(answer)


def submitted(body: bytes) -> Submitted:
    """Of the answer to a submit. Raises `ValueError` where it names no job."""
    answer = _status(body)
    if not isinstance(answer.request_id, str) or not is_id(answer.request_id):
        raise ValueError("no request id")
    return Submitted(answer.request_id, _progress(answer))


def _progress(answer: _Status) -> Progress:
    state = _STATES.get(answer.status, State.QUEUED)  # type: ignore[call-overload]
    place = answer.queue_position
    return Progress(
        state=state,
        position=place if type(place) is int and 0 <= place <= MAX_POSITION else None,
        logs=_logs(answer.logs),
        completed=answer.status == fal.Status.COMPLETED,
        error=answer.error if isinstance(answer.error, str) else None,
        error_type=answer.error_type if isinstance(answer.error_type, str) else None,
    )


def _status(body: bytes) -> _Status:
    body.decode()  # what is passed over unread is not checked by msgspec
    answer = _decoded(body, _Status)
    if not isinstance(answer.status, str):
        answer.status = None
    return answer


def _logs(raw: msgspec.Raw) -> tuple[bytes, ...]:
    try:
        lines = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        return ()
    return tuple(line for entry in lines if (line := _log(bytes(entry))) is not None)


class _Line(msgspec.Struct):
    """A log entry. Older ones have their level among their labels."""

    timestamp: object = None
    level: object = None
    message: object = None
    labels: object = None


def _log(entry: bytes) -> bytes | None:
    """A log line as it is stored; None where the entry is neither an object nor a text.

    Of the three parts that tell one line from another, always written alike: a line that fal
    repeats with other labels is still the same.
    """
    try:
        whole = entry.startswith(b"{")
        found = _decoded(entry, _Line) if whole else _Line(message=_decoded(entry, str))
    except ValueError:
        return None
    level, labels = found.level, found.labels
    if level is None and isinstance(labels, dict):
        level = labels.get("level")
    line = {"timestamp": _cut(found.timestamp, 64), "level": _cut(level, 32)}
    told = {name: text for name, text in line.items() if text}
    return msgspec.json.encode({**told, "message": _cut(found.message, MAX_LOG)})


def _cut(value: object, most: int) -> str:
    """A text of at most so many bytes; what is none is written as JSON."""
    text = value if isinstance(value, str) else "" if value is None else _written(value)
    return text.encode()[:most].decode(errors="ignore")


def _written(value: object) -> str:
    return msgspec.json.encode(value).decode()


class _Word(msgspec.Struct):
    """The two fields by which fal says that there is no result."""

    status: object = None
    detail: object = None


def unfinished(status: int, body: bytes) -> bool:
    """Whether an answer to a result fetch says that the job still runs."""
    return status == 202 or (status == 400 and _word(body).detail == fal.IN_PROGRESS_DETAIL)


def unknown(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether an answer to a result fetch says that fal has no such job, or no longer its result.

    A 404 may be the app's own, stored like any other answer (`Path /x not found`): what an app
    answered has been billed, if only with 0 units.
    """
    if status != 404:
        return False
    return _word(body).status == "NOT_FOUND" or fal.BILLABLE_UNITS not in headers


def too_late(body: bytes) -> bool:
    """Whether a refused cancel says that the job had ended."""
    return _word(body).status == "ALREADY_COMPLETED"


def _word(body: bytes) -> _Word:
    try:
        return _decoded(body, _Word)
    except ValueError:
        return _Word()


class _Upload(msgspec.Struct):
    upload_url: str
    file_url: str


def upload(body: bytes, *, loopback: bool) -> bytes:
    """The answer to an upload, of the two addresses and nothing else. Raises `ValueError`."""
    answer = _decoded(body, _Upload)
    for url in (answer.upload_url, answer.file_url):
        if not _URL.fullmatch(url) or not safe_origin(url, loopback=loopback):
            raise ValueError("not an https address")
    return msgspec.json.encode(answer)


def safe_origin(url: str, *, loopback: bool) -> bool:
    """Whether `url` begins with https and a host, or with http on loopback where that is meant."""
    parts = urlsplit(url)
    if not parts.hostname or parts.username is not None:
        return False
    return parts.scheme == "https" or (
        loopback and parts.scheme == "http" and parts.hostname in LOOPBACK
    )


class _Token(msgspec.Struct):
    """How older proxies of fal's wrap a token."""

    token: str | None = None
    detail: str | None = None


def token(body: bytes) -> bytes:
    """A realtime token as a JSON string, which every client reads. Raises `ValueError`."""
    answer: str | _Token = msgspec.json.decode(body, type=str | _Token)
    text = answer if isinstance(answer, str) else answer.token or answer.detail or ""
    if not _TOKEN.fullmatch(text):
        raise ValueError("no token")
    return msgspec.json.encode(text)


class _Price(msgspec.Struct):
    endpoint_id: str
    unit_price: Decimal
    unit: str
    currency: str


class _Prices(msgspec.Struct):
    prices: list[_Price]


def price(endpoint: str, body: bytes) -> Price | None:
    """Of a list of prices; None where `endpoint` is not in it. Raises `ValueError`."""
    for told in _decoded(body, _Prices).prices:
        if told.endpoint_id == endpoint:
            if not 0 <= told.unit_price <= PRICE_MAX:
                raise ValueError("an absurd price")
            return Price(told.unit_price, told.unit[:64], told.currency)
    return None


def complete(body: bytes) -> bool:
    """Whether `body` is whole JSON: how to tell where nothing else says where it ends."""
    try:
        _decoded(body, msgspec.Raw)
    except ValueError:
        return False
    return True


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except RecursionError:
        raise ValueError("nested too deeply") from None
