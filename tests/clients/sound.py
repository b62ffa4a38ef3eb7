"""Real WAV files, made and measured."""

import io
import math
import struct
import wave

RATE = 8000


def tone(seconds: float) -> bytes:
    """A WAV file with 440 Hz for so long."""
    frames = [
        struct.pack("<h", round(9000 * math.sin(2 * math.pi * 440 * n / RATE)))
        for n in range(round(seconds * RATE))
    ]
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(b"".join(frames))
    return file.getvalue()


def duration(data: bytes) -> float:
    """Seconds of a WAV file that can be played: every frame that it promises is there."""
    with wave.open(io.BytesIO(data)) as file:
        promised: int = file.getnframes()
        rate: int = file.getframerate()
        width = file.getnchannels() * file.getsampwidth()
        frames = file.readframes(promised)
    assert len(frames) == promised * width
    return promised / rate
