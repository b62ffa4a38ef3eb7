"""Files by fal's own client, where the plan takes them through the gateway."""

from hashlib import sha256
from typing import Any, Final

import httpx
import pytest

from tests.clients import programs
from tests.clients.programs import Node
from tests.harness import Gateway, Running, Simulator

pytestmark = pytest.mark.anyio
programs.node_needed()

MIB: Final = 2**20
CONFIG: Final[dict[str, Any]] = {
    "plans": {
        "default": {
            "endpoints": ["**"],
            "max_upload": 95 * MIB,
            "limits": [{"uploads": "1GiB/day"}],
        }
    }
}


@pytest.fixture(scope="module")
def door(running: Running, sim: Simulator) -> Gateway:
    """It may hold 64 KiB of bodies, all in all."""
    env = {"GATEWAY_BODIES_MAX": "65536", "GATEWAY_BODIES_IN_FLIGHT": "65536"}
    plans = {name: {**plan, "max_body": 65536} for name, plan in CONFIG["plans"].items()}
    return running.gateway(sim, env=env, config={"plans": plans})


@pytest.mark.parametrize("size", [3 * MIB + 1, 90 * MIB + 7], ids=["whole", "in parts"])
async def test_a_file_passes_through_the_gateway(node: Node, door: Gateway, size: int) -> None:
    told = await node(
        "upload", proxy=f"{door.url}/api/fal/proxy", token=door.token(f"user-{size}"), size=size
    )
    async with httpx.AsyncClient() as http:
        data = (await http.get(told["url"])).content

    assert sha256(data).hexdigest() == told["sha256"]
    assert "/v1/uploads/{ticket}" in door.log_lines()
    assert resident(door) < 200 * MIB  # of 90 MiB, nothing was kept


def resident(door: Gateway) -> int:
    """Bytes of memory that the gateway has ever held."""
    with open(f"/proc/{door.process.pid}/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
