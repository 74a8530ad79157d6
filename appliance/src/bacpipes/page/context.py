"""What every page needs: the exporter's parts, and who looks at it."""

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from nicegui import ui

from bacpipes.exporter import sessions
from bacpipes.exporter.sessions import Login
from bacpipes.exporter.store import Store
from bacpipes.exporter.worker import WorkerPage
from bacpipes.settings import Settings
from bacpipes.tokens import Role

_state: Any = None


class RefusedError(Exception):
    """Whoever clicked may not, or not any more; they have been told."""


def bind(state: Any) -> None:
    """Let the pages use this application's parts."""
    global _state  # noqa: PLW0603 - NiceGUI has one application in a process, and so have its pages
    _state = state


def app_state() -> Any:
    """The application's ``state``."""
    return _state


def store() -> Store:
    """The database."""
    found: Store = _state.store
    return found


def settings() -> Settings:
    """The settings."""
    found: Settings = _state.settings
    return found


def worker() -> WorkerPage:
    """The worker's local routes."""
    found: WorkerPage = _state.worker
    return found


@dataclass(slots=True)
class Visitor:
    """Who looks at a page. What changes something asks `require` first: the login may have ended since."""

    login: Login
    ip: str | None

    @classmethod
    def of(cls, request: Request) -> "Visitor":
        """Who made this request; the gate has let nobody else through."""
        return cls(request.scope["state"]["login"], request.client.host if request.client else None)

    @property
    def actor(self) -> str:
        """As it stands in the audit trail."""
        return f"page:{self.login.name}"

    def may(self, role: Role) -> bool:
        """What to show; it decides nothing."""
        return self.login.role >= role

    async def is_here(self) -> bool:
        """Whether the login still holds; its role is brought up to date."""
        found = await sessions.by_digest(store(), self.login.digest)
        if found is None:
            return False
        self.login = found
        return True

    async def require(self, role: Role) -> None:
        """Return where the login holds and allows ``role``, as the database says now; else tell them and raise."""
        if not await self.is_here():
            ui.navigate.to("/login")
            raise RefusedError("The login has ended.")
        if self.login.role < role:
            ui.notify(f"This needs the role {role.text}; you are {self.login.role.text}.", type="negative")
            raise RefusedError(f"{self.login.name} is no {role.text}.")
