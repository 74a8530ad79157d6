"""The page on site, in a real browser, against the real appliance with the simulated building."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from bacpipes import users
from bacpipes.database import connect
from bacpipes.embedded import EmbeddedBroker, EmbeddedPostgres
from bacpipes.tokens import Role
from browser_parts import PASSWORD, SHOTS, SIZES, chromium, serious, visit
from conftest import database_from, make_settings
from exporter_parts import Exporter, execute
from mqtt_parts import until
from pki import Authority
from site_parts import AHU, SENSOR_TOPIC, SETPOINT_TOPIC, Site
from site_parts import SETPOINT as SETPOINT_OBJECT

pytestmark = pytest.mark.asyncio(loop_scope="module")
SETPOINT = "Return air humidity setpoint"
PAGES = ("/", "/monitor", "/points", "/writes", "/discovery", "/settings", "/users", "/account")
AXE_LOOKS_AT = {("light", "desktop"), ("dark", "phone")}
PEOPLE = {"vera": Role.VIEWER, "otto": Role.OPERATOR, "anna": Role.ADMIN}


@pytest.fixture(scope="module")
def url(postgres: EmbeddedPostgres) -> object:
    yield from database_from(postgres, "migrated")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(url: str, broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with Site(make_settings(url, tmp_path_factory.mktemp("state")), broker) as site:
        site.start_worker()
        await site.readings()
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def exporter(site: Site) -> AsyncIterator[Exporter]:
    found = Exporter(site.settings)
    await asyncio.to_thread(found.__enter__)
    try:
        yield found
    finally:
        await asyncio.to_thread(found.__exit__)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(site: Site, first_admin: str) -> None:
    async with await connect(site.settings, "test") as connection:
        for name, role in PEOPLE.items():
            await users.add(connection, name, role, PASSWORD, "test")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
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
        await expect(page.locator(".content")).to_be_visible()
    return token


async def text_of(download: Any) -> str:
    """What was downloaded."""
    return await asyncio.to_thread(Path(await (await download.value).path()).read_text)


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
        await until(lambda: setpoint.slot(8) is None, "the release in time")
        page = await window.open("/monitor")
        await write(page, "67", "60")
        await expect(page.locator("[data-result]")).to_contain_text("read back 67")
        page = await window.open("/writes")
        await page.get_by_role("button", name="Stop all writes").click()
        await page.get_by_label("Reason").fill("a coil froze")
        await page.get_by_role("button", name="Yes, stop").click()
        await expect(page.locator("[data-stop]")).to_contain_text("by page:otto: a coil froze.")
        await until(lambda: setpoint.slot(8) is None, "the release by the stop")
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


async def test_certificates_are_checked_when_they_are_uploaded(
    browser: Browser, site: Site, exporter: Exporter, people: None
) -> None:
    authority, stranger = Authority(), Authority("Another CA")
    pair, other = authority.client(), stranger.client()

    def file(name: str, text: str) -> list[dict[str, object]]:
        return [{"name": name, "mimeType": "application/x-pem-file", "buffer": text.encode()}]

    async with visit(browser, exporter, "anna") as window:
        page = await window.open("/settings")
        upload = "[data-pem={}] input[type=file]"
        await page.set_input_files(upload.format("ca_certificate"), file("ca.pem", "no certificate"))
        await expect(page.locator("[data-note=ca_certificate]")).to_contain_text("is not a PEM text")
        await page.get_by_role("switch", name="TLS").click()
        page = await window.open("/settings")
        await page.set_input_files(upload.format("ca_certificate"), file("ca.pem", authority.certificate))
        await expect(page.locator("[data-note=ca_certificate]")).to_contain_text("not saved yet")
        await page.set_input_files(upload.format("client_certificate"), file("me.pem", pair.certificate))
        await expect(page.locator("[data-note=client_certificate]")).to_contain_text("not saved yet")
        await page.set_input_files(upload.format("client_key"), file("me.key", other.key))
        await expect(page.locator("[data-note=client_key]")).to_contain_text("not saved yet")
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("[data-broker]")).to_contain_text("does not belong to the client certificate")
        assert site.one("SELECT client_certificate FROM mqtt_config") == (None,)
        page = await window.open("/settings")
        for name, text in (("ca_certificate", authority.certificate), ("client_certificate", pair.certificate)):
            await page.set_input_files(upload.format(name), file("a.pem", text))
            await expect(page.locator(f"[data-note={name}]")).to_contain_text("not saved yet")
        await page.set_input_files(upload.format("client_key"), file("a.key", pair.key))
        await expect(page.locator("[data-note=client_key]")).to_contain_text("not saved yet")
        await page.get_by_role("button", name="Save").click()
        await expect(page.locator("[data-broker]")).to_contain_text("Saved: ca_certificate")
        stored = site.one("SELECT client_key FROM mqtt_config")[0]
        assert "PRIVATE KEY" not in stored
        page = await window.open("/settings")
        content = await page.content()
        assert "PRIVATE KEY" not in content
        assert site.broker.credentials[1] not in content
        await page.get_by_role("button", name="Test the connection").click()
        await expect(page.locator("[data-broker]")).to_contain_text("MQTT: logged in as bacpipes")


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


async def test_too_many_failures_have_to_wait(exporter: Exporter, people: None) -> None:
    form = {"name": "vera", "password": "wrong"}
    async with httpx.AsyncClient(base_url=exporter.url, headers={"Origin": exporter.url}, timeout=60) as http:
        answers = [await http.post("/login", data=form) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429]
        assert "Too many failures: wait" in answers[-1].text
        assert (await http.post("/login", data=form | {"password": PASSWORD})).status_code == 429
