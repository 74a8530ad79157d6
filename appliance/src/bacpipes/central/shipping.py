"""One step of each kind from the site's database to central's. A cursor moves when central has committed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from bacpipes.database import Connection, query
from bacpipes.errors import UnavailableError
from bacpipes.worker import log_store

BATCHES, RESULTS, GAPS = "shipper", "shipper_results", "shipper_gaps"
READINGS_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Shipped:
    """What one step brought over; ``octets`` without TLS and the protocol's own."""

    batches: int = 0
    readings: int = 0
    octets: int = 0


async def require_registered(central: Connection, site_id: str) -> None:
    """Raise `UnavailableError` where central does not know this site, or shows it to another role only."""
    row = await (await central.execute("SELECT FROM public.site WHERE id = %s", [site_id])).fetchone()
    if row is None:
        raise UnavailableError(
            f"Central has no site {site_id!r} for role {central.info.user!r}.", "`bacpipes central site add` registers."
        )


async def activate(site: Connection) -> bool:
    """From now on the log waits for the shipper. True: some of it was deleted before, and history has to fill in."""
    row = await (await site.execute(query("ship_activate"))).fetchone()
    return bool(row and row[0])


async def send_metadata(site: Connection, central: Connection, site_id: str) -> bool:
    """Devices and points, all of them, unless central has just these."""
    there = await (await central.execute("SELECT metadata_digest FROM public.site WHERE id = %s", [site_id])).fetchone()
    here = await (await site.execute("SELECT * FROM site_snapshot(%s)", [site_id])).fetchone()
    assert here is not None  # noqa: S101 - it always returns a row
    digest, devices, points = here
    if there is not None and there[0] == digest:
        return False
    await central.execute(
        "INSERT INTO public.site_metadata (site_id, digest, devices, points) VALUES (%s, %s, %s, %s)",
        [site_id, digest, Jsonb(devices), Jsonb(points)],
    )
    return True


async def send_batches(site: Connection, central: Connection) -> Shipped:
    """The log's next batches, as one COPY which is one transaction at central."""
    after = await log_store.cursor_of(site, BATCHES)
    window = await site.execute(query("ship_window"), {"after": after, "readings": READINGS_AT_ONCE})
    row = await window.fetchone()
    if row is None or row[0] is None:
        return Shipped()
    upto, batches, readings, _ = row
    octets = 0
    async with (
        site.cursor() as source,
        central.cursor() as target,
        target.copy(query("ship_land")) as into,
        source.copy(query("ship_batches"), {"after": after, "upto": upto}) as out,
    ):
        async for block in out:
            octets += len(block)
            await into.write(block)
    await log_store.advance(site, BATCHES, upto)
    return Shipped(batches, readings, octets)


async def send_gaps(site: Connection, central: Connection) -> int:
    """The next recorded gaps."""
    return await _send_rows(site, central, GAPS, "ship_gaps", "ship_land_gap")


async def send_results(site: Connection, central: Connection) -> int:
    """The next results of write commands."""
    return await _send_rows(site, central, RESULTS, "ship_results", "ship_land_result")


async def lag(site: Connection) -> tuple[int, datetime | None]:
    """Batches that wait, and the oldest one's time."""
    row = await (await site.execute(query("ship_lag"))).fetchone()
    return (row[0], row[1]) if row else (0, None)


async def commands(central: Connection, site_id: str) -> list[dict[str, Any]]:
    """The site's own commands that have no result and have not expired, oldest first."""
    return [row[0] async for row in await central.execute(query("ship_commands"), [site_id])]


async def _send_rows(site: Connection, central: Connection, follower: str, read: str, land: str) -> int:
    cursor = await site.execute(query(read), [await log_store.cursor_of(site, follower)])
    rows = await cursor.fetchall()
    if not rows:
        return 0
    async with central.transaction(), central.cursor() as target:
        await target.executemany(query(land), [row[1:] for row in rows])
    await log_store.advance(site, follower, rows[-1][0])
    return len(rows)
