"""Take our secrets out of bytes that others wrote: an upstream may echo what we sent it."""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

MARK: Final = b"***"
SHORTEST: Final = 8
"""Bytes. What is shorter is no secret, and would be found everywhere."""

_HEAD: Final = 6
"""Bytes at the start of a form that rule out most places at once; `\\u0066` is six."""

Unit = tuple[bytes, ...]
"""The ways in which one character may be written."""
Form = tuple[Unit, ...]


class Redactor:
    """Replaces every secret by `***`, however it is written; calls `alarm` when there was one.

    Found are the bytes themselves, with any of them percent-encoded or JSON-escaped; their
    hex; and their base64 (both alphabets), also inside a longer base64 text.
    """

    def __init__(self, secrets: Sequence[bytes], alarm: Callable[[], None]) -> None:
        secrets = sorted({s for s in secrets if len(s) >= SHORTEST}, key=len, reverse=True)
        # Who holds another secret is found by it: looking for the shortest ones is enough.
        least = [s for s in secrets if not any(o in s for o in secrets if o != s)]
        self._alarm = alarm
        self._plain = tuple(text for secret in least for text in _plain(secret))
        self._escaped = tuple(
            re.compile(re.escape(way) + _pattern(form[1:]))
            for secret in least
            for form in _escaped(secret)
            for way in form[0]  # a literal start makes the search ten times faster
        )
        self._forms = tuple(form for secret in secrets for form in _forms(secret))
        self._any = re.compile(b"|".join(map(_pattern, self._forms)) or rb"(?!)")
        self._alphabet = bytes({c for f in self._forms for unit in f for way in unit for c in way})
        self._heads = frozenset(
            head[:size]
            for form in self._forms
            for head in _heads(form)
            for size in range(1, _HEAD + 1)
        )
        self._longest = max(
            (sum(max(map(len, unit)) for unit in f) for f in self._forms), default=0
        )

    def whole(self, data: bytes) -> bytes:
        """`data` without secrets."""
        if not self._found(data):
            return data
        self._alarm()
        return self._any.sub(MARK, data)

    def stream(self) -> "Stream":
        """The same for a text that arrives in pieces."""
        return Stream(self)

    def held(self, data: bytes) -> int:
        """How many of the last bytes of `data` may be the start of a secret."""
        tail = data[max(0, len(data) - self._longest + 1) :]
        tail = tail[len(tail.rstrip(self._alphabet)) :]
        for start in range(len(tail)):
            if tail[start : start + _HEAD] not in self._heads:
                continue
            if any(_begins(form, tail, start) for form in self._forms):
                return len(tail) - start
        return 0

    def _found(self, data: bytes) -> bool:
        if any(text in data for text in self._plain):
            return True
        return (b"%" in data or b"\\" in data) and any(p.search(data) for p in self._escaped)


class Stream:
    """One text in pieces. Held back is only what may still become a secret."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._kept = b""

    def feed(self, chunk: bytes) -> bytes:
        """What can be passed on now."""
        data = self._redactor.whole(self._kept + chunk)
        end = len(data) - self._redactor.held(data)
        self._kept = data[end:]
        return data[:end]

    def flush(self) -> bytes:
        """What was held back, at the end of the text."""
        kept, self._kept = self._kept, b""
        return kept


def _plain(secret: bytes) -> Iterator[bytes]:
    """The texts that `secret` has without escapes."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for core in _base64_cores(secret):
        yield core
        yield core.translate(bytes.maketrans(b"+/", b"-_"))


def _escaped(secret: bytes) -> Iterator[Form]:
    """`secret` and its base64, any character of it bare or in an escape of URLs or JSON."""
    yield tuple(map(_ways, secret))
    for core in _base64_cores(secret):
        yield tuple(_ways(char) if char in b"+/" else (bytes([char]),) for char in core)


def _forms(secret: bytes) -> Iterator[Form]:
    yield from _escaped(secret)
    for text in _plain(secret):
        yield tuple((bytes([char]),) for char in text)


def _ways(char: int) -> Unit:
    bare = bytes([char])
    short = (b"\\" + bare,) if bare in b'/"\\' else ()
    digits = sorted({b"%02x" % char, b"%02X" % char})
    return (bare, *short, *(b"%" + d for d in digits), *(b"\\u00" + d for d in digits))


def _base64_cores(secret: bytes) -> Iterator[bytes]:
    """What every base64 text that holds `secret` holds: once for each place in a group of three."""
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + secret).rstrip(b"=")
        whole_groups = (shift + len(secret)) % 3 == 0
        yield text[(0, 2, 3)[shift] : None if whole_groups else -1]


def _heads(form: Form, head: bytes = b"") -> Iterator[bytes]:
    """Every way in which `form` starts, `_HEAD` bytes of each."""
    if len(head) >= _HEAD:
        yield head[:_HEAD]
        return
    for way in form[0]:
        yield from _heads(form[1:], head + way)


def _pattern(form: Form) -> bytes:
    return b"".join(_either(map(re.escape, unit)) for unit in form)


def _either(ways: Iterable[bytes]) -> bytes:
    return b"(?:" + b"|".join(ways) + b")"


def _begins(form: Form, text: bytes, at: int) -> bool:
    """Whether `form` may start at `at` and go on beyond the end of `text`."""
    for unit in form:
        way = next((way for way in unit if text.startswith(way, at)), None)
        if way is None:
            rest = text[at:]
            return any(way.startswith(rest) for way in unit)
        at += len(way)
    return False
