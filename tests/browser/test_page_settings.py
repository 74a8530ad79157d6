"""Settings: kept, checked, read-only where others own them, and secrets that never come back."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from playwright.async_api import Browser, expect

from bacpipes.embedded import free_port
from bacpipes.page.site_settings import BACNET
from bacpipes.page.site_settings import SITE as SITE_GROUP
from browser_parts import visit
from exporter_parts import Exporter
from pki import DAY, Authority, private_pem
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


def pem(text: str) -> list[dict[str, object]]:
    return [{"name": "some.pem", "mimeType": "application/x-pem-file", "buffer": text.encode()}]


async def test_certificates_are_checked_when_they_are_uploaded(
    browser: Browser, site: Site, exporter: Exporter, people: None
) -> None:
    authority, namesake = Authority(), Authority()
    pair, other = authority.client(), namesake.client()
    old = authority.client(begins=-3 * DAY, ends=-DAY)
    locked = private_pem(ec.generate_private_key(ec.SECP256R1()), "a passphrase")
    bad = (
        ("ca_certificate", "no certificate", "is not a PEM text"),
        ("ca_certificate", authority.certificate[:200], "can't be read as a PEM certificate"),
        ("client_certificate", old.certificate, "expired on"),
        ("client_certificate", pair.key, "holds a private key"),
        ("client_key", locked, "is protected by a passphrase"),
        ("client_key", pair.certificate, "can't be read as a PEM private key"),
    )
    async with visit(browser, exporter, "anna") as window:
        page = await window.open("/settings")

        async def upload(name: str, text: str, said: str) -> None:
            await page.set_input_files(f"[data-pem={name}] input[type=file]", pem(text))
            await expect(page.locator(f"[data-note={name}]")).to_contain_text(said)

        for case in bad:
            await upload(*case)
        await upload("client_certificate", pair.certificate, "not saved yet")
        await upload("client_key", other.key, "The key does not belong to the client certificate")
        await upload("client_key", pair.key, "not saved yet")
        await upload("ca_certificate", namesake.certificate, "not saved yet")
        await page.get_by_role("button", name="Save", exact=True).click()
        await expect(page.locator("[data-broker]")).to_contain_text("was not signed by the CA certificate")
        assert site.one("SELECT client_certificate FROM mqtt_config") == (None,)
        page = await window.open("/settings")
        await upload("ca_certificate", authority.certificate, "not saved yet")
        await upload("client_certificate", pair.certificate, "not saved yet")
        await upload("client_key", pair.key, "not saved yet")
        await page.get_by_role("button", name="Save", exact=True).click()
        await expect(page.locator("[data-broker]")).to_contain_text("Saved: ca_certificate")
        stored = site.one("SELECT client_key FROM mqtt_config")[0]
        assert "PRIVATE KEY" not in stored
        page = await window.open("/settings")
        content = await page.content()
        assert "PRIVATE KEY" not in content
        assert site.broker.credentials[1] not in content
        await page.get_by_role("button", name="Test the connection").click()
        await expect(page.locator("[data-broker]")).to_contain_text("MQTT: logged in as bacpipes")


async def test_a_tested_connection_says_exactly_what_failed(
    browser: Browser, site: Site, exporter: Exporter, people: None
) -> None:
    before = site.one("SELECT * FROM mqtt_config")
    async with visit(browser, exporter, "anna") as window:
        page = await window.open("/settings")
        good, bad = (page.locator(f"[data-broker] .finding.{level}") for level in ("good", "bad"))

        async def test(worked: int, said: str) -> None:
            await page.get_by_role("button", name="Test the connection").click()
            await expect(bad).to_contain_text(said)
            await expect(good).to_have_count(worked)

        await page.get_by_label("Password").fill("not the password")
        await test(2, "MQTT: ")
        await page.get_by_role("switch", name="TLS").click()
        await page.get_by_label("Port with TLS").fill(str(site.broker.port))  # which speaks no TLS
        await test(2, "TLS: ")
        await page.get_by_role("switch", name="TLS").click()
        await page.get_by_label("Port", exact=True).fill(str(free_port()))
        await test(1, "TCP: ")
        await page.get_by_label("Host").fill("nowhere.invalid")
        await test(0, "Name: ")
        await page.get_by_label("Host").fill("mqtt://nowhere")
        await test(0, "must be a host name or an address alone")
    assert site.one("SELECT * FROM mqtt_config") == before
