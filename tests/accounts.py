"""Scheduled reads against rows and recorded gaps: what "nothing lost" is counted by."""

import json
import time
from dataclasses import dataclass

from bacpipes.worker.gaps import BEGINNING, SHED, STILL_RUNNING
from mqtt_parts import until
from site_parts import Site

BUSY = [STILL_RUNNING, SHED, BEGINNING]  # reasons for a gap where this machine was too slow for an interval of a second


@dataclass(frozen=True, slots=True)
class Account:
    """How many scheduled reads of a span are rows, lie in gaps, are both, or neither (``lost``)."""

    scheduled: int
    rows: int
    in_gaps: int
    twice: int
    lost: int


TOLD = """
WITH held AS MATERIALIZED (
    SELECT point_id, poll_cycle, count(*) AS rows FROM reading GROUP BY point_id, poll_cycle
), hole AS MATERIALIZED (
    SELECT unnest(point_ids) AS point_id, since, until FROM gap
), slot AS (
    SELECT p.id, cycle, to_timestamp(cycle * p.interval_seconds) AS at
    FROM point p
    JOIN (SELECT point_id, min(poll_cycle) AS first FROM held GROUP BY point_id) f ON f.point_id = p.id,
         generate_series(f.first, floor(%(until)s / p.interval_seconds)::bigint - 1) AS cycle
    WHERE p.enabled AND (%(points)s::integer[] IS NULL OR p.id = ANY (%(points)s::integer[]))
), told AS (
    SELECT id, cycle, at, coalesce(held.rows, 0) AS rows,
           EXISTS (SELECT FROM hole WHERE hole.point_id = slot.id AND at >= since AND at < until) AS in_gap
    FROM slot LEFT JOIN held ON held.point_id = slot.id AND held.poll_cycle = slot.cycle
)
"""
ACCOUNT = (
    TOLD  # noqa: S608 - texts of our own
    + "SELECT count(*), count(*) FILTER (WHERE rows > 0), count(*) FILTER (WHERE in_gap),"
    " count(*) FILTER (WHERE rows > 1), count(*) FILTER (WHERE rows = 0 AND NOT in_gap) FROM told"
)
# Points that were not polled since a moment.
BEHIND = """
    SELECT count(*) FROM point p LEFT JOIN last_value l ON l.point_id = p.id
    WHERE p.enabled AND (l.time IS NULL OR l.time <= to_timestamp(%s + p.interval_seconds))
"""
LOST = TOLD + "SELECT id, cycle, at FROM told WHERE rows = 0 AND NOT in_gap ORDER BY cycle, id LIMIT 50"  # noqa: S608


async def settled(site: Site, within: float = 60.0) -> float:
    """Wait until every point was polled after this moment, and everything is in the database; return the moment."""
    moment = time.time()
    await until(lambda: site.one(BEHIND, moment)[0] == 0, "every point is polled again", within)
    await until(lambda: not (site.settings.state_dir / "spool").exists(), "nothing waits on disk", within)
    return moment


def account(site: Site, moment: float, points: list[int] | None = None) -> Account:
    """Count the slots from each point's first row up to ``moment``."""
    return Account(*site.database.execute(ACCOUNT, {"until": moment, "points": points}).fetchone())  # type: ignore[misc]


def lost(site: Site, moment: float) -> list[tuple[int, int, object]]:
    """The first slots that are neither a row nor in a gap: point, cycle, time; for the message of a failed count."""
    return site.database.execute(LOST, {"until": moment, "points": None}).fetchall()


def unheard(site: Site, moment: float) -> int:
    """Rows up to ``moment`` that the observer at the broker has not heard."""
    heard: dict[str, set[str]] = {}
    for topic, payload, _ in list(site.observer.messages):
        if topic.endswith("/presentValue"):
            heard.setdefault(topic, set()).add(json.loads(payload)["timestamp"])
    rows = site.database.execute(
        "SELECT p.topic, to_char(r.time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') FROM reading r"
        " JOIN point p ON p.id = r.point_id WHERE r.time <= to_timestamp(%s)",
        [moment],
    )
    return sum(1 for topic, at in rows if at not in heard.get(topic, ()))


def disordered(site: Site) -> list[tuple[str, str, str]]:
    """Readings that the observer heard for the first time after a later one of the same point: topic, and both times.
    What is sent again after a crash was heard before, and does not count."""
    found = []
    heard: dict[str, set[str]] = {}
    newest: dict[str, str] = {}
    for topic, payload, _ in list(site.observer.messages):
        if not topic.endswith("/presentValue"):
            continue
        at = json.loads(payload)["timestamp"]
        if at not in heard.setdefault(topic, set()) and at < newest.get(topic, ""):
            found.append((topic, at, newest[topic]))
        heard[topic].add(at)
        newest[topic] = max(at, newest.get(topic, ""))
    return found


def gaps_of_another_reason(site: Site) -> list[tuple[str]]:
    """The reasons of the gaps that a busy machine does not explain."""
    return site.database.execute("SELECT DISTINCT reason FROM gap WHERE reason <> ALL (%s)", [BUSY]).fetchall()
