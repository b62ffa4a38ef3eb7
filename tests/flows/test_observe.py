"""Results too large to keep: passed through while fal has them, and then told as gone."""

from collections.abc import AsyncGenerator
from hashlib import sha256

import pytest

from gateway.core.model import Where
from tests.flows.desk import Desk, a_desk, database
from tests.harness import Gateway, Running, Simulator
from tests.kernel import peak, resident

pytestmark = pytest.mark.anyio

MIB = 2**20


@pytest.fixture(scope="module")
def forgetful(running: Running) -> Simulator:
    """A fal that is made to drop results."""
    return running.simulator()


@pytest.fixture(scope="module")
def taker(running: Running, forgetful: Simulator, redis_url: str) -> Gateway:
    """Takes the webhooks."""
    return running.gateway(forgetful, redis_url=database(redis_url, 4))


@pytest.fixture(scope="module")
def reader(running: Running, forgetful: Simulator, redis_url: str) -> Gateway:
    """Another process of the same deployment, which has seen none of them."""
    env = {"GATEWAY_PUBLIC_URL": "https://gateway.example"}
    return running.gateway(forgetful, env=env, redis_url=database(redis_url, 4))


@pytest.fixture
async def desk(taker: Gateway, forgetful: Simulator) -> AsyncGenerator[Desk]:
    async with a_desk(taker, forgetful) as desk:
        yield desk


async def test_a_result_of_20_mib(desk: Desk, reader: Gateway) -> None:
    """To the byte as fal has it, and never as a whole in the memory of who passes it on."""
    job = await desk.opened("sim/fault/big")
    told = await desk.ended(job.id)
    settled = await desk.until(job.id, lambda now: now.end is not None and now.end.settled)
    before, digest, size = resident(reader.process.pid), sha256(), 0
    async with reader.http() as http, http.stream("GET", f"/v1/jobs/{job.id}/result") as result:
        async for chunk in result.aiter_raw():
            digest.update(chunk)
            size += len(chunk)
    grown = peak(reader.process.pid) - before
    desk.sim.ask("POST", "reset")
    gone = await desk.http.get(f"/v1/jobs/{job.id}/result")
    proxied = await desk.http.get(f"/fal/queue/sim/fault/requests/{job.id}")

    head, tail = b'{"filler": "', b'"}'
    whole = head + b"x" * (20 * MIB - len(head) - len(tail)) + tail
    assert (told["status"], told["result"]) == ("completed", None)
    assert settled.end is not None
    assert (settled.end.where, settled.end.units) == (Where.AT_FAL, "1")
    assert await desk.ledger.result(job.id) is None
    assert (result.status_code, size, digest.digest()) == (200, 20 * MIB, sha256(whole).digest())
    assert result.headers["x-fal-request-id"] == job.id
    assert result.headers["x-fal-billable-units"] == "1"
    print(f"a result of 20 MiB took {grown / MIB:.1f} MiB of memory to pass on")
    assert grown < 8 * MIB
    for answer in (gone, proxied):
        assert (answer.status_code, answer.json()["error_type"]) == (410, "result_gone")


async def test_a_result_just_within_the_limit_is_kept(desk: Desk) -> None:
    """Whole, and whatever fal drops."""
    job = await desk.opened("sim/fault/big/16")
    await desk.ended(job.id)
    desk.sim.ask("POST", "reset")
    result = await desk.http.get(f"/v1/jobs/{job.id}/result")

    assert result.status_code == 200
    assert len(result.content) == 16 * MIB
    assert desk.sim.calls(method="GET", ends=f"/requests/{job.fal_id}") == 0
