"""The first page: how the site does; what is wrong comes first."""

from datetime import datetime
from typing import Any

from fastapi import Request
from nicegui import ui

from bacpipes.page import overview
from bacpipes.page.context import Visitor, app_state, settings, store, worker
from bacpipes.page.findings import Finding, Tile, age
from bacpipes.page.frame import TITLES, frame, may_open
from bacpipes.page.overview import Overview

REFRESH = 5.0  # seconds
MEGABYTE, GIGABYTE = 1e6, 1e9
LONG = 14  # characters of a number that is set smaller


def register() -> None:
    """The page's address."""

    @ui.page("/")
    async def page(request: Request) -> None:
        with frame(request, "Dashboard") as visitor:
            content = ui.refreshable(_content)
            content(await gather(), visitor)

            async def look() -> None:
                content.refresh(await gather(), visitor)

            ui.timer(REFRESH, look, immediate=False)


async def gather() -> Overview:
    """How the site does now."""
    state = app_state()
    return await overview.gather(store(), worker(), state.health, state.live, settings())


def _content(found: Overview, visitor: Visitor) -> None:
    with ui.element("section").classes("panel").props("aria-label=State role=status"):
        if not found.findings:
            ui.label("Everything works.").classes("finding good strong")
        for one in found.findings:
            _show(one, visitor)
    with ui.element("section").classes("grid").props("aria-label=Numbers"):
        for tile in _tiles(found):
            with ui.element("div").classes("panel").props(f'data-tile="{tile.title}"'):
                ui.label(tile.title).classes("heading").props("role=heading aria-level=2")
                ui.label(tile.value).classes(f"number {tile.level}" + (" small" if len(tile.value) > LONG else ""))
                if tile.note:
                    ui.label(tile.note).classes("muted")


def _show(finding: Finding, visitor: Visitor) -> None:
    with ui.element("div").classes(f"finding {finding.level}").props("data-finding"):
        ui.label(finding.text).classes("strong")
        if finding.remedy:
            ui.label(finding.remedy)
        if finding.path and may_open(visitor, finding.path):
            ui.link(f"Open {TITLES[finding.path]}", finding.path)


def _tiles(found: Overview) -> list[Tile]:
    numbers = found.numbers
    tiles = [_bacnet(found), _broker(found.broker), *found.tiles]
    if numbers:
        tiles.append(Tile("Database", f"{numbers['database_bytes'] / MEGABYTE:,.0f} MB", _history(numbers), "good"))
    else:
        tiles.append(Tile("Database", "away", level="bad"))
    share = found.disk_free / found.disk_total if found.disk_total else 0
    level = "bad" if share < 0.05 else "warning" if share < 0.2 else "good"
    of = f"of {found.disk_total / GIGABYTE:,.0f} GB free"
    tiles.append(Tile("Disk", f"{found.disk_free / GIGABYTE:,.1f} GB", of, level))
    if numbers:
        tiles += _reading_tiles(found)
        tiles.append(_last_write(found.last_write))
    return tiles


def _reading_tiles(found: Overview) -> list[Tile]:
    numbers = found.numbers
    rate = overview.success_rate(numbers)
    rate_level = "" if rate is None else "good" if rate >= 99 else "warning" if rate >= 90 else "bad"
    points = f"{numbers['enabled']} of {numbers['points']} points are read"
    return [
        Tile("Readings a minute", f"{numbers['reads'] / 5:,.0f}", f"newest {age(numbers['newest'])}"),
        Tile("Success rate", "—" if rate is None else f"{rate:.1f} %", "good reads of the last 5 minutes", rate_level),
        Tile("Devices silent", str(found.silent), f"of {numbers['devices']}", "bad" if found.silent else "good"),
        Tile("Points stale", str(numbers["stale"]), points, "bad" if numbers["stale"] else "good"),
    ]


def _bacnet(found: Overview) -> Tile:
    if found.bacnet is None:
        return Tile("BACnet", "unknown", "the worker does not answer", "bad")
    note = f"{found.bacnet['address']}, device {found.bacnet['deviceId']}"
    return Tile("BACnet", "open", note, "good") if found.bacnet_open else Tile("BACnet", "not open", note, "bad")


def _broker(broker: dict[str, Any] | None) -> Tile:
    if broker is None:
        return Tile("Broker", "unknown", "the worker does not answer", "bad")
    if not broker["enabled"]:
        return Tile("Broker", "switched off", level="warning")
    since = datetime.fromisoformat(broker["since"]).astimezone(settings().zone).strftime("%Y-%m-%d %H:%M:%S")
    user = f"authenticated{' as ' + broker['username'] if broker['username'] else ''}"
    facts = [user if broker["authenticated"] else "not authenticated"]
    facts += ["encrypted" if broker["encrypted"] else "not encrypted", f"since {since}"]
    state, level = ("connected", "good") if broker["connected"] else ("not connected", "bad")
    return Tile("Broker", state, f"{broker['address']}, {', '.join(facts)}", level)


def _history(numbers: dict[str, Any]) -> str:
    return f"PostgreSQL {numbers['server'].split()[0]}, {settings().retention_days} days of history"


def _last_write(row: dict[str, Any] | None) -> Tile:
    if row is None:
        return Tile("Last write", "none yet")
    what = row["dis"] or row["haystack_name"] or "unknown point"
    done = f"{row['value']} {row['units'] or ''}".strip() if row["value"] is not None else "released"
    note = f"{what}, priority {row['priority']}, {age(row['completed_at'])}"
    return Tile("Last write", done, note) if row["success"] else Tile("Last write", "refused", note, "warning")
