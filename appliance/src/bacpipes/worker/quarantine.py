"""Points whose read makes a batch fail: kept apart, so that they cost no other a reading, and tried again later."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bacpipes.log import get_logger
from bacpipes.points import Device, Point

logger = get_logger(__name__)

FIRST_TRY, LAST_TRY = 30.0, 600.0  # seconds until a point is tried again, doubling
PREFIX = "quarantined: "  # of the reason of its readings meanwhile


@dataclass(slots=True)
class _Kept:
    """``reason`` None: it can be read by itself, but not together with others."""

    object: str
    reason: str | None
    until: float
    delay: float = FIRST_TRY


@dataclass(frozen=True, slots=True)
class Sorted:
    """How points are read: ``together``, each ``alone``, or not now."""

    together: list[Point]
    alone: list[Point]
    waiting: dict[int, str]  # point id → reason


class Quarantine:
    """One device's."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._kept: dict[int, _Kept] = {}

    @property
    def points(self) -> dict[str, str]:
        """What can't be read at all: object → reason."""
        return {kept.object: kept.reason for kept in self._kept.values() if kept.reason is not None}

    def sort(self, points: Sequence[Point]) -> Sorted:
        """What to do with these points now."""
        if not self._kept:
            return Sorted(list(points), [], {})
        found, now = Sorted([], [], {}), time.monotonic()
        for point in points:
            kept = self._kept.get(point.id)
            if kept is None:
                found.together.append(point)
            elif kept.reason is not None and now < kept.until:
                found.waiting[point.id] = PREFIX + kept.reason
            elif kept.reason is None and now >= kept.until:
                del self._kept[point.id]  # together with the others once more
                found.together.append(point)
            else:
                found.alone.append(point)
        return found

    def add(self, point: Point, reason: str | None) -> None:
        """Its read made a batch fail, or failed once more; ``reason`` None: it can be read by itself."""
        kept = self._kept.get(point.id)
        delay = FIRST_TRY if kept is None else min(LAST_TRY, kept.delay * 2)
        if kept is None:
            what = "point can't be read with others" if reason is None else "point is quarantined"
            logger.warning(what, device=self._device.device_id, object=point.object, reason=reason)
        self._kept[point.id] = _Kept(point.object, reason, time.monotonic() + delay, delay)

    def release(self, point: Point) -> None:
        """It can be read again."""
        kept = self._kept.get(point.id)
        if kept is not None and kept.reason is not None:
            del self._kept[point.id]
            logger.info("point is read again", device=self._device.device_id, object=point.object)
