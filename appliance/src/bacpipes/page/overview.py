"""How the site does, gathered for the dashboard: numbers, and what is wrong in words with what to do."""

import asyncio
import shutil
from dataclasses import dataclass, field
from typing import Any

from psycopg.rows import dict_row

from bacpipes.database import Connection, query
from bacpipes.exporter.health import Health
from bacpipes.exporter.live import Live
from bacpipes.exporter.problem import DATABASE_ERRORS, reason_of
from bacpipes.exporter.reason import Reason
from bacpipes.exporter.store import Store
from bacpipes.exporter.worker import WorkerPage
from bacpipes.page import lanes
from bacpipes.page.findings import Finding, Tile
from bacpipes.page.stop import told as stop_told
from bacpipes.points.report import counted
from bacpipes.settings import Settings
from bacpipes.writes.stop import Stop

QUERIES = {"numbers": "page_dashboard", "last_write": "page_last_write"}  # they take the site and the slow poll
SHARED = {
    "silent": "doctor_devices",
    "points": "doctor_points",
    "stop": "site_stop",
    "slots": "page_replication",
}  # they take nothing
SUBJECTS = {"mqtt": "Broker", "bacnet": "BACnet"}
NO_POINT = "Import a list under Points, or find devices under Discovery; First steps lead there."


@dataclass(slots=True)
class Overview:
    """Everything that the dashboard shows. What could not be asked is absent."""

    findings: list[Finding] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    last_write: dict[str, Any] | None = None
    broker: dict[str, Any] | None = None
    bacnet: dict[str, Any] | None = None
    bacnet_open: bool = False
    tiles: list[Tile] = field(default_factory=list)  # of the ways to central
    silent: int = 0
    disk_free: float = 0.0  # bytes
    disk_total: float = 0.0


async def gather(store: Store, worker: WorkerPage, health: Health, live: Live, settings: Settings) -> Overview:
    """Ask everybody at once. The database's absence is a finding, no error."""
    reasons, status, site, rows = await asyncio.gather(
        health.reasons(), worker.ask("/status"), worker.ask("/site"), _rows(store, settings)
    )
    found = Overview([Finding("bad", _text(one), one.remedy) for one in reasons])
    if health.certificate and (soon := health.certificate.ends_soon()):
        found.findings.append(Finding("warning", soon.reason, soon.remedy))
    if status and status[0] == 200:
        found.broker, found.bacnet = status[1].get("broker"), status[1].get("bacnet")
        closed = any(one.component.endswith("bacnet") or one.reason == "starting" for one in reasons)
        found.bacnet_open = found.bacnet is not None and not closed
    usage = await asyncio.to_thread(shutil.disk_usage, settings.state_dir)
    found.disk_free, found.disk_total = usage.free, usage.total
    told = site[1] if site and site[0] == 200 else None
    slots = [] if isinstance(rows, Finding) else rows["slots"]
    found.tiles = [lanes.bridge_tile(live.bridges, live.reason), lanes.central_tile(told, slots)]
    found.findings += [*lanes.bridge_findings(live.bridges), *lanes.central_findings(told, slots)]
    if isinstance(rows, Finding):
        if not any("database" in one.text.lower() for one in found.findings):
            found.findings.append(rows)
    else:
        found.numbers = rows["numbers"][0]
        found.last_write = next(iter(rows["last_write"]), None)
        found.silent = len(rows["silent"])
        found.findings += _stopped(Stop(*rows["stop"][0].values()))
        found.findings += _judge(found.numbers, rows["silent"], rows["points"][0], settings)
    if found.broker and not found.broker["enabled"]:
        found.findings.append(Finding("warning", "MQTT is switched off: nothing is published.", "", "/settings"))
    found.findings.sort(key=lambda one: one.level)
    return found


async def _rows(store: Store, settings: Settings) -> dict[str, list[dict[str, Any]]] | Finding:
    try:
        async with store.connection() as connection:
            values = {"site": settings.site_id, "cov_poll": settings.cov_poll}
            own = {key: await _all(connection, name, values) for key, name in QUERIES.items()}
            return own | {key: await _all(connection, name, None) for key, name in SHARED.items()}
    except DATABASE_ERRORS as error:
        return Finding("bad", *reason_of(error))


async def _all(connection: Connection, name: str, values: dict[str, Any] | None) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query(name), values)
        return await cursor.fetchall()


def _judge(
    numbers: dict[str, Any], silent: list[dict[str, Any]], points: dict[str, Any], settings: Settings
) -> list[Finding]:
    found = []
    if not numbers["enabled"]:
        found.append(Finding("bad", "No point is enabled: nothing is read.", NO_POINT, "/setup"))
    for row in silent:
        since = row["good_time"].astimezone(settings.zone).strftime("%Y-%m-%d %H:%M") if row["good_time"] else "ever"
        device = f"Device {row['device_id']} {row['name']} at {row['address']} ({counted(row['points'], 'point')})"
        text = f"{device} does not answer, since {since}."
        found.append(Finding("bad", text, "Is it switched on, and does the network reach it?"))
    if numbers["stale"]:
        text = (
            f"{counted(numbers['stale'], 'point')} not read for three intervals, the first: {numbers['stale_example']}."
        )
        found.append(Finding("bad", text, "Is the worker running? Its log says why."))
    if points["bad"]:
        text = f"{counted(points['bad'], 'point')} bad, the first: {points['example']} ({points['reason']})."
        found.append(Finding("warning", text, "Compare with the device; disable what does not exist."))
    if points["gaps"]:
        text = f"{counted(points['gaps'], 'gap')} in the last 24 hours, the last: {points['gap_reason']}."
        found.append(Finding("warning", text, "Table gap lists which points, from when to when."))
    if points["unlimited"] and not settings.write_without_limits:
        text = f"{points['unlimited']} writable analog points have no limits; writes to them are refused."
        found.append(Finding("warning", text, "Give them a minimum or maximum.", "/points"))
    return found


def _stopped(now: Stop) -> list[Finding]:
    remedy = "Lift the stop once its reason is gone."
    return [Finding("bad", stop_told(now), remedy, "/writes")] if now.stopped else []


def success_rate(numbers: dict[str, Any]) -> float | None:
    """Per cent of the last five minutes' reads that brought a value; None where there were none."""
    return 100.0 * numbers["good"] / numbers["reads"] if numbers.get("reads") else None


def _text(reason: Reason) -> str:
    if reason.reason.startswith("The "):  # it names its subject itself
        return reason.reason
    part = reason.component.split(".")[-1]
    return f"{SUBJECTS.get(part, part.capitalize())}: {reason.reason}"
