"""Write commands, from MQTT and from the SQL queue, all on the same way: claim, validate, execute, store the result."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from bacpipes import clock
from bacpipes.bacnet import BacnetClient, BacnetError
from bacpipes.database import Connection, connect, first_line
from bacpipes.errors import UnavailableError
from bacpipes.events import first_of
from bacpipes.log import Transition, get_logger
from bacpipes.metrics import WorkerMetrics
from bacpipes.mqtt.client import ReceivedMessage
from bacpipes.payload import malformed_payload, refusal, result_payload
from bacpipes.points import Point
from bacpipes.points.directory import Directory
from bacpipes.settings import Settings
from bacpipes.writes import ledger as write_ledger
from bacpipes.writes import writer
from bacpipes.writes.command import Command, MalformedCommandError, from_fields, json_safe, parse
from bacpipes.writes.validator import Policy, Violation, validate
from bacpipes.writes.values import convert

logger = get_logger(__name__)

LOOK_EVERY = 5.0  # seconds between looks at the queue, should a notification be missed
MOST_WAITING = 1000  # messages; what comes on top is dropped, counted and repeated by its sender
MOST_AT_ONCE = 100  # commands under way; the others wait their turn
DATABASE_AWAY = "The database is away; writes are refused until it is back"
RETAINED = Violation("command-retained", "Retained commands are not executed: their age is not known")
INTERRUPTED = "Interrupted before anything was written"


class CommandService:
    """``publish`` sends a result outside the log; ``on_result`` is told when one was stored and follows in the log."""

    def __init__(
        self,
        settings: Settings,
        directory: Directory,
        client: BacnetClient,
        metrics: WorkerMetrics,
        *,
        publish: Callable[[dict[str, Any]], Awaitable[None]],
        on_result: Callable[[], None],
    ) -> None:
        self._settings, self._directory, self._client, self._metrics = settings, directory, client, metrics
        self._publish, self._on_result = publish, on_result
        self._messages: asyncio.Queue[ReceivedMessage] = asyncio.Queue(MOST_WAITING)
        self._wake = asyncio.Event()
        self._devices: dict[int, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection: Connection | None = None
        self._database = asyncio.Lock()  # one statement group at a time: results keep their order in the log
        self._health = Transition(logger, "commands' database")
        self._unsaved: list[tuple[dict[str, Any], int | None, datetime | None, str]] = []
        self._interrupted: list[tuple[dict[str, Any], datetime, datetime | None]] = []

    def receive(self, message: ReceivedMessage) -> None:
        """Take a message of the command topic; never blocks."""
        try:
            self._messages.put_nowait(message)
        except asyncio.QueueFull:
            self._metrics.commands.labels("dropped").inc()
            return
        self._wake.set()

    def wake(self) -> None:
        """There is something new in the queue."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; a command that is being executed is finished."""
        while not stop.is_set():
            self._wake.clear()
            while not self._messages.empty() and len(self._tasks) < MOST_AT_ONCE:
                self._start(self._from_message(self._messages.get_nowait()))
            await self._look()
            await first_of(self._wake, stop, within=LOOK_EVERY)
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._connection is not None:
            await self._connection.close()

    async def _look(self) -> None:
        """What the database has for us: the queue, results to be stored, jobs of an earlier run."""
        try:
            async with self._database:
                connection = await self._connected()
                rows = await write_ledger.pending(connection, self._settings.site_id)
                await self._save_results(connection)
            self._health.recovered()
        except (psycopg.Error, UnavailableError, OSError) as error:
            self._health.failed(first_line(error))
            return
        for row, queued in rows:
            await self._from_queue(row, queued)
        if self._interrupted:
            waiting, self._interrupted = self._interrupted, []
            self._start(self._resolve(waiting))

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            first = self._connection is None
            self._connection = await connect(self._settings, "commands")
            if first:
                self._interrupted = await write_ledger.unresolved(self._connection)
        return self._connection

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

    async def _from_message(self, message: ReceivedMessage) -> None:
        try:
            if message.oversized:
                raise MalformedCommandError(["the message is too large"])
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
        await self._take(command, "mqtt")

    async def _retained(self, command: Command) -> None:
        """The broker kept it from an unknown time, and would hand it over at every connection."""
        self._metrics.commands.labels("refused").inc()
        logger.warning("a retained command is not executed", job=command.job_id, remedy="publish it without retain")
        await self._publish(
            result_payload(command, self._settings.site_id, success=False, seconds=0, violations=[RETAINED],
                           error=refusal([RETAINED]))
        )  # fmt: skip

    async def _malformed(self, error: MalformedCommandError) -> None:
        self._metrics.malformed.inc()
        logger.warning("message is no command", problems=error.problems, job=error.job_id)
        if error.job_id is not None and error.fields.get("siteId") in (None, self._settings.site_id):
            await self._publish(malformed_payload(error, self._settings.site_id))

    async def _from_queue(self, row: dict[str, Any], queued: datetime) -> None:
        """A row of the queue is claimed here and now, so that the next look does not find it again."""
        try:
            command = from_fields(row)
            received = await self._claim(command, "sql")
        except MalformedCommandError as error:
            logger.error("row of write_commands can't be read", job=row["jobId"], problems=error.problems)
            return
        except (psycopg.Error, UnavailableError, OSError) as error:
            self._health.failed(first_line(error))
            return
        if received is not None:
            self._start(self._carry_out(command, queued))

    async def _take(self, command: Command, origin: str) -> None:
        try:
            received = await self._claim(command, origin)
        except (psycopg.Error, UnavailableError, OSError) as error:
            self._health.failed(first_line(error))
            result = result_payload(command, self._settings.site_id, success=False, seconds=0, error=DATABASE_AWAY)
            self._metrics.commands.labels("refused").inc()
            await self._publish(result)
            return
        if received is None:
            await self._repeat(command)
        else:
            await self._carry_out(command, received)

    async def _claim(self, command: Command, origin: str) -> datetime | None:
        async with self._database:
            connection = await self._connected()
            return await write_ledger.claim(connection, command.job_id, origin, _fields(command))

    async def _repeat(self, command: Command) -> None:
        """A job that was claimed before is not executed again; its result, where there is one, is sent again."""
        self._metrics.commands.labels("duplicate").inc()
        async with self._database:
            result = await write_ledger.result_of(await self._connected(), command.job_id)
        if result is not None:
            await self._publish(result)

    # --- what is done with them

    async def _carry_out(self, command: Command, received: datetime) -> None:
        began = time.monotonic()
        point = self._directory.find(command.device_id, command.object_type, command.object_instance)
        violations = self._validate(command, point, received)
        outcome = writer.Outcome(False, violations=violations)
        executed: datetime | None = None
        if point is not None and not violations:
            async with self._devices.setdefault(point.device.id, asyncio.Lock()):
                executed = datetime.now(UTC)
                outcome = await self._execute(command, point, received)
        await self._finish(command, point, outcome, time.monotonic() - began, executed if outcome.attempted else None)

    def _validate(self, command: Command, point: Point | None, received: datetime) -> list[Violation]:
        synchronised = not self._settings.clock_check or clock.synchronised()
        policy = Policy.from_settings(self._settings, clock_synchronised=synchronised)
        return validate(command, point, policy, datetime.now(UTC), received)

    async def _execute(self, command: Command, point: Point, received: datetime) -> writer.Outcome:
        # Once more: it may have waited for another command to this device, and must never be late.
        if violations := self._validate(command, point, received):
            return writer.Outcome(False, violations=violations)
        number = None if command.release else convert(command.value, point)
        try:
            async with self._database:
                ours = await write_ledger.held(await self._connected(), point.id, command.priority)
            outcome = await writer.execute(
                self._client, command, point, number, ours, lambda: self._begin(command, point, number)
            )
        except (psycopg.Error, UnavailableError, OSError) as error:
            self._health.failed(first_line(error))
            return writer.Outcome(False, DATABASE_AWAY)
        await self._book(command, point, outcome, ours)
        return outcome

    async def _begin(self, command: Command, point: Point, number: float | None) -> None:
        async with self._database:
            connection = await self._connected()
            await write_ledger.begin(connection, command.job_id, point.id, command.priority, number)

    async def _book(self, command: Command, point: Point, outcome: writer.Outcome, ours: float | None) -> None:
        """Keep the book of held slots true to what was seen; what could not be seen stays as it was intended."""
        slots = outcome.slots
        if slots is None or slots.array is None:
            return
        there = slots.at(command.priority)
        try:
            async with self._database:
                connection = await self._connected()
                if there is None or not (outcome.success or writer.holds(point, slots, command.priority, ours)):
                    await write_ledger.forget(connection, point.id, command.priority)
                elif not outcome.success and ours is not None:
                    await write_ledger.hold(connection, command.job_id, point.id, command.priority, ours)
        except (psycopg.Error, UnavailableError, OSError) as error:
            self._health.failed(first_line(error))

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
        logger.info("command", job=command.job_id, success=outcome.success, error=write_ledger.describe(result))
        self._unsaved.append((result, point.id if point else None, executed, command.source or "unknown"))
        try:
            async with self._database:
                await self._save_results(await self._connected())
        except (psycopg.Error, UnavailableError, OSError) as failure:
            self._health.failed(first_line(failure))
            await self._publish(result)

    async def _save_results(self, connection: Connection) -> None:
        while self._unsaved:
            await write_ledger.settle(connection, *self._unsaved[0])
            del self._unsaved[0]
            self._on_result()

    # --- what an earlier run left behind

    async def _resolve(self, waiting: list[tuple[dict[str, Any], datetime, datetime | None]]) -> None:
        """Jobs without a result: what was not begun is not executed any more; what was is looked at."""
        for fields, received, executing in waiting:
            command = from_fields(fields)
            point = self._directory.find(command.device_id, command.object_type, command.object_instance)
            outcome = writer.Outcome(False, INTERRUPTED)
            if executing is not None and point is not None:
                found = await self._found(command, point, executing)
                if found is None:
                    self._interrupted.append((fields, received, executing))
                    continue
                outcome = found
            await self._finish(command, point, outcome, 0, executing)

    async def _found(self, command: Command, point: Point, executing: datetime) -> writer.Outcome | None:
        """What a write that was cut short left in the device; None where to ask again later."""
        number = None if command.release else convert(command.value, point)
        try:
            slots = await writer.read_slots(self._client, point)
        except BacnetError as error:
            if datetime.now(UTC) - executing < timedelta(seconds=self._settings.write_ttl):
                return None
            return writer.Outcome(False, f"Interrupted while writing; whether it was written is not known: {error}")
        success = writer.holds(point, slots, command.priority, number)
        there = slots.at(command.priority) if slots.array else slots.value
        what = "nothing" if there is None else f"{there:g}"
        outcome = writer.Outcome(
            success,
            None if success else f"Interrupted while writing; priority {command.priority} holds {what}",
            before=slots,
            slots=slots,
            attempted=True,
        )
        await self._book(command, point, outcome, number)
        return outcome


def _fields(command: Command) -> dict[str, Any]:
    """A command as the payload that `from_fields` reads."""
    fields = {
        "jobId": command.job_id,
        "deviceId": command.device_id,
        "objectType": command.object_type,
        "objectInstance": command.object_instance,
        "value": json_safe(command.value),
        "priority": json_safe(command.priority),
        "release": command.release,
        "timestamp": command.timestamp.isoformat() if command.timestamp else None,
        "expiresAt": command.expires_at.isoformat() if command.expires_at else None,
        "source": command.source,
        "reason": command.reason,
        "siteId": command.site_id,
        "haystackName": command.haystack_name,
    }
    return {key: value for key, value in fields.items() if value is not None or key == "value"}
