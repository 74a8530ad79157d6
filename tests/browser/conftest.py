"""One site for all browser tests: the simulated building, database, broker, worker, exporter, and people."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from bacpipes import users
from bacpipes.database import connect
from bacpipes.embedded import EmbeddedBroker, EmbeddedPostgres
from bacpipes.tokens import Role
from browser_parts import PASSWORD, chromium, visit
from conftest import database_from, make_settings
from exporter_parts import Exporter
from site_parts import Site

PEOPLE = {"vera": Role.VIEWER, "otto": Role.OPERATOR, "anna": Role.ADMIN}


@pytest.fixture(scope="session")
def url(postgres: EmbeddedPostgres) -> object:
    yield from database_from(postgres, "migrated")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site(url: str, broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with Site(make_settings(url, tmp_path_factory.mktemp("state")), broker) as site:
        site.start_worker()
        await site.readings()
        yield site


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def exporter(site: Site) -> AsyncIterator[Exporter]:
    found = Exporter(site.settings)
    await asyncio.to_thread(found.__enter__)
    try:
        yield found
    finally:
        await asyncio.to_thread(found.__exit__)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def people(site: Site, first_admin: str) -> None:
    async with await connect(site.settings, "test") as connection:
        for name, role in PEOPLE.items():
            await users.add(connection, name, role, PASSWORD, "test")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def first_admin(browser: Browser, site: Site, exporter: Exporter) -> str:
    """The first run, by its one-time token."""
    async with await connect(site.settings, "test") as connection:
        token = await users.first_token(connection, "test")
    async with visit(browser, exporter) as window:
        page = window.page
        await page.goto(exporter.url)
        await expect(page).to_have_url(re.compile("/login$"))
        await page.get_by_role("link", name="make the first admin").click()
        for attempt in ("not-the-token", token):
            await page.fill("#token", attempt)
            await page.fill("#name", "Root")
            await page.fill("#password", PASSWORD)
            await page.fill("#again", PASSWORD)
            await page.click("button")
            if attempt != token:
                await expect(page.locator("[role=alert]")).to_contain_text("The token is wrong or has ended")
        await expect(page).to_have_url(re.compile("/setup$"))
        for step in ("The site", "BACnet", "Broker", "Points"):
            await expect(page.locator(f"[data-step='{step}'][data-done=true]")).to_be_visible()
    return token
