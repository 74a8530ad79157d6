"""History on TimescaleDB, under both licences: what the server shows in its own views, not what we think we asked for.

engines.py says where the servers come from, and why a test is skipped where there is none.
"""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs
from test_history_plain import COLUMNS

from bacpipes import history, migrate
from bacpipes.history import Engine
from bacpipes.settings import Settings
from conftest import make_settings
from engines import (
    COMMUNITY_VARIABLE,
    NoServerError,
    Server,
    TrixieServer,
    add_point,
    community_server,
    database,
    store,
)

Connection = psycopg.Connection[Any]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
KEPT = 30  # days


@pytest.fixture(scope="session")
def apache() -> Iterator[Server]:
    try:
        server = TrixieServer()
    except NoServerError as reason:
        pytest.skip(str(reason))
    with server:
        yield server


@pytest.fixture(scope="session")
def community() -> Server:
    try:
        return community_server()
    except NoServerError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def apache_settings(apache: Server, tmp_path: Path) -> Iterator[Settings]:
    yield from migrated(apache, tmp_path)


@pytest.fixture
def community_settings(community: Server, tmp_path: Path) -> Iterator[Settings]:
    yield from migrated(community, tmp_path)


@pytest.fixture(params=[Engine.APACHE, Engine.COMMUNITY], ids=lambda engine: engine.value)
def engine(request: pytest.FixtureRequest) -> Engine:
    value: Engine = request.param
    return value


@pytest.fixture
def settings(engine: Engine, request: pytest.FixtureRequest) -> Settings:
    """Settings of a migrated database on that engine."""
    value: Settings = request.getfixturevalue(f"{engine.value.removeprefix('timescaledb-')}_settings")
    return value


# --- both licences


def test_the_engine_is_found_and_said_in_the_log(engine: Engine, settings: Settings) -> None:
    with capture_logs() as logs, connected(settings) as connection:
        assert history.installed(connection) is engine
        assert history.available(connection) is engine
        assert migrate.migrate(settings) is engine
    said = {entry["event"]: entry for entry in logs}
    assert said["schema is current"]["engine"] == engine.value
    assert "history keeps its engine" not in said


def test_the_same_view_on_a_hypertable(settings: Settings) -> None:
    with connected(settings) as connection:
        assert connection.execute("SELECT hypertable_name FROM timescaledb_information.hypertables").fetchall() == [
            ("reading",)
        ]
        store(connection, add_point(connection), [now()])
        view = connection.execute("SELECT * FROM sensor_readings")
        assert [column.name for column in view.description or ()] == COLUMNS.split()
        assert len(view.fetchall()) == 1


def test_a_row_that_came_twice_is_stored_once(settings: Settings) -> None:
    with connected(settings) as connection:
        point, times = add_point(connection), [now(), now() - 3 * DAY]
        assert store(connection, point, times) == 2
        assert store(connection, point, [*times, now() - HOUR], value=99) == 1
        assert values(connection, times) == {21.5}


def test_chunks_that_are_too_old_are_gone_and_younger_ones_stay(engine: Engine, settings: Settings) -> None:
    ages = [timedelta(0), DAY, 28 * DAY, (KEPT + 2) * DAY, (KEPT + 9) * DAY]
    with connected(settings) as connection:
        store(connection, add_point(connection), [now() - age for age in ages])
        before = chunks(connection)
        assert len(before) == len(ages)
        expected = {name for name, (_, end) in before.items() if end < now() - KEPT * DAY}
        assert len(expected) == 2

        if engine is Engine.APACHE:
            dropped = history.maintain(connection, engine, KEPT)
            assert {name.removeprefix("_timescaledb_internal.") for name in dropped} == expected
            assert history.maintain(connection, engine, KEPT) == []
        else:
            run_policy(connection, "retention")

        assert set(chunks(connection)) == set(before) - expected
        assert connection.execute("SELECT count(*) FROM reading").fetchone() == (3,)


