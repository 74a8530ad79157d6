"""How history is kept: three engines, chosen by what the server can do (docs/history.md)."""

import time
from enum import Enum
from typing import Any

import psycopg
from psycopg.errors import DeadlockDetected, LockNotAvailable

from bacpipes.log import get_logger
from bacpipes.migrations import DIRECTORY

logger = get_logger(__name__)
Connection = psycopg.Connection[Any]

COLUMNSTORE_SINCE = (2, 18)  # the TimescaleDB that brought the words we use
LONGEST_CHUNK = 24  # hours; a chunk is dropped as a whole, when its newest row is too old
POLICY_EVERY = "1 hour"
BUSY_TRIES, BUSY_PAUSE = 3, 0.3  # seconds; with the locks' 0.5 s it ends in time for a worker that is to stop


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
    licence, version = connection.execute(
        "SELECT current_setting('timescaledb.license', true), extversion FROM pg_extension "
        "WHERE extname = 'timescaledb'"
    ).fetchone() or ("", "")
    if licence != "timescale":
        return Engine.APACHE
    if tuple(int(part) for part in version.split(".")[:2]) < COLUMNSTORE_SINCE:
        logger.warning("TimescaleDB is too old to compress history", version=version, needed="2.18")
        return Engine.APACHE
    return Engine.COMMUNITY


def installed(connection: Connection) -> Engine | None:
    """The engine that the existing history table was made for, or None where there is none yet."""
    row = connection.execute("SELECT relkind FROM pg_class WHERE oid = to_regclass('public.reading')").fetchone()
    if row is None:
        return None
    if row[0] in (b"p", "p"):
        return Engine.PLAIN
    by_policy = "SELECT to_regprocedure('public.history_maintain(interval, timestamptz)') IS NULL"
    return Engine.COMMUNITY if connection.execute(by_policy).fetchone() == (True,) else Engine.APACHE


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


def set_policies(connection: Connection, engine: Engine, retention_days: int, compress_after_hours: int) -> None:
    """On the Community engine: let the server's policies be as the settings say, also where they were otherwise.

    A chunk is compressed when its newest row is old enough, so a chunk is no longer than that age; later chunks only
    take a changed length. A policy that is already right keeps its job, and with it what the server knows of its runs.
    """
    if engine is not Engine.COMMUNITY:
        return
    values = {"after": f"{compress_after_hours} hours", "keep": f"{retention_days} days", "every": POLICY_EVERY}
    values["chunk"] = f"{min(compress_after_hours, LONGEST_CHUNK)} hours"
    with connection.transaction():
        connection.execute("SELECT set_chunk_time_interval('public.reading', %(chunk)s::interval)", values)
        if not _policy_stands(connection, "compression", "compress_after", values["after"]):
            connection.execute("CALL remove_columnstore_policy('public.reading', if_exists => true)")
            connection.execute(
                "CALL add_columnstore_policy('public.reading', after => %(after)s::interval, "
                "schedule_interval => %(every)s::interval)",
                values,
            )
        if not _policy_stands(connection, "retention", "drop_after", values["keep"]):
            connection.execute("SELECT remove_retention_policy('public.reading', if_exists => true)")
            connection.execute(
                "SELECT add_retention_policy('public.reading', drop_after => %(keep)s::interval, "
                "schedule_interval => %(every)s::interval)",
                values,
            )


def maintain(connection: Connection, engine: Engine, retention_days: int) -> list[str]:
    """Our housekeeping: partitions for what comes, and drop what is too old. Returns the dropped names.

    Give it a connection in autocommit mode: each step commits by itself, and none makes writers wait for more than a
    moment. Where somebody reads for long what has to be locked, it goes on at the next call. On the Community engine
    the server does it by policy, and this does nothing.
    """
    dropped: list[str] = []
    busy = 0
    while engine is not Engine.COMMUNITY:
        try:
            steps = _step(connection, retention_days)
        except (LockNotAvailable, DeadlockDetected) as error:
            busy += 1
            if busy == BUSY_TRIES:
                logger.warning("history is in use; housekeeping goes on next time", reason=str(error).split("\n")[0])
                break
            time.sleep(BUSY_PAUSE)
            continue
        if not steps:
            break
        dropped += [name for action, name in steps if action == "dropped"]
    return dropped


def _step(connection: Connection, retention_days: int) -> list[tuple[str, str]]:
    with connection.transaction():
        call = "SELECT action, partition FROM public.history_maintain(%s::interval)"
        return connection.execute(call, [f"{retention_days} days"]).fetchall()


def _policy_stands(connection: Connection, policy: str, key: str, interval: str) -> bool:
    jobs = connection.execute(
        "SELECT (config->>%(key)s)::interval = %(interval)s::interval AND schedule_interval = %(every)s::interval "
        "FROM timescaledb_information.jobs WHERE proc_name = 'policy_' || %(policy)s "
        "AND hypertable_schema = 'public' AND hypertable_name = 'reading'",
        {"key": key, "interval": interval, "every": POLICY_EVERY, "policy": policy},
    ).fetchall()
    return jobs == [(True,)]


def _extension_ready(connection: Connection) -> bool:
    if connection.execute("SELECT FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone() is None:
        return False
    # Without its library preloaded the extension would end our connection: its loader defines this setting.
    if connection.execute("SELECT current_setting('timescaledb.disable_load', true)").fetchone() == (None,):
        logger.warning("TimescaleDB is installed but can't be used", reason="not in shared_preload_libraries")
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
