"""Write commands, from MQTT and from the SQL queue, all on the same way: claim, validate, execute, store the result."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from bacpipes.bacnet.client import BacnetClient
from bacpipes.events import first_of
from bacpipes.log import get_logger
from bacpipes.metrics import WorkerMetrics
from bacpipes.mqtt.message import ReceivedMessage
from bacpipes.payload import malformed_payload, refusal, result_payload
from bacpipes.settings import Settings
from bacpipes.writes import ledger
from bacpipes.writes.aftermath import Aftermath
from bacpipes.writes.book import AWAY, Book
from bacpipes.writes.command import Command, MalformedCommandError, from_fields, job_id_in, json_safe, parse, to_fields
from bacpipes.writes.execution import DATABASE_AWAY, Execution
from bacpipes.writes.ledger import Entry
from bacpipes.writes.releases import Releases
from bacpipes.writes.sources import Sources
from bacpipes.writes.turns import Turns
from bacpipes.writes.validator import Violation

logger = get_logger(__name__)

LOOK_EVERY = 5.0  # seconds between looks at the queue, should a notification be missed
MOST_WAITING = 1000  # messages; what comes on top is dropped, counted and repeated by its sender
END_PATIENCE = 2.0  # seconds that commands under way get at the end
MOST_AT_ONCE = 100  # commands under way; the others wait their turn
RETAINED = Violation("command-retained", "Retained commands are not executed: their age is not known")


class CommandService:
    """``publish`` sends a result outside the log; ``on_result`` is told when one was stored and follows in the log."""

    def __init__(
        self,
        settings: Settings,
        client: BacnetClient,
        metrics: WorkerMetrics,
        sources: Sources,
        *,
        publish: Callable[[dict[str, Any]], Awaitable[None]],
        on_result: Callable[[], None],
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self._publish, self._book, turns = publish, Book(settings, publish, on_result), Turns()
        self._releases = Releases(settings, client, metrics, self._book, turns, sources)
        self._execution = Execution(settings, client, metrics, self._book, turns, sources, self._releases)
        self._aftermath = Aftermath(settings, client, self._book, turns, self._execution)
        self._messages: asyncio.Queue[tuple[ReceivedMessage, datetime]] = asyncio.Queue(MOST_WAITING)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, message: ReceivedMessage) -> None:
        """Take a message of the command topic; never blocks."""
        try:
            self._messages.put_nowait((message, datetime.now(UTC)))
        except asyncio.QueueFull:
            self._metrics.commands.labels("dropped").inc()
            return
        self._wake.set()

    def take_pulled(self, fields: dict[str, Any]) -> None:
        """Take a command that was pulled from central's queue; never blocks. Its sender keeps it until it has a result,
        so what finds no place now comes again."""
        if len(self._tasks) < MOST_AT_ONCE and not self._execution.stopping:
            self._start(self._from_central(fields))

    def wake(self) -> None:
        """There is something new in the queue, or the site's stop was set or lifted."""
        self._wake.set()
        self._releases.wake()

    async def run(self, end: asyncio.Event) -> None:
        """Until ``end``; what waits is not begun any more, and what is under way gets a moment."""
        releases = asyncio.create_task(self._releases.run(end), name="releases")
        while not end.is_set():
            if releases.done():
                releases.result()  # it ends by itself only where it failed
            self._wake.clear()
            while not self._messages.empty() and len(self._tasks) < MOST_AT_ONCE:
                self._start(self._from_message(*self._messages.get_nowait()))
            await self._look()
            await first_of(self._wake, end, within=LOOK_EVERY)
        self._execution.stopping = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=END_PATIENCE)
            for task in late:  # its claim and its slot say at the next start what has to be looked at
                task.cancel()
        await releases
        await self._book.close()

    async def _look(self) -> None:
        """What the database has for us: the queue, results to be stored, jobs of an earlier run, unsettled slots."""
        try:
            async with self._book.open() as connection:
                await self._book.save(connection)
                await self._aftermath.load(connection)
                rows = await ledger.pending(connection, self._settings.site_id)
            self._book.recovered()
        except AWAY as error:
            self._book.failed(error)
            return
        for row, queued in rows:
            await self._from_queue(row, queued)
        for work in self._aftermath.work():
            self._start(work)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._messages.empty():
            self._wake.set()

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:  # whatever one command trips over, the next one must be heard
            self._metrics.commands.labels("failed").inc()
            logger.exception("command failed unexpectedly")

    # --- where commands come from

    async def _from_message(self, message: ReceivedMessage, received: datetime) -> None:
        try:
            if message.oversized:
                raise MalformedCommandError(["the message is too large"], job_id_in(message.payload))
            command = parse(message.payload)
        except MalformedCommandError as error:
            await self._malformed(error)
            return
        if command.site_id not in (None, self._settings.site_id):
            self._metrics.commands.labels("other-site").inc()
            return
        if message.retain:
            await self._retained(command)
            return
        await self._take(command, received)

    async def _retained(self, command: Command) -> None:
        """The broker kept it from an unknown time, and hands it over at every connection."""
        logger.warning("a retained command is not executed", job=command.job_id, remedy="publish it without retain")
        if not await self._repeat(command):  # it may have been executed when it was new
            self._metrics.commands.labels("refused").inc()
            site, why = self._settings.site_id, [RETAINED]
            result = result_payload(command, site, success=False, seconds=0, error=refusal(why), violations=why)
            await self._refuse(result, command.source)

    async def _refuse(self, result: dict[str, Any], source: str | None) -> None:
        """Answer what was refused before it was claimed; it stands in the audit."""
        await self._book.enter(Entry(result, None, None, source or "unknown", stored=False))

    async def _malformed(self, error: MalformedCommandError) -> None:
        self._metrics.malformed.inc()
        logger.warning("message is no command", problems=error.problems, job=error.job_id)
        if error.job_id is not None and error.fields.get("siteId") in (None, self._settings.site_id):
            source = error.fields.get("source")
            actor = str(json_safe(source)) if isinstance(source, str) else None
            await self._refuse(malformed_payload(error, self._settings.site_id), actor)

    async def _from_queue(self, row: dict[str, Any], queued: datetime) -> None:
        """A row of the queue is claimed here and now, so that the next look does not find it again."""
        try:
            try:
                command = from_fields(row)
            except MalformedCommandError as error:
                await self._refuse_row(row, error)
                return
            received = await self._claim(command, "sql")
        except AWAY as error:
            self._book.failed(error)
            return
        if received is not None:
            self._start(self._execution.carry_out(command, queued))

    async def _from_central(self, fields: dict[str, Any]) -> None:
        """Like a message, but its result goes back by the log alone; what the database can't claim now comes again."""
        try:
            try:
                command = from_fields(fields)
            except MalformedCommandError as error:
                await self._refuse_row(fields, error, "central")
                return
            fresh = await self._claim(command, "central") is not None
        except AWAY as error:
            self._book.failed(error)
            return
        if fresh:
            await self._execution.carry_out(command, datetime.now(UTC))

    async def _refuse_row(self, row: dict[str, Any], error: MalformedCommandError, origin: str = "sql") -> None:
        """A row that is no command is answered once, and is no longer in the others' way."""
        self._metrics.malformed.inc()
        result = malformed_payload(error, self._settings.site_id)
        async with self._book.open() as connection:
            await ledger.claim(connection, row["jobId"], origin, row)
        await self._book.enter(Entry(result, None, None, row.get("source") or "unknown"))

    async def _take(self, command: Command, received: datetime) -> None:
        try:
            fresh = await self._claim(command, "mqtt") is not None
            if not fresh:
                await self._repeat(command)
        except AWAY as error:
            self._book.failed(error)
            result = result_payload(command, self._settings.site_id, success=False, seconds=0, error=DATABASE_AWAY)
            self._metrics.commands.labels("refused").inc()
            await self._refuse(result, command.source)
            return
        if fresh:
            await self._execution.carry_out(command, received)

    async def _claim(self, command: Command, origin: str) -> datetime | None:
        async with self._book.open() as connection:
            return await ledger.claim(connection, command.job_id, origin, to_fields(command))

    async def _repeat(self, command: Command) -> bool:
        """A job that was claimed before is not executed again; its result, where there is one, is sent again."""
        async with self._book.open() as connection:
            result = await ledger.result_of(connection, command.job_id)
        if result is not None:
            self._metrics.commands.labels("duplicate").inc()
            await self._publish(result)
        return result is not None
