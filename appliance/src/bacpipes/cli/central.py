"""``bacpipes central``: what runs at the central server."""

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from bacpipes import log
from bacpipes.central.settings import CentralSettings, load_central_settings
from bacpipes.cli.subscription import SITE_VARIABLE, attempt, publish, site_url, subscribe, unsubscribe
from bacpipes.cli.token import token
from bacpipes.database import Connection, connect, connect_now
from bacpipes.errors import ExitCode, InputError
from bacpipes.points.importer import os_user

LANES = ("ship", "replication", "none")


@click.group()
def central() -> None:
    """The central server: its database, its service, its sites.

    Settings are BACPIPES_… variables as at a site, with central's own database; docs/central.md lists them.
    """


@central.command()
def migrate() -> None:
    """Bring central's database to this version's schema; safe to repeat."""
    from bacpipes.central import schema
    from bacpipes.central.migrate import migrate as bring_up_to_date  # Alembic and SQLAlchemy: only here

    engine = bring_up_to_date(load_central_settings())
    click.echo(f"Central's database is at schema {schema.head()}; history: {engine.value} ({engine.meaning}).")


@central.command()
def serve() -> None:
    """Serve central's API, and hand commands from the broker to their sites. SIGTERM ends it in under 5 s."""
    from bacpipes.central.app import create_app
    from bacpipes.exporter.certificate import ServerCertificate
    from bacpipes.exporter.server import listen
    from bacpipes.exporter.server import serve as run

    settings = load_central_settings()
    log.configure(settings.log_format, settings.log_level)
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # readiness logs the failure and the recovery
    certificate = ServerCertificate.of(settings)
    with listen(settings) as listener:

        async def main() -> None:
            await run(create_app(settings), listener, certificate)

        asyncio.run(main())
    gc.freeze()


@central.command("reconcile")
@click.argument("site_id", metavar="SITE")
@click.option("--days", type=click.FloatRange(min=0.01), default=2.0, show_default=True, help="How far to look back.")
@click.option("--check", is_flag=True, help="Only compare; send nothing.")
def reconcile_(site_id: str, days: float, check: bool) -> int:
    """Compare SITE with central from here, where central can dial the site; as `bacpipes reconcile` does there."""

    async def main() -> int:
        async with _both(site_id) as (settings, site, central):
            return await _compare(settings, site, central, site_id, days, send=not check)

    return attempt(main())


@central.group()
def site() -> None:
    """Register sites, list them, take them away."""


@site.command("add")
@click.argument("site_id", metavar="SITE")
@click.option("--name", help="What people call it.")
@click.option("--time-zone", help="IANA zone.")
@click.option("--lane", type=click.Choice(LANES), help="How its log comes here; a new site: ship.")
@click.option("--live/--no-live", default=None, help="Does it bridge its broker to central's? A new site: yes.")
@click.option("--password-stdin", is_flag=True, help="Read the role's password from standard input.")
def add(
    site_id: str, name: str | None, time_zone: str | None, lane: str | None, live: bool | None, password_stdin: bool
) -> None:
    """Register SITE with its login role site_SITE, or change what the options say; safe to repeat.

    Without a password the role logs in by certificate, as pg_hba.conf says.
    """
    from bacpipes.central import registry

    password = sys.stdin.readline().rstrip("\n") or None if password_stdin else None
    with connect_now(_url(), "central site") as connection, connection.transaction():
        registry.require_schema(connection)
        changed = registry.add(connection, site_id, name=name, zone=time_zone, lane=lane, live=live)
        made = registry.add_role(connection, site_id, password)
    click.echo(f"Site {site_id}: {'changed' if changed else 'nothing to change'}; its role: {made}.")
    if made == "not allowed":
        raise InputError(
            f"Role {registry.role_of(site_id)!r} is missing, and this database user may not make it.",
            f'As a superuser: CREATE ROLE "{registry.role_of(site_id)}" LOGIN IN ROLE {registry.GROUP};',
        )


