"""What the two lanes bring to central's landing tables, and what becomes of it; on every engine that is at hand."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import engines
from bacpipes import history
from bacpipes.central import history as central_history
from bacpipes.central import migrate
from bacpipes.embedded import EmbeddedPostgres
from bacpipes.history import Engine
from central_parts import (
    NOW,
    SAT,
    SETPOINT,
    ago,
    bring_batch,
    bring_messages,
    bring_metadata,
    central_database,
    central_settings,
    payload,
    register,
    rows,
    site_url,
)


@pytest.fixture(scope="module", params=["plain", "apache", "community"])
def url(request: pytest.FixtureRequest, postgres: EmbeddedPostgres) -> Iterator[str]:
    """Central's database on each engine; the tests share it, and each clears it."""
    try:
        if request.param == "apache":
            with engines.TrixieServer() as server, central_database(server) as url:
                yield url
        else:
            server = postgres if request.param == "plain" else engines.community_server()
            with central_database(server) as url:
                yield url
    except engines.NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture
def central(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's connection to a central that knows site duxton, empty but for that."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE reading, gap, quarantine, parked, write_commands, write_results, point, device, lane, site,"
            " reconciliation"
        )
        register(connection)
        yield connection


READINGS = "SELECT point_id, value, quality, poll_cycle FROM sensor_readings ORDER BY time, point_id"


def test_migrating_twice_changes_nothing(url: str) -> None:
    migrate.migrate(central_settings(url))


def test_a_batch_becomes_rows_once_and_the_landing_table_stays_empty(central: psycopg.Connection[Any]) -> None:
    bring_metadata(central)
    for _ in range(2):
        bring_batch(central, {1: 21.5, 2: None})
    assert rows(central, READINGS) == [(1, 21.5, "good", 5), (2, None, "bad", 5)]
    assert rows(central, "SELECT count(*) FROM reading_batch") == [(0,)]


def test_rows_come_before_their_point_is_known(central: psycopg.Connection[Any]) -> None:
    bring_batch(central, {1: 21.5})
    assert rows(central, "SELECT point_id, haystack_name FROM sensor_readings") == [(1, None)]
    bring_metadata(central)
    (row,) = rows(central, "SELECT haystack_name, device_name, device_ip, site_id, units FROM sensor_readings")
    assert row == (SAT["haystack_name"], "AHU 1", "10.0.0.7", "duxton", "°C")


def test_both_lanes_bring_one_row_which_has_everything(central: psycopg.Connection[Any]) -> None:
    bring_metadata(central)
    bring_messages(central, payload())
    assert rows(central, READINGS) == [(1, 21.5, "good", None)]
    bring_batch(central, {1: 21.5})
    bring_messages(central, payload())
    assert rows(central, READINGS) == [(1, 21.5, "good", 5)]
    assert rows(central, "SELECT count(*) FROM landing.live") == [(0,)]


BAD = {
    "not-json": [b"not json", b"\xff\xfe", b"[" * 100_000, b"", b'"text"', b'{"a": "\\u0000"}'],
    "text-value": [payload(value="21.5"), payload(value=True), payload(value=[1])],
    "null-value": [payload(value=None), payload(value=None, quality="uncertain")],
    "not-a-float": [b'{"deviceId":7,"objectType":"analog-input","objectInstance":1,"timestamp":"2026-01-01T00:00:00Z",'
                    b'"value":1e400}'],
    "future": [payload(timestamp=(NOW + timedelta(hours=1)).isoformat())],
    "too-old": [payload(timestamp="1926-11-21T10:00:00.000Z")],
    "no-time": [payload(timestamp="yesterday"), payload(timestamp=None), payload(timestamp="2026-02-31T25:00:00Z")],
    "no-identity": [payload(deviceId="x"), payload(deviceId=None), payload(deviceId=1.5), payload(objectType=7)],
    "no-quality": [payload(quality="excellent")],
    "foreign-prefix": [payload(siteId="macau")],
}  # fmt: skip


def test_bad_messages_are_counted_by_rule_and_cost_no_other_reading(central: psycopg.Connection[Any]) -> None:
    bring_metadata(central)
    bad = [message for messages in BAD.values() for message in messages]
    bring_messages(central, *bad, payload(), *bad)
    assert rows(central, READINGS) == [(1, 21.5, "good", None)]
    counted = dict(rows(central, "SELECT rule, sum(count)::int FROM quarantine GROUP BY rule"))
    assert counted == {rule: 2 * len(messages) for rule, messages in BAD.items()}


