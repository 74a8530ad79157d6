"""Points, devices and the summary; write commands on their way through the queue."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from bacpipes.exporter import writes
from bacpipes.settings import Settings
from bacpipes.tokens import Role
from conftest import make_settings
from exporter_parts import SETPOINT, add_building, add_reading, execute, in_process, make_token, wait_for

COMMAND: dict[str, Any] = {
    "jobId": "550e8400-e29b-41d4-a716-446655440000",
    "deviceId": 12345,
    "objectType": "analog-value",
    "objectInstance": 120,
    "value": 65.0,
    "priority": 8,
    "release": False,
    "source": "ml-optimizer",
    "reason": "energy-optimization",
    "siteId": "duxton",
    "equipmentType": "ahu",
    "equipmentId": "1",
    "haystackName": SETPOINT,
}  # specification, downlink payload
NOBODY_ANSWERS = 0.3  # seconds, where no worker runs


@pytest.fixture
def site(settings: Settings, database_url: str) -> Settings:
    add_building(database_url)
    return settings


async def get(settings: Settings, path: str) -> Any:
    headers = await make_token(settings.database_url.get_secret_value(), "reader", Role.VIEWER)
    async with in_process(settings) as (_, http):
        response = await http.get(path, headers=headers)
    assert response.status_code == 200
    return response.json()


async def test_points_have_the_payloads_keys_and_the_last_value(site: Settings, database_url: str) -> None:
    at = datetime(2025, 12, 7, 1, 2, 3, 456000, tzinfo=UTC)
    execute(
        database_url,
        "INSERT INTO last_value"
        " (interval_seconds, poll_cycle, point_id, time, value, quality, reason, good_time, good_value)"
        " VALUES (60, 0, 2, %s, NULL, 2, 'no answer', %s, 60.5)",
        [at, at - timedelta(minutes=1)],
    )
    points = await get(site, "/api/points")
    assert [(p["deviceId"], p["objectType"], p["objectInstance"]) for p in points] == [
        (12345, "analog-input", 101),
        (12345, "analog-value", 120),
        (12345, "binary-value", 7),
    ]
    expected = {
        "id": 2,
        "deviceId": 12345,
        "deviceName": "AHU-1 controller",
        "deviceIp": "192.168.1.37",
        "objectType": "analog-value",
        "objectInstance": 120,
        "pointName": "RHSP",
        "haystackName": SETPOINT,
        "dis": "HumiditySetpoint",
        "units": "%",
        "siteId": "duxton",
        "equipmentType": "ahu",
        "equipmentId": "1",
        "topic": "duxton/ahu_1/analogvalue120/presentValue",
        "interval": 60,
        "enabled": True,
        "isWritable": True,
        "minPresValue": 0.0,
        "maxPresValue": 100.0,
        "states": None,
        "lastValue": None,
        "lastPollTime": "2025-12-07T01:02:03.456Z",
        "quality": "bad",
        "reason": "no answer",
        "lastGoodValue": 60.5,
        "lastGoodTime": "2025-12-07T01:01:03.456Z",
    }
    assert points[1] == expected
    assert (points[0]["quality"], points[0]["lastPollTime"]) == (None, None)


async def test_a_value_that_is_no_number_does_not_break_the_page(site: Settings, database_url: str) -> None:
    execute(
        database_url,
        "INSERT INTO last_value"
        " (interval_seconds, poll_cycle, point_id, time, value, quality)"
        " VALUES (60, 0, 1, now(), 'NaN', 0)",
    )
    assert (await get(site, "/api/points"))[0]["lastValue"] is None


async def test_devices_have_their_number_of_points_and_when_they_were_last_seen(
    site: Settings, database_url: str
) -> None:
    at = datetime(2025, 12, 7, tzinfo=UTC)
    execute(
        database_url,
        "INSERT INTO last_value"
        " (interval_seconds, poll_cycle, point_id, time, quality, good_time)"
        " VALUES (60, 0, 1, %s, 2, %s), (60, 0, 2, %s, 0, %s)",
        [at, at - timedelta(hours=2), at, at - timedelta(hours=1)],
    )
    execute(database_url, "INSERT INTO device (site_id, device_id, address) VALUES ('duxton', 777, '10.0.0.1:47808')")
    silent, device = await get(site, "/api/devices")
    assert (device["deviceId"], device["pointCount"], device["badCount"]) == (12345, 3, 1)
    assert device["lastSeen"] == "2025-12-06T23:00:00.000Z"
    assert (silent["deviceId"], silent["pointCount"], silent["lastSeen"]) == (777, 0, None)


async def test_the_summary_counts(site: Settings, database_url: str) -> None:
    now = datetime.now(UTC)
    for seconds in (1, 30, 90):
        add_reading(database_url, 1, now - timedelta(seconds=seconds), 1)
    execute(
        database_url,
        "INSERT INTO last_value"
        " (interval_seconds, poll_cycle, point_id, time, value, quality)"
        " VALUES (60, 0, 1, '2025-12-07T00:00:00Z', 1, 0),"
        " (60, 0, 2, '2025-12-06T00:00:00Z', NULL, 2)",
    )
    for hours in (1, 48):
        execute(
            database_url,
            "INSERT INTO gap (site_id, point_ids, since, until, reason) VALUES ('duxton', '{1}',"
            " now() - %s * interval '1 hour', now() - %s * interval '1 hour' + interval '1 minute', 'test')",
            [hours, hours],
        )
    assert await get(site, "/api/dashboard/summary") == {
        "siteId": "duxton",
        "timeZone": "Asia/Macau",
        "devices": 1,
        "points": 3,
        "enabledPoints": 3,
        "writablePoints": 2,
        "badPoints": 1,
        "unreadPoints": 1,
        "lastReading": "2025-12-07T00:00:00.000Z",
        "readingsLastMinute": 2,
        "gapsLast24Hours": 1,
        "engine": "plain",
    }


async def post(http: httpx.AsyncClient, headers: dict[str, str], **changes: Any) -> httpx.Response:
    body = {name: value for name, value in (COMMAND | changes).items() if value is not ...}
    return await http.post("/api/bacnet/write", headers=headers, json=body)


@asynccontextmanager
async def operator(site: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, dict[str, str]]]:
    headers = await make_token(site.database_url.get_secret_value(), "lisa", Role.OPERATOR)
    async with in_process(site) as (_, http):
        yield http, headers


async def answer(url: str, result: dict[str, Any]) -> None:
    """What the worker does: wait for the command, leave its result."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("LISTEN bacpipes")
        cursor = await connection.execute("SELECT 1 FROM write_commands WHERE job_id = %s", [result["jobId"]])
        if await cursor.fetchone() is None:
            async for notification in connection.notifies():
                if notification.payload == "write_commands":
                    break
        await connection.execute(
            "INSERT INTO write_results (job_id, site_id, success, result) VALUES (%s, 'duxton', %s, %s)",
            [result["jobId"], result["success"], json.dumps(result)],
        )