def test_a_row_of_any_time_is_taken(settings: Settings) -> None:
    """A clock may be wrong, a spool may be old: what is too old is then dropped, and nothing is refused."""
    with connected(settings) as connection:
        times = [datetime(1970, 1, 1, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC)]
        assert store(connection, add_point(connection), times) == 2


# --- Apache licence


def test_apache_a_changed_retention_is_obeyed_at_once(apache_settings: Settings) -> None:
    with connected(apache_settings) as connection:
        store(connection, add_point(connection), [now(), now() - 12 * DAY])
        migrate.migrate(apache_settings)
        assert len(chunks(connection)) == 2
        migrate.migrate(apache_settings.model_copy(update={"retention_days": 7}))
        assert len(chunks(connection)) == 1


def test_apache_housekeeping_needs_no_more_than_its_grant(apache_settings: Settings) -> None:
    with connected(apache_settings) as connection:
        store(connection, add_point(connection), [now(), now() - 40 * DAY])
        role = f"housekeeper_{connection.info.dbname}"
        connection.execute(f"CREATE ROLE {role}".encode())
        try:
            connection.execute(f"SET ROLE {role}".encode())
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                history.maintain(connection, Engine.APACHE, KEPT)
            connection.execute("RESET ROLE")
            connection.execute(f"GRANT EXECUTE ON FUNCTION history_maintain TO {role}".encode())
            connection.execute(f"SET ROLE {role}".encode())
            assert len(history.maintain(connection, Engine.APACHE, KEPT)) == 1
        finally:
            connection.execute("RESET ROLE")
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def test_apache_a_retention_that_would_drop_today_is_refused(apache_settings: Settings) -> None:
    with connected(apache_settings) as connection:
        store(connection, add_point(connection), [now()])
        for keep in ("0 days", "-1 days", None):
            with pytest.raises(psycopg.errors.RaiseException, match="kept for a day at least"):
                connection.execute("SELECT * FROM history_maintain(%s::interval)", [keep])
        assert len(chunks(connection)) == 1


def test_apache_a_long_reader_delays_housekeeping(apache_settings: Settings) -> None:
    with connected(apache_settings) as connection:
        store(connection, add_point(connection), [now(), now() - 40 * DAY])
        with psycopg.connect(apache_settings.database_url.get_secret_value()) as reader:
            reader.execute("SELECT count(*) FROM sensor_readings")
            began = time.monotonic()
            with capture_logs() as logs:
                assert history.maintain(connection, Engine.APACHE, KEPT) == []
            assert time.monotonic() - began < 10
            assert [entry["event"] for entry in logs] == ["history is in use; housekeeping goes on next time"]
        assert len(history.maintain(connection, Engine.APACHE, KEPT)) == 1


def test_a_library_that_is_not_preloaded_leaves_plain_partitions_for_good(apache: Server, tmp_path: Path) -> None:
    """Installed but not in shared_preload_libraries; and what happens when that is put right later."""
    with TrixieServer(preload=False) as server, database(server) as url:
        with capture_logs() as logs:
            assert migrate.migrate(make_settings(url, tmp_path)) is Engine.PLAIN
        assert logs[0]["event"] == "TimescaleDB is installed but can't be used"
        assert logs[0]["reason"] == "not in shared_preload_libraries"
        with psycopg.connect(url, autocommit=True) as connection:
            store(connection, add_point(connection), [now() - 40 * DAY])

        server.stop()
        server.start(preload=True)

        with capture_logs() as logs:
            assert migrate.migrate(make_settings(url, tmp_path)) is Engine.PLAIN
        kept = next(entry for entry in logs if entry["event"] == "history keeps its engine")
        assert (kept["engine"], kept["server_offers"]) == ("plain", "timescaledb-apache")
        with psycopg.connect(url, autocommit=True) as connection:
            assert history.maintain(connection, Engine.PLAIN, KEPT) == []
            assert connection.execute("SELECT count(*) FROM reading").fetchone() == (0,), "too old, deleted"


