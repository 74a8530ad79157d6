"""The site's settings: its own, BACnet, the broker; what else is set, and by whom. For admins."""

from fastapi import Request
from nicegui import ui

from bacpipes.page.broker import Broker
from bacpipes.page.context import settings
from bacpipes.page.frame import frame
from bacpipes.page.site_settings import BACNET, SITE, SettingsPanel


def register() -> None:
    """The page's address."""

    @ui.page("/settings")
    async def page(request: Request) -> None:
        with frame(request, "Settings") as visitor:
            await SettingsPanel(visitor, SITE).build()
            await SettingsPanel(visitor, BACNET).build()
            await Broker(visitor).build()
            _others()


def _others() -> None:
    """What is fixed at start."""
    ours = settings()
    facts = {
        "Site id": ours.site_id,
        "Points are owned by": f"the {ours.points_owner}",
        "Lowest priority number for writes": str(ours.write_priority_floor),
        "Writes without limits": "allowed" if ours.write_without_limits else "refused",
        "Old history is compressed": f"after {ours.compress_after_hours} hours, where the database can",
    }
    with ui.element("section").classes("panel"):
        ui.label("Set at start").classes("heading").props("role=heading aria-level=2")
        ui.label("By the inventory or the environment, read when the appliance starts.").classes("muted")
        with ui.element("table").classes("plain"), ui.element("tbody"):
            for name, value in facts.items():
                with ui.element("tr"):
                    with ui.element("th").props("scope=row"):
                        ui.label(name)
                    with ui.element("td"):
                        ui.label(value)
