"""Broker B's commands: each goes to the topic of the site that it names, again and again until its result or expiry.

Commands come from the fixed topic and from the queue. Those of the fixed topic are put into the queue too, where
central knows their point, so that a site can pull them and a restart forgets none. A site executes a jobId at most
once, however often and by whichever way it hears of it.
"""

import asyncio
import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bacpipes.central import queue
from bacpipes.central.sites import CentralMetrics
from bacpipes.central.store import CentralStore, find_point, site_exists
from bacpipes.database import first_line, query
from bacpipes.events import first_of
from bacpipes.exporter.news import News
from bacpipes.exporter.problem import DATABASE_ERRORS
from bacpipes.log import Transition, get_logger
from bacpipes.mqtt.client import MqttClient
from bacpipes.mqtt.config import MqttConfig
from bacpipes.mqtt.failures import NotConnectedError
from bacpipes.mqtt.message import ReceivedMessage
from bacpipes.payload import encode, malformed_payload, refusal, result_payload
from bacpipes.reading import iso_milliseconds
from bacpipes.settings import SITE_ID, Settings
from bacpipes.writes.command import Command, MalformedCommandError, from_fields, job_id_in, parse
from bacpipes.writes.service import RETAINED
from bacpipes.writes.validator import Violation

logger = get_logger(__name__)

COMMAND, RESULT = "bacnet/write/command", "bacnet/write/result"
LOOK_EVERY = 5.0  # seconds between looks at the queue
REPEAT_EVERY = 15.0  # seconds between repeats of a command that has no result
MOST_WAITING = 1000  # messages not yet handled; what comes on top is dropped and counted
MOST_OPEN = 5000  # commands that wait for their result
MOST_REMEMBERED = 5000  # results that were told on the fixed topic


@dataclass(slots=True)
class _Open:
    """A command that has no result yet."""

    site: str
    payload: bytes
    until: float  # monotonic
    next_at: float = 0.0


