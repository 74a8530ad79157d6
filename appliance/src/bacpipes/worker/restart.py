"""One worker after another: each goes by the settings in force, and ends where the page changes them."""

import asyncio
import signal

import psycopg

from bacpipes.database import first_line
from bacpipes.errors import UnavailableError
from bacpipes.events import end_all
from bacpipes.settings import Settings
from bacpipes.worker.service import Worker


def serve(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    try:
        asyncio.run(_serve(settings))
    except psycopg.Error as error:
        raise UnavailableError(
            f"The database failed: {first_line(error)}.", "The worker can be started again."
        ) from error


async def run(environment: Settings, stop: asyncio.Event) -> None:
    """Work until ``stop``; raise where a worker must not or can't go on."""
    settings: Settings | None = environment
    while settings is not None:
        worker, ending = Worker(settings, environment), asyncio.Event()
        handing_on = asyncio.create_task(_hand_on(stop, ending))
        try:
            await worker.run(ending)
        finally:
            await end_all([handing_on])
        settings = None if stop.is_set() else worker.watch.replaced_by


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(settings, stop)


async def _hand_on(stop: asyncio.Event, ending: asyncio.Event) -> None:
    await stop.wait()
    ending.set()
