"""The worker: startup → main loop → shutdown. It owns the parts; what each does stands in its own module."""

import asyncio
import shutil
import time
from contextlib import AsyncExitStack, suppress
from typing import Any

import psycopg

from bacpipes import memory
from bacpipes.bacnet.client import BacnetClient
from bacpipes.database import Connection, connect, first_line
from bacpipes.errors import BacpipesError, UnavailableError
from bacpipes.events import first_of
from bacpipes.log import Transition, get_logger
from bacpipes.metrics import WorkerMetrics
from bacpipes.mqtt import config as mqtt_config
from bacpipes.mqtt.client import MqttClient
from bacpipes.mqtt.config import MqttConfig
from bacpipes.mqtt.message import ReceivedMessage
from bacpipes.points.directory import Directory
from bacpipes.reading import Batch
from bacpipes.settings import Settings
from bacpipes.worker import housekeeping, log_store, steps
from bacpipes.worker.about_site import AboutSite
from bacpipes.worker.addresses import Addresses
from bacpipes.worker.committer import Committer
from bacpipes.worker.control import Control
from bacpipes.worker.gaps import NOT_RUNNING, gaps_since
from bacpipes.worker.local_api import LocalApi
from bacpipes.worker.pollers import Pollers
from bacpipes.worker.publisher import Publisher
from bacpipes.worker.settings_watch import SettingsWatch
from bacpipes.worker.shipper import Shipper
from bacpipes.worker.spool import Spool
from bacpipes.worker.status_server import Reason, StatusServer
from bacpipes.writes.service import CommandService
from bacpipes.writes.sources import Sources

logger = get_logger(__name__)

RELOAD_RETRY = 2.0  # seconds between tries to take over a change
BACNET_RETRY = 5.0  # seconds between tries to open the BACnet interface
END_WITHIN = 3.0  # seconds for commands, commits, publishing and goodbye together
MEGABYTE = 1024 * 1024
UNUSABLE = MqttConfig.model_validate({"enabled": False})  # stands in for a configuration that can't be read
DISK_LOW = 200 * MEGABYTE


