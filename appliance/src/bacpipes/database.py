"""Connections to the site's PostgreSQL, and the SQL files."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from bacpipes.errors import SettingsError, UnavailableError
from bacpipes.settings import Settings

Connection = psycopg.AsyncConnection[Any]
CONNECT_TIMEOUT = 5  # seconds
# A server that vanished without a word (power, cable) is noticed in this many milliseconds, not in the kernel's hours.
TCP_TIMEOUT = 15_000
KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}  # seconds, for idle connections
# A statement of the worker's that waits for a lock, or for a stalled disk, is given up after this many milliseconds.
STATEMENT_TIMEOUT = 5_000


@cache
def query(name: str) -> bytes:
    """The text of ``sql/<name>.sql``."""
    return (files("bacpipes") / "sql" / f"{name}.sql").read_bytes()


async def connect(settings: Settings, application: str) -> Connection:
    """One connection in autocommit mode, named in ``pg_stat_activity``; raise `UnavailableError` with the reason."""
    url = settings.database_url.get_secret_value()
    refuse_malformed(url)
    try:
        return await psycopg.AsyncConnection.connect(url, **_parameters(application))
    except psycopg.OperationalError as error:
        raise UnavailableError(f"The database can't be reached: {first_line(error)}.") from None


async def connect_impatient(settings: Settings, application: str) -> Connection:
    """The same, where a statement that takes more than 5 s fails: what waits for it has somewhere else to go."""
    connection = await connect(settings, application)
    await connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT}".encode())
    return connection


@contextmanager
def connect_now(url: str, application: str) -> Iterator[psycopg.Connection[Any]]:
    """The same for code that is not asynchronous; the connection ends with the block."""
    refuse_malformed(url)
    try:
        connection = psycopg.connect(url, **_parameters(application))
    except psycopg.OperationalError as error:
        raise UnavailableError(f"The database can't be reached: {first_line(error)}.") from None
    with connection:
        yield connection


def pool(settings: Settings, application: str, size: int = 4) -> AsyncConnectionPool[Connection]:
    """A pool that opens its connections when it is entered, and heals by itself."""
    return AsyncConnectionPool(
        settings.database_url.get_secret_value(),
        min_size=1,
        max_size=size,
        timeout=CONNECT_TIMEOUT,
        open=False,
        check=AsyncConnectionPool.check_connection,
        kwargs=_parameters(application),
    )


def _parameters(application: str) -> dict[str, Any]:
    """What every connection of ours has in common."""
    return {
        "autocommit": True,
        "connect_timeout": CONNECT_TIMEOUT,
        "tcp_user_timeout": TCP_TIMEOUT,
        "application_name": f"bacpipes {application}",
        **KEEPALIVE,
    }


def schema_version_now(connection: psycopg.Connection[Any]) -> str | None:
    """The version of the schema, or None where there is none."""
    if connection.execute("SELECT to_regclass('bacpipes_schema')").fetchone() == (None,):
        return None
    row = connection.execute("SELECT version_num FROM bacpipes_schema").fetchone()
    return str(row[0]) if row else None


async def schema_version(connection: Connection) -> str | None:
    """The same over an asynchronous connection."""
    cursor = await connection.execute("SELECT to_regclass('bacpipes_schema') IS NOT NULL")
    if await cursor.fetchone() != (True,):
        return None
    row = await (await connection.execute("SELECT version_num FROM bacpipes_schema")).fetchone()
    return str(row[0]) if row else None


def first_line(error: BaseException) -> str:
    """An error's first line without a trailing stop; no password, once `refuse_malformed` has let the URL pass."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def refuse_malformed(url: str) -> None:
    """A password that holds an @ or : as it is would be taken for a host or port, and be told in the error."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        parts = {"host": "@"}
    ports = str(parts.get("port") or "0").split(",")
    if "@" in str(parts.get("host") or "") or not all(port.isdigit() for port in ports):
        raise SettingsError(
            "BACPIPES_DATABASE_URL is not a PostgreSQL connection string.",
            "In a URI, special characters of the password are percent-encoded: %40 for @, %3A for :, %2F for /.",
        )
