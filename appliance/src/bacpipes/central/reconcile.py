"""Compare a site's history with central's, hour by hour, and send what is missing.

Both sides sum the same checksum (migrations/reading_checksum.sql) over point, time, value and quality.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from bacpipes.central.pace import Pace
from bacpipes.database import Connection, query

HOUR = timedelta(hours=1)
SETTLE = timedelta(minutes=5)  # what is younger may be on its way
Sums = dict[datetime, tuple[int, Decimal]]
NOTHING = (0, Decimal(0))


@dataclass(slots=True)
class Hour:
    """One hour that differed: rows at the site, and at central before and after what was sent."""

    hour: datetime
    site: int
    central: int
    sent: int = 0
    after: int | None = None
    equal: bool = False

    @property
    def verdict(self) -> str:
        """What is to be said of it."""
        if self.equal:
            return "repaired"
        if self.after is None:
            return "differs"
        return "central has more" if self.after > self.site else "differs still"


@dataclass(slots=True)
class Report:
    """What a comparison found. ``central_rows`` is before anything was sent."""

    site: str
    since: datetime
    until: datetime
    hours: int = 0
    site_rows: int = 0
    central_rows: int = 0
    sent_rows: int = 0
    differing: list[Hour] = field(default_factory=list)

    @property
    def remaining(self) -> list[Hour]:
        """Hours that differ still."""
        return [hour for hour in self.differing if not hour.equal]

    def figures(self) -> dict[str, Any]:
        """As the tables ``reconciliation`` hold it."""
        return {
            "site": self.site,
            "since": self.since,
            "until": self.until,
            "site_rows": self.site_rows,
            "central_rows": self.central_rows,
            "missing_hours": len(self.differing),
            "sent_rows": self.sent_rows,
            "differing_hours": len(self.remaining),
        }


async def reconcile(
    site: Connection,
    central: Connection,
    report: Report,
    *,
    rate: float,
    send: bool = True,
    on_hour: Callable[[Hour], None] = lambda _: None,
) -> Report:
    """Fill ``report``, whose ``site``, ``since`` and ``until`` say what is compared, and note it on both sides.

    ``rate`` is readings per second at most; with ``send`` False nothing is sent. It can be broken off and repeated at
    any time: what came is there, and what comes twice is stored once.
    """
    span = {"since": report.since, "until": report.until}
    ours, theirs = await _site_sums(site, span), await _central_sums(central, report.site, span)
    report.hours = len(ours.keys() | theirs.keys())
    report.site_rows = sum(rows for rows, _ in ours.values())
    report.central_rows = sum(rows for rows, _ in theirs.values())
    pace = Pace(rate)
    for start in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(start, NOTHING), theirs.get(start, NOTHING)
        if mine == other:
            continue
        hour = Hour(start, mine[0], other[0])
        report.differing.append(hour)
        if send:
            await _repair(site, central, report, hour, mine, pace)
        on_hour(hour)
    await _note(site, central, report)
    return report


async def _repair(
    site: Connection, central: Connection, report: Report, hour: Hour, mine: tuple[int, Decimal], pace: Pace
) -> None:
    since, until = max(hour.hour, report.since), min(hour.hour + HOUR, report.until)
    if mine[0]:
        await _send(site, central, report.site, since, until)
        hour.sent = mine[0]
        report.sent_rows += mine[0]
        await pace.keep(mine[0])
    now = (await _central_sums(central, report.site, {"since": since, "until": until})).get(hour.hour, NOTHING)
    hour.after, hour.equal = now[0], now == mine


async def send_unsettled(site: Connection, central: Connection, report: Report) -> None:
    """What is too young to be compared, up to now: after a hole in the log no lane would bring it."""
    await _send(site, central, report.site, report.until, datetime.now(UTC))


async def _send(site: Connection, central: Connection, site_id: str, since: datetime, until: datetime) -> None:
    """All readings of a span; those that central has are passed over there."""
    values = {"site": site_id, "since": since, "until": until}
    async with (
        site.cursor() as source,
        central.cursor() as target,
        target.copy(query("reconcile_land")) as into,
        source.copy(query("reconcile_copy"), values) as out,
    ):
        async for block in out:
            await into.write(block)


async def _site_sums(site: Connection, span: dict[str, datetime]) -> Sums:
    cursor = await site.execute(query("reconcile_sums"), span)
    return {row[0]: (row[1], row[2]) async for row in cursor}


async def _central_sums(central: Connection, site_id: str, span: dict[str, datetime]) -> Sums:
    cursor = await central.execute(
        "SELECT * FROM public.hour_sums(%(site)s, %(since)s, %(until)s)", {"site": site_id, **span}
    )
    return {row[0]: (row[1], row[2]) async for row in cursor}


async def _note(site: Connection, central: Connection, report: Report) -> None:
    await site.execute(query("reconcile_note"), report.figures())
    await central.execute(query("reconcile_report"), report.figures())