# --- Community licence


def test_community_the_policies_say_what_the_settings_say(community_settings: Settings) -> None:
    with connected(community_settings) as connection:
        assert policies(connection) == {"compression": 6 * HOUR, "retention": 30 * DAY}
        assert chunk_length(connection) == 6 * HOUR


def test_community_changed_settings_take_effect_at_the_next_migrate(community_settings: Settings) -> None:
    changed = community_settings.model_copy(update={"retention_days": 7, "compress_after_hours": 3})
    with connected(community_settings) as connection:
        before = job_ids(connection)
        migrate.migrate(community_settings)
        assert job_ids(connection) == before, "what is right already keeps its job"
        store(connection, add_point(connection), [now() - 9 * DAY])

        migrate.migrate(changed)

        assert policies(connection) == {"compression": 3 * HOUR, "retention": 7 * DAY}
        assert chunk_length(connection) == 3 * HOUR
        run_policy(connection, "retention")
        assert chunks(connection) == {}


@pytest.mark.parametrize(("after", "length"), [(1, HOUR), (24, DAY), (48, DAY), (8760, DAY)])
def test_community_no_chunk_is_longer_than_a_day(community_settings: Settings, after: int, length: timedelta) -> None:
    """A year before compression must not mean chunks of a year, which retention would never drop."""
    migrate.migrate(community_settings.model_copy(update={"compress_after_hours": after}))
    with connected(community_settings) as connection:
        assert chunk_length(connection) == length
        assert policies(connection)["compression"] == after * HOUR
        store(connection, add_point(connection), [now(), now() - 32 * DAY])
        run_policy(connection, "retention")
        assert len(chunks(connection)) == 1


def test_community_old_chunks_are_compressed_and_young_ones_not(community_settings: Settings) -> None:
    with connected(community_settings) as connection:
        point = add_point(connection)
        old = [now() - 20 * HOUR + n * timedelta(seconds=1) for n in range(3000)]
        store(connection, point, [*old, now()])
        assert compressed(connection) == 0

        run_policy(connection, "compression")

        young = [name for name, (_, end) in chunks(connection).items() if end > now() - 6 * HOUR]
        assert len(young) == 1
        assert compressed(connection) == len(chunks(connection)) - 1 >= 1
        sizes = connection.execute(
            "SELECT sum(before_compression_total_bytes), sum(after_compression_total_bytes) "
            "FROM chunk_columnstore_stats('reading') WHERE compression_status = 'Compressed'"
        ).fetchone()
        assert sizes is not None
        assert sizes[1] < sizes[0]
        assert connection.execute("SELECT count(*) FROM sensor_readings WHERE value = 21.5").fetchone() == (3001,)


def test_community_a_row_that_comes_again_after_compression_is_dropped_silently(community_settings: Settings) -> None:
    with connected(community_settings) as connection:
        point = add_point(connection)
        old = [now() - 20 * HOUR + n * timedelta(seconds=2) for n in range(2000)]
        store(connection, point, old)
        run_policy(connection, "compression")
        assert compressed(connection) >= 1
        between = [at + timedelta(seconds=1) for at in old]

        assert store(connection, point, old, value=99) == 0
        assert store(connection, point, old + between, value=23) == 2000

        assert values(connection, old) == {21.5}
        assert values(connection, between) == {23}
        run_policy(connection, "compression")
        assert connection.execute("SELECT count(*) FROM reading").fetchone() == (4000,)


def test_community_a_compressed_chunk_is_dropped_when_it_is_too_old(community_settings: Settings) -> None:
    with connected(community_settings) as connection:
        store(connection, add_point(connection), [now() - 32 * DAY, now() - 20 * DAY])
        run_policy(connection, "compression")
        assert compressed(connection) == 2
        run_policy(connection, "retention")
        assert [begin.date() for begin, _ in chunks(connection).values()] == [(now() - 20 * DAY).date()]


