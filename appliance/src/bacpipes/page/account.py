"""One's own password."""

from fastapi import Request
from nicegui import ui

from bacpipes import users as people
from bacpipes.errors import InputError
from bacpipes.page.context import Visitor, app_state, store
from bacpipes.page.frame import frame
from bacpipes.tokens import Role


def register() -> None:
    """The page's address."""

    @ui.page("/account")
    async def page(request: Request) -> None:
        with frame(request, "Account") as visitor, ui.element("section").classes("panel"):
            _form(visitor)


def _form(visitor: Visitor) -> None:
    ui.label(f"{visitor.login.name}, role {visitor.login.role.text}").classes("strong")
    old = ui.input("Password now", password=True).props("autocomplete=current-password")
    new = ui.input("New password", password=True).props("autocomplete=new-password")
    again = ui.input("New password again", password=True).props("autocomplete=new-password")

    async def change() -> None:
        await visitor.require(Role.VIEWER)
        problem = await _change(visitor, old.value or "", new.value or "", again.value or "")
        if problem:
            ui.notify(problem, type="negative")
            return
        for field in (old, new, again):
            field.set_value("")
        ui.notify("The password is changed; your other logins have ended.", type="positive")

    ui.label(f"At least {people.SHORTEST_PASSWORD} characters.").classes("muted")
    ui.button("Change the password", on_click=change)


async def _change(visitor: Visitor, old: str, new: str, again: str) -> str:
    """What is wrong; empty where the password is changed."""
    if new != again:
        return "The two new passwords differ."
    keeper = app_state().gatekeeper
    keys = (f"name {visitor.login.name} own",)
    if (wait := keeper.throttle.seconds_left(keys)) > 0:
        return f"Too many failures: wait {wait:.0f} s."
    async with store().connection() as connection:
        account = await people.find(connection, visitor.login.name)
    if not await keeper.is_password(account, old):
        keeper.throttle.failed(keys)
        return "The password now is wrong."
    try:
        async with store().connection() as connection:
            await people.set_password(
                connection, visitor.login.name, new, visitor.actor, keep_session=visitor.login.digest
            )
    except InputError as error:
        return str(error)
    return ""
