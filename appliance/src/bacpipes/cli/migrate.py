"""``bacpipes migrate``."""

import click

from bacpipes import schema
from bacpipes.settings import load_settings


@click.command()
def migrate() -> None:
    """Bring the database to this version's schema; safe to repeat."""
    from bacpipes.migrate import migrate as bring_up_to_date  # Alembic and SQLAlchemy: only here

    engine = bring_up_to_date(load_settings())
    click.echo(f"The database is at schema {schema.head()}; history: {engine.value} ({engine.meaning}).")
