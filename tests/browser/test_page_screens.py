"""Every page as it looks: photographed, light and dark, on desktop and phone, and through axe."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, expect

from bacpipes import users
from bacpipes.database import connect
from bacpipes.embedded import EmbeddedPostgres, free_port
from bacpipes.tokens import Role
from browser_parts import PASSWORD, SHOTS, SIZES, serious, visit
from conftest import database_from, make_settings
from exporter_parts import Exporter, add_building, add_points, execute

pytestmark = pytest.mark.asyncio(loop_scope="session")
PAGES = ("/", "/monitor", "/points", "/writes", "/discovery", "/settings", "/users", "/account", "/setup")
AXE_LOOKS_AT = {("light", "desktop"), ("dark", "phone")}
MANY = 500
LONG = "Supply air temperature behind the heating coil of the old wing's rooftop unit, second sensor, calibrated 2024"


@asynccontextmanager
async def alone(postgres: EmbeddedPostgres, directory: object, points: int = 0) -> AsyncIterator[Exporter]:
    """An exporter without a worker, whose database holds so many points that were never read."""
    for url in database_from(postgres, "migrated"):
        settings = make_settings(url, directory, worker_http_port=free_port())  # type: ignore[arg-type]
        if points:
            add_building(url)
            add_points(url, points)
            execute(url, "UPDATE point SET dis = %s WHERE id = 4", [LONG])
            execute(url, "UPDATE point SET dis = %s WHERE id = 5", ["Unbreakable" * 12])
        async with await connect(settings, "test") as connection:
            await users.add(connection, "anna", Role.ADMIN, PASSWORD, "test")
        exporter = Exporter(settings)
        await asyncio.to_thread(exporter.__enter__)
        try:
            yield exporter
        finally:
            await asyncio.to_thread(exporter.__exit__)


async def photograph(page: Page, name: str) -> None:
    """Nothing sticks out to the side; then the picture."""
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
    await page.screenshot(path=SHOTS / f"{name}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_every_page_looks_right_to_axe_and_is_photographed(
    browser: Browser, exporter: Exporter, people: None, scheme: str, size: str
) -> None:
    SHOTS.mkdir(exist_ok=True)
    wanted = {"color_scheme": scheme, "size": SIZES[size], "reduced_motion": "reduce"}
    async with visit(browser, exporter, **wanted) as window:
        await window.page.goto(f"{exporter.url}/login")
        await window.page.screenshot(path=SHOTS / f"login_{scheme}_{size}.png")
        assert await serious(window.page) == []
    async with visit(browser, exporter, "anna", **wanted) as window:
        found = {}
        for path in PAGES:
            page = await window.open(path)
            if path == "/monitor":
                await expect(page.locator(".live-state")).to_have_text("live")
            if path in ("/points", "/writes"):
                await expect(page.locator(".ag-row" if path == "/points" else ".ag-root").first).to_be_visible()
            await photograph(page, f"{path.strip('/') or 'dashboard'}_{scheme}_{size}")
            if (scheme, size) in AXE_LOOKS_AT:
                found[path] = await serious(page)
        assert {path: faults for path, faults in found.items() if faults} == {}


@pytest.mark.parametrize("size", SIZES)
async def test_a_site_without_points_says_what_to_do(
    browser: Browser, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, size: str
) -> None:
    SHOTS.mkdir(exist_ok=True)
    async with (
        alone(postgres, tmp_path_factory.mktemp("empty")) as exporter,
        visit(browser, exporter, "anna", size=SIZES[size]) as window,
    ):
        found = {}
        for path in PAGES:
            page = await window.open(path)
            if path == "/":
                await expect(page.get_by_role("link", name="Open First steps")).to_be_visible()
                await expect(page.locator("[data-finding]").first).to_contain_text("The worker does not answer")
            if path == "/points":
                await expect(page.locator(".ag-overlay")).to_contain_text("No points yet")
            if path == "/settings":
                await expect(page.locator("[data-group='BACnet/IP']")).to_contain_text("The worker does not answer")
            await photograph(page, f"empty_{path.strip('/') or 'dashboard'}_{size}")
            found[path] = await serious(page)
        assert {path: faults for path, faults in found.items() if faults} == {}


@pytest.mark.parametrize("size", SIZES)
async def test_500_points_and_long_names_are_still_readable(
    browser: Browser, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory, size: str
) -> None:
    SHOTS.mkdir(exist_ok=True)
    async with (
        alone(postgres, tmp_path_factory.mktemp("many"), MANY) as exporter,
        visit(browser, exporter, "anna", size=SIZES[size]) as window,
    ):
        for path in ("/", "/monitor", "/points"):
            page = await window.open(path)
            if path == "/monitor":
                await expect(page.locator(".live")).to_have_count(MANY + 3)
            if path == "/points":
                await expect(page.get_by_role("status").first).to_contain_text(f"{MANY + 3} points")
                await expect(page.locator(".ag-row").first).to_be_visible()
            await photograph(page, f"many_{path.strip('/') or 'dashboard'}_{size}")
        await page.get_by_label("Filter").first.fill("Unbreakable")
        rows = page.locator(".ag-center-cols-container .ag-row")
        await expect(rows).to_have_count(1)
        await rows.first.click()
        await page.get_by_role("button", name="Edit").click()
        await expect(page.locator("[data-preview=topic]")).to_be_visible()
        await page.get_by_label("Minimum").fill("warm")
        await expect(page.get_by_text("is not a finite number")).to_be_visible()
        await photograph(page, f"edit_error_{size}")
