"""The first page: how the site does; what is wrong comes first."""

from datetime import datetime
from typing import Any

from fastapi import Request
from nicegui import ui

from bacpipes.page import overview
from bacpipes.page.context import app_state, settings, store, worker
from bacpipes.page.frame import frame
from bacpipes.page.overview import Overview, age

REFRESH = 5.0  # seconds
MEGABYTE, GIGABYTE = 1e6, 1e9


def register() -> None:
    """The page's address."""

    @ui.page("/")
    async def page(request: Request) -> None:
        with frame(request, "Dashboard"):
            content = ui.refreshable(_content)
            found = await _gather()
            content(found)

            async def look() -> None:
                content.refresh(await _gather())

            ui.timer(REFRESH, look, immediate=False)


async def _gather() -> Overview:
    return await overview.gather(store(), worker(), app_state().health, settings())


def _content(found: Overview) -> None:
    with ui.element("section").classes("panel").props("aria-label=State role=status"):
        if not found.findings:
            ui.label("Everything works.").classes("finding good strong")
        for one in found.findings:
            with ui.element("div").classes(f"finding {one.level}").props("data-finding"):
                ui.label(one.text).classes("strong")
                if one.remedy:
                    ui.label(one.remedy)
    with ui.element("section").classes("grid").props("aria-label=Numbers"):
        for title, value, note, level in _tiles(found):
            with ui.element("div").classes("panel"):
                ui.label(title).classes("heading").props("role=heading aria-level=2")
                ui.label(value).classes(f"number {level}" + (" small" if len(value) > 14 else ""))
                if note:
                    ui.label(note).classes("muted")


def _tiles(found: Overview) -> list[tuple[str, str, str, str]]:
    """Title, value, a note, and how it is meant (``good``, ``warning``, ``bad`` or nothing)."""
    numbers = found.numbers
    tiles = [_bacnet(found), _broker(found.broker)]
    if numbers:
        tiles.append(("Database", f"{numbers['database_bytes'] / MEGABYTE:,.0f} MB", _history(numbers), "good"))
    else:
        tiles.append(("Database", "away", "", "bad"))
    share = found.disk_free / found.disk_total if found.disk_total else 0
    level = "bad" if share < 0.05 else "warning" if share < 0.2 else "good"
    of = f"of {found.disk_total / GIGABYTE:,.0f} GB free"
    tiles.append(("Disk", f"{found.disk_free / GIGABYTE:,.1f} GB", of, level))
    if numbers:
        tiles += _reading_tiles(found)
        tiles.append(_last_write(found.last_write))
    return tiles


def _reading_tiles(found: Overview) -> list[tuple[str, str, str, str]]:
    numbers = found.numbers
    rate = overview.success_rate(numbers)
    rate_level = "" if rate is None else "good" if rate >= 99 else "warning" if rate >= 90 else "bad"
    points = f"{numbers['enabled']} of {numbers['points']} points are read"
    return [
        ("Readings a minute", f"{numbers['reads'] / 5:,.0f}", f"newest {age(numbers['newest'])}", ""),
        ("Success rate", "—" if rate is None else f"{rate:.1f} %", "good reads of the last 5 minutes", rate_level),
        ("Devices silent", str(found.silent), f"of {numbers['devices']}", "bad" if found.silent else "good"),
        ("Points stale", str(numbers["stale"]), points, "bad" if numbers["stale"] else "good"),
    ]


def _bacnet(found: Overview) -> tuple[str, str, str, str]:
    if found.bacnet is None:
        return "BACnet", "unknown", "the worker does not answer", "bad"
    return "BACnet", "open", f"{found.bacnet['address']}, device {found.bacnet['deviceId']}", "good"


def _broker(broker: dict[str, Any] | None) -> tuple[str, str, str, str]:
    if broker is None:
        return "Broker", "unknown", "the worker does not answer", "bad"
    if not broker["enabled"]:
        return "Broker", "switched off", "", "warning"
    since = datetime.fromisoformat(broker["since"]).astimezone(settings().zone).strftime("%Y-%m-%d %H:%M:%S")
    user = f"authenticated{' as ' + broker['username'] if broker['username'] else ''}"
    facts = [user if broker["authenticated"] else "not authenticated"]
    facts += ["encrypted" if broker["encrypted"] else "not encrypted", f"since {since}"]
    state, level = ("connected", "good") if broker["connected"] else ("not connected", "bad")
    return "Broker", state, f"{broker['address']}, {', '.join(facts)}", level


def _history(numbers: dict[str, Any]) -> str:
    return f"PostgreSQL {numbers['server'].split()[0]}, {settings().retention_days} days of history"


def _last_write(row: dict[str, Any] | None) -> tuple[str, str, str, str]:
    if row is None:
        return "Last write", "none yet", "", ""
    what = row["dis"] or row["haystack_name"] or "unknown point"
    done = f"{row['value']} {row['units'] or ''}".strip() if row["value"] is not None else "released"
    note = f"{what}, priority {row['priority']}, {age(row['completed_at'])}"
    return ("Last write", done, note, "") if row["success"] else ("Last write", "refused", note, "warning")
