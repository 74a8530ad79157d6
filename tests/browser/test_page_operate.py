"""What a viewer and an operator do, in a real browser, against the real appliance with the simulated building."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from playwright.async_api import Browser, Page, expect

from browser_parts import PASSWORD, SHOTS, text_of, visit
from exporter_parts import Exporter, execute
from mqtt_parts import until
from site_parts import AHU, SENSOR_TOPIC, SETPOINT_TOPIC, Site
from site_parts import SETPOINT as SETPOINT_OBJECT

pytestmark = pytest.mark.asyncio(loop_scope="session")
SETPOINT = "Return air humidity setpoint"


async def test_the_first_admin_comes_by_the_token_once(site: Site, exporter: Exporter, first_admin: str) -> None:
    form = {"token": first_admin, "name": "second", "password": PASSWORD, "again": PASSWORD}
    answer = await asyncio.to_thread(httpx.post, f"{exporter.url}/first", data=form, headers={"Origin": exporter.url})
    assert answer.status_code == 400
    assert "There is an admin already" in answer.text
    assert execute(site.settings.database_url.get_secret_value(), "SELECT name, role FROM app_user LIMIT 1") == [
        ("root", "admin")
    ]


async def test_the_dashboard_says_what_is_wrong_first(
    browser: Browser, site: Site, exporter: Exporter, people: None
) -> None:
    async with visit(browser, exporter, "vera") as window:
        page = await window.open("/")
        await expect(page.locator(".content")).to_contain_text("authenticated as bacpipes, not encrypted, since 2")
        silent = page.locator("[data-finding]", has_text=f"Device {AHU}")
        await expect(silent).to_have_count(0)
        site.building.fault("silent", AHU)
        try:
            await expect(page.locator("[data-finding]").first).to_contain_text(f"Device {AHU}")
            assert "Is it switched on" in await window.say()
        finally:
            site.building.clear()
        await expect(silent).to_have_count(0)


async def test_a_live_value_moves(browser: Browser, site: Site, exporter: Exporter, people: None) -> None:
    async with visit(browser, exporter, "vera") as window:
        page = await window.open("/monitor")
        value = page.locator(f"[data-topic='{SETPOINT_TOPIC}'] .value")
        await expect(value).to_have_text("60 %")
        await expect(page.locator(".live-state")).to_have_text("live")
        for command, text in (({"value": 71.5}, "71.5 %"), ({"value": None, "release": True}, "60 %")):
            assert (await site.write(**SETPOINT_OBJECT, **command))["success"]
            await expect(value).to_have_text(text)
        await page.get_by_label("Filter").fill("humidity setpoint")
        await expect(page.locator(f"[data-topic='{SENSOR_TOPIC}']")).to_be_hidden()
        await expect(value).to_be_visible()


async def test_a_trend_is_drawn_and_exported(browser: Browser, site: Site, exporter: Exporter, people: None) -> None:
    point = site.one("SELECT id FROM point WHERE topic = %s", SENSOR_TOPIC)[0]
    async with visit(browser, exporter, "vera") as window:
        page = await window.open(f"/monitor?points={point}")
        await expect(page.locator("[data-trend]")).to_contain_text("each the mean of 144 s")
        await expect(page.locator("canvas")).to_be_visible()
        async with page.expect_download() as download:
            await page.get_by_role("link", name="CSV").click()
        text = await text_of(download)
        assert text.startswith("time,haystack_name")
        assert "duxton.ahu.1.sensor.temp.air.supply.actual" in text


async def choose_range(page: Page, name: str) -> None:
    await page.get_by_label("Range").click()
    await page.get_by_role("option", name=name).click()


async def test_a_trend_goes_over_any_range(browser: Browser, site: Site, exporter: Exporter, people: None) -> None:
    point = site.one("SELECT id FROM point WHERE topic = %s", SENSOR_TOPIC)[0]
    async with visit(browser, exporter, "vera") as window:
        page = await window.open(f"/monitor?points={point}")
        await choose_range(page, "from … to")
        await page.get_by_label("From", exact=True).fill("2020-01-01T00:00")
        await page.get_by_label("To", exact=True).fill("2020-01-02T00:00")
        await expect(page.locator("[data-trend]")).to_have_text("No data in this range.")
        link = page.get_by_role("link", name="JSON")
        await expect(link).to_have_attribute("href", re.compile("start=2019-12-31T16%3A00"))  # the site's zone is UTC+8
        await page.get_by_label("To", exact=True).fill("2019-01-02T00:00")
        await expect(page.locator("[data-trend]")).to_contain_text("start does not lie before end")


async def test_a_trend_shows_what_was_asked_last(
    browser: Browser, site: Site, exporter: Exporter, people: None
) -> None:
    """The answer to the first question comes after that to the second."""
    point = site.one("SELECT id FROM point WHERE topic = %s", SENSOR_TOPIC)[0]
    day = datetime.now(UTC).date() - timedelta(days=3)
    site.database.execute(f"CREATE TABLE days_ago PARTITION OF reading FOR VALUES FROM ('{day}') TO ('{day} 12:00')")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'days_ago'::regclass"
    async with visit(browser, exporter, "otto") as window:
        page = await window.open(f"/monitor?points={point}")
        with psycopg.connect(site.settings.database_url.get_secret_value()) as holder:
            holder.execute("LOCK TABLE days_ago IN ACCESS EXCLUSIVE MODE")
            await choose_range(page, "7 days")
            await until(lambda: site.one(waiting)[0] == 1, "the first question waits")
            await choose_range(page, "1 hour")
            await expect(page.locator("[data-trend]")).to_contain_text("each the mean of 6 s")
        await until(lambda: site.one(waiting)[0] == 0, "the first question has its answer")
        site.database.execute("DROP TABLE days_ago")
        await page.get_by_label(f"Write {SETPOINT}").click()  # what it brings comes after what the late answer did
        await expect(page.locator("[data-now]")).to_be_visible()
        await expect(page.locator("[data-trend]")).to_contain_text("each the mean of 6 s")
        await expect(page.get_by_role("link", name="JSON", include_hidden=True)).to_have_count(1)


async def test_a_write_and_its_release(browser: Browser, site: Site, exporter: Exporter, people: None) -> None:
    async with visit(browser, exporter, "otto") as window:
        written = len(site.building.writes)
        page = await window.open("/monitor")
        await page.get_by_label(f"Write {SETPOINT}").click()
        await expect(page.locator("[data-now]")).to_have_text("Now 60 %")
        assert "Allowed: from 0 to 100" in await window.say()
        await page.get_by_role("button", name="Write", exact=True).click()
        assert "Say why" in await window.say()
        await page.get_by_label("Value").fill("64")
        await page.get_by_label("Reason").fill("too dry")
        await page.get_by_role("button", name="Write", exact=True).click()
        assert len(site.building.writes) == written  # not before it is confirmed
        await page.get_by_role("button", name="Yes, write").click()
        await expect(page.locator("[data-result]")).to_have_text("Done: before 60 %, read back 64 %.")
        await expect(page.locator("[data-slot='8']")).to_contain_text("page:otto")
        await expect(page.locator("[data-slot='8']")).to_contain_text("too dry")
        assert site.building.commanded(AHU, "analog-value", 120).slot(8) == 64.0
        SHOTS.mkdir(exist_ok=True)
        await page.locator(".q-dialog .panel").screenshot(path=SHOTS / "write_dialog.png")
        await page.get_by_label("Value").fill("640")
        await page.get_by_role("button", name="Write", exact=True).click()
        await page.get_by_role("button", name="Yes, write").click()
        await expect(page.locator("[data-result]")).to_contain_text("Value 640 out of range [0, 100]")
        await page.get_by_role("button", name="Release", exact=True).click()
        await page.get_by_role("button", name="Yes, release").click()
        await expect(page.locator("[data-result]")).to_contain_text("Done")
        assert site.building.commanded(AHU, "analog-value", 120).slot(8) is None
        page = await window.open("/writes")
        rows = page.locator(".ag-row", has_text="page:otto")
        await expect(rows).to_have_count(3)
        await expect(rows.filter(has_text="refused")).to_have_count(1)
        await expect(rows.filter(has_text="too dry")).to_have_count(3)


async def test_a_value_is_given_back_in_time_and_by_the_stop(
    browser: Browser, site: Site, exporter: Exporter, people: None
) -> None:
    setpoint = site.building.commanded(AHU, "analog-value", 120)

    async def write(page: Any, value: str, minutes: str) -> None:
        await page.get_by_label(f"Write {SETPOINT}").click()
        await page.get_by_label("Value").fill(value)
        await page.get_by_label("Give back after, minutes").fill(minutes)
        await page.get_by_label("Reason").fill("a trial")
        await page.get_by_role("button", name="Write", exact=True).click()
        await page.get_by_role("button", name="Yes, write").click()

    async with visit(browser, exporter, "otto") as window:
        page = await window.open("/monitor")
        await write(page, "66", "0.1")
        await expect(page.locator("[data-result]")).to_contain_text("read back 66")
        await until(lambda: setpoint.slot(8) is None, "the release in time", within=60)
        page = await window.open("/monitor")
        await write(page, "67", "60")
        await expect(page.locator("[data-result]")).to_contain_text("read back 67")
        page = await window.open("/writes")
        await page.get_by_role("button", name="Stop all writes").click()
        await page.get_by_label("Reason").fill("a coil froze")
        await page.get_by_role("button", name="Yes, stop").click()
        await expect(page.locator("[data-stop]")).to_contain_text("by page:otto: a coil froze.")
        await until(lambda: setpoint.slot(8) is None, "the release by the stop", within=60)
        page = await window.open("/")
        await expect(page.locator("[data-finding]").first).to_contain_text("Writes are stopped since")
        page = await window.open("/monitor")
        await write(page, "68", "60")
        await expect(page.locator("[data-result]")).to_contain_text("stopped")
        assert setpoint.slot(8) is None
        page = await window.open("/writes")
        await page.get_by_role("button", name="Lift the stop").click()
        await page.get_by_role("button", name="Yes, lift it").click()
        await expect(page.get_by_role("button", name="Stop all writes")).to_be_visible()


async def test_a_viewer_is_refused(browser: Browser, site: Site, exporter: Exporter, people: None) -> None:
    async with visit(browser, exporter, "vera") as window:
        page = await window.open("/points")
        await expect(page.locator(".ag-row").first).to_be_visible()
        for name in ("Edit", "Write", "Import"):
            assert await page.get_by_role("button", name=name).count() == 0
        for path in ("/discovery", "/settings", "/users"):
            answer = await page.goto(f"{exporter.url}{path}")
            assert answer is not None
            assert answer.status == 403
            assert "This page is for the role admin" in await window.say()
        await window.open("/")
        body = {"deviceId": AHU, "objectType": "analog-value", "objectInstance": 120, "value": 61.0}
        status = await page.evaluate(
            "body => fetch('/api/bacnet/write', {method: 'POST', body: JSON.stringify(body)}).then(a => a.status)", body
        )
        assert status == 403
        emitted = "id => emitEvent('bacpipes_write', id)"
        page = await window.open("/monitor")
        await expect(page.locator(".live-state")).to_have_text("live")
        assert await page.locator("button.write").count() == 0
        await page.evaluate(emitted, site.one("SELECT id FROM point WHERE topic = %s", SETPOINT_TOPIC)[0])
        await expect(page.get_by_text("This needs the role operator")).to_be_visible()
