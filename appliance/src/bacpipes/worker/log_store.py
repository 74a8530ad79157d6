"""The log of batches: commits polls, hands them to followers, and forgets what all of them have passed."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bacpipes.database import Connection, query
from bacpipes.reading import Batch, Gap, Quality, Reading, to_datetime, to_milliseconds


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A committed batch as a follower sees it."""

    seq: int
    readings: list[Reading]


async def commit(connection: Connection, site_id: str, batches: Sequence[Batch]) -> None:
    """Commit polls with their gaps in one transaction; the commit is where a reading becomes real."""
    async with connection.transaction(), connection.pipeline():
        for batch in batches:
            if batch.readings:
                await connection.execute(query("commit_batch"), _parameters(site_id, batch))
            for gap in batch.gaps:
                await insert_gap(connection, site_id, gap)


async def insert_gap(connection: Connection, site_id: str, gap: Gap) -> None:
    """Record scheduled reads that did not happen."""
    await connection.execute(query("insert_gap"), [site_id, list(gap.point_ids), gap.start, gap.end, gap.reason])


async def entries_after(connection: Connection, seq: int, limit: int) -> list[LogEntry]:
    """The next committed batches, oldest first."""
    cursor = await connection.execute(query("log_after"), [seq, limit], binary=True)
    entries = []
    async for row in cursor:
        entries.append(LogEntry(row[0], list(_readings(*row[1:]))))
        await asyncio.sleep(0)  # a row may have a thousand readings
    return entries


async def cursor_of(connection: Connection, follower: str) -> int:
    """The last ``seq`` that the follower's other side acknowledged."""
    row = await (await connection.execute("SELECT seq FROM follower WHERE name = %s", [follower])).fetchone()
    return int(row[0]) if row else 0


async def advance(connection: Connection, follower: str, seq: int) -> None:
    """Move a follower's cursor; never back."""
    await connection.execute(
        "UPDATE follower SET seq = %s, updated_at = now() WHERE name = %s AND seq < %s", [seq, follower, seq]
    )


async def trim(connection: Connection, followers: Sequence[str], keep: timedelta) -> int:
    """Delete the batches that all followers have passed, and those older than history itself; how many of the latter
    a follower had not passed yet."""
    await connection.execute(query("trim_log"), {"followers": list(followers)})
    return (await connection.execute("DELETE FROM reading_batch WHERE base_time < now() - %s", [keep])).rowcount


async def last_slots(connection: Connection, phase_of: Callable[[int], float]) -> dict[int, float]:
    """The end of each point's last polled slot, in seconds since the epoch: a poll may outlast its slot."""
    cursor = await connection.execute("SELECT point_id, interval_seconds, poll_cycle FROM last_value")
    return {row[0]: (row[2] + 1) * row[1] + phase_of(row[1]) async for row in cursor}


def merge(batches: Iterable[Batch]) -> list[Batch]:
    """Polls of one slot share a log row, so that the log stays short however many devices there are; what was told by
    COV has one of its own."""
    slots: dict[tuple[int, int, bool], Batch] = {}
    for batch in batches:
        key = (batch.interval, batch.cycle, batch.duration > 0)
        slot = slots.setdefault(key, Batch(batch.interval, batch.cycle, 0, phase=batch.phase))
        slot.duration = max(slot.duration, batch.duration)
        slot.readings += batch.readings
        slot.gaps += batch.gaps
    return list(slots.values())


def _parameters(site_id: str, batch: Batch) -> dict[str, object]:
    base = batch.base
    return {
        "site": site_id,
        "base": to_datetime(base),
        "interval": batch.interval,
        "cycle": batch.cycle,
        "duration": batch.duration,
        "points": [reading.point_id for reading in batch.readings],
        "offsets": [reading.at - base for reading in batch.readings],
        "values": [reading.value for reading in batch.readings],
        "qualities": [int(reading.quality) for reading in batch.readings],
        "reasons": [reading.reason for reading in batch.readings],
        "all_good": all(reading.reason is None for reading in batch.readings),
    }


def _readings(
    base: datetime,
    points: list[int],
    offsets: list[int],
    values: list[float | None],
    qualities: list[int],
    reasons: list[str | None] | None,
) -> Iterable[Reading]:
    start = to_milliseconds(base)
    texts = reasons or [None] * len(points)
    for point, offset, value, quality, reason in zip(points, offsets, values, qualities, texts, strict=True):
        yield Reading(point, start + offset, value, Quality(quality), reason)
