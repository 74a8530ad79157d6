"""What becomes of a command that was claimed: validated, executed at its device's turn, and answered."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from bacpipes import clock
from bacpipes.bacnet.client import BacnetClient
from bacpipes.log import get_logger
from bacpipes.metrics import WorkerMetrics
from bacpipes.payload import refusal, result_payload
from bacpipes.points import Point, find_point
from bacpipes.settings import Settings
from bacpipes.writes import ledger, pace, settling, stop, writer
from bacpipes.writes.book import AWAY, Book
from bacpipes.writes.command import Command
from bacpipes.writes.ledger import Entry
from bacpipes.writes.releases import Releases
from bacpipes.writes.sources import Sources
from bacpipes.writes.turns import Turns
from bacpipes.writes.validator import LOWEST_PRIORITY, Policy, Violation, validate, validate_stop
from bacpipes.writes.values import convert

logger = get_logger(__name__)

DATABASE_AWAY = "The database is away; writes are refused until it is back"
INTERRUPTED = "Interrupted before anything was written"


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows of a command's target."""

    point: Point | None
    held: ledger.Held | None
    stop: stop.Stop


class Execution:
    """``releases`` are told of each write: it may have one. While ``stopping`` nothing is begun any more."""

    def __init__(
        self,
        settings: Settings,
        client: BacnetClient,
        metrics: WorkerMetrics,
        book: Book,
        turns: Turns,
        sources: Sources,
        releases: Releases,
    ) -> None:
        self._settings, self._client, self._metrics = settings, client, metrics
        self._book, self._turns, self._sources, self._releases = book, turns, sources, releases
        self.stopping = False

    async def carry_out(self, command: Command, received: datetime) -> None:
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
        await self.finish(command, point, outcome, time.monotonic() - began, executed if outcome.attempted else None)

    async def _judge(self, command: Command, received: datetime) -> tuple[Point | None, writer.Outcome]:
        known = await self.known(command)
        point, violations = known.point, self._validate(command, known, received)
        if point is None or violations:
            return point, writer.Outcome(False, violations=violations)
        async with self._turns.of(point):
            if self.stopping:
                return point, writer.Outcome(False, INTERRUPTED)
            return await self._execute(command, received)

    async def known(self, command: Command) -> Known:
        """The point as the database has it now, what we hold in the slot, and whether the site is stopped."""
        async with self._book.open() as connection:
            key = (command.device_id, command.object_type, command.object_instance)
            point = await find_point(connection, self._settings.site_id, *key)
            stopped = await stop.load(connection)
            if point is None or not isinstance(command.priority, int) or not 0 < command.priority <= LOWEST_PRIORITY:
                return Known(point, None, stopped)
            return Known(point, await ledger.held(connection, point.id, command.priority), stopped)

    def _validate(self, command: Command, known: Known, received: datetime) -> list[Violation]:
        synchronised = not self._settings.clock_check or clock.synchronised()
        policy = Policy.from_settings(self._settings, clock_synchronised=synchronised)
        ours = known.held is not None
        found = validate(command, known.point, policy, datetime.now(UTC), received, ours=ours)
        return [*found, *validate_stop(command, known.stop), *self._sources.violations(command)]

    async def _execute(self, command: Command, received: datetime) -> tuple[Point | None, writer.Outcome]:
        # Anew: it may have waited for another command, and the point or the time may have changed meanwhile.
        known = await self.known(command)
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
            return self._validate(command, Known(point, held, stopped), received)  # the database may have been slow

        outcome = await writer.execute(self._client, command, point, number, ours, begin)
        await self.settle_slot(point, command.priority, outcome.slots, command, outcome)
        self._releases.wake()
        return point, outcome

    async def settle_slot(
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

    async def finish(
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
