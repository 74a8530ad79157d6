"""Followers of the log: readings and results go to the broker, and a cursor moves when it has acknowledged them."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg

from bacpipes.database import Connection, connect, first_line
from bacpipes.errors import UnavailableError
from bacpipes.events import first_of, unless
from bacpipes.log import Transition, get_logger
from bacpipes.metrics import WorkerMetrics
from bacpipes.mqtt.client import MqttClient
from bacpipes.mqtt.failures import NotConnectedError
from bacpipes.payload import ReadingPayloads, encode
from bacpipes.points.directory import Directory
from bacpipes.reading import Batch, Reading
from bacpipes.settings import Settings
from bacpipes.worker import log_store
from bacpipes.worker.selection import Selection

logger = get_logger(__name__)

READINGS, RESULTS, SHIPPER = "publisher", "results", "shipper"  # the last is worker.shipper's
BATCHES_AT_ONCE = 20
PIECE = 100  # readings that are made ready in one turn of the event loop (1 ms)
END_PATIENCE = 1.0  # seconds that a publishing under way gets at the end
IDLE = 1.0  # seconds between looks at the log when nobody wakes us
TRIM_EVERY = 10.0  # seconds between deletions of what all followers have passed

Message = tuple[str, bytes]


class Publisher:
    """While MQTT is ``switched_off`` nothing is followed, and the log is trimmed at once."""

    def __init__(self, settings: Settings, directory: Directory, metrics: WorkerMetrics, client: MqttClient) -> None:
        self._settings, self._directory, self._metrics, self.client = settings, directory, metrics, client
        self._payloads = ReadingPayloads()
        self._news = asyncio.Event()
        self._connection: Connection | None = None
        self._database = Transition(logger, "publisher's database")
        self._refused = Transition(logger, "broker refuses messages")
        self._trim_at = 0.0
        self._direct: asyncio.Task[None] | None = None
        self._selection = Selection(settings, directory)
        self._idle = False
        self.switched_off = False  # by whoever runs the site: then nobody waits for the log

    def wake(self) -> None:
        """There is something new in the log."""
        self._news.set()

    @property
    def idle(self) -> bool:
        """True while there is nothing to publish, or no way to do it."""
        return self._idle and not self._news.is_set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; what is not acknowledged by then is published after the next start."""
        while not stop.is_set():
            self._news.clear()
            self._idle = False
            moved = await unless(stop, self._step(), patience=END_PATIENCE)
            self._idle = not moved
            if not moved:
                await first_of(self._news, stop, within=IDLE)
        await self._finish()

    async def _step(self) -> bool:
        try:
            moved = await self._follow()
        except NotConnectedError:
            return False
        except (psycopg.Error, UnavailableError, OSError) as error:
            self._database.failed(first_line(error))
            return False
        self._database.recovered()
        return moved

    def publish_directly(self, batches: list[Batch]) -> None:
        """Publish readings that are not in the log yet (the database is away); they will go out again from there.

        One such publishing at a time: with a slow broker too, they wait on disk and not in memory.
        """
        if self.client.connected and (self._direct is None or self._direct.done()):
            readings = [reading for batch in batches for reading in batch.readings]
            self._direct = asyncio.create_task(self._send_directly(readings))

    async def _send_directly(self, readings: list[Reading]) -> None:
        messages, news = await self._prepare(readings)
        with suppress(NotConnectedError):
            await self._send(messages)
            self._selection.acknowledged(news)  # in memory only: from the log they go out again

    async def _send_if_connected(self, messages: list[Message]) -> None:
        with suppress(NotConnectedError):
            await self._send(messages)

    async def publish_result(self, result: dict[str, Any]) -> None:
        """Publish a result outside the log: an answer to a repeated command, or while the database is away."""
        if self.client.connected:
            await self._send_if_connected([(self._result_topic, encode(result))])

    @property
    def _result_topic(self) -> str:
        return self.client.config.write_result_topic

    async def _follow(self) -> bool:
        """One step of both followers; True where there may be more at once."""
        if self._connection is None or self._connection.closed:
            self._connection = await connect(self._settings, "publisher")
            await self._selection.load(self._connection)
        connection = self._connection
        await self._trim(connection)
        if not self.client.connected:
            return False
        results = await self._follow_results(connection)
        return await self._follow_readings(connection) or results

    async def _follow_readings(self, connection: Connection) -> bool:
        cursor = await log_store.cursor_of(connection, READINGS)
        entries = await log_store.entries_after(connection, cursor, BATCHES_AT_ONCE)
        if not entries:
            return False
        readings = [reading for entry in entries for reading in entry.readings]
        messages, news = await self._prepare(readings)
        await self._send(messages)
        async with connection.transaction():
            await self._selection.remember(connection, news)
            await log_store.advance(connection, READINGS, entries[-1].seq)
        self._selection.acknowledged(news)
        self._metrics.published.inc(len(messages))
        self._metrics.withheld.inc(len(readings) - len(messages))
        return True

    async def _follow_results(self, connection: Connection) -> bool:
        cursor = await log_store.cursor_of(connection, RESULTS)
        rows = await (
            await connection.execute(
                "SELECT seq, result::text FROM write_results WHERE seq > %s ORDER BY seq LIMIT %s",
                [cursor, BATCHES_AT_ONCE],
            )
        ).fetchall()
        if not rows:
            return False
        await self._send([(self._result_topic, row[1].encode()) for row in rows])
        await log_store.advance(connection, RESULTS, rows[-1][0])
        return True

    async def _send(self, messages: list[Message]) -> None:
        refused = await self.client.publish_all(messages)
        self._metrics.publish_refused.inc(len(refused))
        if refused:
            self._refused.failed(str(refused[0]), messages=len(refused))
        else:
            self._refused.recovered()

    async def _prepare(self, readings: list[Reading]) -> tuple[list[Message], dict[int, Reading]]:
        """The messages that go out, and what is to be remembered then; a piece at a time, as polls go on meanwhile."""
        messages: list[Message] = []
        news: dict[int, Reading] = {}
        for first in range(0, len(readings), PIECE):
            messages += self._messages(self._selection.choose(readings[first : first + PIECE], news))
            await asyncio.sleep(0)
        return messages, news

    def _messages(self, readings: Iterable[Reading]) -> list[Message]:
        messages = []
        for reading in readings:
            point = self._directory.get(reading.point_id)
            if point is not None and point.topic is not None:
                messages.append((point.topic, self._payloads.encode(point, reading)))
        return messages

    async def _trim(self, connection: Connection) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._trim_at:
            return
        self._trim_at = now + TRIM_EVERY
        followers = [READINGS]
        if self.switched_off:
            followers = []
            await connection.execute(
                "UPDATE follower SET seq = greatest(seq, (SELECT max(seq) FROM write_results)) WHERE name = %s",
                [RESULTS],
            )
        if self._settings.central_database_url is not None and self._settings.ship_readings:
            followers = [*followers, SHIPPER]
        lost = await log_store.trim(connection, followers, timedelta(days=self._settings.retention_days))
        if lost:
            logger.error("batches older than the retention were never published", batches=lost)
        row = await (await connection.execute("SELECT count(*) FROM reading_batch")).fetchone()
        self._metrics.log_backlog.set(row[0] if row else 0)

    async def _finish(self) -> None:
        """What was committed last goes out, if the broker is there; the cursor takes care of the rest."""
        with suppress(psycopg.Error, UnavailableError, NotConnectedError, OSError, TimeoutError):
            async with asyncio.timeout(1):
                while await self._follow():
                    pass
        if self._connection is not None:
            await self._connection.close()
