"""Write or release a setpoint: what is there, who holds it, a reason, a confirmation, and what became of it."""

import uuid
from typing import Any

from nicegui import ui

from bacpipes.exporter.problem import DATABASE_ERRORS, Problem, reason_of
from bacpipes.exporter.writes import Sender, submit
from bacpipes.objects import OBJECT_TYPES, Kind
from bacpipes.page import slots
from bacpipes.page.context import Visitor, app_state, settings, store, worker
from bacpipes.tokens import Role
from bacpipes.writes.validator import LOWEST_PRIORITY


async def open_write(visitor: Visitor, point_id: int) -> None:
    """Show the dialog for a point."""
    found = await store().rows("page_point", {"site": settings().site_id, "point": point_id})
    if not found:
        ui.notify("There is no such point any more.", type="negative")
        return
    await WriteDialog(visitor, found[0]).open()


class WriteDialog:
    """The dialog of one point."""

    def __init__(self, visitor: Visitor, point: dict[str, Any]) -> None:
        self._visitor, self._point = visitor, point

    async def open(self) -> None:
        """Show it, and ask the device what it holds."""
        point = self._point
        with ui.dialog() as self._dialog, ui.card().classes("panel"):
            ui.label(point["dis"] or point["name"]).classes("heading").props("role=heading aria-level=2")
            ui.label(point["haystack_name"] or "no haystack name").classes("mono muted")
            self._now = ui.column().classes("w-full")
            self._form()
            self._result = ui.column().props("role=status data-result")
            with ui.element("div").classes("bar"):
                ui.space()
                ui.button("Close", on_click=self._dialog.close).props("flat")
        self._dialog.on_value_change(lambda event: None if event.value else self._dialog.delete())
        self._dialog.open()
        await self._look()

    def _form(self) -> None:
        point = self._point
        kind = OBJECT_TYPES[point["object_type"]].kind
        if not point["writable"] or point["function"] != "sp":
            why = "it is not a setpoint (its function is not sp)" if point["function"] != "sp" else "it is not writable"
            ui.label(f"This point can't be written: {why}.").classes("finding warning")
            return
        ui.label(f"Allowed: {slots.limits(point)}").classes("muted")
        with ui.element("div").classes("form"):
            if kind is Kind.BINARY:
                self._value: Any = ui.select({1: "active", 0: "inactive"}, label="Value", value=1)
            else:
                self._value = ui.number("Value", value=point["value"], precision=6)
            floor = settings().write_priority_floor
            choices = {n: f"{n} {slots.LEVELS.get(n, '')}".strip() for n in range(floor, LOWEST_PRIORITY + 1)}
            self._priority = ui.select(choices, value=floor, label="Priority")
            self._minutes = ui.number("Give back after, minutes", precision=1, min=0.1, max=44640)
            self._minutes.props('hint="empty: it stays until it is released"')
            self._reason = ui.input("Reason").props("maxlength=200")
        with ui.element("div").classes("bar"):
            ui.button("Write", icon="edit", on_click=lambda: self._confirm(release=False))
            ui.button("Release", icon="undo", on_click=lambda: self._confirm(release=True)).props("outline")

    async def _look(self) -> None:
        point = self._point
        self._now.clear()
        with self._now:
            ui.label("Asking the device …").classes("muted")
        array = await slots.look(worker(), store(), settings(), point)
        self._now.clear()
        with self._now:
            if array.error:
                ui.label(array.error).classes("finding bad").props("role=alert")
                return
            ui.label(f"Now {slots.shown(array.value, point)}").classes("number small").props("data-now")
            if not array.commandable:
                ui.label("It has no priority array: a write replaces its value, and can't be released.")
            elif not array.slots:
                ui.label("No level of its priority array is taken.").classes("muted")
            else:
                _slot_table(array.slots, point)

    def _confirm(self, *, release: bool) -> None:
        value, reason = self._value.value, (self._reason.value or "").strip()
        self._reason.error = None if reason else "Say why: it stands in the history."
        if not release and value is None:
            self._value.error = "A value is needed."
            return
        if not reason:
            return
        minutes = None if release else self._minutes.value
        name, priority = self._point["dis"] or self._point["name"], self._priority.value
        question = f"Release priority {priority} of {name}?"
        if not release:
            question = f"Write {slots.shown(float(value), self._point)} to {name} at priority {priority}?"
            question += f" It is given back after {minutes:g} minutes." if minutes else ""
        with ui.dialog() as confirm, ui.card().classes("panel"):
            ui.label(question).classes("heading")
            with ui.element("div").classes("bar"):
                ui.space()
                ui.button("No", on_click=confirm.close).props("flat")

                async def yes() -> None:
                    confirm.close()
                    await self._send(release=release, value=value, reason=reason, minutes=minutes)

                ui.button("Yes, release" if release else "Yes, write", on_click=yes).props("data-confirm")
        confirm.on_value_change(lambda event: None if event.value else confirm.delete())
        confirm.open()

    async def _send(self, *, release: bool, value: Any, reason: str, minutes: float | None) -> None:
        await self._visitor.require(Role.OPERATOR)
        point = self._point
        fields = {
            "jobId": str(uuid.uuid4()),
            "deviceId": point["device_id"],
            "objectType": point["object_type"],
            "objectInstance": point["object_instance"],
            "priority": int(self._priority.value),
            "reason": reason,
            **({"release": True} if release else {"value": float(value)}),
        }
        if minutes:
            fields["releaseAfter"] = minutes * 60
        if point["haystack_name"]:
            fields["haystackName"] = point["haystack_name"]
        self._say("The command is on its way …", "")
        try:
            sender = Sender(self._visitor.login.name, self._visitor.ip, "page")
            _, result = await submit(app_state(), fields, sender)
        except Problem as problem:
            self._say(str(problem), "bad")
        except DATABASE_ERRORS as error:
            self._say(" ".join(reason_of(error)), "bad")
        else:
            self._tell(result)
            await self._look()

    def _tell(self, result: dict[str, Any]) -> None:
        if result.get("status") == "pending":
            self._say("No result within 30 s; it will stand in the history.", "warning")
        elif result["success"]:
            seen = f"before {slots.shown(result.get('before'), self._point)}"
            after = slots.shown(result.get("after"), self._point)
            held = result.get("heldBy")
            above = f" Priority {held['priority']} is above and decides." if held else ""
            self._say(f"Done: {seen}, read back {after}.{above}", "good")
        else:
            self._say(" ".join([f"{result['error']}.", *result["validationErrors"]]), "bad")

    def _say(self, text: str, level: str) -> None:
        self._result.clear()
        with self._result:
            ui.label(text).classes(f"finding {level}" if level else "muted")


def _slot_table(taken: tuple[slots.Slot, ...], point: dict[str, Any]) -> None:
    around = ui.element("div").classes("scroll").props('tabindex=0 role=region aria-label="Priority array"')
    with around, ui.element("table").classes("plain"):
        with ui.element("thead"), ui.element("tr"):
            for title in ("Priority", "Value", "Held by"):
                with ui.element("th").props("scope=col"):
                    ui.label(title)
        with ui.element("tbody"):
            for slot in taken:
                with ui.element("tr").props(f"data-slot={slot.priority}"):
                    for text in (f"{slot.priority} {slot.level}", slots.shown(slot.value, point), slot.holder):
                        with ui.element("td"):
                            ui.label(text.strip())
