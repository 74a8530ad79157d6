"""Live values by equipment, and the trend of any points over any range."""

from fastapi import Request
from nicegui import ui

from bacpipes.exporter.problem import DATABASE_ERRORS, reason_of
from bacpipes.page.context import Visitor
from bacpipes.page.frame import frame
from bacpipes.page.trend import Trend, chosen_ids
from bacpipes.page.write_dialog import open_write
from bacpipes.tokens import Role


def register() -> None:
    """The page's address; ``?points=1,2`` opens their trend first."""

    @ui.page("/monitor")
    async def page(request: Request, points: str = "") -> None:
        # Before anything is waited for: later the browser would put it in place, but not run it.
        ui.add_head_html('<script defer src="/page/live.js"></script>')
        with frame(request, "Monitor") as visitor:
            wanted = chosen_ids(points)
            try:
                await Trend(wanted).build()
            except DATABASE_ERRORS as error:
                ui.label(" ".join(reason_of(error))).classes("finding bad")
            _live(visitor)


def _live(visitor: Visitor) -> None:
    async def write(event: object) -> None:
        point = getattr(event, "args", None)
        if isinstance(point, int):
            await visitor.require(Role.OPERATOR)
            await open_write(visitor, point)

    with ui.element("div").classes("bar"):
        with ui.element("div").classes("grow live-filter"):
            ui.input("Filter").props("clearable dense")
        ui.element("span").props("role=status").classes("live-state muted")
    may_write = "yes" if visitor.may(Role.OPERATOR) else "no"
    ui.element("div").classes("equipment live-home").props(f"data-write={may_write}")
    ui.on("bacpipes_write", write)
