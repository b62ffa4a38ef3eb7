"""What a client may put into `x-fal-target-url`, right and hostile, with the verdict for each.

Made for the parser and, over a socket, for the whole gateway. Each wrong one is here because
some parser, proxy or glob takes it for a right one; most of them are in `hostile_targets.txt`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.core.target import Op, Queue, RealtimeToken, Run, Submit, Target, Upload

ID = "0f8fad5b-d9cd-469f-a165-70867728950e"
REQ = f"fal-ai/flux/requests/{ID}"
APP = f"https://queue.fal.run/{REQ}"
CDN = "storage_type=fal-cdn-v3"
INITIATE = "https://rest.fal.ai/storage/upload/initiate"


@dataclass(frozen=True, slots=True)
class Case:
    """`verdict` is the target, or the name of the error; `allow` goes with MethodNotAllowed."""

    method: str
    target: bytes
    verdict: Target | str
    allow: str = ""

    def __str__(self) -> str:
        return f"{self.method[:12]} {ascii(self.target.decode('latin-1'))[1:90]}"


def right(method: str, target: str, verdict: Target) -> Case:
    return Case(method, target.encode(), verdict)


def wrong_method(methods: str, target: str, allow: str) -> list[Case]:
    return [
        Case(method, target.encode(), "MethodNotAllowed", allow) for method in methods.split(",")
    ]


def wrong_form() -> Iterator[Case]:
    """All of the text file: headings give methods, `\\xNN` is a byte."""
    methods: list[str] = []
    for line in Path(__file__).with_suffix(".txt").read_bytes().splitlines():
        if line.startswith(b"["):
            methods = line[1 : line.index(b"]")].decode().split(",")
        elif line and not line.startswith(b"#"):
            raw = re.sub(rb"\\x(..)", lambda found: bytes.fromhex(found[1].decode()), line)
            yield from (Case(method, raw, "InvalidTarget") for method in methods)


def hook(encoded: str) -> str:
    return f"https://queue.fal.run/fal-ai/flux?fal_webhook={encoded}"


def queue(op: Op, *, app: str = "fal-ai/flux", logs: bool = False) -> Queue:
    return Queue(app, ID, op, logs)


A_HOOK = "https%3A%2F%2Fa.example%2Fhook"
AT = "https://a.example/hook"
LONG = "https://a.example/" + "x" * (2048 - 18)
ALL_ENCODED = "".join(f"%{ord(char):02X}" for char in LONG)
TWELVE = "a/b/c/d/e/f/g/h/i/j/k/l"

RIGHT = [
    right("POST", "https://fal.run/fal-ai/flux", Run("fal-ai/flux", stream=False)),
    right("POST", "https://fal.run/fal-ai/flux/dev", Run("fal-ai/flux/dev", stream=False)),
    right("POST", "https://fal.run/fal-ai/flux/stream", Run("fal-ai/flux", stream=True)),
    right("POST", "https://fal.run/fal-ai/flux/dev/stream", Run("fal-ai/flux/dev", stream=True)),
    right("POST", "https://fal.run/a/b/stream/stream", Run("a/b/stream", stream=True)),
    right("POST", "https://fal.run/someone/stream", Run("someone/stream", stream=False)),
    right("POST", "https://fal.run/fal-ai/veo3.1/fast", Run("fal-ai/veo3.1/fast", stream=False)),
    right("POST", "https://fal.run/110602490/sdxl", Run("110602490/sdxl", stream=False)),
    right("POST", "https://fal.run/Some_One/My-App", Run("Some_One/My-App", stream=False)),
    right("POST", "https://fal.run/workflows/u/flow", Run("workflows/u/flow", stream=False)),
    right("POST", "https://fal.run/workflows/u/flow/stream", Run("workflows/u/flow", stream=True)),
    right("POST", "https://fal.run/workflows/u/stream", Run("workflows/u/stream", stream=False)),
    right("POST", "https://fal.run/comfy/u/flow", Run("comfy/u/flow", stream=False)),
    right("POST", f"https://fal.run/{TWELVE}", Run(TWELVE, stream=False)),
    right("POST", f"https://fal.run/{TWELVE}/stream", Run(TWELVE, stream=True)),
    right("POST", f"https://fal.run/a/{'b' * 2030}", Run(f"a/{'b' * 2030}", stream=False)),
    right("POST", "https://queue.fal.run/fal-ai/flux", Submit("fal-ai/flux", None)),
    right(
        "POST",
        "https://queue.fal.run/fal-ai/stable-audio-25/audio-to-audio",
        Submit("fal-ai/stable-audio-25/audio-to-audio", None),
    ),
    right("POST", "https://queue.fal.run/a/b/stream", Submit("a/b/stream", None)),
    right("POST", "https://queue.fal.run/a/b/status", Submit("a/b/status", None)),
    right("POST", "https://queue.fal.run/a/b/request", Submit("a/b/request", None)),
    right("POST", "https://queue.fal.run/a/b/requests-2", Submit("a/b/requests-2", None)),
    right("POST", "https://queue.fal.run/a../b..c", Submit("a../b..c", None)),
    right("POST", "https://queue.fal.run/workflows/u/flow", Submit("workflows/u/flow", None)),
    right("POST", hook(A_HOOK), Submit("fal-ai/flux", AT)),
    right("POST", hook(A_HOOK.lower()), Submit("fal-ai/flux", AT)),
    right("POST", hook("https://a.example/hook"), Submit("fal-ai/flux", AT)),
    right("POST", hook(A_HOOK + "%3Fx%3D1%26y%3D2"), Submit("fal-ai/flux", AT + "?x=1&y=2")),
    right("POST", hook(A_HOOK + "%3Fx%3Da%2520b"), Submit("fal-ai/flux", AT + "?x=a%20b")),
    right("POST", hook(A_HOOK + "%3Fx%3Da%2Bb"), Submit("fal-ai/flux", AT + "?x=a+b")),
    right("POST", hook("https%3A%2F%2Fa.example"), Submit("fal-ai/flux", "https://a.example")),
    right(
        "POST",
        hook("https%3A%2F%2FA.Example%3A8443%2F"),
        Submit("fal-ai/flux", "https://A.Example:8443/"),
    ),
    right("POST", hook("https://192.0.2.7/h"), Submit("fal-ai/flux", "https://192.0.2.7/h")),
    right(
        "POST",
        hook("https%3A%2F%2F%5B2001%3Adb8%3A%3A1%5D%2Fh"),
        Submit("fal-ai/flux", "https://[2001:db8::1]/h"),
    ),
    right(
        "POST",
        hook("https://xn--bcher-kva.example/"),
        Submit("fal-ai/flux", "https://xn--bcher-kva.example/"),
    ),
    right("POST", hook(LONG), Submit("fal-ai/flux", LONG)),
    right("POST", hook(ALL_ENCODED), Submit("fal-ai/flux", LONG)),
    right("GET", APP, queue(Op.RESULT)),
    right("GET", f"{APP}/response", queue(Op.RESULT)),
    right("GET", f"{APP}/status", queue(Op.STATUS)),
    right("GET", f"{APP}/status?logs=0", queue(Op.STATUS)),
    right("GET", f"{APP}/status?logs=1", queue(Op.STATUS, logs=True)),
    right("GET", f"{APP}/status?logs=true", queue(Op.STATUS, logs=True)),
    right("GET", f"{APP}/status?logs=false", queue(Op.STATUS)),
    right("GET", f"{APP}/status/stream", queue(Op.STREAM)),
    right("GET", f"{APP}/status/stream?logs=1", queue(Op.STREAM, logs=True)),
    right("PUT", f"{APP}/cancel", queue(Op.CANCEL)),
    right("GET", APP.replace("flux", "flux/dev"), queue(Op.RESULT, app="fal-ai/flux/dev")),
    right(
        "PUT", APP.replace("flux", "flux/dev") + "/cancel", queue(Op.CANCEL, app="fal-ai/flux/dev")
    ),
    right(
        "GET",
        f"https://queue.fal.run/workflows/u/flow/requests/{ID}",
        queue(Op.RESULT, app="workflows/u/flow"),
    ),
    right(
        "GET",
        f"https://queue.fal.run/comfy/u/f/requests/{ID}/status",
        queue(Op.STATUS, app="comfy/u/f"),
    ),
    right(
        "GET", f"https://queue.fal.run/{TWELVE}/requests/{ID}/status", queue(Op.STATUS, app=TWELVE)
    ),
    right("POST", f"{INITIATE}?{CDN}", Upload(multipart=False)),
    right("POST", f"{INITIATE}-multipart?{CDN}", Upload(multipart=True)),
    right("POST", "https://rest.fal.ai/tokens/", RealtimeToken()),
    right("POST", INITIATE.replace("rest", "rest.alpha"), Upload(multipart=False)),
    right("POST", "https://rest.alpha.fal.ai/tokens/", RealtimeToken()),
]

METHODS = [
    *wrong_method(
        "GET,HEAD,PUT,DELETE,PATCH,OPTIONS,TRACE,CONNECT,post,Post,PO ST,, POST,POST\n",
        "https://fal.run/fal-ai/flux",
        "POST",
    ),
    *wrong_method("M" + "X" * 8192, "https://fal.run/fal-ai/flux", "POST"),
    *wrong_method("GET,HEAD,PUT,DELETE,PATCH", "https://queue.fal.run/fal-ai/flux", "POST"),
    *wrong_method("GET,PUT,DELETE", "https://queue.fal.run/fal-ai/flux/stream", "POST"),
    *wrong_method("POST,PUT,HEAD,DELETE,get", APP, "GET"),
    *wrong_method("POST,PUT,HEAD", f"{APP}/response", "GET"),
    *wrong_method("POST,PUT,HEAD,OPTIONS", f"{APP}/status?logs=1", "GET"),
    *wrong_method("POST,PUT,HEAD", f"{APP}/status/stream", "GET"),
    *wrong_method("GET,POST,DELETE,HEAD,put", f"{APP}/cancel", "PUT"),
    *wrong_method("GET,PUT,DELETE", f"{INITIATE}?{CDN}", "POST"),
    *wrong_method("GET,PUT", "https://rest.fal.ai/tokens/", "POST"),
    *wrong_method("GET,PUT", "https://rest.alpha.fal.ai/tokens/", "POST"),
]

LENGTHS = [
    Case(method, target.encode(), "InvalidTarget")
    for method, target in (
        ("POST", ""),
        ("GET", ""),
        ("POST", "https://fal.run/a/" + "b" * 2031),
        ("POST", "https://queue.fal.run/a/" + "b" * 2048),
        ("POST", "https://queue.fal.run/a/" + "b" * 8192),
        ("POST", "https://queue.fal.run/" + "a/" * 1000 + "b"),
        ("POST", "https://queue.fal.run/" + "a/" * 100_000),
        ("POST", f"https://queue.fal.run/{TWELVE}/m"),
        ("POST", f"https://fal.run/{TWELVE}/m/stream"),
        ("GET", APP.replace("flux", "x" * 1968) + "/status"),
        ("POST", APP.replace("flux", "x" * 1968) + "/status"),
        ("GET", f"{APP}/status?logs=" + "1" * 2048),
        ("POST", hook(LONG + "x")),
        ("POST", hook("%61" * 2700)),
        ("POST", hook("https://a.example/" + "x" * 8192)),
        ("POST", hook(ALL_ENCODED).replace("flux", "x" * 2041)),
        ("POST", hook(f"https://{'a' * 64}.example/")),
        ("POST", hook(f"https://{'a.' * 126}ab/")),
    )
]

CASES: list[Case] = [*RIGHT, *METHODS, *LENGTHS, *wrong_form()]
