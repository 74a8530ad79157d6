"""Readings and batches: what a poll brings back, and what one transaction commits."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum


class Quality(IntEnum):
    """How far a value can be trusted. The number is what the narrow tables hold, the name what people see."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2

    @property
    def text(self) -> str:
        """``good``, ``uncertain`` or ``bad`` (specification: MQTT payload, ``sensor_readings.quality``)."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Reading:
    """One scheduled read of one point.

    ``at`` is milliseconds since the epoch (UTC), cut at the source so that both lanes carry the same key. ``value`` is
    None where the read failed; then ``reason`` says why.
    """

    point_id: int
    at: int
    value: float | None
    quality: Quality = Quality.GOOD
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Scheduled reads that did not happen: these points, from (inclusive) to (exclusive), and why."""

    point_ids: tuple[int, ...]
    start: datetime
    end: datetime
    reason: str


@dataclass(slots=True)
class Batch:
    """One poll's readings: the unit that is committed, logged under one ``seq`` and sent on.

    ``cycle`` is the number of the ``interval`` (seconds) since the epoch, ``phase`` the grid's offset in seconds;
    ``duration`` is the poll's length in ms, at least 1; 0 marks what a device told by itself (COV).
    """

    interval: int
    cycle: int
    duration: int
    readings: list[Reading] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    phase: float = 0.0

    @property
    def base(self) -> int:
        """The earliest reading's time in ms since the epoch; the log stores offsets from it."""
        return min(reading.at for reading in self.readings)


def slot_gap(batch: Batch, reason: str) -> Gap:
    """The gap that a batch becomes whose readings can't be kept: its points, its whole slot."""
    start, end = ((cycle * batch.interval + batch.phase) * 1000 for cycle in (batch.cycle, batch.cycle + 1))
    ids = tuple(reading.point_id for reading in batch.readings)
    return Gap(ids, to_datetime(round(start)), to_datetime(round(end)), reason)


def to_datetime(milliseconds: int) -> datetime:
    """Milliseconds since the epoch as an aware UTC datetime, exactly."""
    seconds, rest = divmod(milliseconds, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)


def to_milliseconds(moment: datetime) -> int:
    """An aware datetime as whole milliseconds since the epoch (cut, not rounded)."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400_000) + delta.seconds * 1000 + delta.microseconds // 1000


def iso_milliseconds(moment: datetime) -> str:
    """UTC ISO 8601 with milliseconds and ``Z``, as the payloads have it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
