"""Bring central's database to this version's schema."""

from typing import Any

from psycopg import Connection
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from bacpipes.central import history, schema
from bacpipes.central.migrations import DIRECTORY
from bacpipes.central.settings import CentralSettings
from bacpipes.database import schema_version_now
from bacpipes.history import Engine
from bacpipes.log import get_logger
from bacpipes.migrate import open_connection, refuse_unsuitable, run_alembic, take_lock
from bacpipes.migrations import DIRECTORY as SITE

logger = get_logger(__name__)
OLDEST_SERVER = 16  # pg_input_is_valid: bad input is told, not raised


def migrate(settings: CentralSettings) -> Engine:
    """Apply what is missing, install history and aggregates, the landing triggers and the grants; idempotent.

    All of it becomes real together or not at all.
    """
    with open_connection(settings) as connection:
        refuse_unsuitable(connection, OLDEST_SERVER)
        take_lock(connection)
        engine = _upgrade(connection, settings)
        history.maintain(connection, engine, settings)
    logger.info("central's schema is current", version=schema.head(), engine=engine.value)
    return engine


def _upgrade(connection: Connection[Any], settings: CentralSettings) -> Engine:
    version = schema_version_now(connection)
    if version is not None and version not in schema.known():
        schema.check(version)
    connection.autocommit = False
    lender = create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool)
    with lender.begin() as lent:
        run_alembic(lent, DIRECTORY, schema.head())
        engine = history.install(connection)
        connection.execute((SITE / "reading_checksum.sql").read_bytes())
        landing = "".join(path.read_text() for path in sorted((DIRECTORY / "landing").glob("*.sql")))
        for name, value in (("{skew}", settings.live_skew), ("{ttl}", settings.write_ttl)):
            landing = landing.replace(name, f"{value:.3f}")
        connection.execute(landing.encode())
        history.set_policies(connection, engine, settings)
        connection.execute((DIRECTORY / "grants.sql").read_bytes())
    connection.autocommit = True
    return engine
