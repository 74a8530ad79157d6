"""Live values: the exporter's own subscription to the broker, handed on to everybody who watches."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from bacpipes.errors import BacpipesError
from bacpipes.exporter.news import News
from bacpipes.exporter.store import Store
from bacpipes.log import Transition, get_logger
from bacpipes.mqtt import config as mqtt_config
from bacpipes.mqtt.check import BRIDGES, DROPPED
from bacpipes.mqtt.config import MqttConfig
from bacpipes.mqtt.failures import MqttError
from bacpipes.mqtt.message import ReceivedMessage
from bacpipes.mqtt.session import Session
from bacpipes.settings import Settings

logger = get_logger(__name__)
SUFFIX = "/presentValue"
QUEUE = 5_000  # readings that one watcher may be behind; what is older is left out, and said to be
REMEMBERED = 50_000  # topics
RETRY = 5.0  # seconds
DISABLED = "MQTT is switched off."


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge of the site's broker: whether it is up, and since when we know."""

    up: bool
    since: datetime


class Live:
    """The latest reading of each topic, and those who wait for the next."""

    def __init__(self, settings: Settings, store: Store, news: News) -> None:
        self._settings, self._store, self._news = settings, store, news
        self._watchers: set[asyncio.Queue[tuple[str, str]]] = set()
        self._health = Transition(logger, "live values")
        self.latest: dict[str, str] = {}
        self.bridges: dict[str, Bridge] = {}
        self.dropped: int | None = None  # messages for which its queues had no room; None: it does not tell
        self.reason: str | None = "not connected yet"

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    async def follow(self) -> None:
        """Stay subscribed for as long as the exporter runs; the reason is kept while it can't be."""
        while True:
            try:
                async with self._store.connection() as connection:
                    config = await mqtt_config.load(connection, self._settings)
                if config.enabled:
                    await self._stay(config)
                else:
                    self.reason = DISABLED
                    await self._news.wait("mqtt_config", 60.0)
            except (psycopg.Error, BacpipesError, OSError) as error:
                self._failed(str(error))
                await self._news.wait("mqtt_config", RETRY)

    @contextmanager
    def watch(self) -> Iterator[asyncio.Queue[tuple[str, str]]]:
        """A queue of ``(topic, payload)``; the oldest give way where its reader is slow."""
        queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue(QUEUE)
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)

    async def _stay(self, config: MqttConfig) -> None:
        """Subscribed until the connection ends or the configuration changes."""
        name = f"{config.client_id[:200]}-monitor-{secrets.token_hex(3)}"
        session = Session(config, client_id=name, on_message=self._received)
        changed = asyncio.create_task(self._changed(config))
        try:
            await session.open()
            await session.subscribe(f"{self._settings.site_id}/#")
            with contextlib.suppress(MqttError):  # the broker's access list may keep it from us
                await session.subscribe(BRIDGES)
                await session.subscribe(DROPPED)
            self.reason = None
            self._health.recovered()
            ended = asyncio.create_task(session.ended())
            await asyncio.wait({ended, changed}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                self._failed(ended.result().reason)
                await asyncio.sleep(RETRY)
            ended.cancel()
        finally:
            changed.cancel()
            await session.close()

    async def _changed(self, config: MqttConfig) -> None:
        """Return when another configuration is in force."""
        while True:
            await self._news.wait("mqtt_config", 3600.0)
            with contextlib.suppress(psycopg.Error, BacpipesError):
                async with self._store.connection() as connection:
                    if await mqtt_config.load(connection, self._settings) != config:
                        return

    def _failed(self, reason: str) -> None:
        self.reason = reason
        self.bridges.clear()  # nobody tells of them any more
        self.dropped = None
        self._health.failed(reason)

    def _received(self, message: ReceivedMessage) -> None:
        if message.topic == DROPPED:
            self.dropped = int(message.payload) if message.payload.isdigit() else None
            return
        if message.topic.startswith("$SYS/"):
            self._note_bridge(message.topic.split("/")[3], message.payload == b"1")
            return
        if not message.topic.endswith(SUFFIX) or message.oversized:
            return
        try:
            fields = json.loads(message.payload)
            text = json.dumps({"topic": message.topic} | fields, ensure_ascii=False, separators=(",", ":"))
        except (ValueError, TypeError):
            return  # not one of ours
        if message.topic in self.latest or len(self.latest) < REMEMBERED:
            self.latest[message.topic] = text
        for queue in self._watchers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait((message.topic, text))

    def _note_bridge(self, name: str, up: bool) -> None:
        if name not in self.bridges or self.bridges[name].up is not up:
            self.bridges[name] = Bridge(up, datetime.now(UTC))


async def events(live: Live, stopping: asyncio.Event, keep_alive: float) -> AsyncIterator[str]:
    """The stream's text: first the latest of each topic, then each reading as it comes; a comment when it is quiet."""
    with live.watch() as queue:
        told: Any = object()
        for text in list(live.latest.values()):
            yield f"event: reading\ndata: {text}\n\n"
        while not stopping.is_set():
            if told != live.reason:
                told = live.reason
                yield f"event: state\ndata: {json.dumps({'connected': told is None, 'reason': told})}\n\n"
            try:
                async with asyncio.timeout(keep_alive):
                    _, text = await queue.get()
            except TimeoutError:
                yield ": quiet\n\n"
                continue
            yield f"event: reading\ndata: {text}\n\n"
