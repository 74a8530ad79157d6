"""How central keeps history: the site's three engines, by default for ever, and the aggregates."""

from typing import Any

import psycopg

from bacpipes import history
from bacpipes.central.migrations import DIRECTORY
from bacpipes.central.settings import UNLIMITED_DAYS, CentralSettings
from bacpipes.history import Engine
from bacpipes.log import get_logger
from bacpipes.migrations import DIRECTORY as SITE

logger = get_logger(__name__)
Connection = psycopg.Connection[Any]


def install(connection: Connection) -> Engine:
    """Create history, its view and the aggregates where they are missing; say which engine keeps them."""
    best, present = history.available(connection), history.installed(connection)
    if present is not None:
        if present is not best:
            logger.warning("history keeps its engine", engine=present.value, server_offers=best.value)
        return present
    partitioning = "PARTITION BY RANGE (time)" if best is Engine.PLAIN else ""
    engines = {
        Engine.COMMUNITY: (DIRECTORY / "history_community.sql", DIRECTORY / "aggregates_community.sql"),
        Engine.APACHE: (SITE / "history_apache.sql", DIRECTORY / "aggregates_tables.sql"),
        Engine.PLAIN: (SITE / "history_plain.sql", DIRECTORY / "aggregates_tables.sql"),
    }
    with connection.transaction():
        text = (DIRECTORY / "history.sql").read_text().replace("{partitioning}", partitioning)
        connection.execute(text.encode())
        for path in engines[best]:
            connection.execute(path.read_bytes())
    return best


def set_policies(connection: Connection, engine: Engine, settings: CentralSettings) -> None:
    """On the Community engine: columnstore, retention where one is set, and the aggregates' refreshing."""
    if engine is not Engine.COMMUNITY:
        return
    days, hours = settings.retention_days, settings.compress_after_hours
    history.set_policies(connection, engine, days or UNLIMITED_DAYS, hours)
    if not days:
        connection.execute("SELECT remove_retention_policy('public.reading', if_exists => true)")
    # Aggregates of what retention has dropped must stay: a refresh never looks so far back.
    start = f"{days * 24 - 24} hours" if days > 1 else None
    for view, every in (("reading_5min", "5 minutes"), ("reading_hourly", "30 minutes")):
        connection.execute("SELECT remove_continuous_aggregate_policy(%s::regclass, if_exists => true)", [view])
        connection.execute(
            "SELECT add_continuous_aggregate_policy(%s::regclass, start_offset => %s::interval, "
            "end_offset => %s::interval, schedule_interval => %s::interval)",
            [view, start, every, every],
        )


def maintain(connection: Connection, engine: Engine, settings: CentralSettings) -> list[str]:
    """Our housekeeping: partitions for what comes, and drop what is too old, where a limit is set."""
    if engine is Engine.APACHE and not settings.retention_days:
        return []
    return history.maintain(connection, engine, settings.retention_days or UNLIMITED_DAYS)
