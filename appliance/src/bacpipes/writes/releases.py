"""Releases that fall due: on time, or as soon as the device is back; also while the database is away.

What is due stands in table ``due_release`` since before its write began. A copy is kept in memory, so that a release is
done though the database is away. Only a value that is still ours is taken back.
"""

import asyncio
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from bacpipes.bacnet.client import BacnetClient
from bacpipes.events import first_of
from bacpipes.log import Transition, get_logger
from bacpipes.metrics import WorkerMetrics
from bacpipes.payload import refusal, result_payload
from bacpipes.points import Point
from bacpipes.settings import Settings
from bacpipes.writes import ledger, pace, stop, writer
from bacpipes.writes.book import AWAY, Book
from bacpipes.writes.command import OF_RELEASE, Command
from bacpipes.writes.ledger import DueRelease, Entry
from bacpipes.writes.sources import Sources
from bacpipes.writes.turns import Turns
from bacpipes.writes.validator import LOWEST_PRIORITY, Violation
from bacpipes.writes.values import number_text, same

logger = get_logger(__name__)

LOOK_EVERY = 5.0  # seconds between looks at the table
RETRY_FIRST, RETRY_LAST = 1.0, 15.0  # seconds between tries at a device that does not do it, doubling
END_PATIENCE = 2.0  # seconds that releases under way get at the end
MOST_AT_ONCE = 50
CAUSES = {
    "releaseAfter": "releaseAfter",
    "stop": "the site is stopped",
    "source-lost": "contact with the source is lost",
}
NOTHING_TO_RESTORE = Violation("nothing-to-restore", "What was there before the write was no number")
Key = tuple[int, int, str]


@dataclass(slots=True)
class _Try:
    """When a release is tried next (event loop's clock, so that a clock that is set back delays nothing)."""

    at: float
    delay: float = RETRY_FIRST


