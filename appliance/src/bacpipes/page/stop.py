"""The site's stop on the page: its state, the button that sets it, and the one that lifts it."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from bacpipes.exporter.problem import DATABASE_ERRORS, reason_of
from bacpipes.page.context import Visitor, settings, store
from bacpipes.points.report import counted
from bacpipes.tokens import Role
from bacpipes.writes import stop
from bacpipes.writes.stop import Stop

Again = Callable[[], Awaitable[None]]  # shows the state anew
REFRESH = 5.0  # seconds; somebody else may set it


def told(now: Stop) -> str:
    """A stop in one sentence."""
    since = now.since.astimezone(settings().zone).strftime("%Y-%m-%d %H:%M")
    why = f": {now.reason}" if now.reason else ""
    left = f" {counted(now.waiting, 'slot')} still to be released." if now.waiting else ""
    return f"Writes are stopped since {since} by {now.actor}{why}.{left}"


async def panel(visitor: Visitor) -> None:
    """What stands above the history of writes."""
    content = ui.refreshable(_content)
    content(visitor, await _load(), lambda: _refresh(visitor, content))
    ui.timer(REFRESH, lambda: _refresh(visitor, content), immediate=False)


async def _refresh(visitor: Visitor, content: ui.refreshable[..., None]) -> None:
    content.refresh(visitor, await _load(), lambda: _refresh(visitor, content))


async def _load() -> Stop | None:
    """The stop as it is; None while the database is away."""
    try:
        async with store().connection() as connection:
            return await stop.load(connection)
    except DATABASE_ERRORS:
        return None


def _content(visitor: Visitor, now: Stop | None, again: Again) -> None:
    if now is None:
        ui.label("Whether writes are stopped is unknown: the database does not answer.").classes("finding bad")
        return
    with ui.element("div").classes("bar").props("data-stop"):
        if now.stopped:
            ui.label(told(now)).classes("finding bad grow").props("role=alert")
        if not visitor.may(Role.OPERATOR):
            return
        if now.stopped:
            ui.button("Lift the stop", icon="play_arrow", on_click=lambda: _ask(visitor, again, stopped=False))
        else:
            ui.space()
            button = ui.button(
                "Stop all writes", icon="front_hand", on_click=lambda: _ask(visitor, again, stopped=True)
            )
            button.props("color=negative")


def _ask(visitor: Visitor, again: Again, *, stopped: bool) -> None:
    with ui.dialog() as dialog, ui.card().classes("panel"):
        if stopped:
            ui.label("Stop all writes?").classes("heading").props("role=heading aria-level=2")
            ui.label("All that this appliance holds is released, and every new write is refused until it is lifted.")
            reason = ui.input("Reason").props("maxlength=200").classes("w-full")
        else:
            ui.label("Let this site be written again?").classes("heading").props("role=heading aria-level=2")
        with ui.element("div").classes("bar"):
            ui.space()
            ui.button("No", on_click=dialog.close).props("flat")

            async def yes() -> None:
                why = (reason.value or "").strip() if stopped else None
                if stopped and not why:
                    reason.error = "Say why: it stands in the audit."
                    return
                dialog.close()
                await _change(visitor, stopped=stopped, reason=why)
                await again()

            ui.button("Yes, stop" if stopped else "Yes, lift it", on_click=yes).props("data-confirm")
    dialog.on_value_change(lambda event: None if event.value else dialog.delete())
    dialog.open()


async def _change(visitor: Visitor, *, stopped: bool, reason: str | None) -> None:
    await visitor.require(Role.OPERATOR)
    try:
        async with store().connection() as connection:
            await stop.change(connection, stopped=stopped, actor=visitor.actor, reason=reason)
    except DATABASE_ERRORS as error:
        ui.notify(" ".join(reason_of(error)), type="negative")
