"""Points: found, edited, published, and owned by the inventory."""

import asyncio

import pytest
from playwright.async_api import Browser, expect

from browser_parts import text_of, visit
from exporter_parts import Exporter
from mqtt_parts import until
from site_parts import AHU, SENSOR_TOPIC, SETPOINT_TOPIC, Site

pytestmark = pytest.mark.asyncio(loop_scope="session")
SETPOINT = "Return air humidity setpoint"


async def test_an_edit_shows_the_name_and_a_clash_before_it_is_saved(
    browser: Browser, site: Site, exporter: Exporter, people: None
) -> None:
    async with visit(browser, exporter, "anna") as window, visit(browser, exporter, "anna") as other:
        for one in (window, other):
            page = await one.open("/points")
            await page.get_by_label("Filter").first.fill("supply air temperature")
            await expect(page.locator(".ag-center-cols-container .ag-row")).not_to_have_count(0)
            await page.locator(".ag-center-cols-container .ag-row").first.click()
            await page.get_by_role("button", name="Edit").click()
            await expect(page.locator("[data-preview=name]")).to_have_text("duxton.ahu.1.sensor.temp.air.supply.actual")
        page = window.page
        await page.get_by_label("Haystack: location").fill("return")
        await expect(page.get_by_text("is the name of device")).to_be_visible()
        await page.locator("[data-save]").click()
        await expect(page.get_by_text("is the name of device")).to_be_visible()
        assert site.one("SELECT location FROM point WHERE topic = %s", SENSOR_TOPIC) == ("supply",)
        await page.get_by_label("Haystack: location").fill("supply")
        await page.get_by_label("Haystack: qualifier").fill("Averaged Value")
        await expect(page.locator("[data-preview=name]")).to_have_text(
            "duxton.ahu.1.sensor.temp.air.supply.averaged_value"
        )
        await page.locator("[data-save]").click()
        await expect(page.get_by_text("Saved: 1 point changed.")).to_be_visible()
        assert site.one("SELECT qualifier FROM point WHERE topic = %s", SENSOR_TOPIC) == ("averaged_value",)
        changed = site.one("SELECT actor, detail->'qualifier' FROM audit WHERE action = 'point.edit'")
        assert changed == ("page:anna", ["actual", "averaged_value"])
        await other.page.get_by_label("Display name").fill("mine")
        await other.page.locator("[data-save]").click()
        await expect(other.page.get_by_text("Somebody else changed 1 of these points").first).to_be_visible()
        assert site.one("SELECT dis FROM point WHERE topic = %s", SENSOR_TOPIC) != ("mine",)


async def test_a_field_is_cleared_in_many_points_at_once(
    browser: Browser, site: Site, exporter: Exporter, people: None
) -> None:
    chosen = (
        "SELECT count(*) FILTER (WHERE units = '' AND interval_seconds = 2), count(*) FROM point WHERE name = ANY (%s)"
    )
    rows = site.database.execute("SELECT name FROM point WHERE units = '°C' ORDER BY id LIMIT 2").fetchall()
    names = [row[0] for row in rows]
    site.database.execute("UPDATE point SET dis = 'Clear ' || dis WHERE name = ANY (%s)", [names])
    async with visit(browser, exporter, "anna") as window:
        page = await window.open("/points")
        await page.get_by_label("Filter").first.fill("clear")
        shown = page.locator(".ag-center-cols-container .ag-row")
        await expect(shown).to_have_count(2)
        everything = page.locator(".ag-header-select-all input").first
        await everything.click()  # all that the filter shows, and no more
        await page.get_by_label("Filter").first.fill("nothing at all")
        await expect(shown).to_have_count(0)
        await page.get_by_role("button", name="Edit").click()
        await expect(page.get_by_text("Select one row or several.")).to_be_visible()  # what is hidden is not edited
        await page.get_by_label("Filter").first.fill("clear")
        await expect(shown).to_have_count(2)
        await page.get_by_role("button", name="Edit").click()
        await expect(page.get_by_text("Edit 2 points")).to_be_visible()
        await page.get_by_label("Interval (s)").fill("2")
        await page.get_by_label("Clear in all of them").click()
        await page.get_by_role("option", name="Units").click()
        await page.keyboard.press("Escape")
        await expect(page.get_by_label("Units", exact=True)).to_be_disabled()
        await expect(page.get_by_role("status", name="Preview")).to_contain_text("units: °C →")
        assert site.one(chosen, names) == (0, 2)  # a preview saves nothing
        await page.locator("[data-save]").click()
        await expect(page.get_by_text("Saved: 2 points changed.")).to_be_visible()
    assert site.one(chosen, names) == (2, 2)


