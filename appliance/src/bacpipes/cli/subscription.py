"""``bacpipes central publish``, ``subscribe`` and ``unsubscribe``: the replication lane."""

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import psycopg

from bacpipes import log
from bacpipes.central.settings import CentralSettings, load_central_settings
from bacpipes.database import connect, first_line
from bacpipes.errors import BacpipesError, ExitCode, SettingsError, UnavailableError
from bacpipes.events import first_of
from bacpipes.log import Transition, get_logger
from bacpipes.settings import load_settings

Result = TypeVar("Result")
SITE_VARIABLE = "BACPIPES_SITE_DATABASE_URL"
logger = get_logger(__name__)


@click.command()
def publish() -> None:
    """At a site, as the database's owner: publish its log for central's subscription; safe to repeat."""
    from bacpipes.central import replication

    settings = load_settings()

    async def main() -> bool:
        async with await connect(settings, "publish") as connection:
            return await replication.publish(connection, settings.site_id)

    made = attempt(main())
    click.echo(f"Site {settings.site_id} publishes its log ({replication.PUBLICATION}).")
    if not made:
        click.echo("Nothing to change.")


@click.command()
@click.argument("site_id", metavar="SITE", required=False)
@click.option("--all", "folder", type=click.Path(path_type=Path), metavar="FOLDER", help="All sites; see below.")
@click.option("--every", type=click.FloatRange(min=1), help="With --all: again after so many seconds, until SIGTERM.")
@click.option("--fill/--no-fill", default=True, help="After a new start: send what history has and central lacks.")
def subscribe(site_id: str | None, folder: Path | None, every: float | None, fill: bool) -> int:
    """Follow SITE's log by replication; makes what is missing, mends what is broken, safe to repeat.

    BACPIPES_SITE_DATABASE_URL is how this server dials the site (a role with REPLICATION, sslmode=verify-full). A slot
    that was lost is made anew, and what is missing meanwhile is taken from the site's history.

    With --all: every site whose lane is replication, by the connection string in FOLDER/SITE; a site that is fine is
    not asked, and the subscriptions of sites that are gone are dropped. Exit status 1 where one failed.
    """
    if (site_id is None) == (folder is None):
        raise click.UsageError("Say SITE or --all FOLDER.")
    if folder is None:
        return _one(str(site_id), fill=fill)
    settings = load_central_settings()
    if every is None:
        return _all(settings, folder)
    log.configure(settings.log_format, settings.log_level)
    asyncio.run(_repeat(settings, folder, every))
    return ExitCode.OK


@click.command()
@click.argument("site_id", metavar="SITE")
def unsubscribe(site_id: str) -> None:
    """End the subscription to SITE. Its slot goes with the site, or by the site's bound on WAL."""
    from bacpipes.central import replication

    async def main() -> bool:
        async with await connect(load_central_settings(), "unsubscribe") as connection:
            return await replication.drop(connection, site_id)

    click.echo(f"Site {site_id}: {'no longer subscribed' if attempt(main()) else 'was not subscribed'}.")


def site_url(settings: CentralSettings, site_id: str) -> str:
    """How this server dials the site, as the environment says."""
    if settings.site_database_url is None:
        raise SettingsError(f"{SITE_VARIABLE} is not set.", f"It says how this server dials site {site_id!r}.")
    return settings.site_database_url.get_secret_value()


def attempt(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it; a refusal of the database becomes one clear line."""
    try:
        return asyncio.run(work)
    except psycopg.Error as error:
        raise UnavailableError(f"The database refused: {first_line(error)}.") from None


def _one(site_id: str, *, fill: bool) -> int:
    from bacpipes.central import subscriptions
    from bacpipes.cli.reconcile import conclude

    settings = load_central_settings()
    action, report = attempt(subscriptions.keep(settings, site_id, site_url(settings, site_id), fill=fill))
    status = conclude(report) if report is not None else ExitCode.OK
    click.echo(f"Site {site_id}: subscription {action}.")
    return status


def _all(settings: CentralSettings, folder: Path) -> int:
    from bacpipes.central import subscriptions

    outcomes = attempt(subscriptions.keep_all(settings, subscriptions.addresses_in(folder)))
    for outcome in outcomes:
        click.echo(f"Site {outcome.site}: {'failed: ' if outcome.failed else ''}{outcome.action}.")
    return ExitCode.FAILED if any(outcome.failed for outcome in outcomes) else ExitCode.OK


async def _repeat(settings: CentralSettings, folder: Path, every: float) -> None:
    """What fails is told once, and once more when it works again."""
    from bacpipes.central import subscriptions

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    transitions: dict[str, Transition] = {}
    database = Transition(logger, "subscriptions")
    while not stop.is_set():
        try:
            outcomes = await subscriptions.keep_all(settings, subscriptions.addresses_in(folder))
            database.recovered()
        except (psycopg.Error, BacpipesError) as error:
            outcomes = []
            database.failed(first_line(error))
        for outcome in outcomes:
            transition = transitions.setdefault(outcome.site, Transition(logger, f"subscription to {outcome.site}"))
            if outcome.failed:
                transition.failed(outcome.action)
                continue
            transition.recovered()
            if outcome.action != "there":
                logger.info("subscription", site=outcome.site, action=outcome.action)
        await first_of(stop, within=every)
