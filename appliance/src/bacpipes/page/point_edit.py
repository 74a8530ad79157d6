"""The dialog that changes one point or many, with the resulting name and topic before anything is saved."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import psycopg
from nicegui import ui

from bacpipes.errors import BacpipesError
from bacpipes.exporter import point_store
from bacpipes.page.context import Visitor, settings
from bacpipes.points import report as points_report
from bacpipes.points.edit import EDITABLE
from bacpipes.points.importer import Plan
from bacpipes.points.rows import TAGS, protect_text
from bacpipes.tokens import Role

SWITCHES = tuple(column for column in ("enabled", "writable", "cov") if column in EDITABLE)
TEXTS = tuple(column for column in EDITABLE if column not in (*SWITCHES, "name"))  # the name is the device's
CLEARABLE = tuple(column for column in TEXTS if column != "interval")  # without it a point would not be polled
LABELS = {
    "dis": "Display name",
    **{tag: f"Haystack: {tag}" for tag in TAGS},
    "interval": "Interval (s)",
    "min": "Minimum",
    "max": "Maximum",
    "states": "States",
    "publish": "Publish (every, change)",
    "deadband": "Deadband",
    "heartbeat": "Heartbeat (s)",
    "writes_per_minute": "Writes a minute at most",
    "min_on": "Stays on at least (s)",
    "min_off": "Stays off at least (s)",
    "enabled": "Enabled (is polled)",
    "cov": "Told by COV",
    "poll_priority": "Poll priority (high, normal, low)",
}
UNCHANGED = "unchanged"
SHOWN = 12  # lines of the difference


class EditDialog:
    """Open it with rows of the table; ``saved`` is awaited when something was saved."""

    def __init__(self, visitor: Visitor, rows: list[dict[str, Any]], saved: Callable[[], Awaitable[None]]) -> None:
        self._visitor, self._rows, self._saved = visitor, rows, saved
        self._many = len(rows) > 1
        self._before: dict[str, str] = {}
        self._seen: dict[int, datetime] = {}
        self._fields: dict[str, ui.input] = {}
        self._switches: dict[str, ui.select] = {}
        self._ours = settings().points_owner == "page"

    async def open(self) -> None:
        """Show it, as the points are now."""
        try:
            opened = await point_store.opened(settings(), [row["id"] for row in self._rows])
        except (BacpipesError, psycopg.Error) as error:
            ui.notify(str(error), type="negative")
            return
        if len(opened) < len(self._rows):
            ui.notify("A point is not there any more; load the table again.", type="negative")
            return
        self._seen = {id_: point.updated_at for id_, point in opened.items()}
        self._before = {} if self._many else opened[self._rows[0]["id"]].cells
        with ui.dialog().props("persistent") as self._dialog, ui.card().classes("panel"):
            title = f"{len(self._rows)} points" if self._many else _title(self._rows[0])
            ui.label(f"Edit {title}").classes("heading").props("role=heading aria-level=2")
            if self._many:
                ui.label("What is left blank stays as it is in each point.").classes("muted")
            with ui.element("div").classes("form"):
                for column in TEXTS:
                    self._fields[column] = _field(_label(column), self._before.get(column, ""), self._preview)
                for column in SWITCHES:
                    self._switches[column] = self._switch(column)
                if self._many:
                    choices = {column: _label(column) for column in CLEARABLE}
                    self._cleared = ui.select(choices, label="Clear in all of them", multiple=True, value=[])
                    self._cleared.props("dense")
                    self._cleared.on_value_change(self._clear)
            self._result = ui.column().props("role=status aria-label=Preview")
            with ui.element("div").classes("bar"):
                ui.space()
                ui.button("Cancel", on_click=self._dialog.close).props("flat")
                save = ui.button("Save" if self._ours else "Download the difference", on_click=self._save)
                save.props("data-save")
        self._dialog.on_value_change(lambda event: None if event.value else self._dialog.delete())
        self._dialog.open()
        await self._preview()

    async def _clear(self) -> None:
        """What is cleared takes no new text."""
        for column in CLEARABLE:
            field, cleared = self._fields[column], column in self._cleared.value
            field.set_enabled(not cleared)
            if cleared:
                field.set_value("")
        await self._preview()

    def _switch(self, column: str) -> ui.select:
        options = [UNCHANGED, "yes", "no"] if self._many else ["yes", "no"]
        value = UNCHANGED if self._many else "yes" if self._before[column] == "true" else "no"
        return ui.select(options, value=value, label=_label(column)).props("dense").on_value_change(self._preview)

    def _changes(self) -> dict[int, dict[str, str]]:
        """The cells that differ, for every point."""
        texts = {column: field.value or "" for column, field in self._fields.items()}
        texts |= {
            column: str(select.value == "yes").lower()
            for column, select in self._switches.items()
            if select.value != UNCHANGED
        }
        if self._many:
            cells = {column: text for column, text in texts.items() if text != ""}
            cells |= dict.fromkeys(self._cleared.value, "")
        else:
            cells = {column: text for column, text in texts.items() if text != self._was(column)}
        protected = {
            column: protect_text(text) if column in ("dis", "units") else text for column, text in cells.items()
        }
        return {row["id"]: protected for row in self._rows} if protected else {}

    def _was(self, column: str) -> str:
        text = self._before[column]
        return text if column in TEXTS else str(text == "true").lower()  # a blank switch is off

    async def _preview(self, *_: object) -> None:
        for field in self._fields.values():
            field.error = None
        self._result.clear()
        changes = self._changes()
        with self._result:
            if not changes:
                if not self._many:
                    _names(self._rows[0]["haystack"], self._rows[0]["topic"])
                return
            plan = await self._try(changes, dry_run=True)
            if plan is not None:
                self._show(plan)

    def _show(self, plan: Plan) -> None:
        for problem in plan.problems.kept:
            if not problem.warning and problem.column in self._fields and not self._many:
                self._fields[problem.column].error = problem.message
            else:
                level = "warning" if problem.warning else "bad"
                where = f"{problem.column}: " if problem.column else ""
                ui.label(f"{where}{problem.message}").classes(f"finding {level}")
        for note in plan.notes:
            ui.label(note.message).classes("finding warning")
        if plan.problems.errors:
            return
        if not self._many and plan.changed:
            change = plan.changed[0]
            _names(change.row.haystack_name(plan.site) or "", change.topic or "")
        if self._many:
            lines = list(points_report.diff_lines(plan, SHOWN))
            ui.label("\n".join([*lines, points_report.summary(plan)])).classes("mono").style("white-space: pre-wrap")

    async def _try(self, changes: dict[int, dict[str, str]], *, dry_run: bool) -> Plan | None:
        """The plan; None where it was refused, which has been told."""
        actor = self._visitor.actor
        try:
            return await point_store.change(settings(), changes, self._seen, actor, dry_run=dry_run)
        except BacpipesError as error:
            ui.label(str(error)).classes("finding bad").props("role=alert")
        except psycopg.Error as error:
            ui.label(f"The database refused it: {error}").classes("finding bad").props("role=alert")
        return None

    async def _save(self) -> None:
        await self._visitor.require(Role.ADMIN)
        changes = self._changes()
        if not changes:
            self._dialog.close()
            return
        self._result.clear()
        with self._result:
            plan = await self._try(changes, dry_run=not self._ours)
            if plan is None:
                return
            if plan.problems.errors:
                self._show(plan)
                return
        if self._ours:
            ui.notify(f"Saved: {points_report.counted(len(plan.changed), 'point')} changed.", type="positive")
        else:
            text = await point_store.difference(settings(), changes)
            ui.download.content(text, f"{settings().site_id}-points.diff", "text/x-diff")
        self._dialog.close()
        await self._saved()


def _field(label: str, value: str, changed: Callable[..., Awaitable[None]]) -> ui.input:
    return ui.input(label, value=value, on_change=changed).props('dense debounce=300 autocomplete="off"')


def _names(name: str, topic: str) -> None:
    for label, text in (
        ("Name", name or "none, until all seven haystack fields are given"),
        ("Topic", topic or "none"),
    ):
        with ui.row().classes("items-baseline"):
            ui.label(label).classes("muted")
            ui.label(text).classes("mono").props(f"data-preview={label.lower()}")


def _title(row: dict[str, Any]) -> str:
    return f"{row['dis'] or row['name'] or row['object']}, device {row['device']} {row['object']}"


def _label(column: str) -> str:
    return LABELS.get(column, column.replace("_", " ").capitalize())
