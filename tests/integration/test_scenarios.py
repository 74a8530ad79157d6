"""The specification's own test scenarios 1 to 4, on real BACnet/IP packets, a real PostgreSQL and a real Mosquitto."""

import csv
import io
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from bacpipes import tokens
from bacpipes.database import connect
from bacpipes.embedded import EmbeddedBroker
from bacpipes.exporter.app import create_app
from bacpipes.settings import Settings
from mqtt_parts import until
from site_parts import AHU, BASE, SENSOR, SENSOR_TOPIC, SETPOINT, SETPOINT_TOPIC, Site

SETPOINT_NAME = "duxton.ahu.1.sp.humidity.air.return.effective"


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker) -> AsyncIterator[Site]:
    async with Site(settings, broker) as site:
        site.start_worker()
        await site.readings()
        yield site


async def test_1_uplink_data_flow(site: Site) -> None:
    """A polled value stands in last values, history, and on the broker, all equal."""
    await site.readings(2)
    payload = site.published(SENSOR_TOPIC)[0]
    assert list(payload) == [
        *("value", "timestamp", "units", "quality", "dis", "haystackName", "deviceIp", "deviceId"),
        *("objectType", "objectInstance"),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", payload["timestamp"])
    expected = {"units": "°C", "quality": "good", "deviceIp": BASE, "deviceId": AHU}
    expected |= {"objectType": "analog-input", "objectInstance": 101, "dis": "Supply air temperature"}
    assert expected.items() <= payload.items()
    stored = site.one(
        "SELECT value FROM sensor_readings WHERE time = %s AND object_type = 'analog-input' AND object_instance = 101",
        payload["timestamp"],
    )
    assert stored == (payload["value"],)
    last = site.one(
        "SELECT l.value, l.time = (SELECT max(time) FROM reading WHERE point_id = p.id) FROM last_value l"
        " JOIN point p ON p.id = l.point_id WHERE p.object_type = 'analog-input' AND p.object_instance = 101"
    )
    assert last[1]
    assert abs(last[0] - site.building.object(AHU, "analog-input", 101).value) < 5


async def test_2_valid_setpoint_command(site: Site) -> None:
    """A command is validated, written at its priority, answered, and the next poll shows the new value."""
    job = "test-123"
    result = await site.write(**SETPOINT, jobId=job, value=70.0, priority=8, haystackName=SETPOINT_NAME)
    assert {
        "jobId": job,
        "success": True,
        "error": None,
        "validationErrors": [],
        "value": 70.0,
    }.items() <= result.items()
    assert list(result)[:11] == [
        *("jobId", "success", "deviceId", "objectType", "objectInstance", "value", "priority", "timestamp"),
        *("processingTime", "error", "validationErrors"),
    ]
    assert (result["before"], result["after"], result["siteId"]) == (60.0, 70.0, "duxton")
    assert site.building.commanded(AHU, "analog-value", 120).slot(8) == 70.0
    await until(lambda: site.published(SETPOINT_TOPIC)[-1]["value"] == 70.0, "the next poll shows 70")
    stored = site.one("SELECT success, result->>'jobId' FROM write_results WHERE job_id = %s", job)
    assert stored == (True, job)
    assert site.one("SELECT action FROM audit WHERE subject = %s", job) == ("write.done",)


async def test_3_invalid_sensor_command(site: Site) -> None:
    """A write to a sensor is refused with the specification's words, and nothing reaches the device."""
    result = await site.write(
        **SENSOR, jobId="test-456", value=25.0, haystackName="duxton.ahu.1.sensor.temp.air.supply.actual"
    )
    assert (result["success"], result["error"]) == (False, "Validation failed")
    assert result["validationErrors"][:2] == [
        "Point is not a setpoint (position 4 is 'sensor', not 'sp')",
        "Only setpoints with 'sp' in position 4 can be written",
    ]
    assert "Point.isWritable = false in database" in result["validationErrors"]
    assert site.building.writes == []
    assert site.one("SELECT action FROM audit WHERE subject = 'test-456'") == ("write.refused",)


async def test_4_csv_export(site: Site) -> None:
    """The exporter hands out what was read as CSV: the specification's columns, a file name, the newest first."""
    async with await connect(site.settings, "test") as connection:
        token = await tokens.create(connection, "scenario", tokens.Role.VIEWER, None, "test")
    app = create_app(site.settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as client,
    ):
        answer = await client.get(
            "/api/timeseries/export",
            params={"start": "2025-12-07T00:00:00Z", "end": "2099-12-08T23:59:59Z"},
            headers={"Authorization": f"Bearer {token}"},
        )
    assert answer.status_code == 200
    assert re.fullmatch(r'attachment; filename="export_\d{13}\.csv"', answer.headers["content-disposition"])
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0] == [
        *("time", "haystack_name", "dis", "value", "units", "quality", "device_name", "device_ip"),
        *("object_type", "object_instance"),
    ]
    times = [row[0] for row in rows[1:]]
    assert times == sorted(times, reverse=True)
    points = site.one("SELECT count(*) FROM point WHERE enabled")[0]
    assert len({row[1] for row in rows[1:]}) == points
