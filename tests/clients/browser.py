"""Pages in headless Chromium."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page

FLAGS: Final = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE: Final = 20_000.0
"""Milliseconds until something is seen."""

_WITNESS: Final = """
addEventListener("DOMContentLoaded", () => {
  window.witnessed = [];
  const look = ({ target }) => {
    const { stage, position } = target.dataset;
    const seen = target.id === "run" ? stage : position && `position ${position}`;
    if (seen && seen !== window.witnessed.at(-1)) window.witnessed.push(seen);
  };
  const those = { subtree: true, attributeFilter: ["data-stage", "data-position"] };
  const wanted = ({ target }) => ["run", "position"].includes(target.id);
  new MutationObserver((all) => all.filter(wanted).forEach(look)).observe(document, those);
});
"""
"""Keeps each stage and position that the playground shows, however shortly."""


def needed() -> None:
    """Skip the module that calls this where there is no browser."""
    if shutil.which("chromium") is None:
        pytest.skip("no chromium on the PATH: pages are not tried", allow_module_level=True)


@dataclass
class Tab:
    """A page, and what it complained of."""

    page: Page
    folder: Path
    complaints: list[str] = field(default_factory=list)
    """Errors of the console, and exceptions. An answer such as 401 or 422 is the page's to tell."""

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and "the server responded with" not in message.text:
            self.complaints.append(message.text)

    async def see(self, selector: str) -> None:
        """Wait until it is there and visible."""
        await self.page.wait_for_selector(selector)

    async def stage(self, name: str) -> None:
        await self.page.wait_for_selector(f"#run[data-stage={name}]")

    async def number(self, selector: str) -> float:
        """The seconds that an element tells programs."""
        await self.page.wait_for_selector(f"{selector}[data-seconds]")
        return float(await self.page.get_attribute(selector, "data-seconds") or "nan")

    async def witnessed(self) -> list[str]:
        seen: list[str] = await self.page.evaluate("window.witnessed")
        return seen

    async def shot(self, name: str) -> None:
        await self.page.screenshot(path=self.folder / f"{name}.png", full_page=True)


@asynccontextmanager
async def tab(browser: Browser, folder: Path) -> AsyncGenerator[Tab]:
    """A tab with cookies of its own."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        context.set_default_timeout(PATIENCE)
        await context.add_init_script(_WITNESS)
        page = await context.new_page()
        yield Tab(page, folder)
    finally:
        await context.close()
