"""Programs with `fal_client`, and a gateway for them: over https, since it speaks nothing else."""

import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trustme

from tests.clients import fal_script
from tests.clients.programs import told
from tests.harness import KEYS, Files, Gateway, Running, Simulator, wait_for


@dataclass(frozen=True)
class Python:
    """Runs `fal_script` against a gateway that serves https at `host`."""

    gateway: Gateway
    ca: Path
    files: Files

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.gateway.tap.port}"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)

    async def __call__(self, script: str, key: str = KEYS["backend"], **given: Any) -> Any:
        command = [sys.executable, str(fal_script.__file__), script]
        env = {
            "FAL_RUN_HOST": f"{self.host}/fal/run",
            "FAL_QUEUE_RUN_HOST": f"{self.host}/fal/queue",
            "FAL_KEY": key,
            "SSL_CERT_FILE": str(self.ca),
        }
        return await told(command, self.files.folder(f"python-{script}"), given, env)


@dataclass(frozen=True)
class Certified:
    """A certificate for this machine, in PEM files."""

    ca: Path
    cert: Path
    key: Path


def certified(files: Files) -> Certified:
    folder, authority = files.folder("tls"), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    made = Certified(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(made.ca)
    certificate.private_key_pem.write_to_path(made.key)
    for part in certificate.cert_chain_pems:
        part.write_to_path(made.cert, append=True)
    return made


def over_tls(
    running: Running,
    sim: Simulator,
    files: Files,
    certified: Certified,
    *,
    public: bool = False,
    env: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Python:
    """A gateway with that certificate: in pull mode, or `public` for a simulator that trusts it."""
    tls = {
        "GATEWAY_TLS_CERT": str(certified.cert),
        "GATEWAY_TLS_KEY": str(certified.key),
        "GATEWAY_PUBLIC_URL": "",
        "GATEWAY_CLIENT_URL": "",
    }
    gateway = running.gateway(sim, env={**tls, **(env or {})}, config=config, start=False)
    if public:
        gateway.process.env["GATEWAY_PUBLIC_URL"] = f"https://127.0.0.1:{gateway.port}"
    gateway.process.start()
    python = Python(gateway, certified.ca, files)
    wait_for(lambda: _ready(python), process=gateway.process)
    return python


def _ready(python: Python) -> bool:
    try:
        return httpx.get(f"https://{python.host}/readyz", verify=python.trust).is_success
    except httpx.TransportError:
        return False
