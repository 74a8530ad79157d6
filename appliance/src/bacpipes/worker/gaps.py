"""Scheduled reads that did not happen: their slots, and why (docs/faults.md)."""

from collections.abc import Callable, Mapping, Sequence

from bacpipes.points import Point
from bacpipes.reading import Gap, to_datetime
from bacpipes.worker.grid import Grid

NOT_RUNNING = "the worker was not running"
BEGINNING = "polling was only beginning"
STILL_RUNNING = "the previous poll was still running"  # also in sql/doctor_behind.sql, as the next but one
CLOCK_SET = "the clock was set forwards"
SHED = "the device is too slow: left out for what goes first"
INSTANT = 0.001  # seconds; a slot's end is not part of it


def gap(grid: Grid, first: int, until: int, point_ids: Sequence[int], reason: str) -> Gap:
    """The gap of the slots from ``first`` up to, not including, ``until``."""
    since, end = (to_datetime(round(grid.start(cycle) * 1000)) for cycle in (first, until))
    return Gap(tuple(point_ids), since, end, reason)


def gaps_since(
    last: Mapping[int, float], points: Sequence[Point], phase_of: Callable[[int], float], now: float, reason: str
) -> list[Gap]:
    """The slots between the end of each point's last polled slot (seconds since the epoch) and the one that polling
    begins with ``now``, as few rows as possible. A point that was never read has no gap."""
    spans: dict[tuple[int, int, int], list[int]] = {}
    for point in points:
        if point.id not in last:
            continue
        grid = Grid(point.interval, phase_of(point.interval))
        first, until = grid.cycle(last[point.id] - INSTANT) + 1, grid.first(now)
        if first < until:
            spans.setdefault((point.interval, first, until), []).append(point.id)
    return [
        gap(Grid(interval, phase_of(interval)), first, until, ids, reason)
        for (interval, first, until), ids in spans.items()
    ]