def test_a_message_of_an_unknown_site_or_on_a_strange_topic_is_quarantined(central: psycopg.Connection[Any]) -> None:
    bring_metadata(central)
    bring_messages(central, payload(), topic="macau/ahu_1/analoginput1/presentValue")
    bring_messages(central, payload(), topic="duxton/appliance/status")
    assert sorted(rows(central, "SELECT site_id, rule FROM quarantine")) == [
        ("", "unknown-site"),
        ("duxton", "foreign-topic"),
    ]
    assert rows(central, READINGS) == []


def test_a_failed_read_is_a_proper_reading(central: psycopg.Connection[Any]) -> None:
    bring_metadata(central)
    bring_messages(central, payload(value=None, quality="bad", reason="timeout"))
    assert rows(central, "SELECT value, quality, reason FROM reading") == [(None, 2, "timeout")]


def test_readings_wait_for_their_point_and_are_released(central: psycopg.Connection[Any]) -> None:
    bring_messages(central, payload(), payload(timestamp=ago(minutes=1).isoformat(), value=20), payload())
    assert rows(central, "SELECT site_id, rule, count, subject FROM quarantine") == [
        ("duxton", "unknown-point", 3, "device=7, analog-input:1")
    ]
    bring_metadata(central)
    assert [row[:2] for row in rows(central, READINGS)] == [(1, 20.0), (1, 21.5)]
    assert rows(central, "SELECT count(*) FROM quarantine") == [(0,)]
    assert rows(central, "SELECT count(*) FROM parked") == [(0,)]


def test_the_quarantine_is_bounded(central: psycopg.Connection[Any]) -> None:
    bring_messages(central, *[payload(objectInstance=number) for number in range(10, 1310)])
    assert rows(central, "SELECT count(*), sum(count)::int FROM quarantine") == [(1001, 1300)]


def test_a_batch_with_times_out_of_bounds_keeps_its_other_readings(central: psycopg.Connection[Any]) -> None:
    central.execute(
        "INSERT INTO reading_batch (seq, site_id, base_time, poll_cycle, point_id, offset_ms, value, quality)"
        " VALUES (1, 'duxton', %s, 5, '{1,2}', '{0,7200000}', '{1,2}', '{0,0}')",
        [ago(minutes=5)],
    )
    assert [row[0] for row in rows(central, READINGS)] == [1]
    assert rows(central, "SELECT rule, count FROM quarantine") == [("future", 1)]


def test_a_point_that_became_another_object_is_refused(central: psycopg.Connection[Any]) -> None:
    bring_metadata(central)
    with pytest.raises(psycopg.errors.RaiseException, match="point 1 of site duxton is analog-input:1 at central"):
        bring_metadata(central, SAT | {"object_instance": 99})


def test_gaps_are_stored_once(central: psycopg.Connection[Any]) -> None:
    for _ in range(2):
        central.execute(
            "INSERT INTO gap (site_id, point_ids, since, until, reason) VALUES ('duxton', '{1}', %s, %s, 'test')",
            [ago(hours=1), NOW],
        )
    assert rows(central, "SELECT count(*) FROM gap") == [(1,)]


