"""The doctor on a whole site: quiet where all is well, and plain about what is not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from bacpipes.doctor import Finding, Level, examine
from bacpipes.embedded import LOOPBACK, EmbeddedBroker
from bacpipes.settings import Settings
from conftest import make_settings
from mqtt_parts import WITHIN, until
from site_parts import AHU, BASE, SENSOR_TOPIC, SETPOINT, Site


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr("bacpipes.clock.synchronised", lambda: True)
    quick = settings.model_copy(update={"bacnet_timeout": 1.0, "bacnet_retries": 0})
    async with Site(quick, broker) as site:
        site.start_worker()
        await site.readings()
        await until(lambda: last(site)["quality"] == "good", "the device answers")
        yield site


def last(site: Site) -> dict[str, Any]:
    """What was published of the sensor last."""
    message: dict[str, Any] = site.published(SENSOR_TOPIC)[-1]
    return message


def problems(findings: list[Finding]) -> dict[str, str]:
    return {finding.subject: finding.text for finding in findings if finding.level is Level.PROBLEM}


async def test_all_is_well_but_the_exporter_that_does_not_run(site: Site) -> None:
    points = site.one("SELECT count(*) FROM point WHERE enabled")[0]
    findings = await examine(site.settings)
    assert list(problems(findings)) == ["exporter"]
    told = {finding.subject: finding.text for finding in findings}
    assert f"{points} points" in told["polling"]
    assert told["devices"] == "all answer"
    assert f":{site.broker.port}" in told["broker"]
    assert all(finding.remedy for finding in findings if finding.level is Level.PROBLEM)


async def test_a_silent_device_and_a_bad_point_are_named(site: Site) -> None:
    site.building.fault("missing", "12345:ai:101")
    await until(lambda: "unknown-object" in last(site).get("reason", ""), "the point reads bad")
    points = [finding.text for finding in await examine(site.settings) if finding.subject == "points"]
    assert any("duxton.ahu.1.sensor.temp.air.supply.actual (object: unknown-object)" in text for text in points)
    site.building.fault("silent", AHU)
    await until(lambda: "no answer" in last(site).get("reason", ""), "the device is silent")
    assert f"12345 AHU-1 at {BASE}" in problems(await examine(site.settings))["device"]


async def test_a_held_write_is_named_by_doctor_and_metrics(site: Site) -> None:
    assert (await site.write(**SETPOINT, value=70.5))["success"]
    told = [finding.text for finding in await examine(site.settings) if finding.subject == "writes"]
    assert any("1 slots held, the oldest: duxton.ahu.1.sp." in text and "priority 8, 70.5" in text for text in told), (
        told
    )
    named = 'bacpipes_held_slot{device="12345",object="analog-value:120",priority="8"} 70.5'
    await until_told(site, lambda text: named in text)
    await site.write(**SETPOINT, release=True)
    await until_told(site, lambda text: "bacpipes_held_slot{" not in text)
    assert "nothing is held" in [finding.text for finding in await examine(site.settings)]


async def until_told(site: Site, right: Callable[[str], bool]) -> None:
    """Wait until /metrics says so."""
    async with asyncio.timeout(WITHIN), httpx.AsyncClient() as client:
        while not right((await client.get(f"http://{LOOPBACK}:{site.settings.worker_http_port}/metrics")).text):
            await asyncio.sleep(0.05)


async def test_a_wrong_password_of_the_broker_is_named(site: Site) -> None:
    site.database.execute("UPDATE mqtt_config SET username = 'nobody'")
    told = problems(await examine(site.settings))
    assert "not authori" in told["broker"].lower()


async def test_a_stopped_worker_is_named(site: Site) -> None:
    await site.stop_worker()
    assert "does not answer" in problems(await examine(site.settings))["worker"]


async def test_no_database_is_said_once(tmp_path: Path) -> None:
    found = problems(await examine(make_settings("postgresql:///nowhere?host=/nonexistent", tmp_path)))
    assert "can't be reached" in found["database"]
    assert not {"polling", "devices", "points", "broker"} & set(found)


async def test_a_clock_that_nobody_keeps_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bacpipes.clock.synchronised", lambda: False)
    checked = site.settings.model_copy(update={"clock_check": True})
    assert "commands with a timestamp or expiry are refused" in problems(await examine(checked))["clock"]
