"""What every page shares: header, navigation, light and dark, and the watch over the login."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import Request
from nicegui import ui

from bacpipes.exporter.problem import DATABASE_ERRORS
from bacpipes.page.context import Visitor, settings
from bacpipes.tokens import Role

LOOK_EVERY = 20.0  # seconds between two looks whether the login still holds
FAREWELL = 2.0  # seconds
THEME = "bacpipes_theme"
MODES = {"light": False, "dark": True, "auto": None}
NEXT_MODE = {"light": ("dark", "dark_mode"), "dark": ("auto", "brightness_auto"), "auto": ("light", "light_mode")}


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the navigation."""

    path: str
    title: str
    icon: str
    role: Role = Role.VIEWER


NAVIGATION = (
    Entry("/", "Dashboard", "dashboard"),
    Entry("/monitor", "Monitor", "monitor_heart"),
    Entry("/points", "Points", "sensors"),
    Entry("/writes", "Writes", "edit_note"),
    Entry("/discovery", "Discovery", "travel_explore", Role.ADMIN),
    Entry("/settings", "Settings", "settings", Role.ADMIN),
    Entry("/users", "Users", "group", Role.ADMIN),
)


SETUP = Entry("/setup", "First steps", "flag", Role.ADMIN)  # not in the navigation: it is gone through once
TITLES = {entry.path: entry.title for entry in (*NAVIGATION, SETUP)}


def may_open(visitor: Visitor, path: str) -> bool:
    """Whether it is worth a link."""
    return any(entry.path == path and visitor.may(entry.role) for entry in (*NAVIGATION, SETUP))


@contextmanager
def frame(request: Request, title: str) -> Iterator[Visitor]:
    """``with frame(request, "Points") as visitor:`` and then the page's own content."""
    visitor = Visitor.of(request)
    ui.page_title(f"{title} · {settings().site_id} · BacPipes")
    ui.add_head_html('<link rel="stylesheet" href="/page/page.css">')
    ui.colors(primary="#0b5f8a", secondary="#38506a", positive="#1c7c3c", negative="#b3261e", warning="#8a5a00")
    mode = request.cookies.get(THEME, "auto")
    dark = ui.dark_mode(MODES.get(mode))
    with ui.left_drawer(value=None, bordered=True).props("width=220 breakpoint=900").classes("drawer") as drawer:
        _navigation(request.url.path, visitor)
    with ui.header().classes("top"):
        ui.button(icon="menu", on_click=drawer.toggle).props('flat round color=white aria-label="Navigation"')
        ui.label(title).classes("title").props("role=heading aria-level=1")
        ui.space()
        ui.label(settings().site_id).classes("site")
        _theme_button(dark, mode if mode in MODES else "auto")
        _user_menu(visitor)
    ui.timer(LOOK_EVERY, lambda: _watch(visitor))
    with ui.element("div").classes("content") as content:
        yield visitor
    content.props("data-ready")  # what is waited for comes after the page itself


def _navigation(path: str, visitor: Visitor) -> None:
    with ui.element("nav").props('aria-label="Pages"'):
        for entry in NAVIGATION:
            if not visitor.may(entry.role):
                continue
            here = path == entry.path
            link = ui.link(target=entry.path).classes("entry" + (" here" if here else ""))
            if here:
                link.props('aria-current="page"')
            with link:
                ui.icon(entry.icon, size="22px").props("aria-hidden=true")
                ui.label(entry.title)


def _theme_button(dark: ui.dark_mode, mode: str) -> None:
    current = mode

    def turn() -> None:
        nonlocal current
        current, _ = NEXT_MODE[current]
        dark.value = MODES[current]
        button.props(f"icon={_icon(current)}")
        tip.set_text(f"Colours: {current}")
        ui.run_javascript(f"document.cookie = '{THEME}={current}; path=/; max-age=31536000; samesite=strict'")

    button = ui.button(icon=_icon(mode), on_click=turn).props('flat round color=white aria-label="Light or dark"')
    with button:
        tip = ui.tooltip(f"Colours: {mode}")


def _icon(mode: str) -> str:
    return {"light": "light_mode", "dark": "dark_mode", "auto": "brightness_auto"}[mode]


def _user_menu(visitor: Visitor) -> None:
    with ui.button(icon="account_circle").props('flat round color=white aria-label="Account"'), ui.menu():
        with ui.column().classes("account"):
            ui.label(visitor.login.name).classes("strong")
            ui.label(f"role {visitor.login.role.text}")
        ui.separator()
        ui.menu_item("Password", lambda: ui.navigate.to("/account"))
        ui.menu_item("Log out", lambda: ui.run_javascript(LOG_OUT))


LOG_OUT = "fetch('/logout', {method: 'POST'}).finally(() => { location.href = '/login'; })"


async def _watch(visitor: Visitor) -> None:
    """A page that stays open ends with its login; the database's absence is no reason to throw anybody out."""
    try:
        here = await visitor.is_here()
    except DATABASE_ERRORS:
        return
    if not here:
        ui.navigate.to("/login")
        # A browser that does not follow gets nothing more.
        asyncio.get_running_loop().call_later(FAREWELL, ui.context.client.delete)