class Worker:
    """Polls, commits, publishes, and carries out commands until it is told to stop."""

    def __init__(self, settings: Settings, environment: Settings | None = None) -> None:
        self._settings = settings
        self.watch = SettingsWatch(settings, environment or settings)
        self._metrics = WorkerMetrics()
        self._directory = Directory()
        self._control = Control(settings)
        self._shipper = Shipper(settings, self._metrics) if settings.central_database_url else None
        self._bacnet = BacnetClient.from_settings(settings)
        self._bacnet_health = Transition(logger, "BACnet interface")
        self._reload_health = Transition(logger, "taking over a change")
        self._mqtt_health = Transition(logger, "MQTT configuration")
        self._pollers = Pollers(settings, self._bacnet, self._metrics, self._deliver, self._failed)
        self._mqtt: MqttClient | None = None
        self._committer: Committer | None = None
        self._publisher: Publisher | None = None
        self._tidying = memory.Tidying(self._quiet)
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._addresses = Addresses(settings, self._bacnet, self._metrics, self._pollers)

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; raise where this worker must not or can't go on."""
        settings, self._stop = self._settings, stop
        local = LocalApi(settings, self._bacnet, lambda: self._mqtt, self._told)
        about = AboutSite(settings, self.watch, self._shipper)
        status = StatusServer(
            settings.worker_http_host,
            settings.worker_http_port,
            self._render,
            self.reasons,
            [*local.routes, *about.routes],
        )
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(status)
            stack.push_async_callback(local.close)
            stack.push_async_callback(self._control.close)
            connection = await self._control.open(stop)
            if connection is None or await self.watch.look(connection):
                return
            if not await self._open_bacnet(stop, stack, connection):
                return
            await self._directory.load(connection)
            await self._main_loop(stop, connection)

    def reasons(self) -> list[Reason]:
        """What keeps the worker from its work; empty when ready."""
        found = []
        if reason := self._control.reason or (self._committer.reason if self._committer else None):
            found.append(
                Reason("database", reason, "Readings are kept on disk meanwhile; `bacpipes doctor` tells more.")
            )
        if reason := self._bacnet_health.reason:
            found.append(Reason("bacnet", reason))
        elif reason := self._bacnet.unregistered:
            found.append(Reason("bacnet", reason, "Is BACPIPES_BACNET_BBMD right, and does the network reach it?"))
        if reason := self._mqtt_health.reason:
            found.append(Reason("mqtt", reason, "Correct it: `bacpipes mqtt set`."))
        elif self._mqtt is not None and self._mqtt.config.enabled and (reason := self._mqtt.reason):
            found.append(Reason("mqtt", reason, self._mqtt.remedy or ""))
        if self._shipper is not None and (reason := self._shipper.reason):
            found.append(Reason("central", reason, "Readings wait in the log, and in history, meanwhile."))
        if reason := self._reload_health.reason:
            found.append(Reason("points", f"a change could not be taken over: {reason}"))
        free = _free_bytes(self._settings)
        if free is not None and free < DISK_LOW:
            found.append(Reason("disk", f"{free // MEGABYTE} MB free in {self._settings.state_dir}", "Make room."))
        if not found and self._mqtt is None:
            found.append(Reason("worker", "starting"))
        return found

    # --- startup

    async def _open_bacnet(self, stop: asyncio.Event, stack: AsyncExitStack, connection: Connection) -> bool:
        while not stop.is_set():
            try:
                await stack.enter_async_context(self._bacnet)
            except UnavailableError as error:
                self._bacnet_health.failed(str(error))
                await first_of(stop, within=BACNET_RETRY)
                with suppress(psycopg.Error):  # the connection is looked after later
                    if await self.watch.look(connection):  # the page may have corrected it
                        return False
                continue
            self._bacnet_health.recovered()
            return True
        return False

    async def _main_loop(self, stop: asyncio.Event, connection: Connection) -> None:
        settings = self._settings
        engine = await asyncio.to_thread(housekeeping.engine, settings)
        logger.info("history", engine=engine.value if engine else None, meaning=engine.meaning if engine else None)
        config = await self._load_mqtt(connection) or UNUSABLE

        def receive(message: ReceivedMessage) -> None:
            commands.receive(message)

        sources = Sources(settings)
        topic = settings.write_heartbeat_topic
        heartbeats = (topic, sources.heartbeat) if topic else None
        mqtt = MqttClient(config, site_id=settings.site_id, on_command=receive, heartbeats=heartbeats)
        publisher = Publisher(settings, self._directory, self._metrics, mqtt)
        publisher.switched_off = self._switched_off(config)
        commands = CommandService(
            settings,
            self._bacnet,
            self._metrics,
            sources,
            publish=publisher.publish_result,
            on_result=publisher.wake,
        )
        if self._shipper is not None:
            self._shipper.on_command = commands.take_pulled

        def committed() -> None:
            publisher.wake()
            if self._shipper is not None:
                self._shipper.wake()

        committer = Committer(
            settings,
            Spool(settings.state_dir, settings.spool_megabytes * MEGABYTE),
            self._metrics,
            on_commit=committed,
            on_spooled=publisher.publish_directly,
        )
        self._mqtt, self._committer, self._publisher = mqtt, committer, publisher
        await committer.recover(stop)
        last = await log_store.last_slots(connection, settings.phase_of)
        now = time.time()  # one moment for both: a slot that begins in between must be polled, or be a gap
        self._record_absence(last, now)
        await self._pollers.follow(self._directory.enabled, last, now)
        await self._tell_central(connection)
        memory.settle()
        logger.info(
            "worker runs", site=settings.site_id, points=len(self._directory.enabled), devices=len(self._pollers)
        )
        await self._supervise(stop, mqtt, publisher, commands, committer)

    async def _load_mqtt(self, connection: Connection) -> MqttConfig | None:
        """The broker's configuration; None where it can't be used, which must not end the polling."""
        try:
            config = await mqtt_config.load(connection, self._settings)
        except BacpipesError as error:
            self._mqtt_health.failed(str(error))
            return None
        self._mqtt_health.recovered()
        return config

    def _switched_off(self, config: MqttConfig) -> bool:
        return not config.enabled and config is not UNUSABLE

    def _record_absence(self, last: dict[int, float], now: float) -> None:
        gaps = gaps_since(last, self._directory.enabled, self._settings.phase_of, now, NOT_RUNNING)
        if gaps and self._committer is not None:
            logger.warning(
                "scheduled reads were missed", reason=NOT_RUNNING, gaps=len(gaps), since=min(g.start for g in gaps)
            )
            self._committer.deliver(Batch(0, 0, 0, [], gaps))

    # --- main loop

    async def _supervise(
        self,
        stop: asyncio.Event,
        mqtt: MqttClient,
        publisher: Publisher,
        commands: CommandService,
        committer: Committer,
    ) -> None:
        """Run the parts; when one fails all end. They stop in the order in which readings and results flow."""

        async def changed(table: str) -> None:
            await self._changed(table, publisher, commands, stop)

        ends = [asyncio.Event() for _ in range(4)]
        commands_end, committer_end, publisher_end, mqtt_end = ends
        parts = {
            "control": self._control.follow(stop, changed),
            "housekeeping": housekeeping.run(stop, self._settings),
            "clock": steps.watch(stop, self._metrics),
            "tidying": self._tidying.run(stop),
            "addresses": self._addresses.run(stop),
            "commands": commands.run(commands_end),
            "committer": committer.run(committer_end),
            "publisher": publisher.run(publisher_end),
            "mqtt": mqtt.run(mqtt_end),
        }
        if self._shipper is not None:
            parts["shipper"] = self._shipper.run(publisher_end)
        tasks = {name: asyncio.create_task(part, name=name) for name, part in parts.items()}
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([stopping, *tasks.values()], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        stopping.cancel()
        logger.info("worker stops")
        await self._pollers.stop()
        deadline = asyncio.get_running_loop().time() + END_WITHIN
        for end, name in zip(ends, ("commands", "committer", "publisher", "mqtt"), strict=True):
            end.set()
            left = max(0.1, deadline - asyncio.get_running_loop().time())
            await asyncio.wait([tasks[name]], timeout=left)
            logger.debug("part ended", part=name, in_time=tasks[name].done())
            if name == "committer" and not tasks[name].done():
                tasks[name].cancel()
                committer.abandon()
        _, late = await asyncio.wait(tasks.values(), timeout=0.6)
        for task in late:
            task.cancel()
        for task in tasks.values():
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error
        if self._failure is not None:
            raise self._failure

    async def _changed(self, table: str, publisher: Publisher, commands: CommandService, stop: asyncio.Event) -> None:
        """Take a change over; again and again, where it can't be: the old points must not stay in force unseen."""
        if table in ("write_commands", "site_stop", "*"):
            commands.wake()
        if table not in ("point", "device", "mqtt_config", "setting", "*"):
            return
        while not await self._take_over(table, publisher) and not stop.is_set():
            await first_of(stop, within=RELOAD_RETRY)

    async def _take_over(self, table: str, publisher: Publisher) -> bool:
        mqtt = publisher.client
        try:
            async with await connect(self._settings, "reload") as connection:
                if table in ("setting", "*") and await self.watch.look(connection):
                    self._stop.set()
                    return True
                if table not in ("mqtt_config", "setting"):
                    await self._directory.load(connection)
                    await self._pollers.follow(self._directory.enabled, {}, time.time())
                    self._tidying.changed = True
                    await self._tell_central(connection)
                if table in ("mqtt_config", "*") and (config := await self._load_mqtt(connection)):
                    publisher.switched_off = self._switched_off(config)
                    mqtt.reconfigure(config)
        except (psycopg.Error, BacpipesError) as error:
            self._reload_health.failed(first_line(error), table=table)
            return False
        self._reload_health.recovered()
        return True

    async def _tell_central(self, connection: Connection) -> None:
        """Devices and points go to central as they are now, by whichever way there is."""
        if self._shipper is not None:
            self._shipper.metadata_changed()
        await connection.execute("SELECT log_metadata(%s)", [self._settings.site_id])

    def _quiet(self) -> bool:
        """True while no reading waits to be committed or published."""
        return all(part is None or part.idle for part in (self._committer, self._publisher))

    def _failed(self, error: BaseException) -> None:
        """A device is no longer polled: the worker ends, and is started again."""
        self._failure = error
        self._stop.set()

    def _deliver(self, batch: Batch) -> None:
        if self._committer is not None:
            self._committer.deliver(batch)

    def _render(self) -> bytes:
        self._metrics.mqtt_connected.set(self._mqtt is not None and self._mqtt.connected)
        self._pollers.show()
        self._metrics.answers_malformed.set(self._bacnet.malformed)
        self._metrics.packets_damaged.set(self._bacnet.complaints.count)
        self._metrics.device_double.clear()
        for number, _, address in self._addresses.doubles:
            self._metrics.device_double.labels(number, address).set(1)
        self._metrics.show_ignored(self._bacnet.counts.damaged, self._bacnet.counts.stray)
        self._metrics.points.set(len(self._directory.enabled))
        return self._metrics.text()

    def _told(self) -> dict[str, Any]:
        """Points that ask for COV, and why those are polled that are; devices whose number another one has."""
        doubles = [
            {"device": number, "polled": polled, "other": other} for number, polled, other in self._addresses.doubles
        ]
        return {"doubles": doubles, "cov": self._pollers.cov}


def _free_bytes(settings: Settings) -> int | None:
    try:
        return shutil.disk_usage(settings.state_dir).free
    except OSError:
        return None
