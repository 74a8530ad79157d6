"""``bacpipes migrate``."""

import click

from bacpipes import migrate as schema
from bacpipes.settings import load_settings


@click.command()
def migrate() -> None:
    """Bring the database to this version's schema; safe to repeat."""
    engine = schema.migrate(load_settings())
    click.echo(f"The database is at schema {schema.head()}; history: {engine.value} ({engine.meaning}).")