async def test_a_command_goes_through_the_queue_and_its_result_comes_back(site: Settings, database_url: str) -> None:
    result = {"jobId": COMMAND["jobId"], "success": True, "value": 65.0, "error": None, "validationErrors": []}
    worker = asyncio.create_task(answer(database_url, result))
    async with operator(site) as (http, headers):
        response = await post(http, headers)
    await worker
    assert (response.status_code, response.json()) == (200, result)
    (row,) = execute(
        database_url,
        "SELECT job_id, site_id, point_id, command_type, value, priority, created_by, reason, source_ip,"
        " abs(extract(epoch FROM now() - created_at)) < 60, expires_at FROM write_commands",
    )
    assert row == (
        *(COMMAND["jobId"], "duxton", 2, "write_value", 65.0, 8, "api:lisa", "energy-optimization", "127.0.0.1"),
        *(True, None),
    )
    (audit,) = execute(database_url, "SELECT actor, action, subject, detail FROM audit WHERE action = 'write.request'")
    assert audit[:3] == ("api:lisa", "write.request", COMMAND["jobId"])
    assert (audit[3]["source"], audit[3]["value"]) == ("ml-optimizer", 65.0)


async def test_without_a_result_in_time_the_command_is_pending(
    site: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "WAIT_FOR_RESULT", NOBODY_ANSWERS)
    async with operator(site) as (http, headers):
        response = await post(http, headers, jobId=...)
    ((job,),) = execute(database_url, "SELECT job_id FROM write_commands")
    assert (response.status_code, response.json()) == (202, {"jobId": job, "status": "pending"})


