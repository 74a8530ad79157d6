"""Every page as it looks: photographed, light and dark, on desktop and phone, and through axe."""

import pytest
from playwright.async_api import Browser, expect

from browser_parts import SHOTS, SIZES, serious, visit
from exporter_parts import Exporter

pytestmark = pytest.mark.asyncio(loop_scope="session")
PAGES = ("/", "/monitor", "/points", "/writes", "/discovery", "/settings", "/users", "/account", "/setup")
AXE_LOOKS_AT = {("light", "desktop"), ("dark", "phone")}


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
            assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
            await page.screenshot(path=SHOTS / f"{path.strip('/') or 'dashboard'}_{scheme}_{size}.png")
            if (scheme, size) in AXE_LOOKS_AT:
                found[path] = await serious(page)
        assert {path: faults for path, faults in found.items() if faults} == {}