def test_a_site_brings_its_own_rows_only(central: psycopg.Connection[Any], url: str) -> None:
    bring_metadata(central)
    register(central, "macau")
    central.execute("INSERT INTO write_commands (site_id, point_id, value) VALUES ('duxton', 2, 20)")
    with psycopg.connect(site_url(url, "macau"), autocommit=True) as hostile:
        for attempt in (
            lambda: bring_batch(hostile, {1: 99.0}),
            lambda: bring_metadata(hostile, SAT),
            lambda: hostile.execute(
                "INSERT INTO write_results (job_id, site_id, success, result) VALUES ('x', 'duxton', true, '{}')"
            ),
            lambda: hostile.execute("SELECT * FROM hour_sums('duxton', '2026-01-01', now())"),
            lambda: hostile.execute("SELECT * FROM reading"),
            lambda: hostile.execute("SELECT * FROM sensor_readings"),
            lambda: hostile.execute("INSERT INTO landing.live VALUES (now(), 'x', 'x')"),
            lambda: hostile.execute("INSERT INTO write_commands (site_id, point_id, value) VALUES ('macau', 1, 1)"),
            lambda: hostile.execute("DELETE FROM gap"),
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                attempt()
        assert rows(hostile, "SELECT * FROM write_commands") == []
        assert rows(hostile, "SELECT * FROM site_commands") == []
        assert rows(hostile, "SELECT id FROM site") == [("macau",)]
        bring_batch(hostile, {1: 5.0}, site="macau")
    assert rows(central, "SELECT site_id, value FROM sensor_readings") == [("macau", 5.0)]
    with psycopg.connect(site_url(url, "duxton"), autocommit=True) as own:
        assert rows(own, "SELECT payload ->> 'value' FROM site_commands") == [("20",)]


def test_what_each_role_may_do(central: psycopg.Connection[Any]) -> None:
    def may(role: str, statement: str) -> bool:
        try:
            with central.transaction(force_rollback=True):
                central.execute(f"SET LOCAL ROLE {role}".encode())
                central.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    assert may("central_telegraf", "INSERT INTO landing.live VALUES (now(), 'duxton/a/b/presentValue', 'x')")
    assert not may("central_telegraf", "SELECT * FROM landing.live")
    assert not may("central_telegraf", "SELECT * FROM reading")
    for role in ("central_dashboard", "central_training"):
        assert may(role, "SELECT * FROM sensor_readings")
        assert may(role, "SELECT * FROM reading_5min")
        assert not may(role, "INSERT INTO gap SELECT * FROM gap")
        assert not may(role, "SELECT * FROM api_token")
    assert may("central_service", "SELECT * FROM api_token")
    assert not may("central_service", "DELETE FROM reading")


def test_an_unregistered_site_is_refused_by_name(central: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="site nowhere is not registered"):
        bring_batch(central, {1: 1.0}, site="nowhere")


def test_aggregates_follow_late_readings_too(central: psycopg.Connection[Any]) -> None:
    if rows(central, "SELECT to_regclass('landing.late_hour')") == [(None,)]:
        hours = [(ago(hours=3), 10.0), (ago(hours=3, seconds=-1), 20.0)]
        for at, value in hours:
            bring_batch(central, {1: value}, at)
        central.execute("CALL refresh_continuous_aggregate('reading_hourly', NULL, NULL)")
    else:
        central.execute("SELECT refresh_aggregates()")
        for at, value in [(ago(hours=30), 10.0), (ago(hours=30, seconds=-1), 20.0)]:
            bring_batch(central, {1: value}, at)
        central.execute("SELECT refresh_aggregates()")
        assert rows(central, "SELECT count(*) FROM reading_hourly") == [(0,)]
        central.execute("UPDATE landing.late_hour SET at = at - interval '11 minutes'")
        central.execute("SELECT refresh_aggregates()")
    assert rows(central, "SELECT point_id, readings, average, minimum, maximum FROM reading_hourly") == [
        (1, 2, 15.0, 10.0, 20.0)
    ]


def test_history_is_kept_for_ever_unless_a_limit_is_set(central: psycopg.Connection[Any], url: str) -> None:
    for days in (400, 20, 0):
        bring_batch(central, {9: float(days)}, ago(days=days, minutes=10))
    if history.installed(central) is Engine.COMMUNITY:
        central.execute("CALL refresh_continuous_aggregate('reading_hourly', NULL, NULL)")
    else:
        central.execute("UPDATE landing.late_hour SET at = at - interval '11 minutes'")
        central.execute("SELECT refresh_aggregates()")
    kept = "SELECT value FROM reading ORDER BY time"
    aggregated = "SELECT average FROM reading_hourly WHERE point_id = 9 ORDER BY bucket"
    assert rows(central, aggregated) == [(400.0,), (20.0,), (0.0,)]
    try:
        keep_house(central, url, 0)
        assert rows(central, kept) == [(400.0,), (20.0,), (0.0,)]
        keep_house(central, url, 30)
        assert rows(central, kept) == [(20.0,), (0.0,)]
        assert rows(central, aggregated) == [(400.0,), (20.0,), (0.0,)], "aggregates stay"
    finally:
        migrate.migrate(central_settings(url))


def keep_house(central: psycopg.Connection[Any], url: str, days: int) -> None:
    """What the service does every few minutes, or the engine's own policy, with such a limit."""
    settings = central_settings(url, retention_days=days)
    migrate.migrate(settings)
    engine = history.installed(central)
    assert engine is not None
    central_history.maintain(central, engine, settings)
    if engine is Engine.COMMUNITY:
        policy = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention'"
        for (job,) in rows(central, policy + " AND hypertable_name = 'reading'"):
            central.execute("CALL run_job(%s)", [job])


def test_status_tells_what_became_of_a_command(central: psycopg.Connection[Any]) -> None:
    bring_metadata(central)
    for job, expiry in (("a", None), ("b", ago(minutes=1)), ("c", None)):
        central.execute(
            "INSERT INTO write_commands (job_id, site_id, point_id, value, expires_at) VALUES (%s, 'duxton', 2, 1, %s)",
            [job, expiry],
        )
    for _ in range(2):
        central.execute(
            "INSERT INTO write_results (job_id, site_id, success, result) VALUES ('c', 'duxton', true, '{}')"
        )
    assert rows(central, "SELECT job_id, status FROM write_command_status ORDER BY 1") == [
        ("a", "pending"),
        ("b", "expired"),
        ("c", "completed"),
    ]
    assert rows(central, "SELECT payload ->> 'jobId' FROM site_commands") == [("a",)]
    assert SETPOINT["id"] == 2
