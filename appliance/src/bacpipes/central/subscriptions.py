"""The subscriptions to all sites of the replication lane, kept as they should be; to be repeated every minute."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from pydantic import SecretStr

from bacpipes.central import replication
from bacpipes.central.link import refuse_unsafe
from bacpipes.central.reconcile import SETTLE, Report, reconcile, send_unsettled
from bacpipes.central.settings import CentralSettings
from bacpipes.database import Connection, connect, first_line
from bacpipes.errors import BacpipesError, InputError

AT_ONCE = 10  # sites that are dialled at the same time
FILL_DAYS = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done about one site, or why it could not be."""

    site: str
    action: str
    failed: bool = False


async def keep(settings: CentralSettings, site_id: str, url: str, *, fill: bool = True) -> tuple[str, Report | None]:
    """Let the subscription to one site be as it should be; what was done, and the comparison where one was due.

    ``url`` is how this server dials the site. A slot that was lost is made anew, and history fills in; where that
    breaks off, the next call goes on with it.
    """
    refuse_unsafe(url, f"the address of site {site_id}")
    there = settings.model_copy(update={"database_url": SecretStr(url)})
    async with await connect(there, "central") as site, await connect(settings, "subscribe") as central:
        done = await replication.subscribe(site, central, site_id, url)
        if not (done.hole and fill):
            return done.action, None
        until = datetime.now(UTC) - SETTLE
        report = Report(site_id, until - timedelta(days=FILL_DAYS), until)
        await reconcile(site, central, report, rate=settings.ship_rate)
        await send_unsettled(site, central, report)
        await replication.filled(central, site_id, url)
        return done.action, report


def addresses_in(folder: Path) -> Callable[[str], str]:
    """How this server dials each site: the content of the file in ``folder`` that is named as the site."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", "It holds one file a site with its connection string.")

    def address_of(site: str) -> str:
        try:
            return (folder / site).read_text().strip()
        except OSError as error:
            raise InputError(f"{folder / site} can't be read: {error.strerror}.") from None

    return address_of


async def keep_all(settings: CentralSettings, address_of: Callable[[str], str]) -> list[Outcome]:
    """The same for every site whose lane is replication; subscriptions of others are dropped.

    ``address_of`` gives a site's connection string. A site that is fine is not asked; one that can't be reached holds
    up no other.
    """
    async with await connect(settings, "subscriptions") as central:
        rows = await (await central.execute("SELECT id FROM site WHERE complete_lane = 'replication'")).fetchall()
        wanted, present = {row[0] for row in rows}, {state.site: state for state in await replication.states(central)}
        outcomes = [await _drop(central, site) for site in sorted(present.keys() - wanted)]
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(site: str) -> Outcome:
        async with turns:
            return await _keep_one(settings, site, address_of, present.get(site))

    return outcomes + await asyncio.gather(*(one(site) for site in sorted(wanted)))


async def _keep_one(
    settings: CentralSettings, site: str, address_of: Callable[[str], str], state: replication.State | None
) -> Outcome:
    try:
        url = address_of(site)
        if state is not None and state.fine(url):
            return Outcome(site, "there")
        action, report = await keep(settings, site, url)
    except (psycopg.Error, BacpipesError) as error:
        return Outcome(site, first_line(error), failed=True)
    return Outcome(site, action if report is None else f"{action}; {report.sent_rows} readings sent from history")


async def _drop(central: Connection, site: str) -> Outcome:
    try:
        await replication.drop(central, site)
    except psycopg.Error as error:
        return Outcome(site, first_line(error), failed=True)
    return Outcome(site, "dropped: its lane is not replication")
