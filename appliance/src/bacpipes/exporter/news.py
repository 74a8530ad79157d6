"""What the database tells: tables that changed, over LISTEN, for those who wait for it."""

import asyncio
from contextlib import suppress

import psycopg

from bacpipes.errors import UnavailableError
from bacpipes.exporter.store import Store

RETRY_EVERY = 2.0  # seconds


class News:
    """Wakes those who wait for a table to change. Who waits looks again by itself too: news can be missed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, asyncio.Event] = {}

    async def follow(self) -> None:
        """Listen for as long as the exporter runs; readiness tells when the database is away."""
        while True:
            with suppress(psycopg.Error, UnavailableError):
                await self._listen()
            await asyncio.sleep(RETRY_EVERY)

    async def wait(self, table: str, seconds: float) -> None:
        """Return when the table changed, or after this many seconds."""
        event = self._waiting.setdefault(table, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return

    def tell(self, table: str) -> None:
        """Wake who waits for this table."""
        if event := self._waiting.pop(table, None):
            event.set()

    async def _listen(self) -> None:
        async with await self._store.dedicated("news") as connection:
            await connection.execute("LISTEN bacpipes")
            async for notification in connection.notifies():
                self.tell(notification.payload)
