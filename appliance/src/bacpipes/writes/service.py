"""Write commands, from MQTT and from the SQL queue, all on the same way: claim, validate, execute, store the result."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bacpipes import clock
from bacpipes.bacnet import BacnetClient, BacnetError
from bacpipes.events import first_of
from bacpipes.log import get_logger
from bacpipes.metrics import WorkerMetrics
from bacpipes.mqtt.client import ReceivedMessage
from bacpipes.payload import malformed_payload, refusal, result_payload
from bacpipes.points import Point, find_point
from bacpipes.settings import Settings
from bacpipes.writes import ledger, pace, settling, stop, writer
from bacpipes.writes.book import AWAY, Book
from bacpipes.writes.command import Command, MalformedCommandError, from_fields, job_id_in, json_safe, parse, to_fields
from bacpipes.writes.ledger import Entry
from bacpipes.writes.releases import Releases
from bacpipes.writes.sources import Sources
from bacpipes.writes.turns import Turns
from bacpipes.writes.validator import LOWEST_PRIORITY, Policy, Violation, validate, validate_stop
from bacpipes.writes.values import convert, number_text

logger = get_logger(__name__)

LOOK_EVERY = 5.0  # seconds between looks at the queue, should a notification be missed
MOST_WAITING = 1000  # messages; what comes on top is dropped, counted and repeated by its sender
END_PATIENCE = 2.0  # seconds that commands under way get at the end
MOST_AT_ONCE = 100  # commands under way; the others wait their turn
DATABASE_AWAY = "The database is away; writes are refused until it is back"
RETAINED = Violation("command-retained", "Retained commands are not executed: their age is not known")
INTERRUPTED = "Interrupted before anything was written"


@dataclass(frozen=True, slots=True)
class _Known:
    """What the database knows of a command's target."""

    point: Point | None
    held: ledger.Held | None
    stop: stop.Stop


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
        self._settings, self._client, self._metrics = settings, client, metrics
        self._publish, self._sources = publish, sources
        self._book, self._turns = Book(settings, publish, on_result), Turns()
        self._releases = Releases(settings, client, metrics, self._book, self._turns, sources)
        self._messages: asyncio.Queue[tuple[ReceivedMessage, datetime]] = asyncio.Queue(MOST_WAITING)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._interrupted: list[tuple[dict[str, Any], datetime, datetime | None]] | None = None  # None: not asked yet
        self._settling = False
        self._stopping = False

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
        if len(self._tasks) < MOST_AT_ONCE and not self._stopping:
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
        self._stopping = True
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
                if self._interrupted is None:
                    self._interrupted = await ledger.unresolved(connection)
                rows = await ledger.pending(connection, self._settings.site_id)
                unsettled = [] if self._settling else await ledger.unsettled(connection)
            self._book.recovered()
        except AWAY as error:
            self._book.failed(error)
            return
        for row, queued in rows:
            await self._from_queue(row, queued)
        if self._interrupted:
            waiting, self._interrupted = self._interrupted, []
            self._start(self._resolve(waiting))
        if unsettled:
            self._settling = True
            self._start(self._settle(unsettled))

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
            self._start(self._carry_out(command, queued))

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
            await self._carry_out(command, datetime.now(UTC))

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
            await self._carry_out(command, received)

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

    # --- what is done with them

    async def _carry_out(self, command: Command, received: datetime) -> None:
        """From the claim to the result, whatever happens in between."""
        began = time.monotonic()
        point: Point | None = None
        executed = datetime.now(UTC)
        try:
            point, outcome = await self._judge(command, received)
        except AWAY as error:
            self._book.failed(error)
            outcome = writer.Outcome(False, DATABASE_AWAY)
        except Exception as error:  # it was claimed, so it must be answered
            logger.exception("command failed unexpectedly", job=command.job_id)
            outcome = writer.Outcome(False, f"Internal error: {type(error).__name__}")
        await self._finish(command, point, outcome, time.monotonic() - began, executed if outcome.attempted else None)

    async def _judge(self, command: Command, received: datetime) -> tuple[Point | None, writer.Outcome]:
        known = await self._known(command)
        point, violations = known.point, self._validate(command, known, received)
        if point is None or violations:
            return point, writer.Outcome(False, violations=violations)
        async with self._turns.of(point):
            if self._stopping:
                return point, writer.Outcome(False, INTERRUPTED)
            return await self._execute(command, received)

    async def _known(self, command: Command) -> _Known:
        """The point as the database has it now, what we hold in the slot, and whether the site is stopped."""
        async with self._book.open() as connection:
            key = (command.device_id, command.object_type, command.object_instance)
            point = await find_point(connection, self._settings.site_id, *key)
            stopped = await stop.load(connection)
            if point is None or not isinstance(command.priority, int) or not 0 < command.priority <= LOWEST_PRIORITY:
                return _Known(point, None, stopped)
            return _Known(point, await ledger.held(connection, point.id, command.priority), stopped)

    def _validate(self, command: Command, known: _Known, received: datetime) -> list[Violation]:
        synchronised = not self._settings.clock_check or clock.synchronised()
        policy = Policy.from_settings(self._settings, clock_synchronised=synchronised)
        ours = known.held is not None
        found = validate(command, known.point, policy, datetime.now(UTC), received, ours=ours)
        return [*found, *validate_stop(command, known.stop), *self._sources.violations(command)]

    async def _execute(self, command: Command, received: datetime) -> tuple[Point | None, writer.Outcome]:
        # Anew: it may have waited for another command, and the point or the time may have changed meanwhile.
        known = await self._known(command)
        point, held, violations = known.point, known.held, self._validate(command, known, received)
        if point is None or violations:
            return point, writer.Outcome(False, violations=violations)
        number = None if command.release else convert(command.value, point)

        def ours(there: float | None) -> bool:
            return held is not None and held.ours(point.type.kind, there)

        async def begin(before: writer.Slots) -> list[Violation]:
            async with self._book.open() as connection:
                stopped = await stop.load(connection)
                array = before.array is not None
                if number is not None:
                    limits = await pace.load(connection, self._settings, point)
                    if too_soon := pace.violations(point, number, before.value, limits):
                        return too_soon
                    await pace.wrote(connection, point, number, before.value)
                await ledger.begin(connection, command, point, number, before.value, array=array)
            return self._validate(command, _Known(point, held, stopped), received)  # the database may have been slow

        outcome = await writer.execute(self._client, command, point, number, ours, begin)
        await self._settle_slot(point, command.priority, outcome.slots, command, outcome)
        self._releases.wake()
        return point, outcome

    async def _settle_slot(
        self,
        point: Point,
        priority: int,
        slots: writer.Slots | None,
        command: Command | None = None,
        outcome: writer.Outcome | None = None,
    ) -> None:
        """Keep the book true to what was seen; what could not be seen is looked at again later.

        With the ``command`` that was just executed and its ``outcome``, or without: a look at what is there.
        """
        if slots is None:
            return
        try:
            async with self._book.open() as connection:
                if command is not None and outcome is not None:
                    await settling.after_command(connection, point, command, slots, outcome)
                else:
                    await settling.after_look(connection, point, priority, slots)
        except AWAY as error:
            self._book.failed(error)

    async def _finish(
        self, command: Command, point: Point | None, outcome: writer.Outcome, seconds: float, executed: datetime | None
    ) -> None:
        error = refusal(outcome.violations) if outcome.violations else outcome.error
        result = result_payload(
            command,
            self._settings.site_id,
            success=outcome.success,
            seconds=seconds,
            error=error,
            violations=outcome.violations,
            **(outcome.fields(command.priority) if outcome.before else {}),
        )
        self._metrics.commands.labels("done" if outcome.success else "refused").inc()
        logger.info("command", job=command.job_id, success=outcome.success, error=ledger.describe(result))
        entry = Entry(result, point.id if point else None, executed, command.source or "unknown")
        await self._book.enter(entry)

    # --- what was left behind

    async def _resolve(self, waiting: list[tuple[dict[str, Any], datetime, datetime | None]]) -> None:
        """Jobs without a result: what was not begun is not executed any more; what was is looked at."""
        for fields, received, executing in waiting:
            command = from_fields(fields)
            point = (await self._known(command)).point
            outcome = writer.Outcome(False, INTERRUPTED)
            if executing is not None and point is not None:
                found = await self._found(command, point, executing)
                if found is None:
                    self._interrupted = [*(self._interrupted or []), (fields, received, executing)]
                    continue
                outcome = found
            await self._finish(command, point, outcome, 0, executing)

    async def _found(self, command: Command, point: Point, executing: datetime) -> writer.Outcome | None:
        """What a write that was cut short left in the device; None where to ask again later."""
        number = None if command.release else convert(command.value, point)
        async with self._turns.of(point):
            try:
                slots = await writer.read_slots(self._client, point)
            except BacnetError as error:
                if datetime.now(UTC) - executing < timedelta(seconds=self._settings.write_ttl):
                    return None
                return writer.Outcome(False, f"Interrupted while writing; whether it was written is not known: {error}")
            await self._settle_slot(point, command.priority, slots)
        success = writer.holds(point, slots, command.priority, number)
        there = slots.at(command.priority) if slots.array else slots.value
        what = "nothing" if there is None else number_text(there)
        text = None if success else f"Interrupted while writing; priority {command.priority} holds {what}"
        return writer.Outcome(success, text, before=slots, slots=slots, attempted=True)

    async def _settle(self, unsettled: list[tuple[ledger.Held, int, str, int]]) -> None:
        """Look again at slots whose last write was not read back, so that what is ours is known to be."""
        try:
            for held, device_id, object_type, instance in unsettled:
                async with self._book.open() as connection:
                    point = await find_point(connection, self._settings.site_id, device_id, object_type, instance)
                if point is None:
                    continue
                async with self._turns.of(point):
                    with contextlib.suppress(BacnetError):
                        slots = await writer.read_slots(self._client, point)
                        await self._settle_slot(point, held.priority, slots)
        finally:
            self._settling = False
