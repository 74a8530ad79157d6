"""The application: routes, what they share, and the tasks that run beside them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from bacpipes import __version__, stored_settings
from bacpipes.events import end_all
from bacpipes.exporter import export, health, inventory, metrics, monitoring, points_file, sessions, stop, writes
from bacpipes.exporter.auth import Identity, require
from bacpipes.exporter.certificate import ServerCertificate
from bacpipes.exporter.description import add_refusals
from bacpipes.exporter.export import Exports
from bacpipes.exporter.health import Health
from bacpipes.exporter.live import Live
from bacpipes.exporter.metrics import Metrics
from bacpipes.exporter.middleware import Observer
from bacpipes.exporter.news import News
from bacpipes.exporter.problem import (
    DATABASE_ERRORS,
    Problem,
    answer_database,
    answer_http,
    answer_problem,
)
from bacpipes.exporter.store import Store
from bacpipes.exporter.worker import WorkerPage
from bacpipes.settings import Settings
from bacpipes.tokens import Role

TITLE = "BacPipes"
CLEAR_UP = 1.0  # seconds
LOOK_EVERY = 60.0  # seconds between looks at the stored settings, should the news of a change be missed


def create_app(settings: Settings, certificate: ServerCertificate | None = None) -> FastAPI:
    """The exporter as an ASGI application. It starts without the database and waits for it."""
    # The documentation pages load scripts from outside; the description itself is at /openapi.json, for a token.
    app = FastAPI(title=TITLE, version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=_life)
    state = app.state
    state.environment = state.settings = settings
    state.stopping = asyncio.Event()
    state.store = Store(settings)
    state.worker = WorkerPage.of(settings)
    state.health = Health(settings, state.store, state.worker, certificate)
    state.metrics = Metrics(state.store)
    state.exports = Exports()
    state.news = News(state.store)
    state.live = Live(settings, state.store, state.news)
    for module in (export, inventory, points_file, monitoring, writes, stop, metrics, health):
        app.include_router(module.router)
    describe(app, TITLE)
    handle_errors(app)
    app.add_middleware(Observer, metrics=state.metrics)
    return app


def handle_errors(app: FastAPI) -> None:
    """Every failure that we know becomes an answer that says what is wrong."""
    app.add_exception_handler(Problem, answer_problem)
    app.add_exception_handler(HTTPException, answer_http)
    for kind in DATABASE_ERRORS:
        app.add_exception_handler(kind, answer_database)


def describe(app: FastAPI, title: str) -> None:
    """The OpenAPI description at ``/openapi.json``, for a token."""

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(_: Annotated[Identity, Depends(require(Role.VIEWER))]) -> dict[str, Any]:
        description = get_openapi(title=title, version=__version__, routes=app.routes)
        login = {"type": "apiKey", "in": "cookie", "name": sessions.COOKIE}
        schemes = {"token": {"type": "http", "scheme": "bearer"}, "login": login}
        description["components"] = {"securitySchemes": schemes}
        add_refusals(description)
        description["security"] = [{"token": []}, {"login": []}]
        return description


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    store: Store = app.state.store
    await store.open()
    tasks = [
        asyncio.create_task(app.state.health.watch(), name="health"),
        asyncio.create_task(app.state.news.follow(), name="news"),
        asyncio.create_task(app.state.live.follow(), name="live values"),
        asyncio.create_task(_follow_settings(app.state), name="settings"),
    ]
    try:
        yield
    finally:
        app.state.stopping.set()
        for task in tasks:
            task.cancel()
        with suppress(TimeoutError):  # those that the server cancelled still tell the database
            await asyncio.wait_for(app.state.exports.all_ended(), CLEAR_UP)
        await end_all(tasks)
        await store.close()


async def _follow_settings(state: Any) -> None:
    """Go by what the page stores, from the moment on."""
    while True:
        with suppress(*DATABASE_ERRORS):
            await take_over_settings(state)
        await state.news.wait("setting", LOOK_EVERY)


async def take_over_settings(state: Any) -> None:
    """Let ``state.settings`` be those in force now."""
    async with state.store.connection() as connection:
        state.settings = await stored_settings.in_force(connection, state.environment)