@site.command("list")
def list_() -> None:
    """Show every site: when each lane brought something last, gaps, what is quarantined."""
    from bacpipes.central import registry

    with connect_now(_url(), "central site") as connection:
        registry.require_schema(connection)
        found = registry.everyone(connection)
    head = f"{'site':<20} {'lane':<12} {'subscription':<12} {'last reading':<20}"
    click.echo(f"{head} {'points':>6} {'gaps':>6} {'quarantined':>11}")
    for one in found:
        last = one["lastReading"].strftime("%Y-%m-%d %H:%M:%SZ") if one["lastReading"] else "-"
        click.echo(
            f"{one['siteId']:<20} {one['completeLane']:<12} {_subscription(one):<12} {last:<20} {one['points']:>6}"
            f" {one['gaps']:>6} {one['quarantined']:>11}"
        )


def _subscription(site: dict[str, Any]) -> str:
    """How the replication lane of a site does, in a word."""
    if site["subscriptionEnabled"] is None:
        return "missing" if site["completeLane"] == "replication" else "-"
    if not site["subscriptionEnabled"]:
        return "disabled"
    return "working" if site["subscriptionWorking"] else "not working"


@site.command("remove")
@click.argument("site_id", metavar="SITE")
def remove(site_id: str) -> None:
    """End SITE's access: its role and its connections go. What it brought stays."""
    from bacpipes.central import registry

    with connect_now(_url(), "central site") as connection:
        registry.require_schema(connection)
        gone = registry.remove_role(connection, site_id)
    click.echo(f"Site {site_id}: {'its role is gone' if gone else 'it has no role'}.")


@site.command("audit")
@click.argument("site_id", metavar="SITE")
@click.option("--accept", metavar="REASON", help="It was looked into (a backup was restored, say): begin anew.")
def audit(site_id: str, accept: str | None) -> int:
    """Say where the head of SITE's audit chain contradicts an earlier one: exit status 1 where it does."""
    from bacpipes.central import registry

    with connect_now(_url(), "central site") as connection:
        registry.require_schema(connection)
        registry.require_site(connection, site_id)
        found = registry.contradictions(connection, site_id)
        for at, record, digest, what in found:
            click.echo(f"{at:%Y-%m-%d %H:%M:%SZ}  head {record}:{digest}  {what}")
        if found and accept:
            registry.accept_audit(connection, site_id, os_user(), accept)
    if not found:
        click.echo(f"Site {site_id}: nothing contradicts the heads that central has.")
    elif accept:
        click.echo(f"Site {site_id}: accepted; its next head begins anew.")
    return ExitCode.FAILED if found and not accept else ExitCode.OK


@site.command("release")
@click.argument("site_id", metavar="SITE")
def release(site_id: str) -> None:
    """Try what is quarantined of SITE for want of a known point once more."""
    with connect_now(_url(), "central site") as connection:
        row = connection.execute("SELECT release_quarantine(%s)", [site_id]).fetchone()
    click.echo(f"Released: {row[0] if row else 0} readings.")


@asynccontextmanager
async def _both(site_id: str) -> AsyncIterator[tuple[CentralSettings, Connection, Connection]]:
    """Connections to the site's database and to central's."""
    from bacpipes.central.link import refuse_unsafe

    settings = load_central_settings()
    refuse_unsafe(site_url(settings, site_id), SITE_VARIABLE)
    there = settings.model_copy(update={"database_url": settings.site_database_url})
    async with await connect(there, "central") as site_, await connect(settings, "subscribe") as central_:
        yield settings, site_, central_


async def _compare(
    settings: CentralSettings, site_: Connection, central_: Connection, site_id: str, days: float, *, send: bool
) -> int:
    from bacpipes.central import reconcile as both
    from bacpipes.cli.reconcile import conclude, show_hour

    until = datetime.now(UTC) - both.SETTLE
    report = both.Report(site_id, until - timedelta(days=days), until)
    await both.reconcile(site_, central_, report, rate=settings.ship_rate, send=send, on_hour=show_hour)
    return conclude(report)


def _url() -> str:

    return load_central_settings().database_url.get_secret_value()


for command in (publish, subscribe, unsubscribe, token):
    central.add_command(command)