class Dispatcher:
    """Runs beside the API; without the database it still hands on what comes by MQTT."""

    def __init__(
        self, settings: Settings, config: MqttConfig, store: CentralStore, news: News, metrics: CentralMetrics
    ) -> None:
        self._settings, self._store, self._news, self._metrics = settings, store, news, metrics
        self.client = MqttClient(config, site_id=settings.site_id, on_command=self._receive, topics=(f"{RESULT}/+",))
        self._messages: asyncio.Queue[ReceivedMessage] = asyncio.Queue(MOST_WAITING)
        self._wake = asyncio.Event()
        self._open: dict[tuple[str, str], _Open] = {}
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._health = Transition(logger, "dispatcher's database")

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``. Three loops, so that a database that is away does not hold up the messages."""
        await asyncio.gather(
            self.client.run(stop), self._handle_messages(stop), self._follow_queue(stop), self._listen(stop)
        )

    def _receive(self, message: ReceivedMessage) -> None:
        try:
            self._messages.put_nowait(message)
        except asyncio.QueueFull:
            self._metrics.commands.labels("dropped").inc()

    async def _handle_messages(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        while not stop.is_set():
            getting = asyncio.create_task(self._messages.get())
            await asyncio.wait({getting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                break
            message = getting.result()
            try:
                await (self._command(message) if message.topic == COMMAND else self._result(message))
            except NotConnectedError:  # a command is repeated, a result comes by the complete lane too
                logger.warning("the broker went away over a message", topic=message.topic)
            except Exception:  # whatever one message trips over, the next one must be heard
                logger.exception("message failed unexpectedly", topic=message.topic)
        stopping.cancel()

    # --- commands

    async def _command(self, message: ReceivedMessage) -> None:
        try:
            if message.oversized:
                raise MalformedCommandError(["the message is too large"], job_id_in(message.payload))
            command = parse(message.payload)
        except MalformedCommandError as error:
            self._metrics.commands.labels("malformed").inc()
            logger.warning("message is no command", problems=error.problems, job=error.job_id)
            if error.job_id is not None:
                await self._tell(malformed_payload(error, str(error.fields.get("siteId") or "")))
            return
        violation = await self._obstacle(command, message)
        if violation is not None:
            self._metrics.commands.labels("refused").inc()
            await self._tell(
                result_payload(
                    command,
                    command.site_id or "",
                    success=False,
                    seconds=0,
                    error=refusal([violation]),
                    violations=[violation],
                )
            )
            return
        await self._hand_on(command, json.loads(message.payload, parse_constant=str))

    async def _obstacle(self, command: Command, message: ReceivedMessage) -> Violation | None:
        """Why it can't be handed to a site; everything else is the site's to judge."""
        if message.retain:
            return RETAINED
        if command.site_id is None:
            return queue.SITE_MISSING
        if not SITE_ID.fullmatch(command.site_id):
            return queue.site_unknown(command.site_id)
        try:
            async with self._store.connection() as connection:
                known = await site_exists(connection, command.site_id)
        except DATABASE_ERRORS as error:  # then the broker's access list decides who hears it
            self._health.failed(first_line(error))
            return None
        self._health.recovered()
        return None if known else queue.site_unknown(command.site_id)

    async def _hand_on(self, command: Command, fields: dict[str, Any]) -> None:
        now = datetime.now(UTC)
        if command.timestamp is None:
            # It ages from here: a site that was away meanwhile must not take a repeat for a new command.
            fields["timestamp"] = iso_milliseconds(now)
            command = from_fields(fields)
        self._metrics.commands.labels("handed").inc()
        await self._insert(command)
        age = now - (command.timestamp or now)
        left = min(
            timedelta(seconds=self._settings.write_ttl) - age, (command.expires_at or now + timedelta(days=1)) - now
        )
        await self._offer(command.site_id or "", command.job_id, encode(fields), left.total_seconds())

    async def _insert(self, command: Command) -> None:
        """Into the queue too, where it can stand there as it is."""
        try:
            async with self._store.connection() as connection:
                key = (command.device_id, command.object_type, command.object_instance)
                point = await find_point(connection, command.site_id or "", *key)
                if point is not None and not queue.judge(command, point, self._settings):
                    await queue.insert(connection, command, point, f"mqtt:{command.source or 'unknown'}", None)
        except DATABASE_ERRORS as error:
            self._health.failed(first_line(error))

    async def _offer(self, site: str, job: str, payload: bytes, seconds: float) -> None:
        """Publish it, and again until there is a result. One that is too old already goes out once, for its refusal."""
        if len(self._open) < MOST_OPEN or (site, job) in self._open:
            until = time.monotonic() + max(0.0, seconds)
            self._open.setdefault((site, job), _Open(site, payload, until)).next_at = time.monotonic() + REPEAT_EVERY
        await self.client.publish_all([(f"{COMMAND}/{site}", payload)])

    # --- results

    async def _result(self, message: ReceivedMessage) -> None:
        """A site's result goes to the fixed topic and into the database; a site speaks for itself only."""
        site = message.topic.removeprefix(f"{RESULT}/")
        result = _result_of(message, site)
        if result is None:
            self._metrics.commands.labels("bad-result").inc()
            logger.warning("message is no result of this site", topic=message.topic)
            return
        self._remember(site, result["jobId"])
        self._metrics.commands.labels("result").inc()
        await self.client.publish_all([(RESULT, message.payload)])
        try:
            async with self._store.connection() as connection:
                error = result.get("error")
                values = {"job": result["jobId"], "site": site, "success": result["success"]}
                values |= {"error": None if error is None else str(error), "result": message.payload.decode()}
                await connection.execute(query("central_result"), values)
        except DATABASE_ERRORS as error:
            self._health.failed(first_line(error))

    def _remember(self, site: str, job: str) -> bool:
        """The job has its result; False where it had been told before."""
        self._open.pop((site, job), None)
        new = (site, job) not in self._told
        self._told[(site, job)] = None
        while len(self._told) > MOST_REMEMBERED:
            self._told.popitem(last=False)
        return new

    async def _tell(self, result: dict[str, Any]) -> None:
        await self.client.publish_all([(RESULT, encode(result))])

    # --- the queue

    async def _listen(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._news.wait("write_commands", LOOK_EVERY)
            self._wake.set()

    async def _follow_queue(self, stop: asyncio.Event) -> None:
        """What is queued and open is published and repeated; results that came by the complete lane are told."""
        while not stop.is_set():
            self._wake.clear()
            try:
                if self.client.connected:
                    await self._results_from_database()
                    await self._look()
                    self._health.recovered()
                    await self._repeat()
            except DATABASE_ERRORS as error:
                self._health.failed(first_line(error))
            except NotConnectedError:
                pass
            await first_of(self._wake, stop, within=LOOK_EVERY)

    async def _look(self) -> None:
        async with self._store.connection() as connection:
            rows = await (await connection.execute(query("central_pending"))).fetchall()
        for site, payload in rows:
            job = payload["jobId"]
            if (site, job) not in self._open and (site, job) not in self._told:
                await self._offer(site, job, encode(payload), self._left(payload))

    def _left(self, payload: dict[str, Any]) -> float:
        now = datetime.now(UTC)
        expiry = payload.get("expiresAt")
        created = datetime.fromisoformat(payload["timestamp"])
        until = datetime.fromisoformat(expiry) if expiry else created + timedelta(seconds=self._settings.write_ttl)
        return (until - now).total_seconds()

    async def _repeat(self) -> None:
        now = time.monotonic()
        self._open = {key: one for key, one in self._open.items() if one.until > now}
        for one in list(self._open.values()):
            if one.next_at <= now:
                one.next_at = now + REPEAT_EVERY
                await self.client.publish_all([(f"{COMMAND}/{one.site}", one.payload)])

    async def _results_from_database(self) -> None:
        if not self._open:
            return
        async with self._store.connection() as connection:
            jobs = [job for _, job in self._open]
            rows = await (await connection.execute(query("central_results_of"), [jobs])).fetchall()
        for job, site, result in rows:
            if (site, job) in self._open and self._remember(site, job):
                await self.client.publish_all([(RESULT, result.encode())])


def _result_of(message: ReceivedMessage, site: str) -> dict[str, Any] | None:
    """The payload, where it is a result and of that site."""
    try:
        result = json.loads(message.payload)
    except (ValueError, RecursionError):
        return None
    if message.oversized or message.retain or not isinstance(result, dict) or not SITE_ID.fullmatch(site):
        return None
    fine = isinstance(result.get("jobId"), str) and isinstance(result.get("success"), bool)
    return result if fine and result.get("siteId", site) == site else None
