"""Programs that use the gateway with fal's own clients, unmodified."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from tests.harness import Files, clean_env

JS: Final = Path(__file__).parent / "js"
PATIENCE: Final = 90.0
"""Seconds for a script."""


def node_needed() -> None:
    """Skip the module that calls this where there is no Node, or not fal's client for it."""
    if shutil.which("node") is None:
        pytest.skip("no node on the PATH: fal's client is not tried", allow_module_level=True)
    if not (JS / "node_modules" / "@fal-ai" / "client").is_dir():
        pytest.skip(f"no node_modules in {JS}: run `make dev`", allow_module_level=True)


@dataclass(frozen=True)
class Node:
    """Runs the scripts in `js/`. What they say is kept, and searched for the fal key in the end."""

    files: Files

    async def __call__(
        self, script: str, *, env: Mapping[str, str] | None = None, **given: Any
    ) -> Any:
        """What the script told; it was told `given`."""
        command = ["node", str(JS / f"{script}.mjs")]
        return await told(command, self.files.folder(f"node-{script}"), given, env or {})


async def told(
    command: Sequence[str], folder: Path, given: Mapping[str, Any], env: Mapping[str, str]
) -> Any:
    """JSON in, JSON out."""
    with anyio.fail_after(PATIENCE):
        done = await anyio.run_process(
            command, input=json.dumps(given).encode(), env=clean_env(**env), check=False
        )
    (folder / "stdout").write_bytes(done.stdout)
    (folder / "stderr").write_bytes(done.stderr)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)
