"""What a damaged spool has cost: slots that are neither a row nor in a gap, found and told as gaps."""

from collections.abc import Callable, Mapping

from psycopg.types.json import Jsonb

from bacpipes.database import Connection, query
from bacpipes.reading import Gap, to_datetime
from bacpipes.worker import log_store
from bacpipes.worker.gaps import INSTANT, gap
from bacpipes.worker.grid import Grid

DAMAGED = "the spool was damaged"


async def record(
    connection: Connection,
    site_id: str,
    last: Mapping[int, float],
    earliest: float | None,
    phase_of: Callable[[int], float],
) -> int:
    """Tell what is missing between the last slots before the spool was drained and now; how many gaps that makes.

    ``last`` is when each point's last slot before it ended, ``earliest`` when the spool's first slot begins, in seconds
    since the epoch: the earlier of the two counts, as an earlier drain may have been cut short.
    """
    intervals = await (await connection.execute("SELECT id, interval_seconds FROM point WHERE enabled")).fetchall()
    firsts: dict[int, int] = {}
    phases = {interval: phase_of(interval) for _, interval in intervals}
    since = None
    for point, interval in intervals:
        begin = min((moment for moment in (last.get(point), earliest) if moment is not None), default=None)
        if begin is None:
            continue
        grid = Grid(interval, phases[interval])
        firsts[point] = grid.cycle(begin - INSTANT) + 1
        since = min(since or begin, grid.start(firsts[point]))
    if since is None:
        return 0
    values = {"points": list(firsts), "firsts": list(firsts.values()), "since": to_datetime(int(since * 1000))}
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0")  # it may be days
        cursor = await connection.execute(query("missing_slots"), values | {"phases": Jsonb(phases)})
        found = _join([(row[0], row[1], tuple(row[2])) async for row in cursor], phases)
        for one in found:
            await log_store.insert_gap(connection, site_id, one)
    return len(found)


def _join(slots: list[tuple[int, int, tuple[int, ...]]], phases: Mapping[int, float]) -> list[Gap]:
    """Slots of the same points that follow each other make one gap."""
    runs: list[tuple[int, int, int, tuple[int, ...]]] = []
    for interval, cycle, points in slots:
        if runs and runs[-1][0] == interval and runs[-1][2] == cycle and runs[-1][3] == points:
            runs[-1] = (interval, runs[-1][1], cycle + 1, points)
        else:
            runs.append((interval, cycle, cycle + 1, points))
    return [gap(Grid(i, phases[i]), first, until, points, DAMAGED) for i, first, until, points in runs]
