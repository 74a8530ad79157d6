"""The history of writes: who, when, what, why, and what became of it."""

from typing import Any

from fastapi import Request
from nicegui import ui

from bacpipes.exporter.problem import DATABASE_ERRORS, reason_of
from bacpipes.page import stop
from bacpipes.page.context import settings, store
from bacpipes.page.frame import frame

LIMIT = 500
COLUMNS: list[dict[str, Any]] = [
    {"field": "at", "headerName": "When", "width": 165},
    {"field": "actor", "headerName": "Who", "width": 150},
    {"field": "dis", "headerName": "Point", "width": 210},
    {"field": "what", "headerName": "What", "width": 130},
    {"field": "priority", "headerName": "Priority", "width": 95},
    {"field": "reason", "headerName": "Why", "width": 220, "tooltipField": "reason"},
    {"field": "outcome", "headerName": "Outcome", "width": 105},
    {"field": "change", "headerName": "Before → after", "width": 140},
    {"field": "error", "headerName": "Refused because", "width": 420, "tooltipField": "error"},
    {"field": "point", "headerName": "Haystack name", "width": 340},
]


def register() -> None:
    """The page's address."""

    @ui.page("/writes")
    async def page(request: Request) -> None:
        with frame(request, "Writes") as visitor:
            await stop.panel(visitor)
            with ui.element("div").classes("bar"):
                search = ui.input("Filter").props("clearable dense debounce=150").classes("grow")
                refresh = ui.button(icon="refresh").props('flat round aria-label="Load again"')
            hint = ui.label().classes("muted")
            options = {
                "columnDefs": COLUMNS,
                "defaultColDef": {"sortable": True, "filter": True, "resizable": True},
                "rowData": [],
                "overlayNoRowsTemplate": "Nothing was written yet.",
            }
            grid = ui.aggrid(options, auto_size_columns=False).classes("tall")
            search.on_value_change(
                lambda event: grid.run_grid_method("setGridOption", "quickFilterText", event.value or "")
            )

            async def load() -> None:
                values = {"site": settings().site_id, "point": None, "limit": LIMIT}
                try:
                    rows = await store().rows("page_writes", values)
                except DATABASE_ERRORS as error:
                    ui.notify(" ".join(reason_of(error)), type="negative")
                    return
                grid.options["rowData"] = [_plain(row) for row in rows]
                more = f" (the latest {LIMIT})" if len(rows) == LIMIT else ""
                hint.set_text(f"{len(rows)} commands{more}; a setpoint is written from Points or Monitor.")

            refresh.on_click(load)
            await load()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    at = row["at"].astimezone(settings().zone).strftime("%Y-%m-%d %H:%M:%S") if row["at"] else ""
    what = "release" if row["release"] else f"{row['value']} {row['units']}".strip()
    change = f"{row['before']} → {row['after']}" if row["before"] is not None or row["after"] is not None else ""
    return row | {"at": at, "what": what, "change": change, "dis": row["dis"] or row["point"]}
