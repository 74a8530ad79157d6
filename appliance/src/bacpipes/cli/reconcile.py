"""``bacpipes reconcile``."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import click
import psycopg

from bacpipes.central import link
from bacpipes.central import reconcile as both
from bacpipes.database import connect, first_line
from bacpipes.errors import ExitCode, SettingsError, UnavailableError
from bacpipes.settings import Settings, load_settings


@click.command()
@click.option("--days", type=click.FloatRange(min=0.01), help="How far to look back; default: BACPIPES_RECONCILE_DAYS.")
@click.option("--check", is_flag=True, help="Only compare; send nothing.")
@click.option("--rate", type=click.FloatRange(min=1), help="Readings per second; default: BACPIPES_SHIP_RATE.")
def reconcile(days: float | None, check: bool, rate: float | None) -> int:
    """Compare this site's history with central's, hour by hour, and send what is missing there.

    Both sides count the readings and sum a checksum over point, time, value and quality. Exit status 0: central has
    every reading; 1: some hours differ (still).
    """
    settings = load_settings()
    try:
        return asyncio.run(_run(settings, days or settings.reconcile_days, check, rate or settings.ship_rate))
    except psycopg.Error as error:
        raise UnavailableError(f"The comparison broke off: {first_line(error)}.", "It can be repeated.") from None


async def _run(settings: Settings, days: float, check: bool, rate: float) -> int:
    if settings.central_database_url is None:
        raise SettingsError("BACPIPES_CENTRAL_DATABASE_URL is not set: there is no central to compare with.")
    until = datetime.now(UTC) - both.SETTLE
    report = both.Report(settings.site_id, until - timedelta(days=days), until)
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(await connect(settings, "reconcile"))
        url = settings.central_database_url.get_secret_value()
        central = await stack.enter_async_context(await link.connect(url, f"reconcile {settings.site_id}"))
        await both.reconcile(site, central, report, rate=rate, send=not check, on_hour=show_hour)
    return conclude(report)


def conclude(report: both.Report) -> int:
    """Print the sum and return the exit status."""
    click.echo(
        f"{report.site}: {report.hours} hours, {report.site_rows} readings here, {report.central_rows} were at central;"
        f" {len(report.differing)} hours differed, {report.sent_rows} readings sent,"
        f" {len(report.remaining)} differ still."
    )
    return ExitCode.FAILED if report.remaining else ExitCode.OK


def show_hour(hour: both.Hour) -> None:
    """One line of the table."""
    after = "" if hour.after is None else f" now {hour.after:>8}"
    click.echo(f"{hour.hour:%Y-%m-%d %H:00Z}  site {hour.site:>8}  central {hour.central:>8}{after}  {hour.verdict}")
