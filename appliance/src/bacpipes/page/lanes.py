"""The ways to central on the dashboard: the broker's bridge, and the complete lane by shipping or replication."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bacpipes.exporter.live import Bridge
from bacpipes.page.findings import Finding, Tile, age
from bacpipes.points.report import counted

LATE = timedelta(minutes=5)  # what has waited longer for central is worth a word
BRIDGE_REMEDY = "Live values do not reach central meanwhile. The broker's log says why: `docker compose logs broker`."
SLOT_REMEDY = "Central dials the site: can it reach it? At central, `bacpipes central replicate` looks after it."
MEGABYTE = 1e6


def bridge_tile(bridges: Mapping[str, Bridge], reason: str | None) -> Tile:
    """What the broker tells of its bridges; ``reason`` is why it can't be asked."""
    if reason is not None:
        return Tile("Bridge", "unknown", "the page is not connected to the broker", "warning")
    if not bridges:
        return Tile("Bridge", "none", "the broker tells of none")
    down = [name for name, bridge in bridges.items() if not bridge.up]
    since = f"known {age(min(bridge.since for bridge in bridges.values()))}"
    if down:
        return Tile("Bridge", "down", f"{', '.join(down)}, {since}", "bad")
    return Tile("Bridge", "up", f"{', '.join(bridges)}, {since}", "good")


def bridge_findings(bridges: Mapping[str, Bridge]) -> list[Finding]:
    """Bridges that are down."""
    return [
        Finding("bad", f"The broker's bridge {name} to central is down, known {age(bridge.since)}.", BRIDGE_REMEDY)
        for name, bridge in bridges.items()
        if not bridge.up
    ]


def central_tile(site: dict[str, Any] | None, slots: list[dict[str, Any]]) -> Tile:
    """How far central is: ``site`` is what the worker tells (``/site``), ``slots`` the rows of `page_replication`."""
    if site is None:
        return Tile("Central", "unknown", "the worker does not answer", "bad")
    central = site["central"]
    if central is not None and (central["ships"] or not slots):
        return _shipping_tile(central)
    if slots:
        return _replication_tile(slots)
    return Tile("Central", "none", "this site stands by itself")


def central_findings(site: dict[str, Any] | None, slots: list[dict[str, Any]]) -> list[Finding]:
    """What keeps readings from central, besides what the worker's own readiness says."""
    found = [
        Finding("bad", f"Central does not fetch this site's log: its slot {one['name']} is {_kept(one)}.", SLOT_REMEDY)
        for one in slots
        if not one["active"]
    ]
    central = (site or {}).get("central")
    if central and not central["reason"] and _is_late(central):
        text = (
            f"{counted(central['waiting'], 'batch', 'batches')} wait for central, the oldest {_ago(central['oldest'])}."
        )
        found.append(Finding("warning", text, "It catches up by itself; BACPIPES_SHIP_RATE bounds how fast."))
    return found


def _shipping_tile(central: dict[str, Any]) -> Tile:
    shipped = f"last shipped {_ago(central['shipped'])}" if central["shipped"] else "nothing shipped since the start"
    if not central["ships"]:
        shipped = "it asks for readings itself; commands and results go over our connection"
    waiting = central["waiting"]
    behind = f"{counted(waiting, 'batch', 'batches')} wait, the oldest {_ago(central['oldest'])}" if waiting else ""
    if central["reason"]:
        return Tile("Central", "not connected", ", ".join(filter(None, [behind, shipped])), "bad")
    if _is_late(central):
        return Tile("Central", "behind", f"{behind}, {shipped}", "warning")
    return Tile("Central", "up to date" if central["ships"] else "connected", shipped, "good")


def _replication_tile(slots: list[dict[str, Any]]) -> Tile:
    note = ", ".join(f"{one['name']}: {one['behind'] / MEGABYTE:,.1f} MB of log behind" for one in slots)
    if all(one["active"] for one in slots):
        return Tile("Central", "replicating", note, "good")
    return Tile("Central", "not replicating", note, "bad")


def _kept(slot: dict[str, Any]) -> str:
    return "given up (central fills in from history)" if slot["wal_status"] == "lost" else "not in use"


def _is_late(central: dict[str, Any]) -> bool:
    oldest = central["oldest"]
    return bool(central["waiting"] and oldest and datetime.now(UTC) - datetime.fromisoformat(oldest) > LATE)


def _ago(moment: str | None) -> str:
    return age(datetime.fromisoformat(moment) if moment else None)
