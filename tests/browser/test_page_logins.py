"""Logins that end, connections that are lost, guesses that have to wait."""

import asyncio
import re

import httpx
import pytest
from playwright.async_api import Browser, expect

from bacpipes import users
from bacpipes.database import connect
from bacpipes.tokens import Role
from browser_parts import PASSWORD, visit
from exporter_parts import Exporter
from site_parts import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_login_that_is_ended_ends_the_page(
    browser: Browser, site: Site, exporter: Exporter, people: None
) -> None:
    async with await connect(site.settings, "test") as connection:
        await users.add(connection, "leaver", Role.ADMIN, PASSWORD, "test")
    async with visit(browser, exporter, "leaver") as window:
        page = await window.open("/users")
        async with await connect(site.settings, "test") as connection:
            await users.set_disabled(connection, "leaver", "test", disabled=True)
        await page.get_by_label("Name of the program").fill("too-late")
        await page.get_by_role("button", name="Make a token").click()
        await expect(page).to_have_url(re.compile("/login$"))
        assert site.one("SELECT count(*) FROM api_token WHERE name = 'too-late'") == (0,)


async def test_a_lost_connection_is_shown_and_recovered(browser: Browser, site: Site, people: None) -> None:
    server = Exporter(site.settings)
    await asyncio.to_thread(server.__enter__)
    try:
        async with visit(browser, server, "vera") as window:
            page = await window.open("/monitor")
            await expect(page.locator(".live-state")).to_have_text("live")
            await asyncio.to_thread(server.__exit__)
            await expect(page.get_by_text("Connection lost.")).to_be_visible()
            await expect(page.locator(".live-state")).to_have_text("The connection is lost; trying again …")
            await asyncio.to_thread(server.__enter__)
            await expect(page.locator(".live-state")).to_have_text("live", timeout=60_000)
            await expect(page.get_by_text("Connection lost.")).to_be_hidden()
    finally:
        await asyncio.to_thread(server.__exit__)


async def test_too_many_failures_have_to_wait(site: Site, people: None) -> None:
    form = {"name": "vera", "password": "wrong"}
    server = Exporter(site.settings)  # of its own: it remembers the failures
    await asyncio.to_thread(server.__enter__)
    try:
        async with httpx.AsyncClient(base_url=server.url, headers={"Origin": server.url}, timeout=60) as http:
            answers = [await http.post("/login", data=form) for _ in range(6)]
            assert [answer.status_code for answer in answers] == [401] * 5 + [429]
            assert "Too many failures: wait" in answers[-1].text
            assert (await http.post("/login", data=form | {"password": PASSWORD})).status_code == 429
    finally:
        await asyncio.to_thread(server.__exit__)
