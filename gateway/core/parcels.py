"""What fal is to get for a job, as it is kept while the job waits in the gateway's own queue."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec


@dataclass(frozen=True, slots=True)
class Parcel:
    """`body` is the model's input as raw JSON, `headers` are those that pass to fal."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str]

    def packed(self) -> bytes:
        """The headers in one line of JSON, then the body as it is."""
        return self._head + self.body

    @property
    def size(self) -> int:
        """Bytes of it packed."""
        return len(self._head) + len(self.body)

    @property
    def _head(self) -> bytes:
        return msgspec.json.encode(dict(self.headers)) + b"\n"


def unpacked(text: bytes) -> Parcel:
    """Raises `ValueError` for what `packed` has not written."""
    head, _, body = text.partition(b"\n")
    return Parcel(body, msgspec.json.decode(head, type=dict[str, str]))
