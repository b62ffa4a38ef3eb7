"""A simulator that stops with a job in flight, and comes again: nobody waits for hours."""

import anyio
import pytest

from gateway.core.model import State
from gateway.store.server import OwnRedis
from tests.flows.desk import a_desk
from tests.harness import Running, reachable, wait_for

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["webhook", "pull"])
@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_job_in_flight_completes_after_the_simulators_restart(
    running: Running, mortal_redis: OwnRedis, mode: str, end: str
) -> None:
    sim = running.simulator(pace=0.3)
    env = {"GATEWAY_PUBLIC_URL": ""} if mode == "pull" else {}
    gateway = running.gateway(sim, env=env, redis_url=mortal_redis.url)
    async with a_desk(gateway, sim, "patient") as desk:
        job = await desk.opened("fal-ai/echo")
        await anyio.to_thread.run_sync(sim.process.stop if end == "stop" else sim.process.kill)
        before = await desk.job(job.id)
        sim.process.start()
        await anyio.to_thread.run_sync(
            lambda: wait_for(lambda: reachable(f"{sim.origin}/_sim/jobs"))
        )
        [there] = sim.ask("GET", "jobs")
        seen = await desk.ended(job.id)

    assert before.state in {State.QUEUED, State.RUNNING}
    assert there["request_id"] == job.fal_id
    assert (there["webhook"] is None) == (mode == "pull")
    assert seen["status"] == "completed"
    assert seen["result"]["echo"] == {"prompt": "x"}
