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
from mqtt_parts import until
from site_parts import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_users_and_tokens_are_made_changed_and_ended(
    browser: Browser, site: Site, exporter: Exporter, people: None
) -> None:
    account = "SELECT role, disabled_at IS NOT NULL FROM app_user WHERE name = 'nina'"
    async with visit(browser, exporter, "anna") as window:
        page = await window.open("/users")
        await page.get_by_label("Name", exact=True).fill("Nina")
        await page.get_by_label("Password", exact=True).fill("short")
        await page.get_by_role("button", name="Add a user").click()
        await expect(page.get_by_text("The password is too short")).to_be_visible()
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_role("button", name="Add a user").click()
        row = page.locator("[data-user=nina]")
        await expect(row).to_contain_text("enabled")
        assert site.one(account) == ("viewer", False)
        await page.get_by_label("Role of nina").click()
        await page.get_by_role("option", name="operator").click()
        await until(lambda: site.one(account) == ("operator", False), "the other role")
        await row.get_by_role("button", name="Disable").click()
        await expect(row).to_contain_text("disabled")
        assert site.one(account) == ("operator", True)
        await page.get_by_label("Name of the program").fill("grafana")
        await page.get_by_role("button", name="Make a token").click()
        made = page.locator("[data-token]")
        await expect(made).to_contain_text("shown this once")
        headers = {"Authorization": f"Bearer {(await made.inner_text()).split()[0]}"}
        async with httpx.AsyncClient(base_url=exporter.url, headers=headers) as http:
            assert (await http.get("/api/points")).status_code == 200
            page = await window.open("/users")
            assert headers["Authorization"].split()[1] not in await page.content()
            await page.get_by_role("button", name="Revoke").first.click()
            await expect(page.get_by_text("Token grafana is revoked.")).to_be_visible()
            assert (await http.get("/api/points")).status_code == 401


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
