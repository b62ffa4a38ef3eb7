"""JSON bodies of clients, judged and cut without being written again."""

from codecs import getincrementaldecoder
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, TypeVar

import msgspec

from gateway.core.errors import BadBody, InvalidTarget
from gateway.core.target import is_endpoint
from gateway.core.weburl import is_web_url

MAX_DEPTH: Final = 64
"""Objects and arrays within each other. fal's apps are Python, and break at some hundreds."""
MAX_CONTAINERS: Final = 500_000
"""Objects and arrays in one body. Bounds the time that counting their depth can take."""
MAX_METADATA: Final = 4096
"""Bytes of a job's metadata."""
_MESSAGE_MAX: Final = 200
_STEP: Final = 65_536
_Form = TypeVar("_Form")

_BRACKETS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(b'"[]{}'))


@dataclass(frozen=True, slots=True)
class Submission:
    """The body of `POST /v1/jobs`. `input` and `metadata` are raw JSON."""

    endpoint: str
    input: bytes = field(repr=False)
    webhook_url: str | None = None
    metadata: bytes | None = None


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    endpoint: str
    input: msgspec.Raw
    webhook_url: str | None = None
    metadata: msgspec.Raw = msgspec.Raw(b"null")


def check_json_object(body: bytes) -> None:
    """Raise `BadBody` unless the bytes are one JSON object that fal can read too.

    Strict: UTF-8 without a byte order mark, no NaN, no half of a surrogate pair. What is right
    goes to fal as it is, so numbers of any length and names given twice are left to its app.
    """
    if _first_byte(_valid(body, msgspec.Raw)) != ord("{"):
        raise BadBody("the body is not a JSON object")


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, for `object_pairs_hook`. Raises `ValueError` for a name given twice: who wrote it
    meant one of the two, and we would take the other."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice")
    return fields


def is_json(body: bytes) -> bool:
    """Whether the bytes can stand as they are in a JSON text of ours. Strict, as above."""
    try:
        _valid(body, msgspec.Raw)
    except BadBody:
        return False
    return True


def parse_submission(body: bytes, *, loopback_webhooks: bool = False) -> Submission:
    """The parts of a `POST /v1/jobs`. Raises `BadBody` naming what is missing, or not known.

    Of a name given twice the last counts, for us as for fal: fal only sees the part cut out.
    Raises `InvalidTarget` for an endpoint that is none: it becomes a part of fal's URL, and a
    pattern such as `**` would let `../x` pass.
    """
    found = _valid(body, _Body)
    if not is_endpoint(found.endpoint):
        raise InvalidTarget("`endpoint` is not the id of a fal endpoint")
    if _first_byte(found.input) != ord("{"):
        raise BadBody("`input` is not a JSON object")
    url = found.webhook_url
    if url is not None and not is_web_url(url.encode(), loopback_http=loopback_webhooks):
        raise BadBody("`webhook_url` is not a plain https URL")
    metadata = bytes(found.metadata)
    if len(metadata) > MAX_METADATA:
        raise BadBody(f"`metadata` has more than {MAX_METADATA} bytes")
    return Submission(
        endpoint=found.endpoint,
        input=bytes(found.input),
        webhook_url=url,
        metadata=None if metadata == b"null" else metadata,
    )


def _valid(body: bytes, form: type[_Form]) -> _Form:
    """The body, read. Its depth comes first: msgspec recurses, as deep as Python lets it."""
    if not body:
        raise BadBody("the body is empty")
    _check_depth(body)
    try:
        _check_utf8(body)
        return msgspec.json.decode(body, type=form)
    except UnicodeDecodeError:
        raise BadBody("the body is not UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadBody(f"the body is not valid: {error}"[:_MESSAGE_MAX]) from None


def _first_byte(raw: msgspec.Raw) -> int:
    return memoryview(raw)[0]


def _check_utf8(body: bytes) -> None:
    """msgspec looks at the bytes of those strings only that it makes. In steps, to save memory."""
    if body.isascii():
        return
    decoder = getincrementaldecoder("utf-8")()
    for start in range(0, len(body), _STEP):
        decoder.decode(body[start : start + _STEP])
    decoder.decode(b"", final=True)


def _check_depth(body: bytes) -> None:
    """Raise `BadBody` for JSON that is nested too deeply. What is not JSON may pass, or not."""
    if not (_more(body, b"[", MAX_DEPTH // 2) or _more(body, b"{", MAX_DEPTH // 2)):
        return
    if body.count(b"[") + body.count(b"{") > MAX_CONTAINERS:
        raise BadBody(f"the body has more than {MAX_CONTAINERS} objects and arrays")
    steps = memoryview(_brackets(body).translate(_BRACKETS)).cast("b")
    if max(accumulate(steps), default=0) > MAX_DEPTH:
        raise BadBody(f"the body is nested more than {MAX_DEPTH} deep")


def _more(body: bytes, mark: bytes, times: int) -> bool:
    """Whether a mark stands there more often than that: quick where there are few."""
    at = -1
    for _ in range(times + 1):
        at = body.find(mark, at + 1)
        if at < 0:
            return False
    return True


def _brackets(body: bytes) -> bytes:
    """The brackets of a JSON text, without those in its strings. In a few passes of C."""
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    marks = unescaped.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    return b"".join(marks.split(b'"')[::2])
