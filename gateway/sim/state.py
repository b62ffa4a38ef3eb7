"""Everything that a request needs, as the lifespan built it."""

import asyncio
from dataclasses import dataclass
from typing import TypedDict

import httpx
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gateway.sim.access import BAD_KEY, LOCKED, Access
from gateway.sim.config import SimConfig
from gateway.sim.engine import Engine
from gateway.sim.faults import known
from gateway.sim.journal import Journal
from gateway.sim.keys import SigningKeys
from gateway.sim.objects import Objects
from gateway.sim.prices import Prices
from gateway.sim.spool import Spool
from gateway.sim.webhooks import Webhooks
from gateway.sim.work import Work


@dataclass(slots=True)
class Sim:
    config: SimConfig
    access: Access
    keys: SigningKeys
    webhooks: Webhooks
    objects: Objects
    work: Work
    engine: Engine
    journal: Journal
    prices: Prices
    released: asyncio.Event
    """Set and replaced by a reset: whoever is held goes on."""


class State(TypedDict):
    sim: Sim


def assemble(config: SimConfig, http: httpx.AsyncClient, tasks: asyncio.TaskGroup) -> Sim:
    """A simulator with nothing in it yet but stored files."""
    keys = SigningKeys(config.seed)
    access = Access(config.keys, config.user_id, config.users)
    webhooks = Webhooks(http, keys, access, config.pace)
    objects = Objects(config.origin, config.data_dir / "objects")
    work = Work(http, objects)
    engine = Engine(config, work, webhooks, Spool(config.data_dir / "jobs"), tasks)
    return Sim(
        config, access, keys, webhooks, objects, work, engine, Journal(), Prices(), asyncio.Event()
    )


def account_of(request: Request[State], *, paid: bool = False) -> str:
    """The account that a request's key belongs to; 401 without a good one.

    A locked account is refused where a call is `paid`, and elsewhere as its lock says.
    """
    authorization = request.headers.get("authorization")
    if authorization is None:
        raise HTTPException(401, "Authorization header is required")
    account = request.state["sim"].access.account(authorization)
    if account is None:
        raise HTTPException(401, BAD_KEY)
    lock = request.state["sim"].access.locked(account)
    if lock is not None and (paid or lock.everywhere):
        raise HTTPException(lock.status, BAD_KEY if lock.status == 401 else LOCKED)
    return account


def must_exist(endpoint: str) -> None:
    """404 for an endpoint that no application is behind."""
    if not known(endpoint):
        name = "/".join(endpoint.split("/")[1:2]) or endpoint
        raise HTTPException(404, f'Application "{name}" not found')


async def held(request: Request[State], seconds: float) -> None:
    """Wait until the caller has gone, a reset, or `seconds` have passed."""
    sim = request.state["sim"]
    with sim.journal.counting("held"):
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(_gone(request))
            released = tasks.create_task(sim.released.wait())
            await asyncio.wait(
                {gone, released}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            gone.cancel()
            released.cancel()


async def _gone(request: Request[State]) -> None:
    """Return when the caller has hung up. Only for requests whose body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
