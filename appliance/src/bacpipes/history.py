"""How history is kept: three engines, chosen by what the server can do (DESIGN.md, "One PostgreSQL at a site")."""

from enum import Enum
from typing import Any

import psycopg

from bacpipes.log import get_logger
from bacpipes.migrations import DIRECTORY

logger = get_logger(__name__)
Connection = psycopg.Connection[Any]


class Engine(Enum):
    """What keeps the history table."""

    COMMUNITY = "timescaledb-community"
    APACHE = "timescaledb-apache"
    PLAIN = "plain"

    @property
    def meaning(self) -> str:
        """What that means for the operator."""
        return {
            Engine.COMMUNITY: "hypertable; the server compresses and drops old chunks by policy",
            Engine.APACHE: "hypertable without compression; our housekeeping drops old chunks",
            Engine.PLAIN: "partitions by day without compression; our housekeeping drops old ones",
        }[self]


def available(connection: Connection) -> Engine:
    """The best engine that this server offers for a new history table."""
    if not _extension_ready(connection):
        return Engine.PLAIN
    licence = connection.execute("SELECT current_setting('timescaledb.license', true)").fetchone()
    return Engine.COMMUNITY if licence == ("timescale",) else Engine.APACHE


def installed(connection: Connection) -> Engine | None:
    """The engine that the existing history table was made for, or None where there is none yet."""
    row = connection.execute("SELECT relkind FROM pg_class WHERE oid = to_regclass('public.reading')").fetchone()
    if row is None:
        return None
    if row[0] in (b"p", "p"):
        return Engine.PLAIN
    by_policy = connection.execute("SELECT to_regproc('public.history_maintain') IS NULL").fetchone() == (True,)
    return Engine.COMMUNITY if by_policy else Engine.APACHE


def install(connection: Connection) -> Engine:
    """Create the history table and its view where they are missing; say which engine keeps them."""
    best, present = available(connection), installed(connection)
    if present is not None:
        if present is not best:
            logger.warning("history keeps its engine", engine=present.value, server_offers=best.value)
        return present
    partitioning = "PARTITION BY RANGE (time)" if best is Engine.PLAIN else ""
    suffix = best.value.removeprefix("timescaledb-")
    with connection.transaction():
        connection.execute(_file("history.sql").replace("{partitioning}", partitioning).encode())
        connection.execute(_file(f"history_{suffix}.sql").encode())
    return best


def apply_policies(connection: Connection, engine: Engine, retention_days: int, compress_after_hours: int) -> None:
    """Let retention and compression be as the settings say, also where they were otherwise before."""
    if engine is not Engine.COMMUNITY:
        maintain(connection, engine, retention_days)
        return
    values = {"keep": f"{retention_days} days", "after": f"{compress_after_hours} hours"}
    with connection.transaction():
        connection.execute("SELECT set_chunk_time_interval('public.reading', %(after)s::interval)", values)
        connection.execute("CALL remove_columnstore_policy('public.reading', if_exists => true)")
        connection.execute("CALL add_columnstore_policy('public.reading', after => %(after)s::interval)", values)
        connection.execute("SELECT remove_retention_policy('public.reading', if_exists => true)")
        connection.execute("SELECT add_retention_policy('public.reading', drop_after => %(keep)s::interval)", values)


def maintain(connection: Connection, engine: Engine, retention_days: int) -> list[str]:
    """Our housekeeping: partitions for what comes, and drop what is too old. Returns the dropped names.

    On the Community engine the server does it by policy, and this does nothing.
    """
    if engine is Engine.COMMUNITY:
        return []
    rows = connection.execute("SELECT history_maintain(%s::interval)", [f"{retention_days} days"]).fetchall()
    return [row[0] for row in rows]


def _extension_ready(connection: Connection) -> bool:
    if connection.execute("SELECT FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone() is None:
        return False
    try:
        with connection.transaction():
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except psycopg.Error as error:
        logger.warning("TimescaleDB is installed but can't be used", reason=str(error).splitlines()[0])
        return False
    return True


def _file(name: str) -> str:
    return (DIRECTORY / name).read_text()
