"""``bacpipes stop``."""

import getpass
import os
import time
from typing import Any

import click
import psycopg

from bacpipes import schema
from bacpipes.database import connect_now, query, schema_version_now
from bacpipes.errors import ExitCode
from bacpipes.settings import load_settings

LOOK_EVERY = 0.2  # seconds


@click.command()
@click.option("--lift", is_flag=True, help="Let the site be written again.")
@click.option("--status", is_flag=True, help="Only say how it stands.")
@click.option("--reason", help="Why; stands in the audit trail and in every refusal.")
@click.option("--timeout", type=float, default=30, show_default=True, help="Seconds to wait for the releases.")
def stop(lift: bool, status: bool, reason: str | None, timeout: float) -> int:
    """Stop all writing: release everything that the appliance holds, and refuse new writes until `--lift`.

    Waits until nothing is held any more. The exit status is 1 where something still is: the site is stopped all the
    same, and the running worker goes on trying.
    """
    if lift and status:
        raise click.UsageError("Give either --lift or --status.")
    with connect_now(load_settings().database_url.get_secret_value(), "stop") as connection:
        schema.check(schema_version_now(connection))
        if not status:
            _set(connection, stopped=not lift, reason=reason)
        deadline = time.monotonic() + (0 if lift or status else timeout)
        row = _state(connection)
        while row[4] and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY)
            row = _state(connection)
    click.echo(_text(*row))
    return ExitCode.FAILED if row[0] and row[4] else ExitCode.OK


def _set(connection: psycopg.Connection[Any], *, stopped: bool, reason: str | None) -> None:
    connection.execute(query("site_stop_change"), {"stopped": stopped, "actor": _actor(), "reason": reason})


def _state(connection: psycopg.Connection[Any]) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(query("site_stop")).fetchone()
    assert row is not None  # noqa: S101 - the schema's one row
    return row


def _text(stopped: bool, since: Any, actor: str, reason: str | None, waiting: int) -> str:
    if not stopped:
        return f"The site is not stopped. {waiting} slots are held." if waiting else "The site is not stopped."
    why = f" ({reason})" if reason else ""
    left = (
        f"{waiting} slots are still held; the worker goes on trying. `bacpipes doctor` names them."
        if waiting
        else "Nothing is held."
    )
    return f"The site was stopped by {actor} at {since:%Y-%m-%d %H:%M:%S %Z}{why}. {left}"


def _actor() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container's user without a name
        return f"cli:uid {os.getuid()}"
