"""fal's own clients, and what they talk to."""

import base64
import shutil
from collections.abc import AsyncGenerator, Generator

import pytest
from playwright.async_api import Browser, async_playwright

from tests.clients.browser import FLAGS, Tab
from tests.clients.browser import tab as new_tab
from tests.clients.programs import Node
from tests.clients.servers import Site
from tests.clients.sound import tone
from tests.harness import Files, Gateway, Running, Simulator

CLIP_SECONDS = 2.0
UNHURRIED = 0.4
"""Pace of a simulator whose jobs take about 1.4 s: time enough to see each of their states."""


@pytest.fixture(scope="session")
def node(files: Files) -> Node:
    return Node(files)


@pytest.fixture(scope="session")
def site() -> Generator[Site]:
    """A web site of its own origin. Put files of your own into it."""
    with Site() as site:
        yield site


@pytest.fixture(scope="session")
def clip(files: Files) -> str:
    """The path of a real WAV file of `CLIP_SECONDS`."""
    path = files.folder("clip") / "clip.wav"
    path.write_bytes(tone(CLIP_SECONDS))
    return str(path)


@pytest.fixture(scope="session")
def clip_uri() -> str:
    """The same as a data URI."""
    return f"data:audio/wav;base64,{base64.b64encode(tone(CLIP_SECONDS)).decode()}"


@pytest.fixture(scope="session")
def slow_sim(running: Running) -> Simulator:
    return running.simulator(keep=True, pace=UNHURRIED)


@pytest.fixture(scope="session")
def stage(running: Running, slow_sim: Simulator, site: Site) -> Gateway:
    """A gateway with the playground, which pages of `site` may call. Leave it as it was."""
    env = {"GATEWAY_PLAYGROUND": "true", "GATEWAY_CORS_ORIGINS": site.origin}
    return running.gateway(slow_sim, env=env, keep=True)


@pytest.fixture(scope="module")  # not longer: it keeps the event loop for all tests meanwhile
async def chromium() -> AsyncGenerator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=FLAGS
        )
        yield browser
        await browser.close()


@pytest.fixture
async def tab(chromium: Browser, files: Files) -> AsyncGenerator[Tab]:
    async with new_tab(chromium, files.folder("tab")) as tab:
        yield tab
        assert tab.complaints == []
