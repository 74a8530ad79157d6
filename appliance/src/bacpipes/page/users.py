"""Users and API tokens, for admins."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from nicegui import ui

from bacpipes import tokens
from bacpipes import users as people
from bacpipes.errors import InputError
from bacpipes.exporter.problem import DATABASE_ERRORS, reason_of
from bacpipes.page.context import Visitor, settings, store
from bacpipes.page.frame import frame
from bacpipes.tokens import Role

ROLES = [role.text for role in Role]


def register() -> None:
    """The page's address."""

    @ui.page("/users")
    async def page(request: Request) -> None:
        with frame(request, "Users") as visitor:
            await _Users(visitor).build()
            await _Tokens(visitor).build()


class _Users:
    """The panel of people."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor

    async def build(self) -> None:
        """Show it."""
        with ui.element("section").classes("panel"):
            ui.label("People").classes("heading").props("role=heading aria-level=2")
            self._table = ui.element("div").classes("scroll").props('tabindex=0 role=region aria-label="People"')
            with ui.element("div").classes("form"):
                name = ui.input("Name").props("autocomplete=off autocapitalize=none")
                role = ui.select(ROLES, value="viewer", label="Role")
                password = ui.input("Password", password=True).props("autocomplete=new-password")
            ui.label(f"At least {people.SHORTEST_PASSWORD} characters.").classes("muted")

            async def add() -> None:
                async def work(connection: Any) -> None:
                    await people.add(
                        connection, name.value or "", Role.of(role.value), password.value or "", self._visitor.actor
                    )

                if await _do(self._visitor, work, "The user is added."):
                    name.set_value("")
                    password.set_value("")
                    await self._load()

            ui.button("Add a user", icon="person_add", on_click=add)
        await self._load()

    async def _load(self) -> None:
        async with store().connection() as connection:
            found = await people.everyone(connection)
        self._table.clear()
        with self._table, ui.element("table").classes("plain"):
            _head("Name", "Role", "State", "Last login", "")
            with ui.element("tbody"):
                for user in found:
                    self._row(user)

    def _row(self, user: people.User) -> None:
        async def set_role(role: str) -> None:
            async def work(connection: Any) -> None:
                await people.set_role(connection, user.name, Role.of(role), self._visitor.actor)

            await _do(self._visitor, work, f"{user.name} is {role} now.")
            await self._load()

        async def turn() -> None:
            async def work(connection: Any) -> None:
                disabled = user.disabled_at is None
                await people.set_disabled(connection, user.name, self._visitor.actor, disabled=disabled)

            await _do(self._visitor, work, "Done.")
            await self._load()

        with ui.element("tr").props(f'data-user="{user.name}"'):
            _cell(user.name)
            with ui.element("td"):
                choice = ui.select(ROLES, value=user.role.text, on_change=lambda event: set_role(event.value))
                choice.props(f'dense borderless aria-label="Role of {user.name}"')
            _cell("disabled" if user.disabled_at else "enabled")
            _cell(_minute(user.last_login))
            with ui.element("td"), ui.element("div").classes("bar"):
                ui.button("Enable" if user.disabled_at else "Disable", on_click=turn).props("flat dense")
                ui.button("Password", on_click=lambda: self._password(user.name)).props("flat dense")

    def _password(self, name: str) -> None:
        with ui.dialog() as dialog, ui.card().classes("panel"):
            ui.label(f"New password for {name}").classes("heading")
            field = ui.input("Password", password=True).props("autocomplete=new-password")

            async def save() -> None:
                async def work(connection: Any) -> None:
                    await people.set_password(connection, name, field.value or "", self._visitor.actor)

                if await _do(self._visitor, work, f"{name} has a new password; their logins have ended."):
                    dialog.close()

            with ui.element("div").classes("bar"):
                ui.space()
                ui.button("Cancel", on_click=dialog.close).props("flat")
                ui.button("Save", on_click=save)
        dialog.on_value_change(lambda event: None if event.value else dialog.delete())
        dialog.open()


class _Tokens:
    """The panel of API tokens."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor

    async def build(self) -> None:
        """Show it."""
        with ui.element("section").classes("panel"):
            ui.label("API tokens").classes("heading").props("role=heading aria-level=2")
            self._table = ui.element("div").classes("scroll")
            self._table.props('tabindex=0 role=region aria-label="API tokens"')
            with ui.element("div").classes("form"):
                name = ui.input("Name of the program").props("autocomplete=off")
                role = ui.select(ROLES, value="viewer", label="Role")
                days = ui.number("Days until it ends (blank: never)", min=1, max=36500, precision=0)
            made = ui.label().classes("mono").props("role=status data-token")

            async def create() -> None:
                secrets: list[str] = []

                async def work(connection: Any) -> None:
                    until = int(days.value) if days.value else None
                    actor = self._visitor.actor
                    secrets.append(await tokens.create(connection, name.value or "", Role.of(role.value), until, actor))

                if await _do(self._visitor, work, "The token is made."):
                    made.set_text(f"{secrets[0]}   (shown this once; store it now)")
                    name.set_value("")
                    await self._load()

            ui.button("Make a token", icon="vpn_key", on_click=create)
        await self._load()

    async def _load(self) -> None:
        async with store().connection() as connection:
            found = await tokens.everyone(connection)
        self._table.clear()
        if not found:
            return
        with self._table, ui.element("table").classes("plain"):
            _head("Name", "Role", "State", "Until", "")
            with ui.element("tbody"):
                for token in found:
                    self._row(token)

    def _row(self, token: tokens.Token) -> None:
        async def revoke() -> None:
            async def work(connection: Any) -> None:
                await tokens.revoke(connection, token.name, self._visitor.actor)

            await _do(self._visitor, work, f"Token {token.name} is revoked.")
            await self._load()

        state = token.state(datetime.now(UTC))
        with ui.element("tr"):
            for text in (token.name, token.role.text, state, _minute(token.revoked_at or token.expires_at)):
                _cell(text)
            with ui.element("td"):
                if state == "valid":
                    ui.button("Revoke", on_click=revoke).props("flat dense")


async def _do(visitor: Visitor, work: Callable[[Any], Awaitable[None]], done: str) -> bool:
    """Carry out an admin's change, and tell what became of it."""
    await visitor.require(Role.ADMIN)
    try:
        async with store().connection() as connection:
            await work(connection)
    except InputError as error:
        ui.notify(str(error), type="negative")
        return False
    except DATABASE_ERRORS as error:
        ui.notify(" ".join(reason_of(error)), type="negative")
        return False
    ui.notify(done, type="positive")
    return True


def _head(*titles: str) -> None:
    with ui.element("thead"), ui.element("tr"):
        for title in titles:
            with ui.element("th").props("scope=col"):
                ui.label(title or "Actions").classes("" if title else "hidden-text")


def _cell(text: str) -> None:
    with ui.element("td"):
        ui.label(text)


def _minute(moment: datetime | None) -> str:
    return moment.astimezone(settings().zone).strftime("%Y-%m-%d %H:%M") if moment else "—"
