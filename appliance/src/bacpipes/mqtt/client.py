"""The appliance's connection to broker A: connects, reconnects, announces itself, hears commands.

`/readyz` shows `reason` and `remedy`; the log says each failure once, and its end once.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bacpipes.log import Transition, get_logger
from bacpipes.mqtt import failures as mqtt_failures
from bacpipes.mqtt.config import MqttConfig
from bacpipes.mqtt.failures import Failure, MqttError, NotConnectedError
from bacpipes.mqtt.message import Message, ReceivedMessage, Refused, Will
from bacpipes.mqtt.session import Session

STABLE_AFTER = 10.0  # seconds connected, after which the back-off starts anew
SUSPICIOUS = 3  # brief connections in a row
GOODBYE_WITHIN = 2.0  # seconds for the status `offline` at a clean end

DISABLED = Failure("MQTT is disabled", "Enable it: bacpipes mqtt set --enable.")
NOT_STARTED = Failure("not connected yet")


@dataclass(frozen=True)
class Backoff:
    """Seconds between tries: doubling from `first` to `last`, with jitter.

    After a refusal that trying again soon will not change (a wrong password, a certificate) it starts at `patient`:
    brokers ban who knocks too often.
    """

    first: float = 1.0
    last: float = 60.0
    patient: float = 15.0

    def delay(self, failures: int, *, patient: bool) -> float:
        """The pause after that many failures in a row (1 or more); between half of the nominal value and all of it."""
        start = max(self.first, self.patient) if patient else self.first
        nominal: float = min(self.last, start * 2.0 ** min(failures - 1, 30))
        return nominal * random.uniform(0.5, 1.0)  # noqa: S311 - spreads a fleet, hides nothing


@dataclass
class _Tries:
    """How it went lately: tries in a row without a stable connection, and brief connections in a row."""

    failed: int = 0
    brief: int = 0

    def note(self, lasted: float | None) -> None:
        """A try has ended: its connection lasted so many seconds, or there was none."""
        stable = lasted is not None and lasted > STABLE_AFTER
        self.failed = 1 if stable else self.failed + 1
        self.brief = 0 if stable or lasted is None else self.brief + 1


class MqttClient:
    """Keeps one connection to the broker until told to stop.

    ``on_command`` gets each message of the command topic, and of the further ``topics``, on the event loop; it must not
    block. ``heartbeats`` is one more topic with its own receiver.
    """

    def __init__(
        self,
        config: MqttConfig,
        *,
        site_id: str,
        on_command: Callable[[ReceivedMessage], None],
        heartbeats: tuple[str, Callable[[ReceivedMessage], None]] | None = None,
        status_topic: str | None = None,
        topics: Sequence[str] = (),
        backoff: Backoff | None = None,
    ) -> None:
        self._config = config
        self._site_id = site_id
        self._on_command, self._heartbeats = on_command, heartbeats
        self._topics = tuple(topics)
        self._status_topic = status_topic or f"{site_id}/appliance/status"
        self._backoff = backoff or Backoff()
        self._session: Session | None = None  # set while connected
        self._failure: Failure | None = NOT_STARTED if config.enabled else DISABLED
        self._since = datetime.now(UTC)
        self._connected = asyncio.Event()
        self._changed = asyncio.Event()
        self._logger = get_logger("bacpipes.mqtt")
        self._log = Transition(self._logger, "MQTT connection")
        self._handler_log = Transition(self._logger, "MQTT command handler")

    # --- what others see ---

    @property
    def config(self) -> MqttConfig:
        """The configuration in force."""
        return self._config

    @property
    def connected(self) -> bool:
        """True between the broker's welcome and the loss of the connection."""
        return self._session is not None and not self._session.over

    @property
    def reason(self) -> str | None:
        """Why we are not connected, or what is wrong although we are (no subscription); None when all is well."""
        return self._failure.reason if self._failure else None

    @property
    def remedy(self) -> str | None:
        """What to do about `reason`."""
        return (self._failure.remedy or None) if self._failure else None

    @property
    def since(self) -> datetime:
        """When the connection was made, or lost (UTC)."""
        return self._since

    @property
    def encrypted(self) -> bool:
        """Whether the connection is by TLS."""
        return self._config.tls_enabled

    @property
    def authenticated(self) -> bool:
        """Whether we show the broker who we are: a username, or a client certificate."""
        by_certificate = self._config.tls_enabled and self._config.client_certificate is not None
        return self._config.username is not None or by_certificate

    async def wait_connected(self) -> None:
        """Return when connected."""
        while not self.connected:
            self._connected.clear()
            await self._connected.wait()

    async def publish_all(self, messages: Sequence[Message], *, retain: bool = False) -> list[Refused]:
        """Publish ``(topic, payload)`` pairs with QoS 1; return when the broker has acknowledged every one.

        Those that the broker refuses for good are returned. `NotConnectedError` means that the connection was not
        there or did not last: send all of them again. Never hangs: a broker that acknowledges nothing for 10 s is
        disconnected.
        """
        session = self._session
        if session is None:
            failure = self._failure or NOT_STARTED
            raise NotConnectedError(f"{failure.reason}.", failure.remedy)
        return await session.publish_all(messages, retain=retain)

    def reconfigure(self, config: MqttConfig) -> None:
        """Go over to another configuration: the old connection is closed cleanly, the new one made at once."""
        if config != self._config:
            self._config = config
            self._changed.set()

    # --- the life ---

    async def run(self, stop: asyncio.Event) -> None:
        """Stay connected until ``stop``; then say `offline` and disconnect."""
        tries = _Tries()
        while not stop.is_set():
            self._changed.clear()
            if not self._config.enabled:
                self._lost(DISABLED)
                await self._interrupted(stop)
                continue
            began = asyncio.get_running_loop().time()
            failure = await self._connection(self._config, stop)
            if failure is None:  # a new configuration, or the end
                tries = _Tries()
                continue
            had = asyncio.get_running_loop().time() - began if self._session else None
            tries.note(had)
            if tries.brief >= SUSPICIOUS and failure == mqtt_failures.lost(self._config):
                failure = mqtt_failures.lost_again_and_again(self._config)
            self._lost(failure)
            await self._interrupted(stop, self._backoff.delay(tries.failed, patient=failure.patient))
        self._lost(Failure("stopped"), quiet=True)

    async def _connection(self, config: MqttConfig, stop: asyncio.Event) -> Failure | None:
        """One connection, from the first packet to the last; None when we ended it ourselves."""
        session = Session(config, will=Will(self._status_topic, self._status("offline")), on_message=self._received)
        try:
            opened, _ = await _first(session.open(), self._interrupted(stop))
            if not opened:
                return None
            return await self._stay(session, config, stop)
        except MqttError as error:
            return error.failure
        except NotConnectedError:  # lost before all was said
            return await session.ended()
        finally:
            session.abort()

    async def _stay(self, session: Session, config: MqttConfig, stop: asyncio.Event) -> Failure | None:
        """From the broker's welcome on. What the broker forbids us is asked for again from time to time."""
        problem: Failure | None = None
        while True:
            welcomed, problem = await _first(self._welcome(session, config), self._interrupted(stop))
            if not welcomed:
                break
            self._won(session, problem, config)
            again = self._backoff.last if problem else None
            ended, failure = await _first(session.ended(), self._interrupted(stop, again))
            if ended:
                lost: Failure = failure
                return lost
            if stop.is_set() or self._changed.is_set():
                break
        self._lost(Failure("disconnecting"), quiet=True)
        await self._goodbye(session)
        return None

    async def _welcome(self, session: Session, config: MqttConfig) -> Failure | None:
        """Announce ourselves and subscribe; return what the broker did not allow."""
        refused = await session.publish_all([(self._status_topic, self._status("online"))], retain=True)
        try:
            for topic in (config.write_command_topic, *self._topics):
                await session.subscribe(topic)
            if self._heartbeats is not None:
                await session.subscribe(self._heartbeats[0])
        except MqttError as error:
            return error.failure
        if refused:
            reason = f"broker {config.address}: may not publish to {self._status_topic}: {refused[0].reason}"
            return Failure(reason, "Allow it in the broker's access list.")
        return None

    async def _goodbye(self, session: Session) -> None:
        with contextlib.suppress(NotConnectedError, TimeoutError):
            async with asyncio.timeout(GOODBYE_WITHIN):
                await session.publish_all([(self._status_topic, self._status("offline"))], retain=True)
        await session.close()

    async def _interrupted(self, stop: asyncio.Event, seconds: float | None = None) -> None:
        """Wait for the end, a new configuration, or the time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await _first(stop.wait(), self._changed.wait())

    def _received(self, message: ReceivedMessage) -> None:
        try:
            if self._heartbeats is not None and message.topic == self._heartbeats[0]:
                self._heartbeats[1](message)
            else:
                self._on_command(message)
        except Exception as error:  # noqa: BLE001 - one bad command must not cost the connection
            self._handler_log.failed(f"{type(error).__name__}: {error}")
        else:
            self._handler_log.recovered()

    def _status(self, status: str) -> bytes:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return json.dumps({"status": status, "timestamp": now, "siteId": self._site_id}).encode()

    # --- transitions ---

    def _won(self, session: Session, problem: Failure | None, config: MqttConfig) -> None:
        if self._session is not session:
            self._session = session
            self._since = datetime.now(UTC)
            self._connected.set()
        self._failure = problem
        if problem is not None:
            self._log.failed(problem.reason, remedy=problem.remedy)
        elif self._log.failing:
            self._log.recovered(broker=config.address)
        else:
            self._logger.info(
                "MQTT connection: connected",
                broker=config.address,
                protocol=config.protocol,
                encrypted=self.encrypted,
                authenticated=self.authenticated,
            )

    def _lost(self, failure: Failure, *, quiet: bool = False) -> None:
        if self._session is not None:
            self._since = datetime.now(UTC)
        self._session = None
        self._connected.clear()
        self._failure = failure
        if failure is DISABLED:
            self._log.reason = None  # not a recovery
        elif not quiet:
            self._log.failed(failure.reason, remedy=failure.remedy)


async def _first(wanted: Awaitable[Any], other: Awaitable[Any]) -> tuple[bool, Any]:
    """Wait for either and cancel the rest: ``(True, result)`` when ``wanted`` came first, else ``(False, None)``."""
    tasks = [asyncio.ensure_future(wanted), asyncio.ensure_future(other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return (True, tasks[0].result()) if not tasks[0].cancelled() else (False, None)
