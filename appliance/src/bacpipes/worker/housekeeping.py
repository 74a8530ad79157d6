"""History's upkeep: what is older than the retention goes, what comes next gets its place."""

import asyncio

import psycopg

from bacpipes import history
from bacpipes.database import connect_now, first_line
from bacpipes.errors import UnavailableError
from bacpipes.events import first_of
from bacpipes.log import Transition, get_logger
from bacpipes.settings import Settings

logger = get_logger(__name__)

EVERY, RETRY = 3600.0, 60.0  # seconds


async def run(stop: asyncio.Event, settings: Settings) -> None:
    """Until ``stop``; what fails is tried again."""
    health = Transition(logger, "housekeeping")
    while not stop.is_set():
        try:
            dropped = await asyncio.to_thread(_maintain, settings)
            health.recovered()
            if dropped:
                logger.info("history dropped", older_than_days=settings.retention_days, parts=dropped)
        except (psycopg.Error, UnavailableError) as error:
            health.failed(first_line(error))
        await first_of(stop, within=RETRY if health.failing else EVERY)


def engine(settings: Settings) -> history.Engine | None:
    """How history is kept; None where there is none yet. Blocks."""
    with connect_now(settings.database_url.get_secret_value(), "history") as connection:
        return history.installed(connection)


def _maintain(settings: Settings) -> list[str]:
    with connect_now(settings.database_url.get_secret_value(), "housekeeping") as connection:
        found = history.installed(connection)
        return [] if found is None else history.maintain(connection, found, settings.retention_days)