def test_community_our_housekeeping_leaves_it_to_the_server(community_settings: Settings) -> None:
    with connected(community_settings) as connection:
        store(connection, add_point(connection), [now() - 40 * DAY])
        assert history.maintain(connection, Engine.COMMUNITY, KEPT) == []
        assert len(chunks(connection)) == 1


def test_community_too_old_to_compress_is_kept_by_us(
    community: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 2.18 the words for compression were others: history is then kept as on the Apache edition."""
    monkeypatch.setattr(history, "COLUMNSTORE_SINCE", (99, 0))
    with database(community) as url, capture_logs() as logs:
        assert migrate.migrate(make_settings(url, tmp_path)) is Engine.APACHE
        assert logs[0]["event"] == "TimescaleDB is too old to compress history"
        with psycopg.connect(url, autocommit=True) as connection:
            store(connection, add_point(connection), [now(), now() - 40 * DAY])
            assert len(history.maintain(connection, Engine.APACHE, KEPT)) == 1
            assert len(chunks(connection)) == 1


def test_community_is_what_was_asked_for(community_settings: Settings) -> None:
    """A server named by the variable that isn't the Community edition must not make these tests pass."""
    with connected(community_settings) as connection:
        licence = connection.execute("SHOW timescaledb.license").fetchone()
    assert licence == ("timescale",), f"{COMMUNITY_VARIABLE}={bool(os.environ.get(COMMUNITY_VARIABLE))}"


# --- helpers


def migrated(server: Server, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a database of its own, migrated; its jobs run when a test runs them, not by themselves."""
    with database(server) as url:
        settings = make_settings(url, tmp_path)
        migrate.migrate(settings)
        with connected(settings) as connection:
            connection.execute(
                "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs "
                "WHERE hypertable_name = 'reading'"
            )
        yield settings


def connected(settings: Settings) -> Connection:
    return psycopg.connect(settings.database_url.get_secret_value(), autocommit=True)


def now() -> datetime:
    return datetime.now(UTC)


def chunks(connection: Connection) -> dict[str, tuple[datetime, datetime]]:
    rows = connection.execute(
        "SELECT chunk_name, range_start, range_end FROM timescaledb_information.chunks "
        "WHERE hypertable_name = 'reading'"
    )
    return {name: (begin, end) for name, begin, end in rows}


def compressed(connection: Connection) -> int:
    row = connection.execute(
        "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'reading' AND is_compressed"
    ).fetchone()
    assert row is not None
    return int(row[0])


def values(connection: Connection, times: list[datetime]) -> set[float]:
    rows = connection.execute("SELECT DISTINCT value FROM reading WHERE time = ANY(%s)", [times])
    return {row[0] for row in rows}


def chunk_length(connection: Connection) -> timedelta:
    row = connection.execute(
        "SELECT time_interval FROM timescaledb_information.dimensions WHERE hypertable_name = 'reading'"
    ).fetchone()
    assert row is not None
    length: timedelta = row[0]
    return length


def policies(connection: Connection) -> dict[str, timedelta]:
    """The interval of each policy on the history table; a policy that stood twice would be missing here."""
    rows = connection.execute(
        "SELECT proc_name, coalesce(config->>'compress_after', config->>'drop_after')::interval "
        "FROM timescaledb_information.jobs WHERE hypertable_name = 'reading'"
    ).fetchall()
    assert len(rows) == len(dict(rows))
    return {name.removeprefix("policy_"): interval for name, interval in rows}


def job_ids(connection: Connection) -> set[int]:
    rows = connection.execute("SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'reading'")
    return {row[0] for row in rows}


def run_policy(connection: Connection, policy: str) -> None:
    """What the server's scheduler would do, now."""
    row = connection.execute(
        "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'reading' AND proc_name = %s",
        [f"policy_{policy}"],
    ).fetchone()
    assert row is not None
    connection.execute(f"CALL run_job({row[0]})".encode())
