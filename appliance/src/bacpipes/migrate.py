"""Bring a database to this version's schema, and tell when it is not at it."""

from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from bacpipes import history
from bacpipes.errors import SchemaError
from bacpipes.log import get_logger
from bacpipes.migrations import DIRECTORY
from bacpipes.settings import Settings

logger = get_logger(__name__)
MIGRATION_LOCK = 0x62616370  # 'bacp'; one migration at a time


def head() -> str:
    """The schema version that this code works with."""
    revision = ScriptDirectory(str(DIRECTORY)).get_current_head()
    assert revision is not None  # noqa: S101 - the package ships its migrations
    return revision


def migrate(settings: Settings) -> history.Engine:
    """Apply what is missing, install the history table for the server's engine, set its policies; idempotent."""
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        _upgrade(connection)
        engine = history.install(connection)
        history.apply_policies(connection, engine, settings.retention_days, settings.compress_after_hours)
    logger.info("schema is current", version=head(), engine=engine.value, engine_meaning=engine.meaning)
    return engine


def check(current: str | None) -> None:
    """Raise `SchemaError` unless ``current`` (from `current_version`) is this code's version."""
    if current is None:
        raise SchemaError("The database has no BacPipes schema.", "Run `bacpipes migrate`.")
    if current == head():
        return
    if current not in {script.revision for script in ScriptDirectory(str(DIRECTORY)).walk_revisions()}:
        raise _newer(current)
    raise SchemaError(f"The database's schema is version {current}, this is for {head()}.", "Run `bacpipes migrate`.")


def _newer(current: str) -> SchemaError:
    return SchemaError(
        f"The database's schema is version {current}, newer than this version of BacPipes knows (it is for {head()}).",
        "Upgrade BacPipes, or restore the backup that was made before the upgrade. Nothing was changed.",
    )


def _upgrade(connection: psycopg.Connection[Any]) -> None:
    row = None
    if connection.execute("SELECT to_regclass('bacpipes_schema')").fetchone() != (None,):
        row = connection.execute("SELECT version_num FROM bacpipes_schema").fetchone()
    if row and row[0] not in {script.revision for script in ScriptDirectory(str(DIRECTORY)).walk_revisions()}:
        raise _newer(row[0])
    config = Config()
    config.set_main_option("script_location", str(DIRECTORY))
    connection.autocommit = False
    # Alembic speaks through SQLAlchemy: lend it our connection, which holds the lock.
    engine = create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool)
    with engine.connect() as lent:
        config.attributes["connection"] = lent
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise SchemaError(f"The schema could not be brought to version {head()}: {error}.") from error
        lent.commit()
    connection.autocommit = True
