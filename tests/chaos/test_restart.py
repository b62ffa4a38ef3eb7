"""fal's JavaScript client, while the gateway that it talks to stops and comes again."""

import secrets
import signal
from collections.abc import Callable
from typing import Any, Final

import anyio
import pytest

from tests.clients.programs import Node, node_needed
from tests.harness import Files, Gateway, Running, Simulator
from tests.held import comes_true, fal_id_of

node_needed()
pytestmark = pytest.mark.anyio

RESULT: Final = {"loud": True}


@pytest.fixture(scope="module")
def node(files: Files) -> Node:
    return Node(files)


@pytest.fixture
def leaving(running: Running, wide_sim: Simulator) -> Gateway:
    """A gateway that does not wait for long when it is told to stop."""
    return running.gateway(wide_sim, env={"GATEWAY_DRAIN_GRACE": "4"})


async def subscribed(
    node: Node,
    gateway: Gateway,
    sim: Simulator,
    meanwhile: Callable[[Callable[[], None]], Any],
    **options: Any,
) -> Any:
    """What `fal.subscribe` told of a job that runs; `meanwhile` is awaited with its end."""
    endpoint = f"sim/fault/hold/{secrets.token_hex(6)}"
    told: list[Any] = []

    async def subscribe() -> None:
        told.append(
            await node(
                "subscribe", proxy=f"{gateway.url}/api/fal/proxy", token=gateway.token(),
                endpoint=endpoint, input={}, options=options,
            )
        )  # fmt: skip

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(subscribe)
        await comes_true(lambda: sim.calls(method="POST", ends=endpoint), 20)
        fal_id = fal_id_of(sim, endpoint)
        await comes_true(lambda: sim.calls(has=fal_id, ends="/status/stream"), 20)
        await meanwhile(lambda: sim.ask("POST", f"end/{fal_id}", json=RESULT))
    return told[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_polling_subscribe_ends_well_over_a_restart(
    node: Node, leaving: Gateway, wide_sim: Simulator, number: signal.Signals
) -> None:
    async def restarted(end: Callable[[], None]) -> None:
        await stopped(leaving, number)
        await anyio.to_thread.run_sync(leaving.start)
        end()

    told = await subscribed(node, leaving, wide_sim, restarted, pollInterval=200)

    assert told["value"]["data"] == RESULT
    assert told["value"]["requestId"] == told["enqueued"]
    assert told["updates"][-1]["status"] == "COMPLETED"


async def test_a_streaming_subscribe_ends_well_when_the_job_ends_before_the_grace(
    node: Node, leaving: Gateway, wide_sim: Simulator
) -> None:
    """The stream goes on to the job's end; the result is fetched from who comes after."""

    async def restarted(end: Callable[[], None]) -> None:
        leaving.process.signal(signal.SIGTERM)
        await anyio.sleep(0.5)
        end()
        await stopped(leaving, None)
        await anyio.to_thread.run_sync(leaving.start)

    told = await subscribed(node, leaving, wide_sim, restarted, mode="streaming")

    assert told["value"]["data"] == RESULT
    assert told["updates"][-1]["status"] == "COMPLETED"


async def test_a_streaming_subscribe_that_is_cut_says_so_and_its_job_is_not_lost(
    node: Node, leaving: Gateway, wide_sim: Simulator
) -> None:
    """The client does not open a stream again. A clean end it would take for the job's."""

    async def restarted(end: Callable[[], None]) -> None:
        await stopped(leaving, signal.SIGTERM)
        await anyio.to_thread.run_sync(leaving.start)
        end()

    told = await subscribed(node, leaving, wide_sim, restarted, mode="streaming")
    async with leaving.http() as client:
        result = await client.get(f"/fal/queue/sim/fault/requests/{told['enqueued']}")

    assert told["error"]["api"] is True
    assert told["error"]["message"] == "terminated"
    assert all(update["status"] != "COMPLETED" for update in told["updates"])
    assert result.json() == RESULT


async def stopped(gateway: Gateway, number: signal.Signals | None) -> None:
    if number is not None:
        gateway.process.signal(number)
    popen = gateway.process.popen
    assert popen is not None
    await anyio.to_thread.run_sync(lambda: popen.wait(30))
