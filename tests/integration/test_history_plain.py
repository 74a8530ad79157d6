"""History on plain PostgreSQL: partitions by UTC day, seen through what is stored where."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

from bacpipes import history, migrate
from bacpipes.history import Engine
from bacpipes.settings import Settings
from conftest import make_settings
from engines import add_point, store

Connection = psycopg.Connection[Any]
DAY = timedelta(days=1)
COLUMNS = (
    "time site_id equipment_type equipment_id device_id device_name device_ip object_type object_instance point_id "
    "point_name haystack_name dis value units quality poll_duration poll_cycle"
)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def point(connection: Connection) -> int:
    return add_point(connection)


@pytest.fixture
def role(connection: Connection) -> Iterator[str]:
    """A role that may do nothing yet; roles are the whole server's."""
    name = f"housekeeper_{connection.info.dbname}"
    connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
    yield name
    connection.execute("RESET ROLE")
    connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_sensor_readings_has_the_specified_columns_in_their_order(connection: Connection) -> None:
    view = connection.execute("SELECT * FROM sensor_readings")
    assert [column.name for column in view.description or ()] == COLUMNS.split()


def test_a_row_is_seen_with_its_point_and_device(connection: Connection, point: int) -> None:
    store(connection, point, [noon(0)])
    row = connection.execute(
        "SELECT time, site_id, equipment_type, equipment_id, device_id, device_name, device_ip, object_type, "
        "object_instance, point_id, point_name, haystack_name, dis, value, units, quality FROM sensor_readings"
    ).fetchone()
    place = ("duxton", "ahu", "1", 7, "AHU 1", "10.0.0.7", "analog-input", 1, point, "SAT")
    assert row == (
        noon(0), *place, "duxton.ahu.1.sensor.temp.air.supply.actual", "Supply air", 21.5, "°C", "good"
    )  # fmt: skip


def test_old_partitions_go_and_younger_ones_stay(connection: Connection, point: int) -> None:
    store(connection, point, [noon(ago) for ago in (0, 1, 28, 29, 31, 32, 40)])
    assert history.maintain(connection, Engine.PLAIN, 60) == []
    assert {name(noon(ago)) for ago in (0, 29, 31, 40)} <= partitions(connection)

    dropped = history.maintain(connection, Engine.PLAIN, 30)

    assert dropped == [name(noon(ago)) for ago in (40, 32, 31)]
    assert not set(dropped) & partitions(connection)
    assert days(connection) == [noon(ago).date() for ago in (29, 28, 1, 0)]
    assert history.maintain(connection, Engine.PLAIN, 30) == []


def test_a_partition_is_dropped_when_its_newest_possible_row_is_too_old(connection: Connection, point: int) -> None:
    """UTC decides, wherever the session is: the 1st ends at 00:00 UTC of the 2nd."""
    connection.execute("SET timezone = 'America/New_York'")
    first = datetime(2026, 3, 1, 23, 59, 59, 999999, tzinfo=UTC)  # New York's clocks change on 8 March
    second = datetime(2026, 3, 2, tzinfo=UTC)
    store(connection, point, [first, second])
    end = datetime(2026, 4, 1, tzinfo=UTC)

    housekeeping(connection, "30 days", end - timedelta(microseconds=1))
    assert (where(connection, first), where(connection, second)) == ("reading_p20260301", "reading_p20260302")

    housekeeping(connection, "30 days", end)
    assert (where(connection, first), where(connection, second)) == (None, "reading_p20260302")


def test_there_are_partitions_for_the_days_to_come(connection: Connection, point: int) -> None:
    housekeeping(connection, "30 days", datetime(2031, 12, 30, 23, 0, tzinfo=UTC))
    expected = {"reading_p20311229", "reading_p20311230", "reading_p20311231", "reading_p20320101"}
    assert expected <= partitions(connection)


def test_rows_without_a_partition_wait_and_then_get_their_own(connection: Connection, point: int) -> None:
    late, early = noon(20), noon(-9)
    assert store(connection, point, [late, early]) == 2
    assert where(connection, late) == where(connection, early) == "reading_default"

    history.maintain(connection, Engine.PLAIN, 30)

    assert where(connection, late) == name(late)
    assert where(connection, early) == name(early)
    assert store(connection, point, [late, late + timedelta(seconds=1)]) == 1, "the key still holds after the move"


def test_rows_that_came_too_late_are_deleted_where_they_wait(connection: Connection, point: int) -> None:
    store(connection, point, [datetime(1970, 1, 1, tzinfo=UTC), noon(31), noon(29)])
    history.maintain(connection, Engine.PLAIN, 30)
    assert days(connection) == [noon(29).date()]


def test_a_clock_far_ahead_leaves_no_error_behind(connection: Connection, point: int) -> None:
    connection.execute("INSERT INTO reading (time, point_id, quality) VALUES ('20000-01-01', %s, 0)", [point])
    connection.execute("INSERT INTO reading (time, point_id, quality) VALUES ('infinity', %s, 0)", [point])
    assert history.maintain(connection, Engine.PLAIN, 30) == []


