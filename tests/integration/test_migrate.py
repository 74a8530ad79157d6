"""`bacpipes migrate` on the embedded server: what it does, and what it refuses with a clear message."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from structlog.testing import capture_logs

from bacpipes import history, migrate, schema
from bacpipes.embedded import EmbeddedPostgres, free_port
from bacpipes.errors import SchemaError, SettingsError, UnavailableError
from bacpipes.history import Engine
from conftest import make_settings
from engines import database

Connection = psycopg.Connection[Any]
SECRET = "geheim/p:w@1"


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Connection]:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def password_user(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A user whom the server asks for a password."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        (hba,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        before = Path(hba).read_text()
        connection.execute(f"CREATE ROLE careful LOGIN PASSWORD '{SECRET}'".encode())
        Path(hba).write_text(f"local all careful scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
        yield "careful"
        Path(hba).write_text(before)
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP ROLE careful")


def test_it_brings_an_empty_database_to_head(empty_database_url: str, empty: Connection, tmp_path: Path) -> None:
    assert version(empty) is None
    with pytest.raises(SchemaError, match="Run `bacpipes migrate`"):
        schema.check(version(empty))

    assert migrate.migrate(make_settings(empty_database_url, tmp_path)) is Engine.PLAIN

    assert version(empty) == schema.head()
    schema.check(version(empty))
    assert history.installed(empty) is Engine.PLAIN


def test_again_changes_nothing(empty_database_url: str, empty: Connection, tmp_path: Path) -> None:
    settings = make_settings(empty_database_url, tmp_path)
    migrate.migrate(settings)
    empty.execute("UPDATE mqtt_config SET broker = 'mine'")
    empty.execute("INSERT INTO reading (time, point_id, quality) VALUES (now(), 1, 0)")
    before = catalogue(empty)

    assert migrate.migrate(settings) is Engine.PLAIN

    assert catalogue(empty) == before
    assert empty.execute("SELECT broker FROM mqtt_config").fetchall() == [("mine",)]
    assert empty.execute("SELECT count(*) FROM reading").fetchone() == (1,)


def test_many_at_once_agree(empty_database_url: str, empty: Connection, tmp_path: Path) -> None:
    settings = make_settings(empty_database_url, tmp_path)
    engines: list[Engine] = []
    threads = [threading.Thread(target=lambda: engines.append(migrate.migrate(settings))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert engines == [Engine.PLAIN] * 4
    assert empty.execute("SELECT version_num FROM bacpipes_schema").fetchall() == [(schema.head(),)]


def test_a_second_migration_says_that_it_waits(empty_database_url: str, empty: Connection, tmp_path: Path) -> None:
    settings = make_settings(empty_database_url, tmp_path)
    empty.execute("SELECT pg_advisory_lock(%s)", [migrate.MIGRATION_LOCK])
    with capture_logs() as logs:
        second = threading.Thread(target=migrate.migrate, args=(settings,))
        second.start()
        second.join(1)
        assert second.is_alive()
        assert version(empty) is None
        empty.execute("SELECT pg_advisory_unlock(%s)", [migrate.MIGRATION_LOCK])
        second.join(30)
    assert version(empty) == schema.head()
    assert logs[0]["event"] == "another migration runs; waiting for it"


@pytest.mark.parametrize(
    "bogus", ["UPDATE bacpipes_schema SET version_num = '9999'", "INSERT INTO bacpipes_schema VALUES ('9999')"]
)
def test_a_newer_schema_is_left_alone(database_url: str, tmp_path: Path, bogus: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(bogus.encode())
        connection.execute("DROP VIEW sensor_readings")
        before = catalogue(connection)
        with pytest.raises(SchemaError, match="version 9999, newer than this version of BacPipes") as caught:
            migrate.migrate(make_settings(database_url, tmp_path))
        assert "Nothing was changed" in str(caught.value)
        assert catalogue(connection) == before
    with pytest.raises(SchemaError, match="newer"):
        schema.check("9999")


def test_an_older_schema_asks_for_migrate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "known", lambda: ["0001", "0002"])
    with pytest.raises(SchemaError, match="is version 0001, this is for 0002"):
        schema.check("0001")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("0001_main_path.sql", "CREATE TABLE half (n int); SELECT 1 / 0;"),
        ("history_plain.sql", "CREATE TABLE reading_default PARTITION OF reading DEFAULT; SELECT 1 / 0;"),
    ],
)
def test_a_migration_that_fails_leaves_nothing(
    empty_database_url: str, empty: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str
) -> None:
    settings = make_settings(empty_database_url, tmp_path)
    before = catalogue(empty)
    with monkeypatch.context() as broken:
        read_text, read_bytes = Path.read_text, Path.read_bytes
        broken.setattr(Path, "read_text", lambda p, *a, **k: text if p.name == file else read_text(p, *a, **k))
        broken.setattr(Path, "read_bytes", lambda p: text.encode() if p.name == file else read_bytes(p))
        with pytest.raises(SchemaError, match="refused the migration: division by zero"):
            migrate.migrate(settings)
    assert catalogue(empty) == before
    assert migrate.migrate(settings) is Engine.PLAIN


def test_a_missing_right_is_one_clear_line(postgres: EmbeddedPostgres, empty_database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        connection.execute("CREATE ROLE powerless LOGIN")
        try:
            url = psycopg.conninfo.make_conninfo(empty_database_url, user="powerless")
            with pytest.raises(SchemaError, match=r"^The database refused the migration: permission denied .*\.$"):
                migrate.migrate(make_settings(url, tmp_path))
        finally:
            connection.execute("DROP ROLE powerless")


def test_no_server(tmp_path: Path) -> None:
    url = f"postgresql://bacpipes:{quote(SECRET, safe='')}@127.0.0.1:{free_port()}/bacpipes"
    message = failure(UnavailableError, url, tmp_path)
    assert message.startswith("The database can't be reached: ")
    assert "onnection refused" in message


def test_a_wrong_password(postgres: EmbeddedPostgres, password_user: str, tmp_path: Path) -> None:
    right = psycopg.conninfo.make_conninfo(postgres.url("migrated"), user=password_user, password=SECRET)
    psycopg.connect(right).close()
    wrong = psycopg.conninfo.make_conninfo(right, password=SECRET + "2")
    assert 'password authentication failed for user "careful"' in failure(UnavailableError, wrong, tmp_path)


def test_no_such_database(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    assert 'database "nowhere" does not exist' in failure(UnavailableError, postgres.url("nowhere"), tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://bacpipes:{SECRET}@127.0.0.1/bacpipes",
        "postgresql://bacpipes:geheim@host@127.0.0.1/bacpipes",
        "postgresql://bacpipes:geheim%ZZ@127.0.0.1/bacpipes",
        "postgres//bacpipes:geheim@127.0.0.1/bacpipes",
        "host=127.0.0.1 password=geheim port=geheim",
    ],
)
def test_a_connection_string_that_is_none(url: str, tmp_path: Path) -> None:
    assert "BACPIPES_DATABASE_URL" in failure(SettingsError, url, tmp_path)


def test_a_server_that_goes_away(postgres: EmbeddedPostgres, empty_database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [migrate.MIGRATION_LOCK])
        caught: list[BaseException] = []

        def run() -> None:
            try:
                migrate.migrate(make_settings(empty_database_url, tmp_path))
            except UnavailableError as error:
                caught.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        kill = b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bacpipes migrate' \
            AND datname = current_database() AND wait_event_type = 'Lock'"
        while thread.is_alive() and not connection.execute(kill).fetchall():
            pass
        thread.join(30)
    assert [str(error) for error in caught] == [
        "The database went away: terminating connection due to administrator command."
    ]


def test_a_server_that_is_too_old(empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "OLDEST_SERVER", 99)
    message = failure(SchemaError, empty_database_url, tmp_path)
    assert re.fullmatch(r"The server is PostgreSQL \d+; BacPipes needs 99 or newer\.", message)


def test_a_database_that_is_not_utf8(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    options = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
    with database(postgres, options) as url:
        assert "is encoded in LATIN1; BacPipes needs UTF8" in failure(SchemaError, url, tmp_path)


def failure(kind: type[Exception], url: str, tmp_path: Path) -> str:
    """What is told when it fails: one line without a password."""
    with pytest.raises(kind) as caught:
        migrate.migrate(make_settings(url, tmp_path))
    message = str(caught.value)
    assert "\n" not in message
    assert not any(part in message for part in ("geheim", "p:w", "w@1"))
    return message


def version(connection: Connection) -> str | None:
    if connection.execute("SELECT to_regclass('bacpipes_schema')").fetchone() == (None,):
        return None
    row = connection.execute("SELECT version_num FROM bacpipes_schema").fetchone()
    return row[0] if row else None


def catalogue(connection: Connection) -> list[tuple[Any, ...]]:
    """Everything that stands in the schema public, and its versions."""
    relations = connection.execute(
        "SELECT oid, relname, relfilenode FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY oid"
    ).fetchall()
    return [
        *relations,
        *connection.execute("SELECT oid, xmin FROM pg_proc WHERE pronamespace = 'public'::regnamespace"),
    ]
