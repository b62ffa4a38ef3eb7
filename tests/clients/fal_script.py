"""What a program with `fal_client` does: `python fal_script.py <name>`, told on stdin, telling on
stdout. A process of its own, since the client reads its hosts from the environment on import."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import fal_client
from fal_client import client
from fal_client.client import FalClientHTTPError
from httpx_sse import SSEError

Given = dict[str, Any]


def queue(given: Given) -> Any:
    """Submit, status, iter_events, result: call by call."""
    handle = fal_client.submit(given["endpoint"], given["input"])
    first = fal_client.status(given["endpoint"], handle.request_id, with_logs=True)
    events = [told(event) for event in handle.iter_events(with_logs=True, interval=0.02)]
    plain = handle.status()
    result = fal_client.result(given["endpoint"], handle.request_id)
    return {
        "request_id": handle.request_id,
        "urls": [handle.response_url, handle.status_url, handle.cancel_url],
        "first": told(first),
        "events": events,
        "plain": told(plain),
        "result": result,
        "again": handle.get(),
    }


def subscribe(given: Given) -> Any:
    updates: list[fal_client.Status] = []
    ids: list[str] = []
    result = fal_client.subscribe(
        given["endpoint"],
        given["input"],
        with_logs=True,
        on_enqueue=ids.append,
        on_queue_update=updates.append,
    )
    return {"result": result, "ids": ids, "updates": [told(update) for update in updates]}


def subscribe_async(given: Given) -> Any:
    updates: list[fal_client.Status] = []
    ids: list[str] = []
    result = asyncio.run(
        fal_client.subscribe_async(
            given["endpoint"],
            given["input"],
            with_logs=True,
            on_enqueue=ids.append,
            on_queue_update=updates.append,
        )
    )
    return {"result": result, "ids": ids, "updates": [told(update) for update in updates]}


def cancel(given: Given) -> Any:
    """Cancel a job that runs, then once more."""
    handle = fal_client.submit(given["endpoint"], {})
    handle.cancel()
    result = attempted(handle.get)
    return {"result": result, "again": attempted(handle.cancel), "status": told(handle.status())}


def outcome(given: Given) -> Any:
    """How a job ended."""
    handle = fal_client.submit(given["endpoint"], given["input"])
    result = attempted(handle.get)
    return {"request_id": handle.request_id, "result": result, "status": told(handle.status())}


def run(given: Given) -> Any:
    return attempted(lambda: fal_client.run(given["endpoint"], given["input"]))


def stream(given: Given) -> Any:
    return list(fal_client.stream(given["endpoint"], given["input"]))


def together(given: Given) -> Any:
    """Submit several at once, and wait for each: what each was told, how it ended, how long all
    took."""
    began = time.monotonic()
    handles = [fal_client.submit(given["endpoint"], each) for each in given["inputs"]]
    submitted = time.monotonic() - began
    updates = [[told(event) for event in handle.iter_events(interval=0.02)] for handle in handles]
    return {
        "updates": updates,
        "results": [handle.get() for handle in handles],
        "submitted": submitted,
        "seconds": time.monotonic() - began,
    }


def runs(given: Given) -> Any:
    """Direct runs, one after the other, with how long each took."""
    endpoint = given["endpoint"]
    return [timed(partial(fal_client.run, endpoint, each)) for each in given["inputs"]]


def refused(given: Given) -> Any:
    """A call in every way there is that a plan does not let through.

    The client tries a 429 ten times in a minute; three times are as good, and sooner over.
    """
    client.MAX_ATTEMPTS = given.get("attempts", client.MAX_ATTEMPTS)
    endpoint, input = given["endpoint"], given["input"]
    return {
        "subscribe": timed(lambda: fal_client.subscribe(endpoint, input)),
        "submit": timed(lambda: fal_client.submit(endpoint, input)),
        "run": timed(lambda: fal_client.run(endpoint, input)),
        **asyncio.run(_refused_async(endpoint, input)),
    }


async def _refused_async(endpoint: str, input: Given) -> Any:
    calls: dict[str, Callable[..., Awaitable[Any]]] = {
        "subscribe_async": fal_client.subscribe_async,
        "submit_async": fal_client.submit_async,
        "run_async": fal_client.run_async,
    }
    heard: dict[str, Any] = {}
    for name, call in calls.items():
        began = time.monotonic()
        try:
            await call(endpoint, input)
            heard[name] = {}
        except FalClientHTTPError as error:
            heard[name] = {**explained(error), "seconds": time.monotonic() - began}
    return heard


def refused_stream(given: Given) -> Any:
    """What the client makes of a refusal where it wants events: the name of its error."""
    try:
        return list(fal_client.stream(given["endpoint"], given["input"]))
    except SSEError as error:
        return type(error).__name__


def all_async(given: Given) -> Any:
    """Submit, status, events, result, cancel, run and stream of the asynchronous client."""
    return asyncio.run(_all_async(given))


async def _all_async(given: Given) -> Any:
    endpoint, input = given["endpoint"], given["input"]
    handle = await fal_client.submit_async(endpoint, input)
    first = await fal_client.status_async(endpoint, handle.request_id)
    words = [type(event).__name__ async for event in handle.iter_events(interval=0.02)]
    result = await fal_client.result_async(endpoint, handle.request_id)
    held = await fal_client.submit_async(given["held"], {})
    await fal_client.cancel_async(given["held"], held.request_id)
    try:
        cancelled: Any = await held.get()
    except FalClientHTTPError as error:
        cancelled = error.status_code
    return {
        "first": type(first).__name__,
        "words": words,
        "result": result,
        "cancelled": cancelled,
        "run": await fal_client.run_async(endpoint, input),
        "stream": [event async for event in fal_client.stream_async(endpoint, input)],
    }


def timed(call: Callable[[], Any]) -> Any:
    began = time.monotonic()
    return {**attempted(call), "seconds": time.monotonic() - began}


def unknown(given: Given) -> Any:
    """Every call about a job that there is not."""
    endpoint, request_id = given["endpoint"], given["request_id"]
    return {
        "status": attempted(lambda: fal_client.status(endpoint, request_id)),
        "result": attempted(lambda: fal_client.result(endpoint, request_id)),
        "cancel": attempted(lambda: fal_client.cancel(endpoint, request_id)),
    }


def attempted(call: Callable[[], Any]) -> Any:
    """What it gave, or what the client's error tells."""
    try:
        return {"value": call()}
    except FalClientHTTPError as error:
        return explained(error)


def explained(error: FalClientHTTPError) -> dict[str, Any]:
    return {
        "message": error.message,
        "status": error.status_code,
        "error_type": error.error_type,
        "request_id": error.response_headers.get("x-fal-request-id"),
    }


def told(status: fal_client.Status) -> dict[str, Any]:
    return {"is": type(status).__name__, **vars(status)}


SCRIPTS = {
    call.__name__: call
    for call in (
        queue,
        subscribe,
        subscribe_async,
        cancel,
        outcome,
        run,
        stream,
        unknown,
        together,
        runs,
        refused,
        refused_stream,
        all_async,
    )
}

if __name__ == "__main__":
    print(json.dumps(SCRIPTS[sys.argv[1]](json.load(sys.stdin))))
