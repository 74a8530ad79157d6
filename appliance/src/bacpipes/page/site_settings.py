"""Panels of settings that the page may keep: what is in force, who sets it, and what takes it over when."""

import zoneinfo
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from bacpipes import stored_settings
from bacpipes.errors import BacpipesError
from bacpipes.exporter.app import take_over_settings
from bacpipes.exporter.problem import DATABASE_ERRORS, reason_of
from bacpipes.page.context import Visitor, app_state, store, worker
from bacpipes.settings import Settings
from bacpipes.stored_settings import OF_THE_WORKER, WrongValuesError
from bacpipes.tokens import Role

BY_ENVIRONMENT = "set by the inventory or the environment; change it there"
NO_WORKER = "The worker does not answer, so whether its environment sets these is not known; they can't be changed now."
PORT = 47808  # BACnet/IP's own
ANEW = "The worker begins anew with them: for some seconds nothing is read, which is recorded as a gap."


@dataclass(frozen=True, slots=True)
class Group:
    """A panel: its title, a word on it, and the label of each field."""

    title: str
    text: str
    labels: dict[str, str]


SITE = Group(
    "Site",
    "Times are shown in the site's zone. History that is older is dropped within the hour; on TimescaleDB's Community "
    "edition by the database's own policy, which takes another number over when the appliance starts.",
    {
        "time_zone": "Time zone",
        "retention_days": "Days of history kept",
        "session_hours": "Hours after which a login ends",
    },
)
BACNET = Group(
    "BACnet/IP",
    "The interface is the address of this machine in the building's BACnet network, with its prefix, for broadcasts.",
    {
        "bacnet_address": "Interface: address/prefix:port",
        "bacnet_device_id": "Our own device number",
        "bacnet_timeout": "Seconds to wait for an answer",
        "bacnet_retries": "Repeats without an answer",
        "bacnet_device_concurrency": "Requests at once to a device",
        "bacnet_trunk_concurrency": "Requests at once to a remote network",
    },
)


class SettingsPanel:
    """One group. A blank field means the default."""

    def __init__(self, visitor: Visitor, group: Group) -> None:
        self._visitor, self._group = visitor, group
        self._fields: dict[str, ui.input] = {}
        self._seen: dict[str, str] = {}
        self._free: list[str] = []
        self._choices: dict[str, list[str]] = {}

    async def build(self) -> None:
        """Show it."""
        group = self._group
        with ui.element("section").classes("panel").props(f'data-group="{group.title}"'):
            ui.label(group.title).classes("heading").props("role=heading aria-level=2")
            ui.label(group.text).classes("muted")
            self._body = ui.element("div").classes("stack")
        await self._load()

    async def _load(self) -> None:
        self._body.clear()
        self._fields.clear()
        with self._body:
            try:
                async with store().connection() as connection:
                    stored = await stored_settings.load(connection)
            except DATABASE_ERRORS as error:
                ui.label(" ".join(reason_of(error))).classes("finding bad")
                return
            answer = await worker().ask("/site")
            self._form(stored, answer[1] if answer and answer[0] == 200 else None)

    def _form(self, stored: dict[str, str], answer: dict[str, Any] | None) -> None:
        """``answer`` is what the worker says of itself; None where it does not answer."""
        told = answer["settings"] if answer else None
        addresses = [f"{one['address']}:{PORT}" for one in answer["interfaces"]] if answer else []
        self._choices = {"time_zone": sorted(zoneinfo.available_timezones()), "bacnet_address": addresses}
        environment: Settings = app_state().environment
        in_force = stored_settings.overlay(environment, stored)
        fixed = stored_settings.fixed(environment) | frozenset(told["fixed"] if told else ())
        names = list(self._group.labels)
        unknown = [] if told is not None else [name for name in names if name in OF_THE_WORKER]
        if unknown:
            ui.label(NO_WORKER).classes("finding warning")
        self._free = [name for name in names if name not in fixed and name not in unknown]
        self._seen = {name: stored.get(name, "") for name in names}
        with ui.element("div").classes("form"):
            for name, label in self._group.labels.items():
                now = told["values"][name] if told and name in told["values"] else getattr(in_force, name)
                self._field(name, label, now, fixed=name in fixed)
        self._result = ui.element("div").props("role=status data-saved").classes("stack")
        if self._free:
            with ui.element("div").classes("bar"):
                ui.button("Save", icon="save", on_click=self._save).props(f'aria-label="Save: {self._group.title}"')

    def _field(self, name: str, label: str, now: object, *, fixed: bool) -> None:
        if name not in self._free:
            hint = BY_ENVIRONMENT if fixed else ""
            ui.input(label, value=_text(now)).props(f'data-setting={name} hint="{hint}"').disable()
            return
        default = _text(type(app_state().environment).model_fields[name].default)
        field = ui.input(
            label, value=self._seen[name], placeholder=f"default: {default}", autocomplete=self._choices.get(name)
        )
        field.props(f"data-setting={name} stack-label")
        self._fields[name] = field

    async def _save(self) -> None:
        await self._visitor.require(Role.ADMIN)
        changes = {name: self._fields[name].value or "" for name in self._free}
        for field in self._fields.values():
            field.error = None
        try:
            async with store().connection() as connection:
                changed = await stored_settings.save(
                    connection, app_state().environment, changes, seen=self._seen, actor=self._visitor.actor
                )
            await take_over_settings(app_state())
        except WrongValuesError as error:
            for name, text in error.wrong.items():
                if name in self._fields:
                    self._fields[name].error = text
            self._say(str(error), "bad")
            return
        except BacpipesError as error:
            self._say(str(error), "bad")
            return
        except DATABASE_ERRORS as error:
            self._say(" ".join(reason_of(error)), "bad")
            return
        self._seen |= {name: text.strip() for name, text in changes.items()}
        labels = ", ".join(self._group.labels[name] for name in changed)
        when = f" {ANEW}" if set(changed) & set(OF_THE_WORKER) else ""
        self._say(f"Saved: {labels}.{when}" if changed else "Nothing was changed.", "good")

    def _say(self, text: str, level: str) -> None:
        self._result.clear()
        with self._result:
            ui.label(text).classes(f"finding {level}")


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
