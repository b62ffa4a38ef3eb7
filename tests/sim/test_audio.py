"""The audio model: a real change of a real clip."""

import io
import struct
import wave
from array import array
from base64 import b64encode
from typing import Any

import pytest

from gateway.sim import wav
from gateway.sim.audio import ENDPOINT, fitted, mixed, problems_of
from gateway.sim.wav import Clip, NotWav
from tests.sim.conftest import Fal

pytestmark = pytest.mark.anyio

RATE = 8_000


def tone(seconds: float = 1.0, channels: int = 1) -> "array[int]":
    """A rising saw, a different value at each sample."""
    count = int(seconds * RATE) * channels
    return array("h", [(7 * n) % 65536 - 32768 for n in range(count)])


def file_of(samples: "array[int]", channels: int = 1) -> bytes:
    """A WAV file as the standard library writes it."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return out.getvalue()


def data_uri(data: bytes) -> str:
    return "data:audio/wav;base64," + b64encode(data).decode()


async def transformed(fal: Fal, samples: "array[int]", **input: object) -> tuple[bytes, Any]:
    """The file that a run makes of a clip, and the run's output."""
    given = {"prompt": "rain", "audio_url": data_uri(file_of(samples))} | input
    reply = await fal.http.post(f"/fal.run/{ENDPOINT}", json=given)
    assert reply.status_code == 200, reply.text
    output = reply.json()
    return (await fal.http.get(output["audio"]["url"])).content, output


def samples_of(file: bytes) -> "array[int]":
    with wave.open(io.BytesIO(file)) as opened:
        assert (opened.getsampwidth(), opened.getframerate()) == (2, RATE)
        return array("h", opened.readframes(opened.getnframes()))


async def test_strength_0_leaves_the_clip_as_it_is(fal: Fal) -> None:
    file, output = await transformed(fal, tone(), strength=0)

    assert samples_of(file) == tone()
    assert file == file_of(tone())
    assert output["audio"]["file_size"] == len(file)
    assert output["audio"]["content_type"] == "audio/wav"
    assert output["audio"]["file_name"] == "output.wav"
    assert isinstance(output["seed"], int)


async def test_strength_mixes(fal: Fal) -> None:
    """The stronger, the farther from the clip; at 1 the clip does not matter."""
    silence = array("h", bytes(2 * len(tone())))
    distances = []
    for strength in (0, 0.3, 0.6, 1):
        samples = samples_of((await transformed(fal, tone(), strength=strength, seed=1))[0])
        distances.append(sum(abs(a - b) for a, b in zip(samples, tone(), strict=True)))
    alone, _ = await transformed(fal, tone(), strength=1, seed=1)
    other, _ = await transformed(fal, silence, strength=1, seed=1)

    assert distances == sorted(set(distances))
    assert alone == other
    assert max(abs(sample) for sample in samples_of(alone)) <= 32768 // 4


async def test_seed_decides(fal: Fal) -> None:
    one, first = await transformed(fal, tone(), seed=5)
    same, _ = await transformed(fal, tone(), seed=5)
    other, _ = await transformed(fal, tone(), seed=6)
    free, output = await transformed(fal, tone())
    again, _ = await transformed(fal, tone(), seed=output["seed"])

    assert first["seed"] == 5
    assert one == same
    assert one != other
    assert free == again


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [1, 2, 5])
async def test_total_seconds_trims_or_loops(fal: Fal, seconds: int, channels: int) -> None:
    clip = tone(2, channels)
    uri = data_uri(file_of(clip, channels))

    file, _ = await transformed(fal, clip, audio_url=uri, total_seconds=seconds, strength=0)

    samples = samples_of(file)
    assert len(samples) == seconds * RATE * channels
    assert samples == (clip * 3)[: len(samples)]


async def test_queued_with_an_uploaded_clip(fal: Fal) -> None:
    """The way of the playground: upload, submit with the file's address, fetch the output."""
    upload = {"content_type": "audio/wav", "file_name": "mine.wav"}
    urls = (await fal.http.post("/rest.fal.ai/storage/upload/initiate", json=upload)).json()
    await fal.http.put(urls["upload_url"], content=file_of(tone()))
    job = await fal.job(ENDPOINT, {"prompt": "x", "audio_url": urls["file_url"], "strength": 0})

    result = await fal.result(job)

    assert result.headers["x-fal-billable-units"] == "1"
    assert (await fal.http.get(result.json()["audio"]["url"])).content == file_of(tone())


async def test_sync_mode_answers_with_the_data(fal: Fal) -> None:
    given = {"prompt": "x", "audio_url": data_uri(file_of(tone())), "strength": 0}
    reply = await fal.http.post(f"/fal.run/{ENDPOINT}", json=given | {"sync_mode": True})

    assert reply.json()["audio"]["url"] == data_uri(file_of(tone()))


@pytest.mark.parametrize("path", ["fal.run", "queue.fal.run"])
@pytest.mark.parametrize(
    ("changed", "field", "kind"),
    [
        ({"prompt": None}, "prompt", "string_type"),
        ({"strength": 1.5}, "strength", "less_than_equal"),
        ({"audio_url": "http://127.0.0.1:9/x.wav"}, "audio_url", "file_download_error"),
        ({"audio_url": "no address"}, "audio_url", "file_download_error"),
        ({"audio_url": "data:audio/wav;base64,%%"}, "audio_url", "file_download_error"),
        ({"audio_url": data_uri(b"OggS")}, "audio_url", "unsupported_audio_format"),
        ({"audio_url": data_uri(file_of(tone(0)))}, "audio_url", "audio_duration_too_short"),
    ],
)
async def test_refused_input(
    fal: Fal, path: str, changed: dict[str, object], field: str, kind: str
) -> None:
    given = {"prompt": "x", "audio_url": data_uri(file_of(tone()))} | changed
    if path == "fal.run":
        reply = await fal.http.post(f"/{path}/{ENDPOINT}", json=given)
    else:
        reply = await fal.result(await fal.job(ENDPOINT, given))

    (entry,) = reply.json()["detail"]
    assert reply.status_code == 422
    assert (entry["loc"], entry["type"]) == (["body", field], kind)
    assert reply.headers["x-fal-billable-units"] == "0"


