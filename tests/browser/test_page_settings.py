"""Settings: kept, checked, read-only where others own them, and secrets that never come back."""

import pytest
from playwright.async_api import Browser, expect

from bacpipes.page.site_settings import BACNET
from bacpipes.page.site_settings import SITE as SITE_GROUP
from browser_parts import visit
from exporter_parts import Exporter
from pki import Authority
from site_parts import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")
LABELS = SITE_GROUP.labels | BACNET.labels


async def test_settings_are_kept_and_what_the_environment_sets_is_read_only(
    browser: Browser, site: Site, exporter: Exporter, people: None
) -> None:
    async with visit(browser, exporter, "anna") as window, visit(browser, exporter, "anna") as other:
        page = await window.open("/settings")
        assert (await other.open("/settings")) is not page
        for name in ("time_zone", "bacnet_address"):  # the one is the exporter's, the other the worker's
            await expect(page.get_by_label(LABELS[name])).to_be_disabled()
        assert "set by the inventory or the environment" in await window.say()
        device, wait = (page.get_by_label(LABELS[name]) for name in ("bacnet_device_id", "bacnet_timeout"))
        await wait.fill("eternally")
        await page.get_by_role("button", name="Save: BACnet/IP").click()
        await expect(page.locator("[data-group='BACnet/IP'] [role=alert]")).to_contain_text("valid number")
        assert site.one("SELECT count(*) FROM setting") == (0,)
        await wait.fill("2.5")
        await device.fill("4193990")
        await page.get_by_role("button", name="Save: BACnet/IP").click()
        await expect(page.locator("[data-group='BACnet/IP'] [data-saved]")).to_contain_text("The worker begins anew")
        assert site.one("SELECT value FROM setting WHERE name = 'bacnet_timeout'") == ("2.5",)
        await other.page.get_by_label(LABELS["bacnet_timeout"]).fill("9")
        await other.page.get_by_role("button", name="Save: BACnet/IP").click()
        await expect(other.page.locator("[data-group='BACnet/IP'] [data-saved]")).to_contain_text(
            "Somebody else changed"
        )
        assert site.one("SELECT value FROM setting WHERE name = 'bacnet_timeout'") == ("2.5",)
        page = await window.open("/")
        await expect(page.locator("[data-tile=BACnet]")).to_contain_text("device 4193990")
        await expect(page.locator("[data-tile=BACnet]")).to_contain_text("open")


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
