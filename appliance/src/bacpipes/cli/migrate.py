"""``bacpipes migrate``."""

from typing import Any

import click
import psycopg

from bacpipes import schema
from bacpipes.database import connect_now, query, schema_version_now
from bacpipes.settings import Settings, load_settings


@click.command()
def migrate() -> None:
    """Bring the database to this version's schema; safe to repeat.

    The last line says what was changed, or that nothing was.
    """
    from bacpipes.migrate import migrate as bring_up_to_date  # Alembic and SQLAlchemy: only here

    settings = load_settings()
    before = _state(settings)
    engine = bring_up_to_date(settings)
    after = _state(settings)
    click.echo(f"The database is at schema {schema.head()}; history: {engine.value} ({engine.meaning}).")
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    click.echo(f"Changed: {', '.join(changed)}." if changed else "Nothing to change.")


def _state(settings: Settings) -> dict[str, str]:
    """What a migration can change, as short texts that can be compared."""
    with connect_now(settings.database_url.get_secret_value(), "migrate") as connection:
        state = {"version": schema_version_now(connection) or ""} | _pairs(connection, "schema_state")
        if connection.execute("SELECT to_regclass('timescaledb_information.jobs')").fetchone() != (None,):
            state |= _pairs(connection, "schema_state_policies")
        return state


def _pairs(connection: psycopg.Connection[Any], name: str) -> dict[str, str]:
    return {str(key): str(value) for key, value in connection.execute(query(name))}