@pytest.mark.parametrize(
    ("size", "kind"),
    [(65 * 2**20, "file_too_large"), (601 * 2 * RATE, "audio_duration_too_long")],
)
async def test_clips_are_bounded(fal: Fal, size: int, kind: str) -> None:
    upload = {"content_type": "audio/wav", "file_name": "long.wav"}
    urls = (await fal.http.post("/rest.fal.ai/storage/upload/initiate", json=upload)).json()
    put = await fal.http.put(urls["upload_url"], content=file_of(array("h", bytes(size))))
    given = {"prompt": "x", "audio_url": urls["file_url"]}
    reply = await fal.http.post(f"/fal.run/{ENDPOINT}", json=given)

    assert put.status_code == 200
    assert [each["type"] for each in reply.json()["detail"]] == [kind]


async def test_missing_file_is_a_download_error(fal: Fal) -> None:
    given = {"prompt": "x", "audio_url": f"{fal.origin}/cdn/files/{'0' * 32}/x.wav"}
    reply = await fal.http.post(f"/fal.run/{ENDPOINT}", json=given)

    assert reply.json()["detail"][0]["type"] == "file_download_error"


GOOD = {"prompt": "x", "audio_url": "y"}


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        (GOOD, []),
        (GOOD | {"seed": None, "total_seconds": None, "unknown": 1, "strength": 1}, []),
        ({}, ["missing", "missing"]),
        ({"prompt": 1}, ["missing", "string_type"]),
        (GOOD | {"strength": "0.5"}, ["float_type"]),
        (GOOD | {"strength": -0.1}, ["greater_than_equal"]),
        (GOOD | {"strength": None}, ["float_type"]),
        (GOOD | {"num_inference_steps": 1.5}, ["int_type"]),
        (GOOD | {"total_seconds": 0}, ["greater_than_equal"]),
        (GOOD | {"total_seconds": 191}, ["less_than_equal"]),
        (GOOD | {"guidance_scale": True}, ["int_type"]),
        (GOOD | {"seed": 2**70}, []),
        (GOOD | {"sync_mode": 1}, ["bool_type"]),
    ],
)
def test_validation(given: dict[str, object], kinds: list[str]) -> None:
    assert [problem["type"] for problem in problems_of(given)] == kinds


def riff(kind: int, bits: int, data: bytes, extensible: bool = False) -> bytes:
    """A mono WAV file in any form, with a chunk before the data that nobody knows."""
    form = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else kind, 1, RATE, RATE * bits // 8, bits // 8, bits
    )
    if extensible:
        form += struct.pack("<HHIH", 22, bits, 0, kind) + bytes(14)
    chunks = struct.pack("<4sI", b"fmt ", len(form)) + form
    chunks += struct.pack("<4sI4s", b"LIST", 3, b"abc\0")
    chunks += struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WAVE") + chunks


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(
    ("kind", "bits", "data"),
    [
        (1, 8, bytes([0, 128, 192])),
        (1, 16, struct.pack("<hhh", -32768, 0, 16384)),
        (1, 24, b"\x01\x00\x80\x01\x00\x00\xff\x00\x40"),
        (1, 32, struct.pack("<iii", -(2**31), 0, 2**30)),
        (3, 32, struct.pack("<fff", -7.0, 0.0, 0.5)),
        (3, 64, struct.pack("<ddd", -1.0, 0.0, 0.5)),
    ],
)
def test_forms_of_samples(kind: int, bits: int, data: bytes, extensible: bool) -> None:
    clip = wav.decode(riff(kind, bits, data, extensible))

    lowest, zero, half = clip.samples
    assert (clip.rate, clip.channels, clip.frames) == (RATE, 1, 3)
    assert lowest <= -32767
    assert zero == 0
    assert abs(half - 16384) <= 1


def test_not_a_number_is_no_trouble() -> None:
    data = struct.pack("<ff", float("nan"), float("inf"))

    assert wav.decode(riff(3, 32, data)).samples[1] == 32767


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"OggS" + bytes(100),
        riff(1, 12, bytes(12)),
        riff(2, 16, bytes(12)),
        riff(1, 0, bytes(12)),
        riff(1, 16, b"")[:30],
        riff(1, 16, bytes(4)).replace(b"\x01\x00\x01\x00", b"\x01\x00\x00\x00"),
        b"RIFF\0\0\0\0WAVEdata\x04\0\0\0abcd",
    ],
)
def test_not_wav(data: bytes) -> None:
    with pytest.raises(NotWav):
        wav.decode(data)


def test_length_that_a_recorder_did_not_know() -> None:
    file = file_of(tone()).replace(
        struct.pack("<4sI", b"data", 2 * len(tone())), struct.pack("<4sI", b"data", 2**32 - 1)
    )

    assert wav.decode(file + b"\0").samples == tone()


def test_long_clips_are_worked_on_in_blocks() -> None:
    clip = Clip(RATE, 1, array("h", [1000]) * (wav.BLOCK * 2 + 10))

    assert mixed(clip, 0, 1).samples == clip.samples
    assert len(mixed(clip, 0.5, 1).samples) == len(clip.samples)
    assert fitted(clip, 1).frames == RATE
