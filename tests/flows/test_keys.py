"""fal's signing keys: away, and changed."""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.app import Deployment, build
from gateway.core import fal as names
from gateway.core.errors import BadSignature
from gateway.core.model import JobRef, Kind, Principal, State
from gateway.flows.receive import announced, receive
from gateway.flows.services import Services
from gateway.settings import Settings
from gateway.sim.keys import SigningKeys
from tests.flows.desk import a_desk, database, envelope, signed
from tests.harness import CANARY, SECRET, Running, Simulator, free_port

pytestmark = pytest.mark.anyio


async def test_without_keys_fal_must_ask_again(
    running: Running, fal: Simulator, redis_url: str
) -> None:
    """503, since nobody can tell; once the keys are there, the same webhook gets in."""
    origins = json.loads(fal.origins)
    nowhere = {**origins, names.REST: f"http://127.0.0.1:{free_port()}"}
    env = {"GATEWAY_FAL_ORIGINS": json.dumps(nowhere)}
    gateway = running.gateway(fal, env=env, redis_url=database(redis_url, 6))
    async with a_desk(gateway, fal) as desk:
        job = await desk.opened()
        before = await desk.record(job.id)
        away = [await desk.report(job), await desk.report(job, key=Ed25519PrivateKey.generate())]
        unchanged = await desk.record(job.id) == before
        gateway.process.stop()
        gateway.process.env["GATEWAY_FAL_ORIGINS"] = fal.origins
        gateway.start()
        back = [await desk.report(job, key=Ed25519PrivateKey.generate()), await desk.report(job)]
        state = (await desk.job(job.id)).state

    assert away == [503, 503]
    assert unchanged
    assert back == [401, 204]
    assert state is State.COMPLETED


@asynccontextmanager
async def in_this_process(sim: Simulator, redis_url: str) -> AsyncGenerator[Services]:
    """A gateway without its server, so that its clock can be another."""
    settings = Settings.model_validate({"fal": {"key": CANARY, "origins": json.loads(sim.origins)}})
    app = build(Deployment(settings, redis_url, (SECRET,), 0))
    with anyio.fail_after(30):
        async with app.router.lifespan_context(app) as state:
            assert state is not None
            yield state["services"]


async def told(services: Services, key: Ed25519PrivateKey) -> State | None:
    """What the ledger holds of a job after a webhook about it, signed by `key` just now."""
    principal = Principal("default", Kind.USER, "rotating")
    ref = JobRef(str(uuid4()), principal, "fal-ai/echo", round(services.clock(), 3))
    ref = replace(ref, id="37" + ref.id[2:])
    body = envelope("rotated-request")
    headers = signed(body, "rotated-request", key=key, age=time.time() - services.clock())
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await receive(services, announced(services, services.seals.ticket(ref), pairs), body)
    job = await services.ledger.read(ref.id)
    return None if job is None else job.state


async def test_a_new_key_is_found_within_a_minute_and_an_old_one_is_good_while_published(
    running: Running, redis_url: str
) -> None:
    sim, signing = running.simulator(seed="8"), SigningKeys(8)
    async with in_this_process(sim, database(redis_url, 6)) as services:
        later = replace(services, clock=lambda: time.time() + 61)
        first = signing.newest
        assert await told(services, first) is State.COMPLETED

        sim.ask("POST", "rotate")
        signing.rotate()
        with pytest.raises(BadSignature):
            await told(services, signing.newest)
        assert await told(later, signing.newest) is State.COMPLETED
        assert await told(later, first) is State.COMPLETED

        sim.ask("POST", "rotate?drop=1")
        signing.rotate(drop=True)
        much_later = replace(services, clock=lambda: time.time() + 122)
        assert await told(much_later, signing.newest) is State.COMPLETED
        with pytest.raises(BadSignature):
            await told(much_later, first)
