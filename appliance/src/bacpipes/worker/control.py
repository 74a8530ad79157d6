"""The worker's standing connection to the database: the lock of its one worker, and news of what changed."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg

from bacpipes import schema
from bacpipes.database import Connection, connect, first_line, schema_version
from bacpipes.errors import AlreadyRunningError, SettingsError, UnavailableError
from bacpipes.events import first_of
from bacpipes.log import Transition, get_logger
from bacpipes.settings import Settings

logger = get_logger(__name__)

LOCK_PATIENCE = 3.0  # seconds; a worker that was killed a moment ago still holds its lock
LOST_LOCK_PATIENCE = 30.0  # seconds; the server may take a while to see that our old connection is dead
RETRY_FIRST, RETRY_LAST = 0.5, 15.0  # seconds between tries to connect, doubling
AT_ONCE = 0.001  # seconds
LISTEN_FOR = 0.5  # seconds in one wait for news; a wait that is cancelled would take psycopg up to 5 s


class Control:
    """Holds the worker's advisory lock while it is connected, and says which table changed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self._health = Transition(logger, "database connection")

    @property
    def reason(self) -> str | None:
        """Why there is no connection, or None."""
        return self._health.reason

    async def open(self, stop: asyncio.Event, patience: float = LOCK_PATIENCE) -> Connection | None:
        """Connect, however long it takes; None when stopped meanwhile.

        Raise `SchemaError` where the schema is not ours, `AlreadyRunningError` where another worker has the site.
        """
        delay = RETRY_FIRST
        while not stop.is_set():
            try:
                connection = await connect(self._settings, "control")
                schema.check(await schema_version(connection))
                await self._lock(connection, patience)
                await self._refuse_other_site(connection)
                await connection.execute("LISTEN bacpipes")
            except (psycopg.OperationalError, UnavailableError) as error:
                self._health.failed(first_line(error))
                await first_of(stop, within=delay)
                delay = min(RETRY_LAST, delay * 2)
                continue
            self._health.recovered()
            self._connection = connection
            return connection
        return None

    async def follow(self, stop: asyncio.Event, changed: Callable[[str], Awaitable[None]]) -> None:
        """Call ``changed`` with each table's name until ``stop``; with ``*`` after a lost connection is back."""
        while not stop.is_set():
            connection = self._connection
            if connection is None or connection.closed:
                if await self.open(stop, LOST_LOCK_PATIENCE) is not None:
                    await changed("*")
                continue
            try:
                tables = {each.payload: None async for each in connection.notifies(timeout=LISTEN_FOR, stop_after=1)}
                if tables:  # many changes at once are taken over once
                    tables |= {each.payload: None async for each in connection.notifies(timeout=AT_ONCE)}
                for table in tables:
                    await changed(table)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                self._health.failed(first_line(error))
                await connection.close()

    async def close(self) -> None:
        """Give the lock back."""
        if self._connection is not None:
            await self._connection.close()

    async def _refuse_other_site(self, connection: Connection) -> None:
        """One database, one site: cursors, claims and the log are the site's."""
        cursor = await connection.execute(
            "SELECT site_id FROM device WHERE site_id <> %s LIMIT 1", [self._settings.site_id]
        )
        if row := await cursor.fetchone():
            await connection.close()
            raise SettingsError(
                f"The database belongs to site {row[0]!r}, and BACPIPES_SITE_ID is {self._settings.site_id!r}.",
                "Is the site's id or the database's address wrong?",
            )

    async def _lock(self, connection: Connection, patience: float) -> None:
        end = asyncio.get_running_loop().time() + patience
        while True:
            cursor = await connection.execute("SELECT pg_try_advisory_lock(hashtext('bacpipes worker'), 0)")
            if await cursor.fetchone() == (True,):
                return
            if asyncio.get_running_loop().time() > end:
                await connection.close()
                raise AlreadyRunningError(
                    f"Another worker already runs on this database (site {self._settings.site_id!r}).",
                    "Stop it first: two would poll and write twice.",
                )
            await asyncio.sleep(0.2)
