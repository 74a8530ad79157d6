"""Discovery: the worker looks what is on the network, and the chosen points are added. For admins."""

import io
from typing import Any

from fastapi import Request
from nicegui import ui

from bacpipes.errors import BacpipesError
from bacpipes.exporter import point_store
from bacpipes.page import table
from bacpipes.page.context import Visitor, settings, store, worker
from bacpipes.page.frame import frame
from bacpipes.page.survey_result import CHANGED, NEW, Survey
from bacpipes.points.csv_file import write_points
from bacpipes.points.report import counted
from bacpipes.tokens import Role

LOOK_EVERY = 1.0  # seconds
NO_WORKER = "The worker does not answer; is it running?"
FILE = "discovery"
COLUMNS: list[dict[str, Any]] = [
    {"field": "state", "headerName": "State", "width": 100},
    {"field": "device", "headerName": "Device", "width": 100},
    {"field": "device_name", "headerName": "Device name", "width": 170},
    {"field": "object", "headerName": "Object", "width": 175},
    {"field": "name", "headerName": "Object name", "width": 200},
    {"field": "dis", "headerName": "Description", "width": 230},
    {"field": "units", "headerName": "Units", "width": 90},
    {"field": "status", "headerName": "Status", "width": 130},
    {"field": "what", "headerName": "What changed", "width": 320},
]


def register() -> None:
    """The page's address."""

    @ui.page("/discovery")
    async def page(request: Request) -> None:
        with frame(request, "Discovery") as visitor:
            await _Discovery(visitor).build()


class _Discovery:
    """The page. The run is the worker's: it goes on where this page is closed, and is shown where it is opened."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._survey = Survey()
        self._number = -1
        self._state = ""
        self._shown = (-1, "")

    async def build(self) -> None:
        """Show it."""
        with ui.element("section").classes("panel"):
            with ui.element("div").classes("form"):
                self._low = ui.number("Device numbers from", min=0, max=4194302, precision=0)
                self._high = ui.number("to", min=0, max=4194302, precision=0)
                self._addresses = ui.input("Addresses (blank: the local network by broadcast)")
                self._addresses.props('placeholder="10.0.0.5, 10.0.0.6:47809, 2001:12" stack-label')
            with ui.element("div").classes("bar"):
                self._start = ui.button("Start", icon="play_arrow", on_click=self._begin)
                self._stop = ui.button("Stop", icon="stop", on_click=self._end).props("outline")
                self._progress = ui.label().classes("grow").props("role=status data-progress")
            self._bar = ui.linear_progress(value=0, show_value=False).props('aria-label="Progress"')
        self._problems = ui.column().classes("w-full")
        with ui.element("div").classes("bar"):
            ui.label("Choose rows that are new or changed, then add them.").classes("muted grow")
            self._add = ui.button("Add the chosen", icon="add", on_click=self._save)
        if settings().points_owner != "page":
            ui.label(point_store.OWNED).classes("finding warning")
            self._add.set_text("Download the chosen as CSV")
        options = table.OPTIONS | {
            "columnDefs": COLUMNS,
            "rowData": [],
            "overlayNoRowsTemplate": "Nothing found yet.",
        }
        self._grid = ui.aggrid(options, auto_size_columns=False).classes("tall")
        ui.timer(LOOK_EVERY, self._look)

    async def _begin(self) -> None:
        await self._visitor.require(Role.ADMIN)
        addresses = [part.strip() for part in (self._addresses.value or "").split(",") if part.strip()]
        body: dict[str, Any] = {"addresses": addresses}
        body |= {
            name: int(field.value)
            for name, field in (("low", self._low), ("high", self._high))
            if field.value is not None
        }
        answer = await worker().ask("/discovery", "POST", body)
        if answer is None or answer[0] != 200:
            ui.notify(answer[1].get("error", "refused") if answer else NO_WORKER, type="negative")
        await self._look()

    async def _end(self) -> None:
        await self._visitor.require(Role.ADMIN)
        await worker().ask("/discovery", "DELETE")
        await self._look()

    async def _look(self) -> None:
        answer = await worker().ask(f"/discovery?after={self._survey.seen}")
        if answer is None or answer[0] != 200:
            self._progress.set_text(NO_WORKER)
            return
        report = answer[1]
        if report["number"] != self._number:
            self._number = report["number"]
            self._survey = await _fresh()
            answer = await worker().ask("/discovery")
            report = answer[1] if answer else report
        for event in report["events"]:
            self._survey.take(event)
        self._state = report["state"] if self._survey.seen >= report["total"] else "running"
        self._show(report)

    def _show(self, report: dict[str, Any]) -> None:
        running = self._state == "running"
        self._start.set_enabled(not running)
        self._stop.set_enabled(running)
        if (self._survey.seen, self._state) == self._shown:
            return
        self._shown = (self._survey.seen, self._state)
        survey, expected = self._survey, self._survey.expected()
        read = sum(device["points"] is not None for device in survey.devices.values())
        text = f"{counted(len(survey.devices), 'device')}, {read} read, {len(survey.found)} of {expected} points"
        words = {"idle": "Not started yet.", "running": f"Running: {text}", "done": f"Done: {text}."}
        words |= {"stopped": f"Stopped: {text}.", "failed": f"Failed: {report['error']}"}
        self._progress.set_text(words[self._state])
        self._bar.set_value(1.0 if self._state == "done" else len(survey.found) / expected if expected else 0.0)
        self._grid.options["rowData"] = survey.rows(ended=self._state == "done")
        self._problems.clear()
        with self._problems:
            for problem in survey.problems[:20]:
                ui.label(problem).classes("finding warning")
            if len(survey.problems) > 20:
                ui.label(f"… and {len(survey.problems) - 20} more").classes("muted")

    async def _save(self) -> None:
        await self._visitor.require(Role.ADMIN)
        ids = await table.chosen_ids(self._grid)
        shown = [row for row in self._survey.rows(ended=True) if row["id"] in ids and row["state"] in (NEW, CHANGED)]
        if not shown:
            ui.notify("Choose rows that are new or changed.", type="warning")
            return
        text = _csv(self._survey, shown)
        if settings().points_owner != "page":
            ui.download.content(text, f"{settings().site_id}-discovered.csv", "text/csv")
            return
        try:
            file, plan = await point_store.import_file(
                settings(), text.encode(), FILE, self._visitor.actor, prune=False, dry_run=False
            )
        except BacpipesError as error:
            ui.notify(str(error), type="negative")
            return
        lines = point_store.report_lines(file, plan)
        if plan is None or plan.problems.errors:
            with self._problems:
                ui.label("\n".join(lines)).classes("finding bad").style("white-space: pre-wrap")
            return
        ui.notify(
            f"{lines[-1]}. They are read once they have equipment: fill in their names under Points.", type="positive"
        )
        self._number = -1
        await self._look()


async def _fresh() -> Survey:
    """An empty survey that knows what the database has."""
    rows = await point_store.rows(store(), settings())
    addresses = await store().rows("page_addresses", {"site": settings().site_id})
    return Survey(
        {(row["device"], row["object"]): row for row in rows},
        {row["device_id"]: row["address"] for row in addresses},
    )


def _csv(survey: Survey, shown: list[dict[str, Any]]) -> str:
    """The chosen rows as a points file."""
    keys = [(row["device"], row["object"]) for row in shown]
    text = io.StringIO()
    write_points(text, [survey.merged(key) for key in keys], settings().site_id)
    return text.getvalue()
