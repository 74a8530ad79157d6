"""The first steps of a new site, in their order: its own settings, BACnet, the broker, points. For admins."""

from fastapi import Request
from nicegui import ui

from bacpipes.page.broker import Broker
from bacpipes.page.context import settings
from bacpipes.page.dashboard import gather
from bacpipes.page.frame import SETUP, frame
from bacpipes.page.overview import Overview
from bacpipes.page.site_settings import BACNET, SITE, SettingsPanel
from bacpipes.points.report import counted

REFRESH = 5.0  # seconds
WELCOME = (
    "Four steps, and the building is read. Nothing is final: all of it can be changed later under Settings and Points. "
    "What the inventory sets is shown, and stays as it is."
)


def register() -> None:
    """The page's address."""

    @ui.page(SETUP.path)
    async def page(request: Request) -> None:
        with frame(request, SETUP.title) as visitor:
            ui.label(WELCOME)
            content = ui.refreshable(_steps)
            content(await gather())
            await SettingsPanel(visitor, SITE).build()
            await SettingsPanel(visitor, BACNET).build()
            await Broker(visitor).build()
            _points()

            async def look() -> None:
                content.refresh(await gather())

            ui.timer(REFRESH, look, immediate=False)


def _steps(found: Overview) -> None:
    """Where each of them stands."""
    broker, numbers = found.broker or {}, found.numbers
    enabled = numbers.get("enabled", 0)
    steps = (
        (
            True,
            "The site",
            f"{settings().site_id}, {settings().time_zone}. The id stands first in every name and topic.",
        ),
        (
            found.bacnet_open,
            "BACnet",
            found.bacnet["address"] if found.bacnet_open and found.bacnet else "not open yet",
        ),
        (bool(broker.get("connected")), "Broker", broker.get("address", "the worker does not answer")),
        (bool(enabled), "Points", f"{counted(enabled, 'point')} read" if enabled else "none is read yet"),
    )
    with ui.element("ol").classes("steps panel").props('aria-label="Steps"'):
        for done, title, text in steps:
            with ui.element("li").props(f'data-step="{title}" data-done={str(done).lower()}'):
                ui.icon("check_circle" if done else "radio_button_unchecked", size="22px").classes(
                    "good" if done else "muted"
                ).props(f'role=img aria-label="{"done" if done else "to do"}"')
                ui.label(title).classes("strong")
                ui.label(text).classes("muted")


def _points() -> None:
    with ui.element("section").classes("panel"):
        ui.label("Points").classes("heading").props("role=heading aria-level=2")
        ui.label("Let the appliance look what the devices have, or import a list that you have already.").classes(
            "muted"
        )
        with ui.element("div").classes("bar"):
            ui.button("Discovery", icon="travel_explore", on_click=lambda: ui.navigate.to("/discovery"))
            ui.button("Points", icon="sensors", on_click=lambda: ui.navigate.to("/points")).props("outline")
            ui.space()
            ui.button("To the dashboard", on_click=lambda: ui.navigate.to("/")).props("flat")
