"""Gateways that are set up otherwise than the run's."""

import pytest

from tests.harness import Gateway, Running, Simulator

ORIGIN = "https://app.example"


@pytest.fixture(scope="session")
def local(running: Running, sim: Simulator) -> Gateway:
    """Open to this machine and to one page elsewhere, narrow in its bounds, in pull mode, and
    without an address of its own but the Host of a request."""
    return running.gateway(
        sim,
        env={
            "GATEWAY_ANONYMOUS": "loopback",
            "GATEWAY_CORS_ORIGINS": ORIGIN,
            "GATEWAY_BODIES_MAX": "65536",
            "GATEWAY_BODIES_IN_FLIGHT": "65536",
            "GATEWAY_LOG_FORMAT": "json",
            "GATEWAY_PUBLIC_URL": "",
            "GATEWAY_CLIENT_URL": "",
        },
    )
