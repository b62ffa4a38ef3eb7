"""Gateways that are set up otherwise than the run's."""

from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.harness import CONFIG, Gateway, Running, Simulator

ORIGIN = "https://app.example"
LOGIN: Final = "https://login.example/"
AUDIENCE: Final = "https://gw.example"
LOGIN_KEY: Final = ec.generate_private_key(ec.SECP256R1())
"""Of the issuer that the front door knows."""


@pytest.fixture(scope="session")
def local(running: Running, sim: Simulator) -> Gateway:
    """Open to this machine and to one page elsewhere, narrow in its bounds, in pull mode, and
    without an address of its own but the Host of a request."""
    return running.gateway(
        sim,
        keep=True,
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


@pytest.fixture(scope="session")
def front(running: Running, sim: Simulator) -> Gateway:
    """The front door of an app: visitors, users of its own issuers, tokens that are refreshed.

    Behind a proxy on this machine, so that tests can come from anywhere.
    """
    config = {
        "keys": CONFIG["keys"],
        "plans": {
            "narrow": {"endpoints": ["fal-ai/flux/**", "fal-ai/echo"]},
            "default": {"endpoints": ["fal-ai/**"], "grants": ["narrow"]},
            "visitors": {
                "endpoints": ["fal-ai/echo"],
                "limits": [
                    {"jobs": "5/day", "of": "address"},
                    {"jobs": "1000/day", "of": "team"},
                ],
            },
        },
        "issuers": [
            {
                "name": "login", "issuer": LOGIN, "audience": AUDIENCE, "algorithms": ["ES256"],
                "public_key": login_pem(), "claims": {"team": "org", "plan": "plan"},
                "teams": {"o-7": "other-team"}, "plans": ["narrow"],
            }
        ],
    }  # fmt: skip
    env = {
        "GATEWAY_ANONYMOUS": "on",
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1",
        "GATEWAY_CORS_ORIGINS": ORIGIN,
    }
    return running.gateway(sim, keep=True, config=config, env=env)


def login_pem() -> str:
    form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return LOGIN_KEY.public_key().public_bytes(*form).decode()
