"""WAV files: read any usual sample form into 16-bit samples, write 16-bit.

Format: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html. The standard library
reads no float samples, and no extensible headers before Python 3.12.
"""

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

PCM: Final = 1
FLOAT: Final = 3
EXTENSIBLE: Final = 0xFFFE
BLOCK: Final = 1 << 16
"""Samples worked on at once, so that a long clip does not become a list of Python numbers."""

T = TypeVar("T", int, float)

_FLIP: Final = bytes(value ^ 0x80 for value in range(256))


class NotWav(Exception):
    """Not a WAV file, or one in a form that we do not read."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Interleaved 16-bit samples in the machine's own byte order."""

    rate: int
    channels: int
    samples: "array[int]" = field(repr=False)

    @property
    def frames(self) -> int:
        return len(self.samples) // self.channels

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def decode(data: bytes) -> Clip:
    """The clip in a WAV file. Raises `NotWav`."""
    form, data = _parts(data)
    if len(form) < 16:
        raise NotWav("format chunk too short")
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if kind == EXTENSIBLE and len(form) >= 26:
        (kind,) = struct.unpack_from("<H", form, 24)
    if not 1 <= channels <= 8 or not 1_000 <= rate <= 384_000:
        raise NotWav(f"{channels} channels at {rate} Hz")
    width = channels * bits // 8
    if not width:
        raise NotWav("no bits in a sample")
    samples = _samples(kind, bits, data[: len(data) // width * width])
    return Clip(rate, channels, samples)


def encode(clip: Clip) -> bytes:
    """A 16-bit PCM file."""
    samples = clip.samples
    if sys.byteorder == "big":
        samples = array("h", samples)
        samples.byteswap()
    data = samples.tobytes()
    frame = clip.channels * 2
    form = struct.pack("<HHIIHH", PCM, clip.channels, clip.rate, clip.rate * frame, frame, 16)
    head = struct.pack("<4sI4s4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", len(form))
    return head + form + struct.pack("<4sI", b"data", len(data)) + data


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """The contents of the `fmt ` and `data` chunks."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise NotWav("no RIFF header")
    form, at = b"", 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        # A recorder that streams does not know the size: slicing takes what there is.
        if name == b"data":
            return form, data[at + 8 : at + 8 + size]
        if name == b"fmt ":
            form = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    raise NotWav("no data chunk")


def _samples(kind: int, bits: int, data: bytes) -> "array[int]":
    if kind == FLOAT and bits in (32, 64):
        return _of_floats(array("f" if bits == 32 else "d", data))
    if kind != PCM or bits not in (8, 16, 24, 32):
        raise NotWav(f"format {kind} with {bits} bits")
    step = bits // 8
    high = data[step - 1 :: step]
    out = bytearray(len(high) * 2)
    # The two high bytes of each sample; the least significant byte comes first in a WAV.
    out[1::2] = high.translate(_FLIP) if bits == 8 else high
    if bits > 8:
        out[0::2] = data[step - 2 :: step]
    return _native(array("h", bytes(out)))


def _of_floats(values: "array[float]") -> "array[int]":
    values = _native(values)
    out = array("h")
    for block in blocks(values):
        out.extend([int(max(-1.0, min(1.0, value)) * 32767) for value in block])
    return out


def _native(values: "array[T]") -> "array[T]":
    if sys.byteorder == "big":
        values.byteswap()
    return values


def blocks(values: "array[T]") -> "Iterator[array[T]]":
    """`values` in pieces of `BLOCK`."""
    for start in range(0, len(values), BLOCK):
        yield values[start : start + BLOCK]