async def test_the_same_command_again_gives_the_same_result_and_one_job(site: Settings, database_url: str) -> None:
    result = {"jobId": COMMAND["jobId"], "success": True}
    worker = asyncio.create_task(answer(database_url, result))
    async with operator(site) as (http, headers):
        first = await post(http, headers)
        again = await post(http, headers)
        other = await post(http, headers, value=66.0)
    await worker
    assert (first.json(), again.json()) == (result, result)
    assert other.status_code == 409
    assert execute(database_url, "SELECT value FROM write_commands") == [(65.0,)]


async def test_a_job_that_is_asked_for_again_gives_its_result_however_old(site: Settings, database_url: str) -> None:
    sent = datetime.now(UTC).isoformat()
    result = {"jobId": COMMAND["jobId"], "success": True}
    worker = asyncio.create_task(answer(database_url, result))
    async with operator(site) as (http, headers):
        assert (await post(http, headers, timestamp=sent)).json() == result
    await worker
    hasty = make_settings(database_url, site.state_dir, write_ttl=0.001, write_clock_skew=0)
    async with in_process(hasty) as (_, http):
        assert (await post(http, headers, timestamp=sent)).json() == result
        other = await post(http, headers, timestamp=sent, jobId="another")
    assert other.json()["codes"] == ["command-too-old"]


async def test_a_job_that_came_by_mqtt_is_not_queued_again(site: Settings, database_url: str) -> None:
    execute(
        database_url, "INSERT INTO write_claim (job_id, origin, command) VALUES (%s, 'mqtt', '{}')", [COMMAND["jobId"]]
    )
    async with operator(site) as (http, headers):
        assert (await post(http, headers)).status_code == 409
    assert execute(database_url, "TABLE write_commands") == []


@pytest.mark.parametrize(
    ("changes", "stored"),
    [
        ({"value": 70}, ("write_value", 70.0, 8, None)),
        ({"value": 500.0}, ("write_value", 500.0, 8, None)),  # out of range: the worker's to refuse
        ({"priority": 99}, ("write_value", 65.0, 99, None)),
        ({"priority": ...}, ("write_value", 65.0, 8, None)),
        ({"release": True, "value": ...}, ("release_priority", None, 8, None)),
        ({"objectType": "binary-value", "objectInstance": 7, "value": True, "haystackName": ...}, "on"),
        ({"objectType": "binary-value", "objectInstance": 7, "value": "inactive", "haystackName": ...}, "off"),
    ],
)
async def test_what_the_queue_holds(
    site: Settings,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    stored: tuple[Any, ...] | str,
) -> None:
    monkeypatch.setattr(writes, "WAIT_FOR_RESULT", NOBODY_ANSWERS)
    async with operator(site) as (http, headers):
        assert (await post(http, headers, **changes)).status_code == 202
    binary = {"on": ("write_value", 1.0, 8, None), "off": ("write_value", 0.0, 8, None)}
    expected = binary[stored] if isinstance(stored, str) else stored
    assert execute(database_url, "SELECT command_type, value, priority, expires_at FROM write_commands") == [expected]


