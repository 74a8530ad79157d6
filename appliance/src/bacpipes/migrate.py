"""Bring a database to this version's schema, and tell when it is not at it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from bacpipes import history, schema, stored_settings
from bacpipes.database import CONNECT_TIMEOUT, first_line, query, refuse_malformed
from bacpipes.errors import SchemaError, UnavailableError
from bacpipes.log import get_logger
from bacpipes.migrations import DIRECTORY
from bacpipes.settings import Settings

logger = get_logger(__name__)
Connection = psycopg.Connection[Any]
MIGRATION_LOCK = 0x62616370  # 'bacp'; one migration at a time
OLDEST_SERVER = 14


def migrate(settings: Settings) -> history.Engine:
    """Apply what is missing, install the history table for the server's engine, set its policies, grant; idempotent.

    Schema, history table, policies and the roles' privileges become real together or not at all.
    """
    with open_connection(settings) as connection:
        refuse_unsuitable(connection, OLDEST_SERVER)
        take_lock(connection)
        engine = _upgrade(connection, settings)
        settings = _in_force(connection, settings)
        history.maintain(connection, engine, settings.retention_days)
    logger.info("schema is current", version=schema.head(), engine=engine.value, engine_meaning=engine.meaning)
    return engine


@contextmanager
def open_connection(settings: Settings) -> Iterator[Connection]:
    """A connection whose failures are told in one line that holds no password."""
    url = settings.database_url.get_secret_value()
    refuse_malformed(url)
    try:
        connection = psycopg.connect(
            url, autocommit=True, connect_timeout=CONNECT_TIMEOUT, application_name="bacpipes migrate"
        )
    except psycopg.OperationalError as error:
        raise UnavailableError(f"The database can't be reached: {first_line(error)}.") from None
    try:
        with connection:
            yield connection
    except psycopg.Error as error:
        if connection.broken:
            raise UnavailableError(f"The database went away: {first_line(error)}.") from error
        raise SchemaError(f"The database refused the migration: {first_line(error)}.") from error


def refuse_unsuitable(connection: Connection, oldest: int) -> None:
    """Raise where the server or the database can't hold a schema of ours."""
    version = connection.info.server_version // 10000
    if version < oldest:
        raise SchemaError(f"The server is PostgreSQL {version}; BacPipes needs {oldest} or newer.")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SchemaError(
            f"The database {connection.info.dbname!r} is encoded in {encoding}; BacPipes needs UTF8.",
            "Create it anew: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
        )


def take_lock(connection: Connection) -> None:
    """One migration at a time; the lock ends with the connection."""
    if connection.execute("SELECT pg_try_advisory_lock(%s)", [MIGRATION_LOCK]).fetchone() != (True,):
        logger.info("another migration runs; waiting for it")
        connection.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])


def _upgrade(connection: Connection, settings: Settings) -> history.Engine:
    _refuse_newer(connection)
    connection.autocommit = False
    # Alembic speaks through SQLAlchemy: lend it our connection, which holds the lock and the transaction.
    lender = create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool)
    with lender.begin() as lent:  # begun here, so that Alembic leaves the commit to us
        run_alembic(lent, DIRECTORY, schema.head())
        engine = history.install(connection)
        kept = _in_force(connection, settings).retention_days
        history.set_policies(connection, engine, kept, settings.compress_after_hours)
        connection.execute((DIRECTORY / "grants.sql").read_bytes())
    connection.autocommit = True
    return engine


def _in_force(connection: Connection, settings: Settings) -> Settings:
    return stored_settings.overlay(settings, dict(connection.execute(query("setting_load")).fetchall()))


def _refuse_newer(connection: Connection) -> None:
    if connection.execute("SELECT to_regclass('bacpipes_schema')").fetchone() == (None,):
        return
    known = schema.known()
    for (version,) in connection.execute("SELECT version_num FROM bacpipes_schema").fetchall():
        if version not in known:
            raise schema.newer(version)


def run_alembic(lent: Any, directory: Path, head: str) -> None:
    """Apply the missing migrations of one folder over a connection that is lent by SQLAlchemy."""
    config = Config()
    config.set_main_option("script_location", str(directory).replace("%", "%%"))
    config.attributes["connection"] = lent
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SchemaError(f"The schema could not be brought to version {head}: {error}.") from error
    except DBAPIError as error:
        raise error.orig if isinstance(error.orig, psycopg.Error) else error from None
