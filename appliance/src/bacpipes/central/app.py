"""Central's service as an ASGI application: the API, the dispatcher and the housekeeping beside it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from fastapi import FastAPI

from bacpipes import __version__, history
from bacpipes.central import history as central_history
from bacpipes.central import schema, sites, writes
from bacpipes.central.dispatcher import Dispatcher
from bacpipes.central.settings import CentralSettings
from bacpipes.central.sites import CentralMetrics
from bacpipes.central.store import CentralStore
from bacpipes.database import connect_now, first_line, schema_version
from bacpipes.errors import SchemaError, UnavailableError
from bacpipes.events import end_all
from bacpipes.exporter import health
from bacpipes.exporter.app import describe, handle_errors
from bacpipes.exporter.health import Health
from bacpipes.exporter.middleware import Observer
from bacpipes.exporter.news import News
from bacpipes.exporter.problem import DATABASE_ERRORS, reason_of
from bacpipes.exporter.reason import Reason
from bacpipes.exporter.worker import WorkerPage
from bacpipes.log import Transition, get_logger
from bacpipes.mqtt import config as mqtt_config

logger = get_logger(__name__)
TITLE = "BacPipes central"
RETRY = 60.0  # seconds


class CentralHealth(Health):
    """Database and broker B."""

    def __init__(self, settings: CentralSettings, store: CentralStore, dispatcher: Dispatcher | None) -> None:
        super().__init__(settings, store, WorkerPage.of(settings))
        self._central_store, self._dispatcher = store, dispatcher

    async def reasons(self) -> list[Reason]:
        """Everything that is not ready; empty where all is."""
        found = []
        try:
            async with await self._central_store.dedicated("readiness") as connection:
                schema.check(await schema_version(connection))
        except DATABASE_ERRORS as error:
            found.append(Reason("schema" if isinstance(error, SchemaError) else "database", *reason_of(error)))
        if self._dispatcher is not None and (reason := self._dispatcher.client.reason):
            found.append(Reason("broker", reason, self._dispatcher.client.remedy or ""))
        return found


def create_app(settings: CentralSettings) -> FastAPI:
    """The service. It starts without database and broker and waits for them; without a broker's address there is no
    dispatcher."""
    app = FastAPI(title=TITLE, version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=_life)
    state = app.state
    state.settings = settings
    state.program = "bacpipes central"  # what a person is told to call
    state.stopping = asyncio.Event()
    state.store = CentralStore(settings)
    state.metrics = CentralMetrics(state.store)
    state.news = News(state.store)
    broker = mqtt_config.environment()
    state.dispatcher = None
    if "broker" in broker:
        config = mqtt_config.check({"client_id": "bacpipes_central", "enabled": True} | broker)
        state.dispatcher = Dispatcher(settings, config, state.store, state.news, state.metrics)
    state.health = CentralHealth(settings, state.store, state.dispatcher)
    for module in (writes, sites, health):
        app.include_router(module.router)
    describe(app, TITLE)
    handle_errors(app)
    app.add_middleware(Observer, metrics=state.metrics)
    return app


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    state = app.state
    await state.store.open()
    tasks = [
        asyncio.create_task(state.health.watch(), name="health"),
        asyncio.create_task(state.news.follow(), name="news"),
        asyncio.create_task(_housekeeping(state.settings), name="housekeeping"),
    ]
    stop = asyncio.Event()
    dispatching = asyncio.create_task(state.dispatcher.run(stop)) if state.dispatcher is not None else None
    try:
        yield
    finally:
        state.stopping.set()
        stop.set()
        if dispatching is not None:
            await asyncio.wait({dispatching}, timeout=2)
            tasks.append(dispatching)
        await end_all(tasks)
        await state.store.close()


async def _housekeeping(settings: CentralSettings) -> None:
    """Partitions, retention and aggregates, where the server does not do it by policy."""
    transition = Transition(logger, "housekeeping")
    while True:
        try:
            await asyncio.to_thread(_maintain, settings)
            transition.recovered()
        except (psycopg.Error, UnavailableError) as error:
            transition.failed(first_line(error))
        await asyncio.sleep(RETRY if transition.failing else settings.refresh_every)


def _maintain(settings: CentralSettings) -> None:
    with connect_now(settings.database_url.get_secret_value(), "housekeeping") as connection:
        engine = history.installed(connection)
        if engine is not None and engine is not history.Engine.COMMUNITY:
            central_history.maintain(connection, engine, settings)
            connection.execute("SELECT refresh_aggregates()")
