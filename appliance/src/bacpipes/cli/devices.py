"""``bacpipes devices``."""

from typing import Any

import click
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from bacpipes import schema
from bacpipes.database import connect_now, query, schema_version_now
from bacpipes.errors import InputError
from bacpipes.points.importer import os_user
from bacpipes.settings import load_settings

COV = ("off", "unconfirmed", "confirmed")
DEFAULT = "default"


class _OrDefault(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number within limits, or the word ``default``."""

    def __init__(self, kind: "click.ParamType[Any]") -> None:
        self._kind = kind
        self.name = f"{kind.name}|{DEFAULT}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == DEFAULT else self._kind.convert(value, param, ctx)


@click.group()
def devices() -> None:
    """How single devices are asked: time-out, retries, requests at once, COV."""


@devices.command("list")
def list_() -> None:
    """All devices of the site; what stands in brackets is the site's default."""
    settings = load_settings()
    with connect_now(settings.database_url.get_secret_value(), "devices") as connection:
        schema.check(schema_version_now(connection))
        rows = connection.execute(query("devices_list"), {"site": settings.site_id}).fetchall()
    defaults = (settings.bacnet_timeout, settings.bacnet_retries, settings.bacnet_device_concurrency, "unconfirmed")
    for number, name, address, points, *ours in rows:
        timeout, retries, concurrency, cov = (
            f"({default})" if value is None else str(value) for value, default in zip(ours, defaults, strict=True)
        )
        asked = f"timeout {timeout} s, retries {retries}, concurrency {concurrency}, cov {cov}"
        click.echo(f"{number:>7}  {name or '-'}  {address}  {points} points: {asked}")


@devices.command("set")
@click.argument("number", type=click.IntRange(0, 4194302))
@click.option("--timeout", type=_OrDefault(click.FloatRange(0, 60, min_open=True)), help="Seconds for one answer.")
@click.option("--retries", type=_OrDefault(click.IntRange(0, 10)), help="Repeats of a request that is not answered.")
@click.option("--concurrency", type=_OrDefault(click.IntRange(1, 16)), help="Requests outstanding at once.")
@click.option("--cov", type=click.Choice([*COV, DEFAULT]), help="How changes are told, for points that ask for it.")
def set_(number: int, **given: Any) -> None:
    """Change how device NUMBER is asked; `default` gives the site's back. The running worker follows at once."""
    changes = {name: None if value == DEFAULT else value for name, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("Give at least one of --timeout, --retries, --concurrency, --cov.")
    settings = load_settings()
    with connect_now(settings.database_url.get_secret_value(), "devices") as connection:
        schema.check(schema_version_now(connection))
        _change(connection, settings.site_id, number, changes)
    told = ", ".join(f"{name} {DEFAULT if value is None else value}" for name, value in changes.items())
    click.echo(f"Device {number}: {told}.")


def _change(connection: psycopg.Connection[Any], site: str, number: int, changes: dict[str, Any]) -> None:
    columns = {"timeout": "timeout_seconds"}
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(columns.get(name, name)), sql.Placeholder(name)) for name in changes
    )
    statement = sql.SQL(
        "UPDATE device SET {}, updated_at = now() WHERE site_id = %(_site)s AND device_id = %(_number)s"
    ).format(assignments)
    with connection.transaction():
        if not connection.execute(statement, changes | {"_site": site, "_number": number}).rowcount:
            raise InputError(f"Site {site!r} has no device {number}.", "`bacpipes devices list` shows them.")
        values = [f"cli:{os_user()}", "device.set", str(number), Jsonb(changes)]
        connection.execute(query("exporter_audit"), values)
