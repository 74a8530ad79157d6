"""The database side of commands: one connection, one statement group at a time, and results that wait for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from bacpipes.database import Connection, connect_impatient, first_line
from bacpipes.errors import UnavailableError
from bacpipes.log import Transition, get_logger
from bacpipes.settings import Settings
from bacpipes.writes import ledger
from bacpipes.writes.ledger import Entry

logger = get_logger(__name__)

AWAY = (psycopg.Error, UnavailableError, OSError)  # what using the book may raise
MOST_WAITING = 10_000  # results that wait in memory for the database


class Book:
    """``publish`` sends a result outside the log; ``on_result`` is told when one was stored and follows in the log."""

    def __init__(
        self, settings: Settings, publish: Callable[[dict[str, Any]], Awaitable[None]], on_result: Callable[[], None]
    ) -> None:
        self._settings = settings
        self.publish, self._on_result = publish, on_result
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()  # results keep their order in the log
        self._health = Transition(logger, "commands' database")
        self._unsaved: list[Entry] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Connection]:
        """The connection, for one statement group; raises one of `AWAY`."""
        async with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = await connect_impatient(self._settings, "commands")
            yield self._connection

    def failed(self, error: BaseException) -> None:
        """The database is away; said once."""
        self._health.failed(first_line(error))

    def recovered(self) -> None:
        """It is back."""
        self._health.recovered()

    async def enter(self, entry: Entry) -> None:
        """Store a result, now or once the database is back; then it is published now, and from the log again."""
        if len(self._unsaved) < MOST_WAITING:
            self._unsaved.append(entry)
        else:
            logger.error("too many results wait for the database; one is not kept", job=entry.result["jobId"])
        try:
            async with self.open() as connection:
                await self.save(connection)
        except AWAY as error:
            self.failed(error)
            if entry.stored:
                await self.publish(entry.result)
        if not entry.stored:  # it does not follow in the log
            await self.publish(entry.result)

    async def save(self, connection: Connection) -> None:
        """Store what waits; call it with the open book."""
        while self._unsaved:
            entry = self._unsaved[0]
            try:
                await ledger.settle(connection, entry)
            except (psycopg.DataError, psycopg.IntegrityError, ValueError):
                # it would fail for ever and keep all others from being stored; it is told, if not kept
                logger.exception("a result can't be stored", job=entry.result["jobId"])
                await self.publish(entry.result)
            del self._unsaved[0]
            self._on_result()

    async def close(self) -> None:
        """At the end."""
        if self._connection is not None:
            await self._connection.close()
