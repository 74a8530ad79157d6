"""Connections to the site's PostgreSQL, and the SQL files."""

from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

from bacpipes.errors import UnavailableError
from bacpipes.settings import Settings

Connection = psycopg.AsyncConnection[Any]
CONNECT_TIMEOUT = 5  # seconds
# A server that vanished without a word (power, cable) is noticed in this many milliseconds, not in the kernel's hours.
TCP_TIMEOUT = 15_000


@cache
def query(name: str) -> bytes:
    """The text of ``sql/<name>.sql``."""
    return (files("bacpipes") / "sql" / f"{name}.sql").read_bytes()


async def connect(settings: Settings, application: str) -> Connection:
    """One connection in autocommit mode, named in ``pg_stat_activity``; raise `UnavailableError` with the reason."""
    try:
        return await psycopg.AsyncConnection.connect(
            settings.database_url.get_secret_value(),
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT,
            tcp_user_timeout=TCP_TIMEOUT,
            application_name=f"bacpipes {application}",
        )
    except psycopg.OperationalError as error:
        raise UnavailableError(f"The database can't be reached: {first_line(error)}.") from None


def pool(settings: Settings, application: str, size: int = 4) -> AsyncConnectionPool[Connection]:
    """A pool that opens its connections when it is entered, and heals by itself."""
    return AsyncConnectionPool(
        settings.database_url.get_secret_value(),
        min_size=1,
        max_size=size,
        timeout=CONNECT_TIMEOUT,
        open=False,
        check=AsyncConnectionPool.check_connection,
        kwargs={
            "autocommit": True,
            "connect_timeout": CONNECT_TIMEOUT,
            "tcp_user_timeout": TCP_TIMEOUT,
            "application_name": f"bacpipes {application}",
        },
    )


async def schema_version(connection: Connection) -> str | None:
    """The version of the schema, or None where there is none."""
    cursor = await connection.execute("SELECT to_regclass('bacpipes_schema') IS NOT NULL")
    if await cursor.fetchone() != (True,):
        return None
    row = await (await connection.execute("SELECT version_num FROM bacpipes_schema")).fetchone()
    return str(row[0]) if row else None


def first_line(error: BaseException) -> str:
    """An error's first line without a trailing stop; libpq's texts hold no password."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