def test_a_changed_retention_is_obeyed_at_once(settings: Settings, connection: Connection, point: int) -> None:
    store(connection, point, [noon(ago) for ago in (1, 5, 9)])
    migrate.migrate(settings.model_copy(update={"retention_days": 10}))
    assert len(days(connection)) == 3
    migrate.migrate(settings.model_copy(update={"retention_days": 7}))
    assert days(connection) == [noon(5).date(), noon(1).date()]


@pytest.mark.parametrize("keep", ["0 days", "-1 days", "23 hours", None])
def test_a_retention_that_would_drop_today_is_refused(connection: Connection, point: int, keep: str | None) -> None:
    store(connection, point, [noon(0)])
    with pytest.raises(psycopg.errors.RaiseException, match="kept for a day at least"):
        connection.execute("SELECT * FROM history_maintain(%s::interval)", [keep])
    assert len(days(connection)) == 1


def test_a_role_that_may_insert_and_call_can_keep_house(connection: Connection, point: int, role: str) -> None:
    store(connection, point, [noon(40)])
    history.maintain(connection, Engine.PLAIN, 60)
    grant(connection, role, "INSERT ON reading", "EXECUTE ON FUNCTION history_maintain")
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    store_blindly(connection, point, noon(20))

    assert history.maintain(connection, Engine.PLAIN, 30) == [name(noon(40))]

    connection.execute("RESET ROLE")
    assert where(connection, noon(20)) == name(noon(20))


def test_a_role_without_the_grant_may_not(connection: Connection, point: int, role: str) -> None:
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    for call in ("history_maintain('30 days')", "history_partition('2026-01-01')"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"SELECT {call}".encode())


def test_housekeeping_runs_nobody_elses_code(connection: Connection, point: int, role: str) -> None:
    """The caller's objects and search path don't reach what runs with the owner's rights."""
    grant(connection, role, "CREATE ON SCHEMA public", "EXECUTE ON FUNCTION history_maintain", "INSERT ON reading")
    store(connection, point, [noon(40), noon(20)])
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    for hijack in ("format(text, text)", "to_char(date, text)", "to_date(text, text)"):
        connection.execute(
            f"CREATE FUNCTION public.{hijack} RETURNS text LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'hijacked'; END $$".encode()
        )
    connection.execute("CREATE TEMP TABLE reading_default (time timestamptz)")
    connection.execute("CREATE TEMP TABLE pg_inherits (inhrelid oid, inhparent oid)")
    connection.execute("SET search_path = pg_temp, public, pg_catalog")
    call = "SELECT action, partition FROM public.history_maintain('30 days')"
    while connection.execute(call.encode()).fetchall():
        pass
    connection.execute("RESET ROLE")
    connection.execute("RESET search_path")
    connection.execute("DISCARD TEMP")
    assert name(noon(20)) in partitions(connection)


def test_housekeeping_in_many_places_at_once_does_each_thing_once(
    database_url: str, connection: Connection, point: int
) -> None:
    store(connection, point, [noon(ago) for ago in range(31, 41)])
    history.maintain(connection, Engine.PLAIN, 60)
    store(connection, point, [noon(ago) for ago in range(10, 20)])
    start = threading.Barrier(4)
    dropped: list[str] = []

    def keep_house() -> None:
        with psycopg.connect(database_url, autocommit=True) as own:
            start.wait()
            dropped.extend(history.maintain(own, Engine.PLAIN, 30))

    run_all([keep_house] * 4)

    assert sorted(dropped) == sorted(name(noon(ago)) for ago in range(31, 41))
    assert days(connection) == [noon(ago).date() for ago in reversed(range(10, 20))]
    assert waiting(connection) == 0


def test_housekeeping_waits_for_the_step_of_another(database_url: str, connection: Connection, point: int) -> None:
    store(connection, point, [noon(20), noon(19)])
    with psycopg.connect(database_url) as first, psycopg.connect(database_url, autocommit=True) as second:
        call = "SELECT action, partition FROM history_maintain('30 days')"
        assert first.execute(call.encode()).fetchall() == [("created", name(noon(20)))]
        housekeeper = threading.Thread(target=history.maintain, args=(second, Engine.PLAIN, 30))
        housekeeper.start()
        waits = "SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype = 'advisory' AND NOT granted"
        deadline = time.monotonic() + 10
        while connection.execute(waits, [second.info.backend_pid]).fetchone() != (1,):
            assert time.monotonic() < deadline, "the second one does not wait"
        first.commit()
        housekeeper.join(30)
    assert (where(connection, noon(20)), where(connection, noon(19))) == (name(noon(20)), name(noon(19)))


