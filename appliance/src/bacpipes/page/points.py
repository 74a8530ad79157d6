"""The table of points: filter, sort, edit one or many, import and export."""

from typing import Any

from fastapi import Request
from nicegui import ui

from bacpipes.exporter import point_store
from bacpipes.exporter.problem import DATABASE_ERRORS, reason_of
from bacpipes.page import table
from bacpipes.page.context import Visitor, settings, store
from bacpipes.page.frame import frame
from bacpipes.page.point_edit import EditDialog
from bacpipes.page.point_import import ImportDialog
from bacpipes.page.write_dialog import open_write
from bacpipes.reading import iso_milliseconds
from bacpipes.tokens import Role

BOOLEAN = {"cellDataType": "boolean", "width": 95}
COLUMNS: list[dict[str, Any]] = [
    {"field": "dis", "headerName": "Display name", "width": 220, "pinned": "left", "tooltipField": "dis"},
    {"field": "value", "headerName": "Value", "width": 95, "type": "rightAligned"},
    {"field": "units", "headerName": "Units", "width": 90},
    {"field": "quality", "headerName": "Quality", "width": 105},
    {"field": "haystack", "headerName": "Haystack name", "width": 360},
    {"field": "equipment", "headerName": "Equipment", "width": 120},
    {"field": "device", "headerName": "Device", "width": 95},
    {"field": "device_name", "headerName": "Device name", "width": 150},
    {"field": "object", "headerName": "Object", "width": 160},
    {"field": "name", "headerName": "Object name", "width": 170},
    {"field": "interval", "headerName": "Interval s", "width": 100},
    {"field": "enabled", "headerName": "Enabled", **BOOLEAN},
    {"field": "writable", "headerName": "Writable", **BOOLEAN},
    {"field": "cov", "headerName": "COV", **BOOLEAN},
    {"field": "min", "headerName": "Min", "width": 80},
    {"field": "max", "headerName": "Max", "width": 80},
    {"field": "topic", "headerName": "Topic", "width": 360},
]


def register() -> None:
    """The page's address."""

    @ui.page("/points")
    async def page(request: Request) -> None:
        with frame(request, "Points") as visitor:
            await _Table(visitor).build()


class _Table:
    """The table and what its buttons do."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._rows: list[dict[str, Any]] = []

    async def build(self) -> None:
        visitor = self._visitor
        if visitor.may(Role.ADMIN) and settings().points_owner == "inventory":
            ui.label(point_store.OWNED).classes("finding warning").props("role=note")
        with ui.element("div").classes("bar"):
            search = ui.input("Filter", on_change=lambda event: self._filter(event.value)).props("clearable dense")
            search.classes("grow").props("debounce=150")
            if visitor.may(Role.ADMIN):
                ui.button("Edit", icon="edit", on_click=self._edit)
            if visitor.may(Role.OPERATOR):
                ui.button("Write", icon="tune", on_click=self._write)
            ui.button("Trend", icon="show_chart", on_click=self._trend)
            if visitor.may(Role.ADMIN) and settings().points_owner == "page":
                ui.button("Import", icon="upload", on_click=lambda: ImportDialog(visitor, self.reload).open())
            ui.button("Export", icon="download", on_click=self._export)
            ui.button(icon="refresh", on_click=self.reload).props('flat round aria-label="Load again"')
        self._count = ui.label().classes("muted").props("role=status")
        options = table.OPTIONS | {
            "columnDefs": COLUMNS,
            "rowData": [],
            "overlayNoRowsTemplate": "No points yet: import a list, or find devices under Discovery.",
        }
        self._grid = ui.aggrid(options, auto_size_columns=False).classes("tall")
        self._grid.on("rowDoubleClicked", self._edit if visitor.may(Role.ADMIN) else self._trend)
        await self.reload()

    async def reload(self) -> None:
        """Show what the database has now."""
        try:
            self._rows = [_plain(row) for row in await point_store.rows(store(), settings())]
        except DATABASE_ERRORS as error:
            ui.notify(" ".join(reason_of(error)), type="negative")
            return
        self._grid.options["rowData"] = self._rows
        enabled = sum(row["enabled"] for row in self._rows)
        self._count.set_text(f"{len(self._rows)} points, {enabled} enabled")

    def _filter(self, text: str | None) -> None:
        self._grid.run_grid_method("setGridOption", "quickFilterText", text or "")

    async def _selected(self, *, one: bool = False) -> list[dict[str, Any]]:
        """The selected rows, as this server knows them: what the browser sends is only their ids."""
        ids = await table.chosen_ids(self._grid)
        found = [row for row in self._rows if row["id"] in ids]
        if not found or (one and len(found) > 1):
            ui.notify("Select one row of the table." if one else "Select one row or several.", type="warning")
            return []
        return found

    async def _edit(self) -> None:
        if selected := await self._selected():
            await EditDialog(self._visitor, selected, self.reload).open()

    async def _write(self) -> None:
        if selected := await self._selected(one=True):
            await open_write(self._visitor, selected[0]["id"])

    async def _trend(self) -> None:
        if selected := await self._selected():
            chosen = ",".join(str(row["id"]) for row in selected[:8])
            ui.navigate.to(f"/monitor?points={chosen}")

    async def _export(self) -> None:
        text = await point_store.export(settings())
        ui.download.content(text, f"{settings().site_id}.csv", "text/csv")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    value = row["value"]
    shown = {"value": None if value is None else float(f"{value:.6g}"), "updated_at": row["updated_at"].isoformat()}
    return row | shown | {"read_at": iso_milliseconds(row["read_at"]) if row["read_at"] else None}
