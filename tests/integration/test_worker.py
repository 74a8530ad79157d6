"""The worker on a whole site: what it polls, keeps, publishes, and how it bears what goes wrong."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from bacpipes.database import connect
from bacpipes.embedded import LOOPBACK, EmbeddedBroker, EmbeddedPostgres
from bacpipes.errors import AlreadyRunningError, SchemaError, SettingsError
from bacpipes.mqtt import config as mqtt_config
from bacpipes.settings import Settings
from bacpipes.worker.service import Worker
from mqtt_parts import Mosquitto, until
from site_parts import AHU, SENSOR_TOPIC, SETPOINT, SETPOINT_TOPIC, Site, database_away

STATUS_TOPIC = "duxton/appliance/status"


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker) -> AsyncIterator[Site]:
    """A site whose worker is not started yet."""
    async with Site(settings, broker) as site:
        yield site


async def latest(site: Site, topic: str, **expected: Any) -> dict[str, Any]:
    """Wait until the newest payload of a topic has these fields."""

    def look() -> dict[str, Any] | None:
        payloads = site.published(topic)[-1:]
        return payloads[0] if payloads and expected.items() <= payloads[0].items() else None

    await until(look, f"{topic} shows {expected}")
    return site.published(topic)[-1]


def unaccounted(site: Site) -> list[Any]:
    """Slots between the first and the last poll of each point that are neither a row nor in a recorded gap."""
    return site.database.execute(
        """
        WITH span AS (SELECT point_id, min(poll_cycle) AS low, max(poll_cycle) AS high FROM reading GROUP BY point_id)
        SELECT point_id, cycle FROM span, generate_series(low, high) AS cycle
        WHERE NOT EXISTS (SELECT FROM reading r WHERE r.point_id = span.point_id AND r.poll_cycle = cycle)
          AND NOT EXISTS (SELECT FROM gap WHERE span.point_id = ANY (point_ids)
                          AND to_timestamp(cycle) >= since AND to_timestamp(cycle) < until)
        """
    ).fetchall()


def polled_since(site: Site, moment: float, instance: int) -> int:
    """Polls of an object that began after a moment, in seconds since the epoch."""
    polls = "SELECT count(*) FROM sensor_readings WHERE object_instance = %s AND poll_cycle > %s"
    return int(site.one(polls, instance, moment)[0])


def unpublished(site: Site) -> int:
    """Rows of the sensor up to the newest published one that the broker did not hear."""
    heard = {payload["timestamp"] for payload in site.published(SENSOR_TOPIC)}
    rows = site.database.execute(
        "SELECT to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') FROM sensor_readings"
        " WHERE device_id = %s AND object_type = 'analog-input' AND object_instance = 101",
        [AHU],
    ).fetchall()
    return len({row[0] for row in rows if row[0] <= max(heard)} - heard)


# --- quality and faults of devices


async def test_a_failed_read_is_a_row_with_its_reason_and_published_as_null(site: Site) -> None:
    site.building.fault("missing", "12345:ai:101")
    site.start_worker()
    payload = await latest(site, SENSOR_TOPIC, quality="bad")
    assert (payload["value"], payload["reason"]) == (None, "object: unknown-object")
    row = site.one("SELECT value, quality, reason FROM reading WHERE reason IS NOT NULL LIMIT 1")
    assert row == (None, 2, "object: unknown-object")
    good = site.one("SELECT count(*) FROM last_value WHERE quality = 0")[0]
    assert good == site.one("SELECT count(*) FROM point WHERE enabled")[0] - 1, "one bad point cost others a reading"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (("unreliable", "12345:ai:101", "no-sensor"), {"quality": "bad", "reason": "fault: no-sensor"}),
        (("nan", "12345:ai:101"), {"quality": "bad", "value": None, "reason": "device sent nan"}),
        (("out-of-service", "12345:ai:101", 33.0), {"quality": "uncertain", "value": 33.0}),
        (("overridden", "12345:ai:101", 44.0), {"quality": "uncertain", "value": 44.0, "reason": "overridden"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
async def test_quality_follows_the_status_flags(site: Site, fault: tuple[Any, ...], expected: dict[str, Any]) -> None:
    site.building.fault(*fault)
    site.start_worker()
    await latest(site, SENSOR_TOPIC, **expected)
    await latest(site, SETPOINT_TOPIC, quality="good")


@pytest.mark.parametrize("fault", ["no-rpm", "small-apdu"])
async def test_a_device_with_little_ability_is_read_all_the_same(site: Site, fault: str) -> None:
    site.building.fault(fault, AHU)
    site.start_worker()
    await site.readings()
    assert site.one("SELECT count(*) FROM reading WHERE quality <> 0") == (0,)


async def test_what_a_device_says_of_itself_is_kept(site: Site) -> None:
    site.building.fault("no-rpm", AHU)
    site.start_worker()
    await site.readings(2)
    learnt = "SELECT max_apdu, vendor <> '', model <> '', read_multiple FROM device"
    await until(lambda: site.one(learnt) == (1476, True, True, False), "it is in the database")
    assert unaccounted(site) == []


async def test_a_silent_device_costs_only_itself_and_recovers(settings: Settings, broker: EmbeddedBroker) -> None:
    quick = settings.model_copy(update={"bacnet_timeout": 0.3, "bacnet_retries": 0})
    async with Site(quick, broker, devices=(AHU, 67890)) as site:
        site.start_worker()
        await site.readings()
        site.building.fault("silent", 67890)
        chiller = "duxton/chiller_2/analoginput501/presentValue"
        payload = await latest(site, chiller, quality="bad", value=None)
        assert payload["reason"] == "no answer from the device"
        await latest(site, SENSOR_TOPIC, quality="good")
        site.building.clear()
        await latest(site, chiller, quality="good")
        assert unaccounted(site) == []


async def test_slots_that_a_slow_device_outlasts_are_recorded_gaps(site: Site) -> None:
    site.start_worker()
    await site.readings()
    site.building.fault("late", AHU, 1.5)
    gaps = "SELECT count(*) FROM gap WHERE reason = 'the previous poll was still running'"
    await until(lambda: site.one(gaps)[0] >= 2, "gaps are recorded", 40)
    assert unaccounted(site) == []


# --- nothing lost


async def test_every_slot_is_a_row_or_a_recorded_gap_across_a_restart(site: Site) -> None:
    site.start_worker()
    await site.readings(2)
    await site.stop_worker()
    stopped = site.one("SELECT max(poll_cycle) FROM reading")[0]
    await until(lambda: site.one("SELECT extract(epoch FROM now())")[0] > stopped + 3, "some slots pass")
    site.start_worker()
    await until(lambda: site.one("SELECT max(poll_cycle) FROM reading")[0] > stopped + 3, "polling goes on")
    told = "SELECT cardinality(point_ids) FROM gap WHERE reason = 'the worker was not running'"
    assert site.database.execute(told).fetchall() == [site.one("SELECT count(*) FROM point WHERE enabled")]
    assert unaccounted(site) == []


async def test_a_broker_that_was_away_gets_every_reading(settings: Settings, tmp_path: Path) -> None:
    mosquitto = Mosquitto(tmp_path, users={"u": "secret"})
    mosquitto.credentials = ("u", "secret")  # type: ignore[attr-defined]
    with mosquitto:
        async with Site(settings, mosquitto) as site:  # type: ignore[arg-type]
            site.start_worker()
            await site.readings()
            await asyncio.to_thread(mosquitto.kill)
            before = site.one("SELECT count(*) FROM reading")[0]
            await until(lambda: site.one("SELECT count(*) FROM reading")[0] > before * 3, "polling goes on")
            assert site.one("SELECT count(*) FROM reading_batch")[0] > 1, "the log keeps what was not acknowledged"
            await asyncio.to_thread(mosquitto.start)
            missed = site.one("SELECT max(seq) FROM reading_batch")[0]
            await until(
                lambda: site.one("SELECT seq FROM follower WHERE name = 'publisher'")[0] >= missed, "catches up", 40
            )
            await until(lambda: unpublished(site) == 0, "every row was heard")


async def test_with_the_database_away_it_polls_publishes_and_spools(site: Site, postgres: EmbeddedPostgres) -> None:
    site.start_worker()
    await site.readings(2)
    with database_away(postgres, site.settings):
        count = len(site.published(SENSOR_TOPIC))
        await until(lambda: len(site.published(SENSOR_TOPIC)) > count + 3, "readings are published all the same")
        assert (site.settings.state_dir / "spool").stat().st_size > 0
        ready = await _ready(site)
        assert [reason["component"] for reason in ready["reasons"]] == ["database"]
        refused = await site.write(**SETPOINT, value=70.0)
        assert (refused["success"], site.building.writes) == (False, [])
        assert "database is away" in refused["error"]
    site.reconnect()
    during = site.published(SENSOR_TOPIC)[-1]["timestamp"]
    await until(lambda: site.one("SELECT max(time) > %s FROM reading", during)[0], "the database has it all", 40)
    await until(lambda: not (site.settings.state_dir / "spool").exists(), "the spool is drained")
    assert unaccounted(site) == []
    async with asyncio.timeout(40):
        while not (await _ready(site))["ready"]:  # each part has a back-off of its own
            await asyncio.sleep(0.1)


async def _ready(site: Site) -> dict[str, Any]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{LOOPBACK}:{site.settings.worker_http_port}/readyz")
    body: dict[str, Any] = answer.json()
    assert answer.status_code == (200 if body["ready"] else 503)
    return body


async def test_the_log_is_trimmed_once_it_is_published(site: Site) -> None:
    site.start_worker()
    await site.readings(3)
    await until(lambda: site.one("SELECT count(*) < 15 FROM reading_batch")[0], "the log is short")
    assert site.one("SELECT seq FROM follower WHERE name = 'publisher'")[0] > 0


async def test_a_commit_that_waits_for_a_lock_goes_to_the_spool_and_not_to_memory(site: Site) -> None:
    site.start_worker()
    await site.readings()
    with psycopg.connect(site.settings.database_url.get_secret_value()) as holder:
        holder.execute("LOCK TABLE last_value")
        await until((site.settings.state_dir / "spool").exists, "the spool is used", 30)
        assert not (await _ready(site))["ready"]
    await until(lambda: not (site.settings.state_dir / "spool").exists(), "the spool is drained", 30)
    assert unaccounted(site) == []


async def test_a_broker_configuration_that_can_not_be_read_keeps_the_backlog(site: Site) -> None:
    site.database.execute("UPDATE mqtt_config SET password = 'sealed by another key'")
    site.start_worker()
    await until(lambda: site.one("SELECT count(*) FROM reading_batch")[0] >= 4, "the log keeps what waits")
    reasons = (await _ready(site))["reasons"]
    assert [reason["component"] for reason in reasons] == ["mqtt"]
    before = site.one("SELECT min(seq) FROM reading_batch")[0]
    await until(lambda: site.one("SELECT max(seq) FROM reading_batch")[0] > before + 12, "trimming had its turn", 30)
    assert site.one("SELECT min(seq) FROM reading_batch")[0] == before


async def test_one_refused_reading_costs_no_other(site: Site) -> None:
    site.database.execute("ALTER TABLE last_value ADD CHECK (point_id <> 1)")
    site.start_worker()
    others = "SELECT count(DISTINCT point_id) FROM reading WHERE point_id <> 1"
    enabled = site.one("SELECT count(*) FROM point WHERE enabled")[0]
    await until(lambda: site.one(others)[0] == enabled - 1, "all others are stored")
    assert site.one("SELECT point_ids, reason FROM gap LIMIT 1")[0] == [1]
    assert site.one("SELECT count(*) FROM reading WHERE point_id = 1") == (0,)


# --- changes without a restart


async def test_changes_of_points_and_broker_apply_at_once(site: Site) -> None:
    site.start_worker()
    await site.readings()
    site.database.execute(
        "UPDATE point SET enabled = false WHERE object_type = 'analog-input' AND object_instance = 101"
    )
    site.database.execute(
        "UPDATE point SET dis = 'renamed' WHERE object_type = 'analog-value' AND object_instance = 120"
    )
    await latest(site, SETPOINT_TOPIC, dis="renamed")
    known = site.one("SELECT extract(epoch FROM now())")[0]
    await until(lambda: polled_since(site, known, 120) > 2, "polling goes on")
    assert polled_since(site, known, 101) == 0, "a disabled point is polled"
    before = len(site.published(STATUS_TOPIC))
    async with await connect(site.settings, "test") as connection:
        await mqtt_config.save(connection, site.settings, {"write_result_topic": "bacnet/other/result"}, actor="test")
    statuses = ["offline", "online"]
    await until(
        lambda: [payload["status"] for payload in site.published(STATUS_TOPIC)[before:]] == statuses,
        "it says goodbye and is connected again",
    )
    seen = len(site.published(SETPOINT_TOPIC))
    await until(lambda: len(site.published(SETPOINT_TOPIC)) > seen, "it publishes again, so it is subscribed too")
    job = site.command(**SETPOINT, value=61.0)
    await until(
        lambda: [r for r in site.published("bacnet/other/result") if r["jobId"] == job], "the new topic is used"
    )


# --- life cycle


async def test_sigterm_drains_and_says_goodbye(site: Site) -> None:
    worker = site.spawn_worker()
    await site.readings()
    worker.send_signal(signal.SIGTERM)
    _, log = await asyncio.to_thread(worker.communicate, timeout=5)
    assert worker.returncode == 0, log
    await until(lambda: site.published(STATUS_TOPIC)[-1]["status"] == "offline", "the status says offline")
    await until(lambda: unpublished(site) == 0, "what was committed was published")


async def test_sigterm_does_not_wait_for_a_silent_device(site: Site) -> None:
    worker = site.spawn_worker()
    await site.readings()
    site.building.fault("silent", AHU)
    jobs = [site.command(**SETPOINT, value=70.0) for _ in range(3)]
    await until(lambda: site.one("SELECT count(*) FROM write_claim") == (3,), "all three are claimed")
    worker.send_signal(signal.SIGTERM)
    _, log = await asyncio.to_thread(worker.communicate, timeout=5)
    assert worker.returncode == 0, log
    site.building.clear()
    site.start_worker()
    for job in jobs:
        assert (await site.result(job))["success"] is False, "it was not begun, and is not executed any more"
    assert site.building.writes == []


async def test_a_second_worker_is_refused_by_name(site: Site) -> None:
    site.start_worker()
    await site.readings()
    second = Worker(site.settings.model_copy(update={"worker_http_port": 0}))
    with pytest.raises(AlreadyRunningError, match="Another worker already runs on this database"):
        await second.run(asyncio.Event())


async def test_the_database_of_another_site_is_refused(site: Site) -> None:
    stranger = Worker(site.settings.model_copy(update={"site_id": "other"}))
    with pytest.raises(SettingsError, match="The database belongs to site 'duxton', and BACPIPES_SITE_ID is 'other'"):
        await stranger.run(asyncio.Event())


async def test_a_newer_schema_ends_the_worker_with_a_message(site: Site) -> None:
    site.database.execute("UPDATE bacpipes_schema SET version_num = '9999'")
    with pytest.raises(SchemaError, match="9999, newer than this version"):
        await Worker(site.settings).run(asyncio.Event())


async def test_a_wrong_database_address_is_told_and_tried_again(site: Site) -> None:
    wrong = site.settings.database_url.get_secret_value().replace("/test_", "/nowhere_")
    worker = site.spawn_worker(BACPIPES_DATABASE_URL=wrong)
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    reasons = (await _ready(site))["reasons"]
                except httpx.ConnectError:
                    await asyncio.sleep(0.1)
                    continue
                if reasons[0]["component"] == "database":
                    break
        assert "does not exist" in reasons[0]["reason"]
        assert worker.poll() is None
    finally:
        worker.send_signal(signal.SIGTERM)
        _, log = await asyncio.to_thread(worker.communicate, timeout=5)
    said = [json.loads(line) for line in log.splitlines()]
    assert len([line for line in said if line["event"] == "database connection: failed"]) == 1