def test_no_row_is_refused_or_lost_while_its_partition_is_made(
    database_url: str, connection: Connection, point: int
) -> None:
    """Two writers fill day after day that has no partition, while housekeeping makes it."""
    stop = threading.Event()
    base = noon(-10)
    progress = [0]
    stored = [0, 0]
    slowest = [0.0, 0.0]

    def write(writer: int) -> None:
        with psycopg.connect(database_url, autocommit=True) as own:
            number = 0
            while not stop.is_set():
                number += 1
                at = base + DAY * progress[0] + timedelta(milliseconds=2 * number + writer)
                began = time.monotonic()
                with own.transaction():
                    stored[writer] += store(own, point, [at])
                    stored[writer] += store(own, point, [at + timedelta(microseconds=1), noon(0) + (at - base)])
                slowest[writer] = max(slowest[writer], time.monotonic() - began)

    def keep_house() -> None:
        try:
            with psycopg.connect(database_url, autocommit=True) as own:
                for _ in range(25):
                    time.sleep(0.02)
                    history.maintain(own, Engine.PLAIN, 30)
                    progress[0] += 1
        finally:
            stop.set()

    run_all([lambda: write(0), lambda: write(1), keep_house])
    history.maintain(connection, Engine.PLAIN, 30)

    assert min(stored) > 100
    assert connection.execute("SELECT count(*) FROM reading").fetchone() == (sum(stored),)
    assert waiting(connection) == 0
    assert max(slowest) < 3


def test_a_long_reader_delays_housekeeping_and_not_the_writers(
    database_url: str, connection: Connection, point: int
) -> None:
    """An export or a backup holds its locks for minutes."""
    store(connection, point, [noon(40), noon(20)])
    history.maintain(connection, Engine.PLAIN, 60)
    store(connection, point, [noon(10)])
    slowest = 0.0
    with psycopg.connect(database_url) as reader, psycopg.connect(database_url, autocommit=True) as own:
        reader.execute("SELECT count(*) FROM sensor_readings")
        with capture_logs() as logs:
            housekeeper = threading.Thread(target=history.maintain, args=(own, Engine.PLAIN, 30))
            housekeeper.start()
            number = 0
            while housekeeper.is_alive():
                number += 1
                began = time.monotonic()
                store(connection, point, [noon(0) + timedelta(milliseconds=number)])
                slowest = max(slowest, time.monotonic() - began)
            housekeeper.join()
        assert [entry["event"] for entry in logs] == ["history is in use; housekeeping goes on next time"]
        assert slowest < 3
        assert where(connection, noon(40)) == name(noon(40))

    assert history.maintain(connection, Engine.PLAIN, 30) == [name(noon(40))]
    assert where(connection, noon(10)) == name(noon(10))


def test_the_engine_is_said_in_the_log(empty_database_url: str, tmp_path: Any) -> None:
    with capture_logs() as logs:
        migrate.migrate(make_settings(empty_database_url, tmp_path))
    said = [entry for entry in logs if entry["event"] == "schema is current"]
    assert [(entry["engine"], "partitions by day" in entry["engine_meaning"]) for entry in said] == [("plain", True)]


def noon(days_ago: int) -> datetime:
    """A time in the middle of a UTC day."""
    return datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - DAY * days_ago


def name(at: datetime) -> str:
    return f"reading_p{at:%Y%m%d}"


def partitions(connection: Connection) -> set[str]:
    rows = connection.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'reading'::regclass")
    return {row[0] for row in rows}


def days(connection: Connection) -> list[date]:
    rows = connection.execute("SELECT DISTINCT (time AT TIME ZONE 'UTC')::date FROM reading ORDER BY 1")
    return [row[0] for row in rows]


def where(connection: Connection, at: datetime) -> str | None:
    row = connection.execute("SELECT tableoid::regclass::text FROM reading WHERE time = %s", [at]).fetchone()
    return row[0] if row else None


def waiting(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM reading_default").fetchone()
    assert row is not None
    return int(row[0])


def housekeeping(connection: Connection, keep: str, at: datetime) -> None:
    """All steps, as if it were ``at``."""
    while connection.execute("SELECT * FROM history_maintain(%s::interval, %s)", [keep, at]).fetchall():
        pass


def grant(connection: Connection, role: str, *privileges: str) -> None:
    for privilege in privileges:
        connection.execute(f'GRANT {privilege} TO "{role}"'.encode())


def store_blindly(connection: Connection, point: int, at: datetime) -> None:
    """An insert that needs no right to read."""
    connection.execute("INSERT INTO reading (time, point_id, quality) VALUES (%s, %s, 0)", [at, point])


def run_all(functions: list[Any]) -> None:
    """Each in a thread of its own; the first error is raised here."""
    errors: list[Exception] = []

    def guarded(function: Any) -> None:
        try:
            function()
        except Exception as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]


def test_maintenance_gives_the_planner_statistics_of_the_whole(connection: Connection, point: int) -> None:
    store(connection, point, [datetime.now(UTC)] * 1)
    connection.execute("SELECT pg_stat_reset_single_table_counters('public.reading'::regclass)")
    assert _analysed(connection) is None
    history.maintain(connection, Engine.PLAIN, 30)
    first = _analysed(connection)
    assert first is not None
    history.maintain(connection, Engine.PLAIN, 30)
    assert _analysed(connection) == first, "once a day is enough"


def _analysed(connection: Connection) -> datetime | None:
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute("SELECT last_analyze FROM pg_stat_user_tables WHERE relname = 'reading'").fetchone()
    assert row is not None
    analysed: datetime | None = row[0]
    return analysed