class Releases:
    """One for the worker; `wake` it after whatever may have changed the table."""

    def __init__(
        self,
        settings: Settings,
        client: BacnetClient,
        metrics: WorkerMetrics,
        book: Book,
        turns: Turns,
        sources: Sources,
    ) -> None:
        self._settings, self._client, self._metrics = settings, client, metrics
        self._book, self._turns, self._sources = book, turns, sources
        self._wake, self._news = asyncio.Event(), asyncio.Event()
        self._due: dict[Key, DueRelease] = {}
        self._tries: dict[Key, _Try] = {}
        self._done: set[Key] = set()  # and not stored yet
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._health: dict[Key, Transition] = {}
        self._database_away = False

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def run(self, end: asyncio.Event) -> None:
        """Until ``end``; what is not done by then is done after the next start."""
        looking = asyncio.create_task(self._follow(end), name="due releases")
        while not end.is_set():
            if looking.done():
                looking.result()  # it ends by itself only where it failed
            self._news.clear()
            now = asyncio.get_running_loop().time()
            for key, due in self._due.items():
                ready = self._tries[key].at <= now and key not in self._tasks and key not in self._done
                if ready and len(self._tasks) < MOST_AT_ONCE:
                    self._start(key, due)
            await first_of(self._news, end, within=self._pause())
        if self._tasks:
            _, late = await asyncio.wait(self._tasks.values(), timeout=END_PATIENCE)
            for task in late:  # the row stays, and says at the next start what has to be done
                task.cancel()
        await looking

    async def _follow(self, end: asyncio.Event) -> None:
        """Keep the copy true; apart from the releases, which must not wait for a database that does not answer."""
        while not end.is_set():
            self._wake.clear()
            await self._look()
            self._news.set()
            await first_of(self._wake, end, within=LOOK_EVERY)

    async def _look(self) -> None:
        """What is due, as the database has it; what it had before, while it is away."""
        try:
            async with self._book.open() as connection:
                await self._book.save(connection)
                self._done &= self._tasks.keys()  # what has ended is stored
                stopped = (await stop.load(connection)).stopped
                if stopped:
                    await ledger.release_all(connection)
                self._metrics.site_stopped.set(stopped)
                self._metrics.sources_lost.set(await self._sources.keep(connection))
                found = await ledger.due_releases(connection)
                self._metrics.show_held(await ledger.all_held(connection))
            self._book.recovered()
        except AWAY as error:
            self._book.failed(error)
            self._database_away = True
            return
        self._database_away = False
        now = asyncio.get_running_loop().time()
        self._due = {due.key: due for due in found}
        for key, due in self._due.items():
            known = self._tries.setdefault(key, _Try(now + due.seconds))
            if due.seconds <= 0 and key not in self._health:
                known.at = min(known.at, now)  # it was brought forward
        for gone in self._tries.keys() - self._due.keys():
            del self._tries[gone]
            self._health.pop(gone, None)
        timed = [due for due in found if due.seconds < math.inf]
        self._metrics.releases_pending.set(len(timed))
        self._metrics.values_remembered.set(len(found) - len(timed))
        self._metrics.releases_overdue.set(len(self._health))

    def _pause(self) -> float:
        waiting = [self._tries[key].at for key in self._due if key not in self._tasks and key not in self._done]
        now = asyncio.get_running_loop().time()
        return max(0.01, min([LOOK_EVERY, *(at - now for at in waiting)])) if len(self._tasks) < MOST_AT_ONCE else 1.0

    def _start(self, key: Key, due: DueRelease) -> None:
        task = asyncio.create_task(self._guarded(due), name=f"release {due.job_id}")
        self._tasks[key] = task

        def ended(_: object) -> None:
            del self._tasks[key]
            self._news.set()

        task.add_done_callback(ended)

    async def _guarded(self, due: DueRelease) -> None:
        try:
            async with self._turns.of(due.point):
                problem = await self._release(due)
        except AWAY as error:
            self._book.failed(error)
            problem = None
        except Exception as error:  # whatever one release trips over, it is tried again, and the others are done
            logger.exception("release failed unexpectedly", job=due.job_id)
            problem = type(error).__name__
        known = self._tries.get(due.key)
        if due.key in self._done or known is None:
            return
        if problem is not None:
            what = Transition(logger, "release", job=due.job_id, device=due.point.device.device_id)
            self._health.setdefault(due.key, what).failed(problem)
            self._metrics.releases_overdue.set(len(self._health))
        known.at = asyncio.get_running_loop().time() + known.delay
        known.delay = min(RETRY_LAST, known.delay * 2)

    async def _release(self, due: DueRelease) -> str | None:
        """Do it; what kept us from it and may pass, or None."""
        if not await self._still_due(due):
            self._done.add(due.key)
            return None
        seconds = asyncio.get_running_loop().time()
        outcome = await self._execute(due)
        if not outcome.success and not outcome.violations:
            return outcome.error
        if outcome.violations and self._database_away:
            return None  # who else of us may have written there can't be asked now
        self._done.add(due.key)
        if (health := self._health.pop(due.key, None)) is not None:
            health.recovered()
        await self._finish(due, outcome, asyncio.get_running_loop().time() - seconds)
        return None

    async def _still_due(self, due: DueRelease) -> bool:
        """A later write may have superseded it meanwhile; while the database is away nothing new is written."""
        if self._database_away:
            return True
        try:
            async with self._book.open() as connection:
                return await ledger.is_due(connection, due)
        except AWAY as error:
            self._book.failed(error)
            self._database_away = True
            return True

    async def _execute(self, due: DueRelease) -> writer.Outcome:
        """Look, release (or restore), read back."""
        release = due.slot > 0
        if not release and (due.restore is None or not math.isfinite(due.restore)):
            return writer.Outcome(False, violations=[NOTHING_TO_RESTORE])
        command = replace(_command(due.point, due), release=release, priority=due.slot or LOWEST_PRIORITY)
        number = None if release else due.restore

        def ours(there: float | None) -> bool:
            return _ours(due.point, due, there)

        async def begin(before: writer.Slots) -> list[Violation]:
            if release or ours(before.value):
                return []
            there = "nothing" if before.value is None else number_text(before.value)
            return [Violation("slot-held", f"The present value is {there}, which BacPipes did not write")]

        return await writer.execute(self._client, command, due.point, number, ours, begin)

    async def _finish(self, due: DueRelease, outcome: writer.Outcome, seconds: float) -> None:
        command = _command(due.point, due)
        result = result_payload(
            command,
            self._settings.site_id,
            success=outcome.success,
            seconds=seconds,
            error=refusal(outcome.violations) if outcome.violations else outcome.error,
            violations=outcome.violations,
            releaseOf=due.job_id,
            cause=due.cause,
            **(outcome.fields(due.slot or LOWEST_PRIORITY) if outcome.before else {}),
        )
        logger.info("release", job=due.job_id, cause=due.cause, success=outcome.success)
        self._metrics.commands.labels("released" if outcome.success else "not-released").inc()
        if outcome.before is not None and outcome.slots is not None:
            await self._note_pace(due.point, outcome.before.value, outcome.slots.value)
        executed = datetime.now(UTC) if outcome.attempted else None
        kind = "release.done" if outcome.success else "release.refused"
        await self._book.enter(Entry(result, due.point.id, executed, due.source, action=kind, release=due))

    async def _note_pace(self, point: Point, before: float | None, after: float | None) -> None:
        try:
            async with self._book.open() as connection:
                await pace.released(connection, point, before, after)
        except AWAY as error:
            self._book.failed(error)


def _ours(point: Point, due: DueRelease, there: float | None) -> bool:
    return there is not None and any(same(point.type.kind, there, value) for value in (due.value, due.previous))


def _command(point: Point, due: DueRelease) -> Command:
    """The release as a command: its ``jobId`` is the write's, with what became due."""
    fields: dict[str, Any] = {"source": due.source, "reason": CAUSES[due.cause], "release": due.slot > 0}
    return Command(
        job_id=due.job_id + OF_RELEASE,
        device_id=point.device.device_id,
        object_type=point.object_type,
        object_instance=point.object_instance,
        value=due.restore if due.slot == 0 else None,
        priority=due.slot or None,
        **fields,
    )