async def test_from_discovery_to_a_published_point(
    browser: Browser, site: Site, exporter: Exporter, people: None
) -> None:
    device = next(one.device_id for one in site.building.plan.devices if one.device_id != AHU)
    async with visit(browser, exporter, "anna") as window:
        page = await window.open("/discovery")
        await page.get_by_label("Addresses").fill(site.building.address(device))
        await page.get_by_role("button", name="Start").click()
        await expect(page.locator("[data-progress]")).to_contain_text("Done: 1 device, 1 read")
        row = page.locator(".ag-center-cols-container .ag-row").first
        await expect(row).to_contain_text("new")
        await row.click()
        await page.get_by_role("button", name="Add the chosen").click()
        await until(lambda: site.one("SELECT count(*) FROM point p JOIN device d ON d.id = p.device"
                                     " WHERE d.device_id = %s", device) == (1,), "the chosen point")  # fmt: skip
        page = await window.open("/points")
        await page.get_by_label("Filter").first.fill(str(device))
        row = page.locator(".ag-center-cols-container .ag-row")
        await expect(row).to_have_count(1)
        await row.click()
        await page.get_by_role("button", name="Edit").click()
        tags = {"equip": "New", "equip_ref": "7", "function": "sensor", "quantity": "temp"}
        tags |= {"substance": "air", "location": "room", "qualifier": "actual"}
        for tag, text in tags.items():
            await page.get_by_label(f"Haystack: {tag}", exact=True).fill(text)
        await page.get_by_label("Interval (s)").fill("1")
        await page.get_by_label("Enabled (is polled)").click()
        await page.get_by_role("option", name="yes").click()
        await expect(page.locator("[data-preview=name]")).to_have_text("duxton.new.7.sensor.temp.air.room.actual")
        topic = await page.locator("[data-preview=topic]").inner_text()
        assert topic.startswith("duxton/new_7/")
        await page.locator("[data-save]").click()
        await until(lambda: bool(site.published(topic)), f"a reading on {topic}")


async def test_points_of_the_inventory_are_read_only_and_changes_leave_as_a_diff(
    browser: Browser, site: Site, people: None
) -> None:
    owned = Exporter(site.settings, POINTS_OWNER="inventory")
    await asyncio.to_thread(owned.__enter__)
    try:
        async with visit(browser, owned, "anna") as window:
            page = await window.open("/points")
            assert "The inventory owns this site's points" in await window.say()
            assert await page.get_by_role("button", name="Import").count() == 0
            await page.get_by_label("Filter").first.fill(SETPOINT)
            await expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(1)
            await page.locator(".ag-center-cols-container .ag-row").first.click()
            await page.get_by_role("button", name="Edit").click()
            await page.get_by_label("Display name").fill("Humidity wanted")
            async with page.expect_download() as download:
                await page.locator("[data-save]").click()
            text = await text_of(download)
        assert f"\n-{AHU},AHU-1," in text
        assert ",Humidity wanted," in text
        assert site.one("SELECT dis FROM point WHERE topic = %s", SETPOINT_TOPIC) == (SETPOINT,)
    finally:
        await asyncio.to_thread(owned.__exit__)
