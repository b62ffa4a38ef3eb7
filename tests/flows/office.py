"""Where keys are made in tests: a gateway without its server, at the Redis of others."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from gateway.app import Deployment, build
from gateway.core.credentials import GATEWAY_HEADER, from_headers, key_hash
from gateway.core.fal import HOSTS
from gateway.core.model import Caller
from gateway.flows.authenticate import NOWHERE, Place, authenticate
from gateway.flows.managing import operating
from gateway.flows.services import Services
from gateway.settings import Settings
from tests.harness import CANARY, SECRET, free_port

ADMIN_KEY: Final = "operators-own-key-of-the-tests"
FILE_KEY: Final = "fgw_infile0001_AAAAAAAAAAAAAAAAAAAAAAAA"
SHORT_KEY: Final = "fgw_short000001_CCCCCCCCCCCCCCCCCCCCCCCC"
BOUND_KEY: Final = "fgw_bound000001_BBBBBBBBBBBBBBBBBBBBBBBB"
OPERATOR: Final = operating("request-1", "192.0.2.1")
FOUND: Final[Any] = {
    "fal": {"key": CANARY, "origins": {host: f"http://127.0.0.1:{free_port()}" for host in HOSTS}},
    "admin_key": ADMIN_KEY,
    "plans": {"default": {"endpoints": ["fal-ai/echo"]}, "spare": {}},
    "api_keys": [SHORT_KEY],
    "keys": [
        {"name": "in-file", "hash": key_hash(FILE_KEY), "scopes": ["submit", "mint"]},
        {
            "name": "bound",
            "hash": key_hash(BOUND_KEY),
            "plan": "spare",
            "scopes": ["mint"],
            "id": "toldotherwise1",
            "origins": ["https://a.example"],
            "networks": ["10.0.0.0/8"],
        },
    ],
}


@asynccontextmanager
async def an_office(redis_url: str) -> AsyncGenerator[Services]:
    app = build(Deployment(Settings.model_validate(FOUND), redis_url, (SECRET,), 0))
    with anyio.fail_after(60):
        async with app.router.lifespan_context(app) as state:
            assert state is not None
            yield state["services"]


async def called(services: Services, text: str, place: Place = NOWHERE) -> Caller:
    """Who calls with this credential."""
    presented = from_headers([(GATEWAY_HEADER.encode(), text.encode())])
    return await authenticate(services, presented, loopback=False, place=place)
