"""A follower of the log that dials out to central: readings, gaps, results and metadata go up, commands come down."""

import asyncio
import random
import time
import zlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from bacpipes.central import audit_head, link, shipping
from bacpipes.central.pace import Pace
from bacpipes.central.reconcile import SETTLE, Report, reconcile, send_unsettled
from bacpipes.database import Connection, connect, first_line
from bacpipes.errors import BacpipesError
from bacpipes.events import first_of
from bacpipes.log import Transition, get_logger
from bacpipes.metrics import WorkerMetrics
from bacpipes.settings import Settings

logger = get_logger(__name__)

IDLE = 1.0  # seconds between looks at the log, and for news of commands, when nobody wakes us
HAND_AGAIN = 60.0  # seconds after which a command that has no result yet is handed to the writer again
LAG_EVERY = 10.0  # seconds, also between looks at the audit's head
RETRY_FIRST, RETRY_LAST = 1.0, 60.0  # seconds between connections, doubling
END_PATIENCE = 1.0  # seconds that a step under way gets at the end
FAILURES = (psycopg.Error, BacpipesError, OSError)


class Shipper:
    """``on_command`` gets the payload of each command that central has for this site; it must not block."""

    def __init__(self, settings: Settings, metrics: WorkerMetrics) -> None:
        assert settings.central_database_url is not None  # noqa: S101 - else there is no shipper
        self._url = settings.central_database_url.get_secret_value()
        link.refuse_unsafe(self._url)
        self._settings, self._metrics = settings, metrics
        self.on_command: Callable[[dict[str, Any]], None] = lambda _: None
        self._health = Transition(logger, "shipping to central")
        self._comparison = Transition(logger, "comparison with central")
        self._news = asyncio.Event()
        self._metadata_changed = True
        self._handed: dict[str, float] = {}
        self._pace = Pace(settings.ship_rate)
        self._compare_all = False  # the log has a hole: history has to fill in
        self._compare_now = asyncio.Event()
        self.shipped_at: datetime | None = None  # when readings went to central the last time
        self.waiting: int | None = None  # batches that central does not have yet; None: not known yet
        self.oldest: datetime | None = None  # of these
        self._look_at = self._lag_at = self._ship_at = self._audit_at = 0.0
        self._audit_sent = -1

    @property
    def reason(self) -> str | None:
        """Why nothing is shipped, or None."""
        return self._health.reason

    def wake(self) -> None:
        """There is something new in the log."""
        self._news.set()

    def metadata_changed(self) -> None:
        """A device or point is another than before."""
        self._metadata_changed = True
        self._news.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; what central has not committed by then is sent after the next start."""
        comparing = asyncio.create_task(self._compare_from_time_to_time(stop))
        failures = 0
        while not stop.is_set():
            task = asyncio.create_task(self._connection(stop))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not task.done():
                await asyncio.wait({task}, timeout=END_PATIENCE)
                task.cancel()
            try:
                failures = 0 if await task else failures
            except asyncio.CancelledError:
                break
            except FAILURES as error:
                self._metrics.ship_connected.set(0)
                failures = 1 if not self._health.failing else failures + 1
                self._health.failed(first_line(error), remedy=getattr(error, "remedy", ""))
                await first_of(stop, within=min(RETRY_LAST, RETRY_FIRST * 2.0 ** min(failures, 10)) * _jitter())
        comparing.cancel()
        await asyncio.wait({comparing})

    async def _connection(self, stop: asyncio.Event) -> bool:
        """One pair of connections, from the first word to the last."""
        async with AsyncExitStack() as stack:
            site = await stack.enter_async_context(await connect(self._settings, "shipper"))
            central = await stack.enter_async_context(await link.connect(self._url, self._name("shipper")))
            await shipping.require_registered(central, self._settings.site_id)
            if self._settings.ship_readings and await shipping.activate(site):
                logger.warning("the log does not reach back to what central has; history fills in")
                self._compare_all = True
                self._compare_now.set()
            await central.execute(f'LISTEN "site_{self._settings.site_id}"'.encode())
            self._metadata_changed, self._look_at, self._lag_at = True, 0.0, 0.0
            self._audit_at, self._audit_sent = 0.0, -1
            await self._step(site, central)
            self._health.recovered()
            self._metrics.ship_connected.set(1)
            while not stop.is_set():
                self._news.clear()
                if not await self._step(site, central):
                    await first_of(self._news, stop, within=IDLE)
                    async for _ in central.notifies(timeout=0):
                        self._look_at = 0.0
        return True

    async def _step(self, site: Connection, central: Connection) -> bool:
        """A bit of everything; True where there may be more at once."""
        if self._metadata_changed:
            self._metadata_changed = False
            await shipping.send_metadata(site, central, self._settings.site_id)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + self._settings.command_look_every
            await self._pull(central)
        if time.monotonic() >= self._audit_at:
            await self._send_audit_head(site, central)
        more = await shipping.send_results(site, central)
        if not self._settings.ship_readings:
            return bool(more)
        more += await shipping.send_gaps(site, central)
        shipped = await self._send_batches(site, central)
        self._metrics.shipped.inc(shipped.readings)
        self._metrics.shipped_octets.inc(shipped.octets)
        if time.monotonic() >= self._lag_at or not shipped.batches:
            await self._note_lag(site)
        if shipped.readings:
            self.shipped_at = datetime.now(UTC)
            await self._pace.keep(shipped.readings)
        return bool(more or shipped.batches)

    async def _send_batches(self, site: Connection, central: Connection) -> shipping.Shipped:
        """Polls of `ship_every` seconds go together; what waits beyond one shipment follows at once."""
        if time.monotonic() < self._ship_at:
            return shipping.Shipped()
        shipped = await shipping.send_batches(site, central)
        if 0 < shipped.readings < shipping.READINGS_AT_ONCE:
            self._ship_at = time.monotonic() + self._settings.ship_every
        return shipped

    async def _pull(self, central: Connection) -> None:
        now = time.monotonic()
        self._handed = {job: until for job, until in self._handed.items() if until > now}
        for payload in await shipping.commands(central, self._settings.site_id):
            if payload["jobId"] not in self._handed:
                self._handed[payload["jobId"]] = now + HAND_AGAIN
                self.on_command(payload)

    async def _send_audit_head(self, site: Connection, central: Connection) -> None:
        """With each new record, and once at every connection."""
        self._audit_at = time.monotonic() + LAG_EVERY
        newest = await audit_head.record_of(site)
        if newest != self._audit_sent:
            await audit_head.send(site, central, self._settings.site_id)
            self._audit_sent = newest

    async def _note_lag(self, site: Connection) -> None:
        self._lag_at = time.monotonic() + LAG_EVERY
        batches, oldest = self.waiting, self.oldest = await shipping.lag(site)
        self._metrics.ship_lag_batches.set(batches)
        self._metrics.ship_lag_seconds.set((datetime.now(UTC) - oldest).total_seconds() if oldest else 0)

    def _name(self, purpose: str) -> str:
        return f"{purpose} {self._settings.site_id}"

    # --- the comparison

    async def _compare_from_time_to_time(self, stop: asyncio.Event) -> None:
        """Nightly, and when the log has a hole. It has connections of its own and holds up nothing."""
        due = time.monotonic() + self._until_first()
        while True:
            await first_of(self._compare_now, stop, within=max(0.0, due - time.monotonic()))
            if stop.is_set():
                return
            self._compare_now.clear()
            whole, self._compare_all = self._compare_all, False
            try:
                await self._compare(whole)
            except FAILURES as error:
                self._comparison.failed(first_line(error))
                self._compare_all = whole
                due = time.monotonic() + RETRY_LAST * _jitter()
                continue
            self._comparison.recovered()
            due = time.monotonic() + (self._settings.reconcile_every_hours * 3600 or 1e9)

    def _until_first(self) -> float:
        """A fleet does not compare at the same moment."""
        every = self._settings.reconcile_every_hours * 3600
        return zlib.crc32(self._settings.site_id.encode()) % round(every) if every >= 1 else 1e9

    async def _compare(self, whole: bool) -> None:
        """With central; ``whole`` where the log had a hole."""
        days = self._settings.retention_days if whole else self._settings.reconcile_days
        until = datetime.now(UTC) - SETTLE
        async with AsyncExitStack() as stack:
            site = await stack.enter_async_context(await connect(self._settings, "reconcile"))
            central = await stack.enter_async_context(await link.connect(self._url, self._name("reconcile")))
            report = Report(self._settings.site_id, until - timedelta(days=days), until)
            await reconcile(site, central, report, rate=self._settings.ship_rate)
            if whole:
                await send_unsettled(site, central, report)
        self._metrics.note_comparison(report.figures(), datetime.now(UTC))
        span = {"since": report.since.isoformat(), "until": report.until.isoformat()}
        logger.info("compared with central", **(report.figures() | span))


def _jitter() -> float:
    return random.uniform(0.5, 1.0)  # noqa: S311 - spreads a fleet, hides nothing
