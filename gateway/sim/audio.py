"""`fal-ai/stable-audio-25/audio-to-audio`: a real, if simple, change of a real clip.

It mixes the clip with noise drawn from the seed: `strength` 0 leaves the clip as it is, 1 leaves
noise alone. Input and output are those of the model's page on fal.ai; WAV is the one format read.
"""

import asyncio
import base64
import json
import math
import random
from array import array
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import unquote_to_bytes

import httpx
import msgspec

from gateway.sim import wav
from gateway.sim.model import Outcome, invalid, is_json, problem, success
from gateway.sim.objects import Objects
from gateway.sim.wav import Clip, NotWav

ENDPOINT: Final = "fal-ai/stable-audio-25/audio-to-audio"
MAX_DOWNLOAD: Final = 64 * 2**20
DOWNLOAD_TIMEOUT: Final = 30.0
MAX_SECONDS: Final = 190
LONGEST_INPUT: Final = 600
NOISE: Final = 0.25
"""Of full scale: noise alone shall not hurt."""

Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
Steps = Annotated[int, msgspec.Meta(ge=1, le=50)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=MAX_SECONDS)]
Guidance = Annotated[int, msgspec.Meta(ge=1, le=25)]

_FIELDS: Final[Mapping[str, tuple[Any, str]]] = {
    "prompt": (str, "string_type"),
    "audio_url": (str, "string_type"),
    "strength": (Ratio, "float_type"),
    "num_inference_steps": (Steps, "int_type"),
    "total_seconds": (Seconds, "int_type"),
    "guidance_scale": (Guidance, "int_type"),
    "seed": (int, "int_type"),
    "sync_mode": (bool, "bool_type"),
}
_REQUIRED: Final = ("prompt", "audio_url")
_NULLABLE: Final = ("total_seconds", "seed")
_BOUNDS: Final = {">=": ("greater_than_equal", "ge"), "<=": ("less_than_equal", "le")}


class Unusable(Exception):
    """A clip that cannot be had or read; says so as fal does."""

    def __init__(self, kind: str, text: str, **ctx: object) -> None:
        super().__init__(text)
        self.kind = kind
        self.ctx = ctx


async def transform(http: httpx.AsyncClient, objects: Objects, body: bytes) -> Outcome:
    """What the model answers to an input."""
    if not is_json(body or b"{}"):
        return invalid(problem("body", "json_invalid", "JSON decode error"))
    given = json.loads(body or b"{}")
    if not isinstance(given, dict):
        return invalid(problem("body", "dict_type", "Input should be an object", given))
    if problems := problems_of(given):
        return invalid(*problems)
    seed = given.get("seed")
    seed = random.randrange(2**31) if seed is None else seed  # noqa: S311 - sound, no secret
    try:
        data = await fetch(http, given["audio_url"])
        file = await asyncio.to_thread(
            _changed, data, given.get("strength", 0.8), given.get("total_seconds"), seed
        )
    except Unusable as error:
        return invalid(
            problem("audio_url", error.kind, str(error), given["audio_url"], **error.ctx)
        )
    if given.get("sync_mode"):
        url = "data:audio/wav;base64," + base64.b64encode(file).decode()
    else:
        url = objects.file_url(await objects.keep("output.wav", "audio/wav", file))
    audio = {"url": url, "content_type": "audio/wav", "file_name": "output.wav"}
    return success({"audio": audio | {"file_size": len(file)}, "seed": seed})


def problems_of(given: Mapping[str, Any]) -> list[dict[str, object]]:
    """What is wrong with an input, in the words of the model's own validation."""
    missing = [
        problem(name, "missing", "Field required", dict(given))
        for name in _REQUIRED
        if name not in given
    ]
    absent = [name for name in _NULLABLE if given.get(name) is None]
    names = [name for name in _FIELDS if name in given and name not in absent]
    checked = (_problem_of(name, given[name]) for name in names)
    return missing + [each for each in checked if each is not None]


def _problem_of(name: str, value: object) -> dict[str, object] | None:
    kind, wrong = _FIELDS[name]
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        for sign, (bound, key) in _BOUNDS.items():
            if sign in text:
                limit = float(text.rpartition(sign)[2])
                said = f"Input should be {bound.replace('_', ' ')} to {limit:g}"
                said = said.replace("than equal", "than or equal")
                return problem(name, bound, said, value, **{key: limit})
        return problem(name, wrong, f"Input should be a valid {wrong.removesuffix('_type')}", value)
    return None


async def fetch(http: httpx.AsyncClient, url: str) -> bytes:
    """The bytes behind an http(s) address or a data URI. Raises `Unusable`."""
    if url.startswith("data:"):
        return await asyncio.to_thread(_of_data_uri, url)
    try:
        async with asyncio.timeout(DOWNLOAD_TIMEOUT):
            return await _download(http, url)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, UnicodeError) as error:
        raise Unusable("file_download_error", "Failed to download the file") from error


async def _download(http: httpx.AsyncClient, url: str) -> bytes:
    data = bytearray()
    async with http.stream("GET", url, follow_redirects=True) as reply:
        if not reply.is_success:
            raise Unusable("file_download_error", "Failed to download the file")
        async for chunk in reply.aiter_bytes():
            data += chunk
            if len(data) > MAX_DOWNLOAD:
                raise Unusable("file_too_large", "The file is too large", max_size=MAX_DOWNLOAD)
    return bytes(data)


def _of_data_uri(url: str) -> bytes:
    head, comma, payload = url.partition(",")
    try:
        if not comma:
            raise ValueError
        if head.endswith(";base64"):
            return base64.b64decode(payload, validate=True)
        return unquote_to_bytes(payload)
    except ValueError:
        raise Unusable("file_download_error", "Failed to read the data URI") from None


def _changed(data: bytes, strength: float, seconds: int | None, seed: int) -> bytes:
    """The WAV file that a clip becomes. Slow for long clips: call it in a thread."""
    try:
        clip = wav.decode(data)
    except NotWav as error:
        raise Unusable("unsupported_audio_format", f"Unsupported audio format: {error}") from None
    if not clip.frames:
        raise Unusable("audio_duration_too_short", "The clip is empty", min_duration=0)
    if clip.seconds > LONGEST_INPUT:
        text = f"The clip is longer than {LONGEST_INPUT} s"
        raise Unusable("audio_duration_too_long", text, max_duration=LONGEST_INPUT)
    return wav.encode(mixed(fitted(clip, seconds), strength, seed))


def fitted(clip: Clip, seconds: int | None) -> Clip:
    """The clip trimmed to `seconds`, or looped up to there."""
    if seconds is None:
        return clip
    wanted = seconds * clip.rate * clip.channels
    samples = clip.samples * math.ceil(wanted / len(clip.samples))
    return Clip(clip.rate, clip.channels, samples[:wanted])


def mixed(clip: Clip, strength: float, seed: int) -> Clip:
    """The clip with noise drawn from `seed`. Whole numbers only: the same on every machine."""
    noise = random.Random(seed)  # noqa: S311 - sound, no secret
    keep, add = round((1 - strength) * 32768), round(strength * 32768 * NOISE)
    out = array("h")
    for block in wav.blocks(clip.samples):
        hiss = array("h", noise.randbytes(2 * len(block)))
        out.extend([(a * keep + b * add) >> 15 for a, b in zip(block, hiss, strict=True)])
    return Clip(clip.rate, clip.channels, out)
