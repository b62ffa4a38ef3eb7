"""Results: kept and sent in pieces, or passed through while fal has them, and then told as gone."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from hashlib import sha256
from typing import Any

import httpx
import pytest

from gateway.core.model import Where
from gateway.flows.observe import RESULT_PIECE
from gateway.store import keys
from tests.flows.desk import HELD, SEED, Desk, a_desk, database, envelope, eventually
from tests.flows.receivers import receiving
from tests.harness import Gateway, Running, Simulator
from tests.held import Deaf
from tests.kernel import peak, resident

pytestmark = pytest.mark.anyio

MIB = 2**20


@pytest.fixture(scope="module")
def forgetful(running: Running) -> Simulator:
    """A fal that is made to drop results."""
    return running.simulator(seed=str(SEED), concurrency="50")


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
    assert await desk.ledger.result(job.id, 2**30) is None
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
    await desk.until(job.id, lambda now: now.settled)
    desk.sim.ask("POST", "reset")
    result = await desk.http.get(f"/v1/jobs/{job.id}/result")

    assert result.status_code == 200
    assert len(result.content) == 16 * MIB
    assert desk.sim.calls(method="GET", ends=f"/requests/{job.fal_id}") == 0


@pytest.mark.parametrize("size", [2, RESULT_PIECE, RESULT_PIECE + 1, 3 * RESULT_PIECE + 7])
@pytest.mark.parametrize("path", ["/v1/jobs/{}/result", "/fal/queue/" + HELD + "/requests/{}"])
async def test_a_kept_result_is_what_fal_said(desk: Desk, size: int, path: str) -> None:
    text = secrets.token_hex(size // 2 + 1)[: size - 2]
    job = await desk.opened()
    assert await desk.report(job, envelope(job.fal_id or "", text)) == 204
    result = await desk.http.get(path.format(job.id))

    assert result.status_code == 200
    assert result.content == f'"{text}"'.encode()
    assert int(result.headers["content-length"]) == size


async def test_a_kept_result_that_goes_while_it_is_read_is_cut(desk: Desk) -> None:
    job = await desk.opened()
    await desk.report(job, envelope(job.fal_id or "", "x" * 8 * MIB))
    async with desk.http.stream("GET", f"/v1/jobs/{job.id}/result") as result:
        await desk.redis.delete(keys.result(job.id))
        with pytest.raises(httpx.RemoteProtocolError):
            await result.aread()
    again = await desk.http.get(f"/v1/jobs/{job.id}/result")

    assert result.status_code == 200
    assert (again.status_code, again.json()["error_type"]) == (410, "result_gone")


async def test_forty_who_read_slowly_cost_a_piece_each(desk: Desk, reader: Gateway) -> None:
    job = await desk.opened()
    await desk.report(job, envelope(job.fal_id or "", "x" * 15 * MIB))
    before = resident(reader.process.pid)
    with ExitStack() as stack:
        for _ in range(40):
            deaf = Deaf(reader, "alice", f"/v1/jobs/{job.id}/result")
            stack.callback(deaf.close)
        async with reader.http() as http:
            result = await http.get(f"/v1/jobs/{job.id}/result")
    grown = peak(reader.process.pid) - before

    print(f"forty slow readers of 15 MiB took {grown / MIB:.1f} MiB of memory")
    assert len(result.content) == 15 * MIB + 2
    assert grown < 50 * MIB


async def test_a_large_result_is_not_read_for_a_poll_or_a_delivery(desk: Desk) -> None:
    """Which carry only small ones."""
    with receiving() as receiver:
        job = await desk.opened(HELD, webhook_url=receiver.url)
        await desk.report(job, envelope(job.fal_id or "", "x" * 15 * MIB))
        before = await told_by_redis(desk)
        polls = [await desk.http.get(f"/v1/jobs/{job.id}") for _ in range(4)]

        async def arrived() -> bool:
            return len(receiver.came) > 0

        await eventually(arrived)
    told = await told_by_redis(desk) - before

    assert [poll.json()["result"] for poll in polls] == [None] * 4
    assert [body["payload"] for body in receiver.bodies] == [None]
    assert told < 4 * MIB


async def told_by_redis(desk: Desk) -> int:
    """Bytes that Redis has sent so far, to whomever."""
    stats: Any = await desk.redis.info("stats")
    sent: int = stats["total_net_output_bytes"]
    return sent
