"""A real browser for the tests of the page: Debian's Chromium, without a window."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from exporter_parts import Exporter

SHOTS = Path(__file__).parent / "browser" / "screenshots"  # ignored by git
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SIZES = {"desktop": (1366, 850), "phone": (390, 844)}
PATIENCE = 30_000  # ms; a machine that runs other things too needs them
PASSWORD = "a long enough password"
expect.set_options(timeout=PATIENCE)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser, or a skip that says what is missing."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium is installed; `make test` as root installs Debian's package chromium")
    arguments = ["--disable-gpu", "--disable-dev-shm-usage"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # it refuses to run as root with it
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


class Visit:
    """One person's browser window. What the browser complains of, as of a broken policy, is kept in ``complaints``."""

    def __init__(self, context: BrowserContext, page: Page, exporter: Exporter) -> None:
        self.context, self.page, self._exporter = context, page, exporter
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self._said(message.type, message.text))

    def _said(self, kind: str, text: str) -> None:
        if kind == "error" and "status of 4" not in text and "ERR_" not in text:
            self.complaints.append(text)

    async def login(self, name: str, password: str = PASSWORD) -> None:
        """Fill in the form and send it."""
        await self.page.goto(f"{self._exporter.url}/login")
        await self.page.fill("#name", name)
        await self.page.fill("#password", password)
        await self.page.click("button")

    async def open(self, path: str) -> Page:
        """Go to a page, and wait until it is whole and alive: its socket is there."""
        await self.page.goto(f"{self._exporter.url}{path}")
        await expect(self.page.locator(".content[data-ready]")).to_be_visible()
        await self.page.wait_for_function("() => window.socket && window.socket.connected")
        return self.page

    async def say(self) -> str:
        """The page's text."""
        return re.sub(r"\s+", " ", await self.page.inner_text("body"))


@asynccontextmanager
async def visit(browser: Browser, exporter: Exporter, name: str | None = None, **more: Any) -> AsyncIterator[Visit]:
    """A window of its own, logged in where there is a name."""
    width, height = more.pop("size", SIZES["desktop"])
    context = await browser.new_context(viewport={"width": width, "height": height}, **more)
    context.set_default_timeout(PATIENCE)
    try:
        found = Visit(context, await context.new_page(), exporter)
        if name:
            await found.login(name)
            await expect(found.page.locator(".content")).to_be_visible()
        yield found
        assert found.complaints == []
    finally:
        await context.close()


async def serious(page: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    results = await Axe().run(page)
    return [
        f"{found['id']}: {found['help']} ({found['nodes'][0]['html'][:200]})"
        for found in results.response["violations"]
        if found["impact"] in ("serious", "critical")
    ]


async def text_of(download: Any) -> str:
    """What was downloaded."""
    return await asyncio.to_thread(Path(await (await download.value).path()).read_text)
