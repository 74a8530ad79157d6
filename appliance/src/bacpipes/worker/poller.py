"""Polls one device for ever: each interval's points in each slot of the grid, or a recorded gap."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from bacpipes.bacnet import BacnetError, NoAnswerError
from bacpipes.events import first_of
from bacpipes.log import Transition, get_logger
from bacpipes.points import Device, Point
from bacpipes.reading import Batch, Gap, Reading, to_datetime
from bacpipes.worker.breaker import Breaker
from bacpipes.worker.grid import Grid
from bacpipes.worker.reader import DeviceReader, failures

logger = get_logger(__name__)

STILL_RUNNING = "the previous poll was still running"
NO_ANSWER = "no answer from the device"
SILENT = "silent device: it is probed until it answers"  # also in sql/doctor_*.sql
INSTANT = 0.001  # seconds; a slot's end is not part of it
_CLASH = 1000  # ms
_LONGEST_WAIT = 5.0  # seconds; so that a clock that was set is noticed


class DevicePoller:
    """One device's task. ``deliver`` takes each poll's batch and must not block.

    ``polled`` names the last cycle that was polled, by interval: a slot is polled once, also across a change of points.
    """

    def __init__(
        self, reader: DeviceReader, phase_of: Callable[[int], float], deliver: Callable[[Batch], None]
    ) -> None:
        self._reader = reader
        self._phase_of = phase_of
        self._deliver = deliver
        self._groups: dict[int, list[Point]] = {}
        self._changed = asyncio.Event()
        self._finishing = False
        self._health = Transition(logger, "device does not answer", device=reader.device.device_id)
        self._keeping_up = Transition(logger, "device is too slow for its interval", device=reader.device.device_id)
        self._breaker = Breaker(reader.probe, self._health.recovered)
        self.polled: dict[int, int] = {}
        self._under_way: int | None = None
        self._latest = 0  # time of the newest reading, ms since the epoch

    @property
    def device(self) -> Device:
        """The device that is polled."""
        return self._reader.device

    @property
    def finished(self) -> dict[int, int]:
        """``polled`` without the poll that is under way."""
        return {i: cycle - 1 if i == self._under_way else cycle for i, cycle in self.polled.items()}

    @property
    def silent(self) -> bool:
        """True where the latest poll had no answer, and no probe since."""
        return self._health.failing

    @property
    def quarantined(self) -> dict[str, str]:
        """Points that can't be read: object → reason."""
        return self._reader.quarantine.points

    def update(self, points: Sequence[Point]) -> None:
        """Poll these points from now on."""
        groups: dict[int, list[Point]] = {}
        for point in points:
            groups.setdefault(point.interval, []).append(point)
        self._groups = groups
        self.polled = {interval: cycle for interval, cycle in self.polled.items() if interval in groups}
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
                    await first_of(self._changed, within=min(delay, _LONGEST_WAIT))
                    continue
                await self._poll(interval)
        finally:
            self._breaker.end()

    def _grid(self, interval: int) -> Grid:
        return Grid(interval, self._phase_of(interval))

    def _next(self) -> tuple[int, float]:
        """The interval whose slot comes first, and when; one that was never polled is due at once."""
        now = time.time()
        dues = {}
        for interval in self._groups:
            grid = self._grid(interval)
            last = self.polled.get(interval)
            if last is not None and last > grid.cycle(now) + 1:
                last = self.polled[interval] = grid.cycle(now)  # the clock was set back: go on from here
            dues[interval] = now if last is None else grid.start(last + 1)
        if not dues:
            return 0, now + _LONGEST_WAIT
        return min(dues.items(), key=lambda item: (item[1], item[0]))

    async def _poll(self, interval: int) -> None:
        grid, points = self._grid(interval), self._groups[interval]
        began = time.time()
        cycle = grid.cycle(began)
        gaps = self._missed(grid, cycle, points)
        self.polled[interval] = cycle
        self._under_way = interval
        if self._breaker.open:
            readings = failures(points, NoAnswerError(SILENT))
        else:
            readings = await self._read(points)
            self._note_health()
        self._under_way = None
        duration = int((time.time() - began) * 1000)
        self._deliver(Batch(interval, cycle, max(0, duration), self._apart(readings), gaps, grid.phase))

    def _apart(self, readings: list[Reading]) -> list[Reading]:
        """A point has one row a millisecond: two polls that end in the same one must not share it."""
        shift = self._latest + 1 - min(reading.at for reading in readings)
        if 0 < shift <= _CLASH:  # more is a clock that was set back
            readings = [replace(reading, at=reading.at + shift) for reading in readings]
        self._latest = max(reading.at for reading in readings)
        return readings

    async def _read(self, points: Sequence[Point]) -> list[Reading]:
        try:
            return await self._reader.read(points)
        except Exception as error:  # a fault of ours must not end the polling of a device in silence
            logger.exception("poll failed unexpectedly", device=self.device.device_id)
            return failures(points, BacnetError(f"internal error: {type(error).__name__}"))

    def _missed(self, grid: Grid, cycle: int, points: Sequence[Point]) -> list[Gap]:
        last = self.polled.get(grid.interval)
        if last is None or cycle <= last + 1:
            self._keeping_up.recovered()
            return []
        self._keeping_up.failed(STILL_RUNNING, interval=grid.interval)
        return [gap(grid, last + 1, cycle, [point.id for point in points], STILL_RUNNING)]

    def _note_health(self) -> None:
        if self._reader.silent:
            self._health.failed(NO_ANSWER)
        else:
            self._health.recovered()
        if self._breaker.note(self._reader.silent):
            logger.warning("device is no longer polled but probed", device=self.device.device_id)


def gap(grid: Grid, first: int, until: int, point_ids: Sequence[int], reason: str) -> Gap:
    """The gap of the slots from ``first`` up to, not including, ``until``."""
    since, end = (to_datetime(round(grid.start(cycle) * 1000)) for cycle in (first, until))
    return Gap(tuple(point_ids), since, end, reason)


def gaps_since(
    last: Mapping[int, float], points: Sequence[Point], phase_of: Callable[[int], float], now: float, reason: str
) -> list[Gap]:
    """The slots between the end of each point's last polled slot (seconds since the epoch) and ``now`` that nobody
    polled, as few rows as possible. A point that was never read has no gap."""
    spans: dict[tuple[int, int, int], list[int]] = {}
    for point in points:
        if point.id not in last:
            continue
        grid = Grid(point.interval, phase_of(point.interval))
        first, until = grid.cycle(last[point.id] - INSTANT) + 1, grid.cycle(now)
        if first < until:
            spans.setdefault((point.interval, first, until), []).append(point.id)
    return [
        gap(Grid(interval, phase_of(interval)), first, until, ids, reason)
        for (interval, first, until), ids in spans.items()
    ]
