"""Write commands on a whole site: refused, executed at most once, never late, never over somebody else's value."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from bacpypes3.primitivedata import Real

from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import NoAnswerError
from bacpipes.embedded import LOOPBACK, EmbeddedBroker
from bacpipes.settings import Settings
from bacpipes.writes.request import WriteRequest, request_write
from mqtt_parts import until
from site_parts import AHU, SETPOINT, Site

COMMAND_TOPIC = "bacnet/write/command"


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker) -> AsyncIterator[Site]:
    async with Site(settings, broker) as site:
        site.start_worker()
        await site.readings()
        yield site


def slot(site: Site, priority: int = 8) -> float | None:
    return site.building.commanded(AHU, "analog-value", 120).slot(priority)


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


async def metric(site: Site, name: str) -> float:
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://{LOOPBACK}:{site.settings.worker_http_port}/metrics")).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


# --- writing and releasing


async def test_a_release_gives_the_slot_back(site: Site) -> None:
    assert (await site.write(**SETPOINT, value=70.0))["success"]
    released = await site.write(**SETPOINT, release=True)
    assert (released["success"], released["before"], released["after"]) == (True, 70.0, 60.0)
    assert slot(site) is None
    assert site.one("SELECT count(*) FROM held_slot") == (0,)
    again = await site.write(**SETPOINT, release=True)
    assert again["success"], "there is nothing left to release"
    assert [write.value for write in site.building.writes] == [70.0, None]


async def test_our_own_value_may_be_replaced(site: Site) -> None:
    await site.write(**SETPOINT, value=70.0)
    second = await site.write(**SETPOINT, value=71.5)
    assert (second["success"], second["before"], slot(site)) == (True, 70.0, 71.5)


async def test_a_slot_that_somebody_else_holds_is_neither_overwritten_nor_released(site: Site) -> None:
    site.building.fault("hold", "12345:av:120", 8, 33.0)
    for fields in ({"value": 70.0}, {"release": True}):
        result = await site.write(**SETPOINT, **fields)
        assert (result["success"], result["codes"]) == (False, ["slot-held"])
        assert result["validationErrors"] == ["Priority 8 holds 33, which BacPipes did not write"]
    assert (slot(site), site.building.writes) == (33.0, [])


async def test_our_slot_that_somebody_took_over_is_theirs(site: Site) -> None:
    await site.write(**SETPOINT, value=70.0)
    site.building.fault("hold", "12345:av:120", 8, 33.0)
    result = await site.write(**SETPOINT, release=True)
    assert (result["codes"], slot(site)) == (["slot-held"], 33.0)


async def test_a_higher_priority_that_overrides_is_told(site: Site) -> None:
    site.building.fault("hold", "12345:av:120", 3, 44.0)
    result = await site.write(**SETPOINT, value=70.0)
    assert (result["success"], result["after"], slot(site)) == (True, 44.0, 70.0)
    assert result["heldBy"] == {"priority": 3, "value": 44.0}


async def test_a_write_that_the_device_denies_fails_with_its_reason(site: Site) -> None:
    site.building.fault("deny-write", "12345:av:120")
    result = await site.write(**SETPOINT, value=70.0)
    assert not result["success"]
    assert "write-access-denied" in result["error"]
    assert site.one("SELECT count(*) FROM held_slot") == (0,), "it holds nothing there"


async def test_a_silent_device_is_not_written_blindly(settings: Settings, broker: EmbeddedBroker) -> None:
    quick = settings.model_copy(update={"bacnet_timeout": 0.3, "bacnet_retries": 0})
    async with Site(quick, broker) as site:
        site.start_worker()
        await site.readings()
        site.building.fault("silent", AHU)
        result = await site.write(**SETPOINT, value=70.0)
        assert (result["success"], result["error"]) == (False, "Not written: no answer from the device")


@pytest.mark.parametrize(
    ("object_type", "instance", "value", "stored"),
    [("binary-value", 321, "active", 1.0), ("binary-value", 321, True, 1.0), ("multi-state-value", 403, 2, 2.0)],
)
async def test_values_are_converted_to_the_objects_type(
    site: Site, object_type: str, instance: int, value: Any, stored: float
) -> None:
    site.database.execute(
        "UPDATE point SET writable = true, function = 'sp', states = CASE WHEN object_type LIKE 'multi%%' THEN 3 END"
        " WHERE object_type = %s AND object_instance = %s",
        [object_type, instance],
    )
    fields = {"deviceId": AHU, "objectType": object_type, "objectInstance": instance}

    async def tried() -> dict[str, Any]:
        return await site.write(**fields, value=value)

    result = await tried()
    while "not-writable" in result["codes"]:  # the worker hears of the change a moment later
        result = await tried()
    assert (result["success"], result["error"]) == (True, None)
    assert site.building.commanded(AHU, object_type, instance).slot(8) == stored


# --- refused


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"value": 150}, "value-out-of-range"),
        ({"value": "high"}, "value-wrong-type"),
        ({"value": True}, "value-wrong-type"),
        ({"value": None}, "value-wrong-type"),
        ({"value": 70, "priority": 17}, "priority-invalid"),
        ({"value": 70, "priority": "8"}, "priority-invalid"),
        ({"value": 70, "priority": 7}, "priority-too-high"),
        ({"value": 70, "priority": 6}, "priority-reserved"),
        ({"value": 70, "haystackName": "duxton.ahu.2.sp.humidity.air.return.effective"}, "haystack-name-differs"),
        ({"value": 70, "timestamp": ago(900)}, "command-too-old"),
        ({"value": 70, "timestamp": ago(-900)}, "command-in-future"),
        ({"value": 70, "expiresAt": ago(1)}, "command-expired"),
        ({"value": 70, "objectInstance": 4711}, "point-not-found"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_refusals_reach_the_sender_and_nothing_reaches_the_device(
    site: Site, fields: dict[str, Any], code: str
) -> None:
    result = await site.write(**(SETPOINT | fields))
    assert (result["success"], code in result["codes"]) == (False, True), result
    assert result["error"] == ("Point not found" if code == "point-not-found" else "Validation failed")
    assert site.building.writes == []
    status = site.one("SELECT success, error_message FROM write_results WHERE job_id = %s", result["jobId"])
    assert status == (False, f"{result['error']}: {'; '.join(result['validationErrors'])}")


async def test_without_a_kept_clock_timed_commands_are_refused_and_others_not(
    settings: Settings, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bacpipes.clock.synchronised", lambda: False)
    async with Site(settings.model_copy(update={"clock_check": True}), broker) as site:
        site.start_worker()
        await site.readings()
        timed = await site.write(**SETPOINT, value=70.0, timestamp=ago(0))
        assert timed["codes"] == ["clock-unsynchronised"]
        assert (await site.write(**SETPOINT, value=70.0))["success"]


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'{"jobId": 7, "deviceId": 12345}',
        b'{"deviceId": 12345, "objectType": "analog-value", "objectInstance": 120, "value": 70}',
        b"[" * 100_000,
        b'{"jobId": "\\ud800", "deviceId": 12345, "objectType": "analog-value", "objectInstance": 120, "value": 70}',
        b'{"a":"' + b"x" * 10_000_000 + b'"}',
    ],
    ids=["text", "not utf-8", "list", "null", "jobId", "no jobId", "deep", "surrogate", "10 MB"],
)
async def test_what_is_no_command_is_counted_and_harmless(site: Site, payload: bytes) -> None:
    before = await metric(site, "bacpipes_commands_malformed_total")
    site.observer.publish(COMMAND_TOPIC, payload)
    async with asyncio.timeout(20):
        while await metric(site, "bacpipes_commands_malformed_total") == before:
            await asyncio.sleep(0.05)
    assert (await site.write(**SETPOINT, value=70.0))["success"], "the worker goes on"
    assert len(site.building.writes) == 1


async def test_a_malformed_command_with_a_job_id_gets_a_result(site: Site) -> None:
    job = site.command(jobId="j1", deviceId="x", objectType="analog-value", objectInstance=-1)
    result = await site.result(job)
    assert (result["success"], result["error"]) == (False, "Malformed command")
    assert result["validationErrors"] == [
        "deviceId is not an integer from 0 to 4194302",
        "objectInstance is not an integer from 0 to 4194302",
        "value is missing",
    ]


async def test_strange_priorities_are_answered_and_stored(site: Site) -> None:
    for priority in ("\ud800", "\x00", [1], 1e999):
        result = await site.write(**SETPOINT, value=70.0, priority=priority)
        assert result["codes"] == ["priority-invalid"]
        assert site.one("SELECT count(*) FROM write_results WHERE job_id = %s", result["jobId"]) == (1,)


async def test_a_device_that_says_nan_does_not_silence_the_answers(site: Site) -> None:
    site.building.fault("nan", "12345:av:120")
    result = await site.write(**SETPOINT, value=70.0)
    assert result["after"] is None
    assert site.one("SELECT count(*) FROM write_results WHERE job_id = %s", result["jobId"]) == (1,)
    site.building.clear()
    assert (await site.write(**SETPOINT, release=True))["success"]


async def test_a_large_message_with_a_job_id_is_answered(site: Site) -> None:
    site.observer.publish(COMMAND_TOPIC, b'{"jobId":"big","x":"' + b"a" * 1_000_000 + b'"}')
    assert (await site.result("big"))["validationErrors"] == ["the message is too large"]


async def test_the_points_limits_of_this_moment_count(site: Site) -> None:
    site.database.execute("UPDATE point SET maximum = 80 WHERE object_type = 'analog-value' AND object_instance = 120")
    assert (await site.write(**SETPOINT, value=90.0))["codes"] == ["value-out-of-range"]


async def test_what_we_hold_can_be_released_after_the_point_was_disabled(site: Site) -> None:
    assert (await site.write(**SETPOINT, value=70.0))["success"]
    site.database.execute("UPDATE point SET enabled = false, writable = false WHERE object_instance = 120")
    assert (await site.write(**SETPOINT, value=71.0))["codes"] == ["point-disabled", "not-writable"]
    assert (await site.write(**SETPOINT, release=True))["success"]
    assert slot(site) is None


async def test_a_write_that_was_lost_on_the_way_leaves_our_value_ours(
    settings: Settings, broker: EmbeddedBroker
) -> None:
    quick = settings.model_copy(update={"bacnet_timeout": 0.3, "bacnet_retries": 0})
    async with Site(quick, broker) as site:
        site.start_worker()
        await site.readings()
        assert (await site.write(**SETPOINT, value=70.0))["success"]
        original = BacnetClient.write_property

        async def lost(self: BacnetClient, *_: object, **__: object) -> None:
            site.building.fault("silent", AHU)
            raise NoAnswerError("no answer from the device")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BacnetClient, "write_property", lost)
            unknown = await site.write(**SETPOINT, value=71.5)
        assert BacnetClient.write_property is original
        assert unknown["error"].startswith("Whether it was written is not known")
        site.building.clear()
        await until(lambda: site.one("SELECT settled FROM held_slot") == (True,), "the slot was looked at again")
        assert site.one("SELECT value, previous FROM held_slot") == (70.0, None)
        assert (await site.write(**SETPOINT, release=True))["success"]
        assert slot(site) is None


@pytest.mark.parametrize(
    ("resolution", "value", "there", "good"),
    [
        (None, 70.3, 70.5, False),
        (0.1, 70.3, 70.5, False),
        (0.5, 70.3, 70.5, True),
        (0.5, 89.9, 90.0, False),
        (10.0, 70.3, 70.5, False),
    ],
    ids=["it names none", "more than it names", "as it names", "beyond the limit", "more than can be believed"],
)
async def test_a_device_that_rounds_holds_what_is_ours(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    resolution: float | None,
    value: float,
    there: float,
    good: bool,
) -> None:
    """To halves, whatever its own Resolution says."""
    original = BacnetClient.write_property

    async def rounding(self: BacnetClient, address: str, oid: Any, name: str, value: Any, priority: Any = None) -> None:
        await original(self, address, oid, name, Real(round(value * 2) / 2) if value != () else value, priority)

    monkeypatch.setattr(BacnetClient, "write_property", rounding)
    if resolution is not None:
        site.building.commanded(AHU, "analog-value", 120).resolution = resolution
    site.database.execute("UPDATE point SET maximum = 89.95 WHERE object_instance = 120")
    result = await site.write(**SETPOINT, value=value)
    error = None if good else f"After the write priority 8 holds {there:g}"
    assert (result["success"], result["error"], result["after"]) == (good, error, there)
    assert (await site.write(**SETPOINT, release=True))["success"], "it is ours"
    assert slot(site) is None


async def test_after_a_crash_in_mid_release_our_value_is_still_ours(site: Site) -> None:
    assert (await site.write(**SETPOINT, value=70.0))["success"]
    await site.stop_worker()
    job = claim(site, executing=True, release=True)
    site.start_worker()
    result = await site.result(job)
    assert (result["success"], result["error"]) == (False, "Interrupted while writing; priority 8 holds 70")
    assert (await site.write(**SETPOINT, release=True))["success"]
    assert slot(site) is None


async def test_strange_values_are_answered_and_stored(site: Site) -> None:
    for value in ("\x00", "\ud800", 1e999, {"a": 1}, 10**400, -0.0):
        job = str(uuid.uuid4())
        fields = SETPOINT | {"jobId": job, "value": value}
        site.observer.publish(COMMAND_TOPIC, json.dumps(fields).encode())
        result = await site.result(job)
        assert result["success"] is (value == 0.0)
        assert site.one("SELECT count(*) FROM write_results WHERE job_id = %s", job) == (1,)


async def test_a_command_for_another_site_is_ignored(site: Site) -> None:
    foreign = site.command(**SETPOINT, value=70.0, siteId="klcc")
    assert (await site.write(**SETPOINT, value=71.0, siteId="duxton"))["success"]
    assert site.results(foreign) == []
    assert [write.value for write in site.building.writes] == [71.0]


async def test_a_retained_command_is_not_executed(site: Site) -> None:
    job = "retained-1"
    payload = json.dumps(SETPOINT | {"jobId": job, "value": 70.0}).encode()
    await site.stop_worker()
    site.observer.publish(COMMAND_TOPIC, payload, retain=True)
    try:
        site.start_worker()
        assert (await site.result(job))["codes"] == ["command-retained"]
        assert site.building.writes == []
    finally:
        site.observer.publish(COMMAND_TOPIC, b"", retain=True)


# --- at most once


async def test_a_job_that_comes_again_is_answered_again_and_not_executed(site: Site) -> None:
    job = site.command(**SETPOINT, value=70.0)
    first = await site.result(job)
    site.command(**SETPOINT, value=99.0, jobId=job)
    assert await site.result(job, 2) == first
    assert [write.value for write in site.building.writes] == [70.0]


async def test_a_job_that_comes_many_times_at_once_is_executed_once(site: Site) -> None:
    job = str(uuid.uuid4())
    for _ in range(50):
        site.command(**SETPOINT, value=70.0, jobId=job)
    await site.result(job)
    assert (await site.write(**SETPOINT, value=71.0))["success"], "all before it were seen"
    assert [write.value for write in site.building.writes] == [70.0, 71.0]


def claim(site: Site, *, executing: bool, release: bool = False) -> str:
    """What a worker leaves behind that was killed before, or in the middle of, a write."""
    job = str(uuid.uuid4())
    command = SETPOINT | {"jobId": job, "value": 70.0, "priority": 8, "release": release}
    site.database.execute(
        "INSERT INTO write_claim (job_id, origin, command, executing_at)"
        " VALUES (%s, 'mqtt', %s, CASE WHEN %s THEN now() END)",
        [job, json.dumps(command), executing],
    )
    if executing and not release:
        site.database.execute(
            "INSERT INTO held_slot (point_id, priority, value, job_id)"
            " SELECT id, 8, 70, %s FROM point WHERE object_type = 'analog-value' AND object_instance = 120",
            [job],
        )
    return job


async def test_after_a_crash_before_the_write_nothing_is_written(site: Site) -> None:
    await site.stop_worker()
    job = claim(site, executing=False)
    site.start_worker()
    result = await site.result(job)
    assert (result["success"], result["error"]) == (False, "Interrupted before anything was written")
    assert site.building.writes == []


@pytest.mark.parametrize("written", [True, False])
async def test_after_a_crash_in_mid_write_the_slot_is_read_back(site: Site, written: bool) -> None:
    await site.stop_worker()
    job = claim(site, executing=True)
    if written:
        site.building.commanded(AHU, "analog-value", 120).command(8, 70.0)
    site.start_worker()
    result = await site.result(job)
    assert result["success"] is written
    assert result["error"] == (None if written else "Interrupted while writing; priority 8 holds nothing")
    assert site.building.writes == []
    assert site.one("SELECT count(*) FROM held_slot") == (1 if written else 0,)


# --- the SQL queue


async def test_the_queue_takes_the_same_way(site: Site) -> None:
    sensor = "(SELECT id FROM point WHERE object_type = 'analog-input' AND object_instance = 101)"
    setpoint = "(SELECT id FROM point WHERE object_type = 'analog-value' AND object_instance = 120)"
    insert = (
        "INSERT INTO write_commands (site_id, point_id, command_type, value)"
        " VALUES ('duxton', {}, %s, %s) RETURNING job_id"
    )
    good = site.one(insert.format(setpoint), "write_value", 70.0)[0]
    bad = site.one(insert.format(sensor), "write_value", 70.0)[0]
    status = "SELECT status, error_message FROM write_command_status WHERE job_id = %s"
    await until(lambda: site.one(status, bad)[0] == "failed", "the sensor's write is refused")
    await until(lambda: site.one(status, good)[0] == "completed", "the setpoint is written")
    assert site.one(status, bad)[1].startswith("Validation failed: Point is not a setpoint")
    release = site.one(insert.format(setpoint), "release_priority", None)[0]
    await until(lambda: site.one(status, release)[0] == "completed", "the setpoint is released")
    assert slot(site) is None
    await until(lambda: site.results(good), "its result is published too")


async def test_the_queue_does_not_execute_what_has_waited_too_long(site: Site) -> None:
    await site.stop_worker()
    insert = (
        "INSERT INTO write_commands (site_id, point_id, value, created_at, expires_at)"
        " SELECT %s, id, 70, now() - %s * INTERVAL '1 s', now() + %s * INTERVAL '1 s' FROM point"
        " WHERE object_type = 'analog-value' AND object_instance = 120 RETURNING job_id"
    )
    old = site.one(insert, "duxton", 900, 900)[0]
    expired = site.one(insert, "duxton", 10, -1)[0]
    with pytest.raises(psycopg.errors.CheckViolation, match="belongs to site duxton, not to site klcc"):
        site.one(insert, "klcc", 0, 900)
    site.start_worker()
    assert (await site.result(old))["codes"] == ["command-too-old"]
    assert (await site.result(expired))["codes"] == ["command-expired"]
    assert site.building.writes == []


async def test_a_command_that_expires_while_the_database_is_slow_is_not_executed(site: Site) -> None:
    with psycopg.connect(site.settings.database_url.get_secret_value()) as holder:
        holder.execute("LOCK TABLE held_slot IN SHARE MODE")  # it can be read, but not written
        job = site.command(**SETPOINT, value=70.0, expiresAt=ago(-2))
        await until(lambda: site.one("SELECT count(*) FROM write_claim") == (1,), "it is claimed")
        moment = datetime.now(UTC)
        await until(lambda: datetime.now(UTC) > moment + timedelta(seconds=2.5), "it expires")
    assert (await site.result(job))["codes"] == ["command-expired"]
    assert site.building.writes == []
    assert site.one("SELECT count(*) FROM held_slot") == (0,), "it holds nothing"


async def test_a_row_that_is_no_command_is_answered_and_not_in_the_way(site: Site) -> None:
    insert = (
        "INSERT INTO write_commands (site_id, point_id, value, expires_at) SELECT 'duxton', id, 70, '1999-01-01'"
        " FROM point WHERE object_type = 'analog-value' AND object_instance = 120 RETURNING job_id"
    )
    odd = site.one(insert)[0]
    assert (await site.result(odd))["validationErrors"] == ["expiresAt is not between the years 2000 and 9000"]
    assert site.one("SELECT status FROM write_command_status WHERE job_id = %s", odd) == ("failed",)


async def test_a_write_by_hand_waits_for_its_result(site: Site) -> None:
    request = WriteRequest(AHU, "analog-value", 120, 70.0, 8, "a try", "cli:tester")
    result = await asyncio.to_thread(request_write, site.settings, request, 15)
    assert (result["success"], slot(site)) == (True, 70.0)
    assert site.one("SELECT actor FROM audit WHERE subject = %s", result["jobId"]) == ("cli:tester",)
