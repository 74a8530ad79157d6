"""Polls one device for ever: each interval's points in each slot of the grid, or a recorded gap."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from bacpipes.bacnet.errors import BacnetError, NoAnswerError
from bacpipes.events import Turnstile
from bacpipes.log import Transition, get_logger
from bacpipes.points import Device, Point
from bacpipes.reading import Batch, Gap, Reading
from bacpipes.worker.breaker import Breaker
from bacpipes.worker.cov import CovWatch
from bacpipes.worker.gaps import BEGINNING, CLOCK_SET, SHED, STILL_RUNNING, gap
from bacpipes.worker.grid import Grid
from bacpipes.worker.judgement import failures
from bacpipes.worker.moments import Moments
from bacpipes.worker.reader import DeviceReader

logger = get_logger(__name__)

BEHIND = "reads are left out"
CALM = 10  # polls that end in time, before a device that was too slow is said to keep up
NO_ANSWER = "no answer from the device"
SILENT = "silent device: it is probed until it answers"  # also in sql/doctor_*.sql
BACK = 90.0  # seconds that the clock may be set back, and the slots that were polled already are waited out
_LONGEST_WAIT = 5.0  # seconds; so that a clock that was set is noticed
AT_ONCE = 4  # polls that begin in one turn of the event loop; all devices of a site are due in the same moment


class DevicePoller:
    """One device's task. ``deliver`` takes each poll's batch and must not block.

    ``polled`` names the last cycle that was polled, by interval: a slot is polled once, also across a change of points.
    """

    def __init__(
        self,
        reader: DeviceReader,
        phase_of: Callable[[int], float],
        deliver: Callable[[Batch], None],
        watch: Callable[..., CovWatch],
        starts: Turnstile | None = None,
    ) -> None:
        self._reader = reader
        self._starts = starts or Turnstile(AT_ONCE)
        self.cov = watch(reader.probe, self._told)
        self._phase_of = phase_of
        self._deliver = deliver
        self._groups: dict[int, list[Point]] = {}
        self._changed = asyncio.Event()
        self._finishing = False
        self._health = Transition(logger, "device does not answer", device=reader.device.device_id)
        self._keeping_up = Transition(logger, "device is too slow for its interval", device=reader.device.device_id)
        self._breaker = Breaker(reader.probe, self._back)
        self.polled: dict[int, int] = {}
        self.reads_shed = 0
        self._began: dict[int, int] = {}  # interval → slot in whose midst polling began, until the first poll is over
        self._under_way: dict[int, int] = {}  # interval → last cycle before the poll
        self._calm: dict[int, int] = {}  # interval → polls in a row that ended in time, since one did not
        self._offset = _offset()
        self._read_last: dict[int, int] = {}  # point id → cycle, while reads are left out
        self._moments = Moments()

    @property
    def device(self) -> Device:
        """The device that is polled."""
        return self._reader.device

    @property
    def finished(self) -> dict[int, int]:
        """``polled`` without the polls that are under way: they and what they missed are still to be told."""
        return self.polled | self._under_way

    @property
    def silent(self) -> bool:
        """True where the latest poll had no answer, and no probe since."""
        return self._health.failing

    async def answers(self) -> bool:
        """Ask the device whether it is there."""
        return await self._reader.probe()

    @property
    def quarantined(self) -> dict[str, str]:
        """Points that can't be read: object → reason."""
        return self._reader.quarantine.points

    def update(self, points: Sequence[Point]) -> None:
        """Poll these points from now on."""
        groups: dict[int, list[Point]] = {}
        for point in sorted(points, key=lambda point: point.rank):  # of one rank in their own order
            groups.setdefault(point.interval, []).append(point)
        for interval in groups.keys() - self._groups.keys():
            grid, now = self._grid(interval), time.time()
            self._began[interval] = grid.cycle(now)
            self.polled.setdefault(interval, grid.first(now) - 1)
        self._groups = groups
        self.polled = {interval: cycle for interval, cycle in self.polled.items() if interval in groups}
        self.cov.update(points)
        self._changed.set()

    def finish(self) -> None:
        """Let a poll that is under way be the last."""
        self._finishing = True
        self._changed.set()

    async def run(self) -> None:
        """Until `finish` was called, or cancelled."""
        try:
            while not self._finishing:
                self._changed.clear()
                interval, due = self._next()
                if (delay := due - time.time()) > 0:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(min(delay, _LONGEST_WAIT)):
                            await self._changed.wait()
                    continue
                await self._starts.through()
                if interval in self._groups and not self._finishing:
                    await self._poll(interval)
        finally:
            self._breaker.end()

    def _grid(self, interval: int) -> Grid:
        return Grid(interval, self._phase_of(interval))

    def _next(self, shorter_than: float = math.inf) -> tuple[int, float]:
        """The interval whose slot comes first, and when."""
        now = time.time()
        dues = {}
        for interval in self._groups:
            if interval >= shorter_than:
                continue
            grid = self._grid(interval)
            last = self.polled[interval]
            if grid.start(last) - now > max(BACK, interval):
                last = self.polled[interval] = grid.cycle(now)  # the clock was set back by far: go on from here
            dues[interval] = grid.start(last + 1)
        if not dues:
            return 0, now + _LONGEST_WAIT
        return min(dues.items(), key=lambda item: (item[1], item[0]))

    async def _poll(self, interval: int) -> None:
        grid, points = self._grid(interval), self._groups[interval]
        began = time.time()
        cycle = grid.cycle(began)
        gaps = self._missed(grid, cycle, points)
        points = self.cov.asked(points, cycle - 1, cycle)
        before, self.polled[interval] = self.polled[interval], cycle
        if not points:
            self._began.pop(interval, None)
            if gaps:
                self._deliver(Batch(interval, cycle, 0, [], gaps, grid.phase))
            return
        self._under_way[interval] = before
        if self._breaker.open:
            readings = failures(points, NoAnswerError(SILENT))
        else:
            readings = await self._read(self._in_order(points), grid, cycle)
            self._note_health()
            gaps += self._shed(grid, cycle, points, readings)
            if not self._reader.silent:
                self.cov.polled(readings)
        self._under_way.pop(interval, None)
        self._began.pop(interval, None)
        duration = int((time.time() - began) * 1000)
        self.cov.flush()  # it was told before
        self._deliver(Batch(interval, cycle, max(1, duration), self._moments.apart(readings), gaps, grid.phase))

    def _told(self, readings: list[Reading]) -> None:
        """What the device told by itself becomes rows in the slot of this moment, beside those of the polls."""
        groups: dict[int, list[Reading]] = {}
        intervals = {point.id: interval for interval, points in self._groups.items() for point in points}
        for reading in readings:
            if (interval := intervals.get(reading.point_id)) is not None:
                groups.setdefault(interval, []).append(reading)
        for interval, told in groups.items():
            grid = self._grid(interval)
            cycle = grid.cycle(min(reading.at for reading in told) / 1000)
            self._deliver(Batch(interval, cycle, 0, self._moments.apart(told), [], grid.phase))

    def _back(self) -> None:
        """A probe was answered."""
        self._reader.abilities.came_back()
        self._health.recovered()
        self.cov.found()

    async def _read(self, points: Sequence[Point], grid: Grid, cycle: int) -> list[Reading]:
        """What can be read until the next slot begins; shorter intervals that fall due meanwhile go in between."""

        async def between() -> None:
            while not self._finishing:
                interval, due = self._next(shorter_than=grid.interval)
                if due > time.time() or interval in self._under_way:
                    return
                await self._poll(interval)

        try:
            return await self._reader.read(points, grid.start(cycle + 1), between)
        except Exception as error:  # a fault of ours must not end the polling of a device in silence
            logger.exception("poll failed unexpectedly", device=self.device.device_id)
            return failures(points, BacnetError(f"internal error: {type(error).__name__}"))

    def _in_order(self, points: Sequence[Point]) -> Sequence[Point]:
        """What goes first: by rank; where reads are left out, of one rank what was read longest ago."""
        if not self._read_last:
            return points
        return sorted(points, key=lambda point: (point.rank, self._read_last.get(point.id, 0)))

    def _shed(self, grid: Grid, cycle: int, points: Sequence[Point], readings: Sequence[Reading]) -> list[Gap]:
        """What the poll left out, as a gap of this slot; said once."""
        found = {reading.point_id for reading in readings}
        if len(found) == len(points):
            self._in_time(grid.interval)
            return []
        left_out = [point.id for point in points if point.id not in found]
        if self._began.get(grid.interval) == cycle:  # it had not all of the slot
            return [gap(grid, cycle, cycle + 1, left_out, BEGINNING)]
        self._too_slow(grid.interval)
        self._read_last |= dict.fromkeys(found, cycle)
        self.reads_shed += len(left_out)
        return [gap(grid, cycle, cycle + 1, left_out, SHED)]

    def _too_slow(self, interval: int) -> None:
        """Of a first poll nothing is said: the device had to say who it is, and the machine to begin all others."""
        self._calm[interval] = 0
        if interval not in self._began:
            self._keeping_up.failed(BEHIND, interval=interval)

    def _in_time(self, interval: int) -> None:
        if interval in self._calm:
            self._calm[interval] += 1
            if self._calm[interval] >= CALM:
                del self._calm[interval]
        if not self._calm.keys() & self._groups.keys():
            self._keeping_up.recovered()
            self._read_last = {}

    @property
    def behind(self) -> bool:
        """True where the device can't keep up, or could not a moment ago."""
        return self._keeping_up.failing

    def _missed(self, grid: Grid, cycle: int, points: Sequence[Point]) -> list[Gap]:
        before, self._offset = self._offset, _offset()
        last = self.polled[grid.interval]
        if cycle <= last + 1:
            return []
        if self._offset - before > grid.interval / 2:
            reason = CLOCK_SET
        else:
            reason = BEGINNING if grid.interval in self._began else STILL_RUNNING
            self._too_slow(grid.interval)
        missed = self.cov.asked(points, last, cycle - 1)
        return [gap(grid, last + 1, cycle, [point.id for point in missed], reason)] if missed else []

    def _note_health(self) -> None:
        if self._reader.silent:
            self._health.failed(NO_ANSWER)
            self.cov.lost()
        else:
            self._health.recovered()
            self.cov.found()
        if self._breaker.note(self._reader.silent):
            logger.warning("device is no longer polled but probed", device=self.device.device_id)


def _offset() -> float:
    """What the clock shows beside one that nobody sets, in seconds."""
    return time.time() - time.monotonic()
