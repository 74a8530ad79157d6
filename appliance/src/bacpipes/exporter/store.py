"""The exporter's way to the database: a pool that heals, and nothing from a schema that we do not know."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from psycopg.rows import dict_row

from bacpipes import database, schema
from bacpipes.database import Connection, query
from bacpipes.settings import Settings

POOL_SIZE = 4
POOL_PATIENCE = 3.0  # seconds to wait for a connection before a request is told to come again
# The pool doubles the pause between its attempts until this time is up, and then begins anew at the next request: a
# database that comes back after hours is found within these seconds.
RECONNECT_WITHIN = 5.0


class Store:
    """Lends connections; each use may raise one of `problem.DATABASE_ERRORS`."""

    def __init__(self, settings: Settings) -> None:
        database.refuse_malformed(settings.database_url.get_secret_value())
        self._settings = settings
        self.pool = database.pool(settings, "exporter", POOL_SIZE)
        self.pool.reconnect_timeout = RECONNECT_WITHIN

    async def open(self) -> None:
        """Begin to connect; the database may come later."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """Give all connections back to the server."""
        await self.pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A pooled connection to a database whose schema is ours."""
        async with self.pool.connection(timeout=POOL_PATIENCE) as connection:
            await require_schema(connection)
            yield connection

    async def dedicated(self, purpose: str) -> Connection:
        """A connection of its own, for what takes long; the caller closes it."""
        return await database.connect(self._settings, f"exporter {purpose}")

    async def rows(self, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """All rows of ``sql/<name>.sql`` as dictionaries."""
        async with self.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query(name), parameters)
            return await cursor.fetchall()


async def require_schema(connection: Connection) -> None:
    """Raise `SchemaError` unless the database has this version's schema."""
    _check(await database.schema_version(connection))


@cache  # it reads the migrations' files, and remembers only what passed
def _check(version: str | None) -> None:
    schema.check(version)
