"""``bacpipes audit``."""

import re

import click

from bacpipes import audit as chain
from bacpipes import schema
from bacpipes.database import connect_now, schema_version_now
from bacpipes.errors import ExitCode
from bacpipes.settings import load_settings

HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


def _head(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, str] | None:
    if value is None:
        return None
    found = HEAD.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not ID:HASH, as `bacpipes audit head` prints it.")
    return int(found.group(1)), found.group(2)


@click.group()
def audit() -> None:
    """The audit trail: who asked for what, and what became of it."""


@audit.command()
@click.option("--head", callback=_head, metavar="ID:HASH", help="A head that was noted earlier.")
def verify(head: tuple[int, str] | None) -> int:
    """Check every row of the hash chain.

    Rows that were changed, taken out or put in are found, and the first is named: exit status 1. Who may rewrite the
    whole table could make a new chain: compare with a head that was noted elsewhere (`--head`).
    """
    found = _verify(head)
    if found.wrong:
        click.echo(f"The audit trail is broken: {found.wrong}.")
        return ExitCode.FAILED
    click.echo(f"The audit trail is whole: {found.rows} rows, head {found.head}.")
    return ExitCode.OK


@audit.command()
def head() -> None:
    """Print the chain's head, ID:HASH; note it where this machine's administrators can't change it."""
    with connect_now(load_settings().database_url.get_secret_value(), "audit") as connection:
        schema.check(schema_version_now(connection))
        row = connection.execute("SELECT id, encode(hash, 'hex') FROM audit_head").fetchone()
    click.echo(":".join(map(str, row or ())))


def _verify(noted: tuple[int, str] | None) -> chain.Chain:
    with connect_now(load_settings().database_url.get_secret_value(), "audit") as connection:
        schema.check(schema_version_now(connection))
        return chain.verify(connection, noted)
