"""What an earlier run, or a device that fell silent amid a write, left behind: looked at, never executed again."""

import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import BacnetError
from bacpipes.database import Connection
from bacpipes.points import Point, find_point
from bacpipes.settings import Settings
from bacpipes.writes import ledger, writer
from bacpipes.writes.book import AWAY, Book
from bacpipes.writes.command import Command, from_fields
from bacpipes.writes.execution import INTERRUPTED, Execution
from bacpipes.writes.turns import Turns
from bacpipes.writes.values import convert, number_text

POINT_GONE = "Interrupted while writing; its point is gone since, so whether it was written is not known"


@dataclass(frozen=True, slots=True)
class _Job:
    """A job that was claimed and has no result; ``executing`` is when its write was to begin, if it came to that."""

    fields: dict[str, Any]
    received: datetime
    executing: datetime | None


class Aftermath:
    """Jobs without a result, from the claims; and slots whose last write was not read back, from the book."""

    def __init__(
        self, settings: Settings, client: BacnetClient, book: Book, turns: Turns, execution: Execution
    ) -> None:
        self._settings, self._client, self._book, self._turns = settings, client, book, turns
        self._execution = execution
        self._jobs: list[_Job] | None = None  # None: not asked yet
        self._slots: list[tuple[ledger.Held, int, str, int]] = []
        self._settling = False

    async def load(self, connection: Connection) -> None:
        """Ask the database what there is."""
        if self._jobs is None:
            self._jobs = [_Job(*row) for row in await ledger.unresolved(connection)]
        if not self._settling:
            self._slots = await ledger.unsettled(connection)

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What is to be done about it now."""
        found: list[Coroutine[Any, Any, None]] = []
        if self._jobs:
            jobs, self._jobs = self._jobs, []
            found.append(self._resolve(jobs))
        if self._slots and not self._settling:
            self._settling = True
            found.append(self._settle())
        return found

    async def _resolve(self, jobs: list[_Job]) -> None:
        """Jobs without a result: what was not begun is not executed any more; what was is looked at."""
        for number, job in enumerate(jobs):
            try:
                answered = await self._answer(job)
            except AWAY as error:  # those that are left are not asked for anew: new ones are under way by now
                self._book.failed(error)
                self._jobs = [*(self._jobs or []), *jobs[number:]]
                return
            if not answered:
                self._jobs = [*(self._jobs or []), job]

    async def _answer(self, job: _Job) -> bool:
        """False where its device does not answer yet."""
        command = from_fields(job.fields)
        point = (await self._execution.known(command)).point
        outcome: writer.Outcome | None = writer.Outcome(False, INTERRUPTED)
        if job.executing is not None:
            gone = writer.Outcome(False, POINT_GONE)
            outcome = gone if point is None else await self._found(command, point, job.executing)
        if outcome is not None:
            await self._execution.finish(command, point, outcome, 0, job.executing)
        return outcome is not None

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
            await self._execution.settle_slot(point, command.priority, slots)
        success = writer.holds(point, slots, command.priority, number)
        there = slots.at(command.priority) if slots.array else slots.value
        what = "nothing" if there is None else number_text(there)
        text = None if success else f"Interrupted while writing; priority {command.priority} holds {what}"
        return writer.Outcome(success, text, before=slots, slots=slots, attempted=True)

    async def _settle(self) -> None:
        """Look again at slots whose last write was not read back, so that what is ours is known to be."""
        try:
            for held, device_id, object_type, instance in self._slots:
                async with self._book.open() as connection:
                    point = await find_point(connection, self._settings.site_id, device_id, object_type, instance)
                if point is None:
                    continue
                async with self._turns.of(point):
                    with contextlib.suppress(BacnetError):
                        slots = await writer.read_slots(self._client, point)
                        await self._execution.settle_slot(point, held.priority, slots)
        except AWAY as error:
            self._book.failed(error)
        finally:
            self._settling = False
