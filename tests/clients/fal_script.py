"""What a program with `fal_client` does: `python fal_script.py <name>`, told on stdin, telling on
stdout. A process of its own, since the client reads its hosts from the environment on import."""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import fal_client
from fal_client.client import FalClientHTTPError

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
    for call in (queue, subscribe, subscribe_async, cancel, outcome, run, stream, unknown)
}

if __name__ == "__main__":
    print(json.dumps(SCRIPTS[sys.argv[1]](json.load(sys.stdin))))
