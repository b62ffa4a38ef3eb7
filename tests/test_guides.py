"""The guides do what they say: every shell block is run as it stands, in order, in a fresh folder.

Each runs in one shell, as in one terminal; what starts the gateway runs in another. A block of
`text` is what the shell block before it must print; `...` stands for anything.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.clients.programs import JS
from tests.harness import clean_env, free_port

ROOT: Final = Path(__file__).parents[1]
PORT: Final = "8787"
PATIENCE: Final = 60.0
"""Seconds for one block."""
FIVE_MINUTES: Final = 300.0
NODE: Final = shutil.which("node") is not None and (JS / "node_modules").is_dir()
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
"""Whatever is fenced, and its language."""


@dataclass(frozen=True, slots=True)
class Step:
    commands: str
    promised: str | None

    @property
    def serves(self) -> bool:
        return "make run" in self.commands


def steps(page: Path) -> list[Step]:
    found = [(match[1], match[2]) for match in BLOCK.finditer(page.read_text())]
    following = [*found[1:], ("", "")]
    return [
        Step(text, after[1] if after[0] == "text" else None)
        for (language, text), after in zip(found, following, strict=True)
        if language == "sh"
    ]


def keeps(promised: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in promised.strip().split("..."))
    return re.search(pattern, printed, re.S) is not None


class Terminal:
    """A shell that lives from block to block."""

    def __init__(self, folder: Path, env: dict[str, str], name: str) -> None:
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._shell = subprocess.Popen(
                ["bash"], cwd=folder, env=env, stdin=subprocess.PIPE, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._blocks = 0

    def type(self, commands: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(commands.encode())
        self._shell.stdin.flush()

    def run(self, commands: str) -> str:
        """What the commands print."""
        self._blocks += 1
        begin, end = (f"<<{word} {self._blocks}>>" for word in ("begin", "end"))
        self.type(f"echo '{begin}'\n{commands}\nprintf '\\n{end}\\n'\n")
        deadline = time.monotonic() + PATIENCE
        while f"\n{end}\n" not in (text := self.text()):
            assert time.monotonic() < deadline, text[-3000:]
            assert self._shell.poll() is None, text[-3000:]
            time.sleep(0.02)
        return text.partition(f"{begin}\n")[2].partition(f"\n{end}\n")[0]

    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        """Ends the shell and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, 15)
        try:
            self._shell.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, 9)
            self._shell.wait(10)
        if self._shell.stdin is not None:
            self._shell.stdin.close()


@dataclass(frozen=True, slots=True)
class Clone:
    """A folder like a clone after `make install`, and its two terminals."""

    port: int
    served: Terminal
    terminal: Terminal

    def do(self, step: Step) -> None:
        commands = step.commands.replace(PORT, str(self.port))
        if step.serves:
            self.served.type(commands)
            self._until_it_answers()
            return
        printed = self.terminal.run(commands)
        assert "Traceback" not in printed, printed
        if step.promised is not None:
            promised = step.promised.replace(PORT, str(self.port))
            assert keeps(promised, printed), f"promised:\n{promised}\nprinted:\n{printed}"

    def _until_it_answers(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for scheme in ("http", "https"):
                try:
                    url = f"{scheme}://127.0.0.1:{self.port}/readyz"
                    if httpx.get(url, verify=False, timeout=2).is_success:  # noqa: S501
                        return
                except httpx.TransportError:
                    time.sleep(0.02)
        raise AssertionError(self.served.text())


@pytest.fixture
def clone(tmp_path: Path) -> Generator[Clone]:
    folder = tmp_path / "fal-gateway"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("deploy", "gateway"):
        (folder / name).symlink_to(ROOT / name)
    programs = {
        ".venv/bin/python": f'exec {sys.executable} "$@"',
        ".venv/bin/fal-gateway": f'exec {sys.executable} -m gateway "$@"',
        "bin/make": '[ "$1" = run ] && exec .venv/bin/fal-gateway run',
        # What the guides install is there already: nothing is fetched.
        "bin/npm": f"ln -sfn {JS / 'node_modules'} node_modules",
    }
    for name, body in programs.items():
        program = folder / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    port = free_port()
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    env = clean_env(PATH=path, GATEWAY_PORT=str(port), PYTHONWARNINGS="", PIP_NO_INDEX="1")
    served, terminal = Terminal(folder, env, "served"), Terminal(folder, env, "terminal")
    try:
        yield Clone(port, served, terminal)
    finally:
        terminal.close()
        served.close()


@pytest.mark.parametrize("page", ["team", "web-app", "mobile"])
def test_a_guide_leads_to_a_limited_client(page: str, clone: Clone) -> None:
    began = time.monotonic()
    for step in steps(ROOT / "docs" / f"{page}.md"):
        if re.search(r"^(npm|node) ", step.commands, re.M) and not NODE:
            continue
        clone.do(step)

    assert time.monotonic() - began < FIVE_MINUTES


@pytest.mark.parametrize("page", ["team", "web-app", "mobile"])
def test_a_guide_shows_a_refusal_and_a_revocation(page: str) -> None:
    """So that what is promised is not nothing."""
    promised = "\n".join(step.promised or "" for step in steps(ROOT / "docs" / f"{page}.md"))

    assert any(step.serves for step in steps(ROOT / "docs" / f"{page}.md"))
    assert re.search(r"rule_broken|limit_reached|budget_spent", promised)
    assert "revoked" in promised
