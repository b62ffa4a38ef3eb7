"""`/_sim/`: how tests look into the simulator, and move what it holds."""

import asyncio
import time
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.sim.access import Lock
from gateway.sim.faults import DOES
from gateway.sim.model import Job, Outcome, is_json, success
from gateway.sim.prices import Price, is_number
from gateway.sim.state import State
from gateway.sim.webhooks import Signed, body_of, deliverable, headers_of

STALE: Final = 3_600


async def journal(request: Request[State]) -> Response:
    return JSONResponse(list(request.state["sim"].journal.entries))


async def jobs(request: Request[State]) -> Response:
    return JSONResponse([facts(job) for job in request.state["sim"].engine.all()])


async def accounts(request: Request[State]) -> Response:
    """The accounts of the keys that are good, as `jobs` and `journal` name them."""
    return JSONResponse([standing(request, name) for name in request.state["sim"].access.accounts])


async def lock(request: Request[State]) -> Response:
    """Refuse submits and runs of an account. Query: `status=403|401`, `everywhere=1`: all else."""
    status = request.query_params.get("status", "403")
    if status not in ("401", "403"):
        raise HTTPException(400, "status is 401 or 403")
    everywhere = status == "401" or request.query_params.get("everywhere") == "1"
    return locked(request, Lock(int(status), everywhere))


async def unlock(request: Request[State]) -> Response:
    return locked(request, None)


def locked(request: Request[State], lock: Lock | None) -> Response:
    name = request.path_params["account"]
    request.state["sim"].access.lock(name, lock)
    return JSONResponse(standing(request, name))


def standing(request: Request[State], name: str) -> dict[str, Any]:
    sim = request.state["sim"]
    lock = sim.access.locked(name)
    return {
        "account": name,
        "user_id": sim.access.user(name),
        "running": sim.engine.running(name),
        "locked": lock and lock.status,
    }


async def connections(request: Request[State]) -> Response:
    return JSONResponse(dict(request.state["sim"].journal.open))


async def faults(request: Request[State]) -> Response:
    return JSONResponse([{"name": name, "does": does} for name, does in DOES.items()])


async def end(request: Request[State]) -> Response:
    """End a job with the body as its output; `status` makes it a failure, `units` bills them."""
    job = named(request)
    body = await request.body() or b'{"held": true}'
    status = request.query_params.get("status", "200")
    if not status.isdecimal() or not is_json(body):
        raise HTTPException(400, "status is a number, the body JSON")
    units = request.query_params.get("units", "1")
    if not is_number(units):
        raise HTTPException(400, "units is a number")
    outcome = Outcome(int(status), body, dict(success({}, units).headers))
    if not request.state["sim"].engine.end(job, outcome):
        raise HTTPException(409, "The job has ended")
    return JSONResponse(facts(job))


async def rotate(request: Request[State]) -> Response:
    """Sign with a new key. `drop=1` withdraws the older ones, `pad=1|0` changes how all look."""
    keys = request.state["sim"].keys
    keys.padded = request.query_params.get("pad", "0") == "1"
    keys.rotate(drop=request.query_params.get("drop") == "1")
    return JSONResponse(keys.jwks())


async def webhook(request: Request[State]) -> Response:
    """Send a job's webhook once more, honest or forged.

    Query: `key=wrong`, `timestamp=stale|future`, `user=<other>`, `id=<other header id>`,
    `tamper=1` (the body changes after signing), `url=<other receiver>`. A body is another payload.
    """
    sim, job, query = request.state["sim"], named(request), request.query_params
    url = query.get("url") or job.call.webhook
    if url is None or not deliverable(url):
        raise HTTPException(400, "No address to send it to")
    given = await request.body()
    if given and not is_json(given):
        raise HTTPException(400, "The body is not JSON")
    outcome = Outcome(200, given) if given else job.outcome or success({"early": True})
    body = body_of(job, outcome)
    headers = headers_of(forged(sim.webhooks.signed(job), request), body)
    if query.get("tamper") == "1":
        body = body.replace(b'"status": ', b'"status":  ')
    status = await sim.webhooks.attempt(job, url, body, headers)
    return JSONResponse({"status": status})


def forged(honest: Signed, request: Request[State]) -> Signed:
    """`honest`, but for what the query asks to be false."""
    query = request.query_params
    now = int(time.time())
    times = {"stale": now - STALE, "future": now + STALE}
    return Signed(
        query.get("id", honest.request_id),
        query.get("user", honest.user_id),
        times.get(query.get("timestamp", ""), honest.timestamp),
        Ed25519PrivateKey.generate() if query.get("key") == "wrong" else honest.key,
    )


async def price(request: Request[State]) -> Response:
    """Set the price of an endpoint: `unit_price`, `unit`, `currency`; without the first, none."""
    query = request.query_params
    number = query.get("unit_price")
    if number is not None and not is_number(number):
        raise HTTPException(400, "unit_price is a number")
    new = number and Price(number, query.get("unit", "image"), query.get("currency", "USD"))
    request.state["sim"].prices.change(request.path_params["endpoint"], new or None)
    return JSONResponse({})


async def prices(request: Request[State]) -> Response:
    """Take the list of prices away (`away=1`), or give it back."""
    request.state["sim"].prices.away = request.query_params.get("away") == "1"
    return JSONResponse({})


async def reset(request: Request[State]) -> Response:
    """Forget all jobs, calls and prices that were set, and let go whoever is held."""
    sim = request.state["sim"]
    sim.prices.reset()
    sim.engine.reset()
    sim.journal.entries.clear()
    sim.access.unlock_all()
    sim.released.set()
    sim.released = asyncio.Event()
    return JSONResponse({})


def facts(job: Job) -> dict[str, Any]:
    return {
        "request_id": job.id,
        "endpoint": job.call.endpoint,
        "account": job.call.account,
        "status": job.status,
        "http_status": job.outcome and job.outcome.status,
        "webhook": job.call.webhook,
        "tries": job.tries,
        "logs": len(job.logs),
        "cancel_requested": job.cancel_requested,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
    }


def named(request: Request[State]) -> Job:
    job = request.state["sim"].engine.find(request.path_params["id"])
    if job is None:
        raise HTTPException(404, "No such job")
    return job


routes: Final = [
    Route("/journal", journal, methods=["GET"]),
    Route("/jobs", jobs, methods=["GET"]),
    Route("/accounts", accounts, methods=["GET"]),
    Route("/lock/{account}", lock, methods=["POST"]),
    Route("/unlock/{account}", unlock, methods=["POST"]),
    Route("/connections", connections, methods=["GET"]),
    Route("/faults", faults, methods=["GET"]),
    Route("/end/{id}", end, methods=["POST"]),
    Route("/price/{endpoint:path}", price, methods=["POST"]),
    Route("/prices", prices, methods=["POST"]),
    Route("/rotate", rotate, methods=["POST"]),
    Route("/webhook/{id}", webhook, methods=["POST"]),
    Route("/reset", reset, methods=["POST"]),
]
