"""Takes polls and makes them real: one transaction for what arrives together; the spool while the database is away."""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress

import psycopg

from bacpipes.database import Connection, connect_impatient, first_line
from bacpipes.errors import UnavailableError
from bacpipes.log import Transition, get_logger
from bacpipes.metrics import WorkerMetrics
from bacpipes.reading import Batch, slot_gap
from bacpipes.settings import Settings
from bacpipes.worker import log_store, missing
from bacpipes.worker.spool import Spool

logger = get_logger(__name__)

RETRY_AFTER = 2.0  # seconds between looks whether the database is back
_OURS = (psycopg.DataError, psycopg.IntegrityError)  # this batch's fault: it would fail again


class Committer:
    """``on_commit`` is called after each commit; ``on_spooled`` takes batches that only lie on disk as yet."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        metrics: WorkerMetrics,
        *,
        on_commit: Callable[[], None],
        on_spooled: Callable[[list[Batch]], None],
    ) -> None:
        self._settings, self._spool, self._metrics = settings, spool, metrics
        self._on_commit, self._on_spooled = on_commit, on_spooled
        self._queue: asyncio.Queue[Batch] = asyncio.Queue()
        self._connection: Connection | None = None
        self._health = Transition(logger, "database")
        self._retry_at = 0.0
        self._storing: list[Batch] = []
        self._drained = 0  # records of the spool that are committed already
        self._before: dict[int, float] | None = None  # the last slots in the database when the drain began
        self._earliest: float | None = None  # the first slot in the spool

    @property
    def reason(self) -> str | None:
        """Why batches go to the spool, or None while they are committed."""
        return self._health.reason

    @property
    def idle(self) -> bool:
        """True while nothing waits to be committed."""
        return self._queue.empty() and not self._storing

    def deliver(self, batch: Batch) -> None:
        """Take a poll's batch; never blocks."""
        self._queue.put_nowait(batch)

    async def recover(self, stop: asyncio.Event) -> None:
        """Drain what an earlier run left in the spool, so that what was missed can be told; else `run` does it."""
        try:
            self._connection = await connect_impatient(self._settings, "committer")
            await self._drain(self._connection, stop)
        except (psycopg.Error, UnavailableError, OSError) as error:
            self._health.failed(first_line(error))

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set and all that was delivered is committed or spooled."""
        while not (stop.is_set() and self._queue.empty()):
            if batches := await self._gather(stop):
                await self._store(batches)
            elif not self._spool.empty:
                await self._store([])  # nothing new is due, but the database may be back
        if self._connection is not None:
            await self._connection.close()
        self._spool.close()

    def abandon(self) -> None:
        """Put what is not committed on disk at once: the end can't wait for the database."""
        waiting = [*self._storing, *(self._queue.get_nowait() for _ in range(self._queue.qsize()))]
        for batch in log_store.merge(waiting):
            self._spool.append(batch)
        self._spool.close()

    async def _gather(self, stop: asyncio.Event) -> list[Batch]:
        """The next polls: those that arrive within the commit window, up to the size of one transaction."""
        first = await self._first(stop)
        if first is None:
            return []
        batches, count = [first], len(first.readings)
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if stop.is_set() else self._settings.commit_window):
                while count < self._settings.commit_readings:
                    batches.append(await self._queue.get())
                    count += len(batches[-1].readings)
        while stop.is_set() and not self._queue.empty():
            batches.append(self._queue.get_nowait())
        return batches

    async def _first(self, stop: asyncio.Event) -> Batch | None:
        getter = asyncio.ensure_future(self._queue.get())
        stopper = asyncio.ensure_future(stop.wait())
        await asyncio.wait({getter, stopper}, return_when=asyncio.FIRST_COMPLETED, timeout=RETRY_AFTER)
        stopper.cancel()
        if getter.done():
            return getter.result()
        getter.cancel()
        return None if self._queue.empty() else self._queue.get_nowait()

    async def _store(self, batches: list[Batch]) -> None:
        self._storing = batches
        try:
            connection = await self._connected()
            await self._drain(connection)
            with self._metrics.commit_seconds.time():
                await self._commit(connection, batches)
        except (psycopg.Error, UnavailableError, OSError) as error:
            await self._away(first_line(error), log_store.merge(batches))
            return
        finally:
            if not _cancelled():
                self._storing = []
        self._health.recovered()
        self._on_commit()

    async def _connected(self) -> Connection:
        now = asyncio.get_running_loop().time()
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if now < self._retry_at:
            raise UnavailableError(self._health.reason or "waiting to try again")
        self._retry_at = now + RETRY_AFTER
        self._connection = await connect_impatient(self._settings, "committer")
        return self._connection

    async def _commit(self, connection: Connection, batches: list[Batch]) -> None:
        try:
            await log_store.commit(connection, self._settings.site_id, log_store.merge(batches))
        except _OURS as error:
            logger.warning("commit refused; trying its polls one by one", reason=first_line(error))
            for batch in batches:
                await self._commit_piece(connection, batch)
        for batch in batches:
            self._metrics.count(batch)

    async def _commit_piece(self, connection: Connection, batch: Batch) -> None:
        """A reading that the database refuses for its content becomes a gap; it must not cost the others."""
        try:
            await log_store.commit(connection, self._settings.site_id, [batch])
        except _OURS as error:
            if len(batch.readings) > 1 or (batch.readings and batch.gaps):
                for piece in _halves(batch):
                    await self._commit_piece(connection, piece)
                return
            reason = f"the database refused it: {first_line(error)}"
            logger.error("a reading was refused by the database", interval=batch.interval, reason=reason)
            if batch.readings:
                await log_store.insert_gap(connection, self._settings.site_id, slot_gap(batch, reason))

    async def _drain(self, connection: Connection, stop: asyncio.Event | None = None) -> None:
        """Spooled batches go into the log under new numbers, so some may be published twice, but none is lost."""
        if self._spool.empty:
            return
        if self._before is None:
            self._before = await log_store.last_slots(connection, self._settings.phase_of)
        for batch in self._spool.batches(self._drained):
            if batch.readings:
                self._earliest = min(self._earliest or math.inf, batch.cycle * batch.interval + batch.phase)
            if stop is not None and stop.is_set():
                return
            await self._commit(connection, [batch])
            self._drained += 1
        for gap in self._spool.gaps():
            await log_store.insert_gap(connection, self._settings.site_id, gap)
        if self._spool.damaged:
            phase_of = self._settings.phase_of
            gaps = await missing.record(connection, self._settings.site_id, self._before, self._earliest, phase_of)
            logger.error("the spool was damaged; it is kept aside, and what it cost is told as gaps", gaps=gaps)
        logger.info("spool drained into the database", batches=self._drained)
        self._spool.clear()
        self._drained, self._before, self._earliest = 0, None, None
        self._metrics.spool_bytes.set(0)

    async def _away(self, reason: str, batches: list[Batch]) -> None:
        self._health.failed(reason)
        if self._connection is not None and self._connection.broken:
            await self._connection.close()
            self._connection = None
        for batch in batches:
            self._spool.append(batch)
        self._metrics.spool_bytes.set(self._spool.size)
        if batches:
            self._on_spooled(batches)


def _halves(batch: Batch) -> list[Batch]:
    """The same in two, and its gaps apart where there is but one reading."""
    rows = batch.readings
    middle = len(rows) // 2 or 1
    parts = [rows[:middle], rows[middle:]]
    pieces = [Batch(batch.interval, batch.cycle, batch.duration, part, [], batch.phase) for part in parts if part]
    return [*pieces, Batch(batch.interval, batch.cycle, batch.duration, [], batch.gaps, batch.phase)]


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
