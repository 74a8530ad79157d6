"""What a site has of a span of time, and what its central has of it: the count that a fault ends in."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import psycopg

ROWS = """
    SELECT count(*), coalesce(md5(string_agg(concat_ws(' ', (extract(epoch FROM time) * 1000)::bigint,
        device_id, object_type, object_instance, value, quality), ','
        ORDER BY time, device_id, object_type, object_instance)), '')
    FROM sensor_readings WHERE site_id = 'macau' AND time >= %s AND time < %s
"""


class Sides(Protocol):
    """Both databases, as `fault_parts.System` has them."""

    central_url: str
    database: psycopg.Connection[Any]

    def one(self, sql: str, *values: object, central: bool = False) -> Any:
        """The first row of a query."""
        ...

    def now(self) -> datetime:
        """The site's database's clock."""
        ...

    def arrived(self) -> tuple[int, ...]:
        """Offered live, offered complete, stored, quarantined: so far, at central."""
        ...

    def flow(self, seconds: float) -> None:
        """Wait for so many seconds of readings."""
        ...


@dataclass(frozen=True, slots=True)
class Count:
    """Rows and checksum of the span on both sides; what the lanes offered meanwhile, and how many of these were at
    central already (``twice``) or counted in its quarantine; points in gaps; seconds until both sides were equal."""

    site: tuple[int, str]
    central: tuple[int, str]
    live: int
    complete: int
    twice: int
    quarantined: int
    gaps: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.site[0]} rows at the site, {self.central[0]} at central; offered {self.live} live and"
            f" {self.complete} complete, {self.twice} of them duplicates, {self.quarantined} quarantined; {self.gaps}"
            f" points in gaps; equal after {self.seconds:.0f} s"
        )


class Span:
    """From now to `equal`."""

    def __init__(self, system: Sides) -> None:
        self._system, self.since, self._before = system, system.now(), system.arrived()

    def offered(self) -> tuple[int, ...]:
        """What each lane has offered since: live, complete."""
        return self._meanwhile()[:2]

    def _meanwhile(self) -> tuple[int, ...]:
        return tuple(now - then for now, then in zip(self._system.arrived(), self._before, strict=True))

    def rows(self) -> int:
        """Rows that the site has of it."""
        return int(self._system.one("SELECT count(*) FROM reading WHERE time >= %s", self.since)[0])

    def _difference(self, until: datetime) -> str:
        """The first rows that one side alone has."""
        rows = "SELECT time, device_id, object_type, object_instance, value, quality FROM sensor_readings"
        rows += " WHERE site_id = 'macau' AND time >= %s AND time < %s"
        with psycopg.connect(self._system.central_url) as central:
            theirs = set(central.execute(rows.encode(), [self.since, until]).fetchall())
        ours = set(self._system.database.execute(rows.encode(), [self.since, until]).fetchall())
        parts = {"at the site alone": ours - theirs, "at central alone": theirs - ours}
        return "".join(f"{name}: {len(found)}, {sorted(found)[:3]}; " for name, found in parts.items())

    def equal(self, within: float = 60, until: datetime | None = None) -> Count:
        """Once central has the very rows that the site has; fails where it has not in time. Prints the count."""
        system = self._system
        until = until or system.now()
        system.flow(0)
        began = time.monotonic()
        while True:
            site = system.one(ROWS, self.since, until)
            central = system.one(ROWS, self.since, until, central=True)
            if site == central or time.monotonic() > began + within:
                break
            time.sleep(0.2)
        live, complete, stored, quarantined = self._meanwhile()
        twice = live + complete - stored - quarantined
        gaps = "SELECT coalesce(sum(cardinality(point_ids)), 0) FROM gap WHERE recorded_at >= %s"
        in_gaps = system.one(gaps, self.since)[0]
        found = Count(site, central, live, complete, twice, quarantined, in_gaps, time.monotonic() - began)
        print(found)
        if site != central:
            print(self._difference(until))
        assert site == central
        assert site[0] > 0
        return found
