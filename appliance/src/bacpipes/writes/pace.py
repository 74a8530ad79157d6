"""Against short-cycling: how often a point may be written, and how long equipment stays on or off once we switched it.

Releases are never held back: they are the safe direction. They count as switching all the same.
"""

from dataclasses import dataclass

from bacpipes.database import Connection, query
from bacpipes.objects import Kind
from bacpipes.points import Point
from bacpipes.settings import Settings
from bacpipes.writes.validator import Violation

ON = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """A point's limits (0: none; times in seconds) and what was done lately.

    ``recent`` writes within the last minute; we switched it to ``value``, ``ago`` seconds ago.
    """

    per_minute: int
    min_on: float
    min_off: float
    recent: int
    value: float | None = None
    ago: float | None = None


async def load(connection: Connection, settings: Settings, point: Point) -> Pace:
    """The point's pace as it is now."""
    values = {"point": point.id, "per_minute": settings.write_rate_limit}
    values |= {"min_on": settings.write_min_on, "min_off": settings.write_min_off}  # type: ignore[dict-item]
    row = await (await connection.execute(query("pace_of"), values)).fetchone()
    return Pace(*row) if row else Pace(0, 0, 0, 0)


def violations(point: Point, number: float, there: float | None, pace: Pace) -> list[Violation]:
    """Is it too soon to write ``number`` where the present value is ``there``? Pure."""
    if 0 < pace.per_minute <= pace.recent:
        text = f"Point was written {pace.recent} times within the last minute (at most {pace.per_minute})"
        return [Violation("rate-limited", text)]
    switches = point.type.kind is Kind.BINARY and there is not None and number != there
    if not switches or pace.value != there or pace.ago is None:
        return []
    word, least = ("on", pace.min_on) if there == ON else ("off", pace.min_off)
    if not 0 <= pace.ago < least:  # a clock that was set back does not lock the point
        return []
    text = f"Point was switched {word} {pace.ago:.0f} s ago, and stays {word} for at least {least:g} s"
    return [Violation(f"minimum-{word}-time", text)]


async def wrote(connection: Connection, point: Point, number: float, there: float | None) -> None:
    """Note a write that is about to happen."""
    switched = number if point.type.kind is Kind.BINARY and number != there else None
    await connection.execute(query("pace_write"), {"point": point.id, "value": switched})


async def released(connection: Connection, point: Point, before: float | None, after: float | None) -> None:
    """Note what a release made of the present value."""
    if point.type.kind is Kind.BINARY and after is not None and before != after:
        await connection.execute(query("pace_switched"), [point.id, after])