async def test_the_senders_clock_counts_for_a_commands_age(
    site: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "WAIT_FOR_RESULT", NOBODY_ANSWERS)
    sent = datetime.now(UTC) - timedelta(seconds=100)
    expires = datetime.now(UTC) + timedelta(seconds=100)
    async with operator(site) as (http, headers):
        await post(http, headers, timestamp=sent.isoformat(), expiresAt=expires.isoformat())
    assert execute(database_url, "SELECT created_at, expires_at FROM write_commands") == [(sent, expires)]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"objectInstance": 999}, "Point not found: device=12345, analog-value:999"),
        ({"deviceId": 1}, "Point not found: device=1, analog-value:120"),
        ({"haystackName": "duxton.ahu.1.sp.temp.air.return.effective"}, "haystackName"),
        ({"value": "65"}, "is not a number"),
        ({"value": True}, "is not a number"),
        ({"value": None, "release": False}, None),
        ({"timestamp": "2025-12-07T00:00:00Z"}, "old"),
        ({"expiresAt": "2025-12-07T00:00:00Z"}, "expired"),
    ],
)
async def test_what_the_queue_cannot_carry_is_refused_here_in_the_results_form(
    site: Settings, database_url: str, changes: dict[str, Any], text: str | None
) -> None:
    async with operator(site) as (http, headers):
        response = await post(http, headers, **changes)
    assert execute(database_url, "TABLE write_commands") == []
    if text is None:
        assert (response.status_code, response.json()["parameter"]) == (400, "value")
        return
    result = response.json()
    assert response.status_code == 200
    assert (result["success"], result["jobId"], result["siteId"]) == (False, COMMAND["jobId"], "duxton")
    assert result["error"] == ("Point not found" if "Point not found" in text else "Validation failed")
    assert any(text in error for error in result["validationErrors"])
    assert len(result["codes"]) == len(result["validationErrors"])


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"deviceId": ...}, "deviceId"),
        ({"deviceId": "12345"}, "deviceId"),
        ({"objectType": ...}, "objectType"),
        ({"value": ...}, "value"),
        ({"priority": "8"}, "priority"),
        ({"priority": 2**40}, "priority"),
        ({"priorty": 9}, "priorty"),
        ({"releaseAfter": 0}, "releaseAfter"),
        ({"siteId": "klcc"}, "siteId"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"jobId": ""}, "jobId"),
        ({"release": "yes"}, "release"),
    ],
)
async def test_a_malformed_command_is_a_400_with_the_keys_name(
    site: Settings, database_url: str, changes: dict[str, Any], parameter: str
) -> None:
    async with operator(site) as (http, headers):
        response = await post(http, headers, **changes)
    assert response.status_code == 400
    assert response.json()["parameter"] == parameter
    assert response.json()["expected"]
    assert execute(database_url, "TABLE write_commands") == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b"[" * 10000, 400),
        (b'{"value": 1, "value": 2}', 400),
        (b'{"reason": "%s"}' % (b"x" * 20000), 413),
    ],
)
async def test_a_body_that_is_no_command(site: Settings, body: bytes, status: int) -> None:
    async with operator(site) as (http, headers):
        response = await http.post("/api/bacnet/write", headers=headers, content=body)
    assert response.status_code == status
    assert response.json()["error"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
async def test_a_value_that_is_not_finite_is_refused(site: Settings, database_url: str, value: str) -> None:
    body = json.dumps(COMMAND).replace("65.0", value)
    async with operator(site) as (http, headers):
        response = await http.post("/api/bacnet/write", headers=headers, content=body)
    assert response.json()["codes"] == ["value-not-finite"]
    assert execute(database_url, "TABLE write_commands") == []


async def test_shutdown_does_not_wait_for_a_worker(site: Settings, database_url: str) -> None:
    headers = await make_token(database_url, "lisa", Role.OPERATOR)
    async with in_process(site) as (app, http):
        request = asyncio.create_task(post(http, headers))
        await asyncio.to_thread(wait_for, lambda: execute(database_url, "TABLE write_commands"))
        app.state.stopping.set()
        response = await asyncio.wait_for(request, 5)
    assert response.status_code == 202
