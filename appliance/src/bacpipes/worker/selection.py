"""Which readings are published: each of them, or those that tell something new, as their point's policy says.

A pure function of the log and of what was published last; that is kept in the database beside the publisher's cursor,
so that a restart changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from bacpipes.database import Connection, query
from bacpipes.points import Point
from bacpipes.points.directory import Directory
from bacpipes.reading import Quality, Reading, to_datetime, to_milliseconds
from bacpipes.settings import Settings


@dataclass(frozen=True, slots=True)
class Policy:
    """``deadband`` is in the point's units; ``heartbeat`` and ``interval`` are milliseconds."""

    deadband: float
    heartbeat: float
    interval: float

    def selects(self, reading: Reading, last: Reading | None) -> bool:
        """Whether ``reading`` goes out, where ``last`` went out before it.

        Another quality always does; a value does beyond the deadband; and anything does where the next one would come
        later than the heartbeat allows. A clock that was put back is no reason for silence.
        """
        if last is None or reading.quality is not last.quality or (reading.value is None) != (last.value is None):
            return True
        if self._differs(reading.value, last.value):
            return True
        elapsed = reading.at - last.at
        return elapsed < 0 or elapsed + self.interval > self.heartbeat

    def _differs(self, value: float | None, last: float | None) -> bool:
        """NaN differs from everything; an infinity not from itself."""
        if value is None or last is None or value == last:
            return False
        return not abs(value - last) <= self.deadband


class Selection:
    """The policies of all points, and the last published reading of those that are published on change."""

    def __init__(self, settings: Settings, directory: Directory) -> None:
        self._settings, self._directory = settings, directory
        self._last: dict[int, Reading] = {}

    def policy_of(self, point: Point) -> Policy | None:
        """None where every reading is published."""
        settings = self._settings
        if (point.publish or settings.publish_policy) == "every":
            return None
        heartbeat = settings.publish_heartbeat if point.heartbeat is None else point.heartbeat
        return Policy(point.deadband or 0.0, heartbeat * 1000, point.interval * 1000)

    async def load(self, connection: Connection) -> None:
        """What was published last, as the cursor's transaction left it."""
        cursor = await connection.execute("SELECT point_id, time, value, quality FROM published")
        self._last = {row[0]: Reading(row[0], to_milliseconds(row[1]), row[2], Quality(row[3])) async for row in cursor}

    def choose(self, readings: Iterable[Reading], news: dict[int, Reading]) -> list[Reading]:
        """The readings that go out, in their order. ``news`` is what went out before them and is not yet acknowledged;
        what is to be remembered once these are is added to it."""
        chosen: list[Reading] = []
        for reading in readings:
            point = self._directory.get(reading.point_id)
            if point is None or point.topic is None:
                continue
            policy = self.policy_of(point)
            if policy is not None:
                if not policy.selects(reading, news.get(point.id) or self._last.get(point.id)):
                    continue
                news[point.id] = reading
            chosen.append(reading)
        return chosen

    async def remember(self, connection: Connection, news: dict[int, Reading]) -> None:
        """Note in the database what went out; in the cursor's transaction."""
        if news:
            rows = list(news.values())
            values = {
                "points": [row.point_id for row in rows],
                "times": [to_datetime(row.at) for row in rows],
                "values": [row.value for row in rows],
                "qualities": [int(row.quality) for row in rows],
            }
            await connection.execute(query("published_note"), values)

    def acknowledged(self, news: dict[int, Reading]) -> None:
        """That transaction was committed, or the readings went out beside the log."""
        self._last |= news
