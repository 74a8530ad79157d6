"""Tests a connection step by step and says exactly what failed: for the command line, `doctor` and the page."""

import asyncio
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from bacpipes.errors import BacpipesError
from bacpipes.mqtt import certificates
from bacpipes.mqtt import failures as mqtt_failures
from bacpipes.mqtt.config import MqttConfig
from bacpipes.mqtt.dial import CONNECT_WITHIN
from bacpipes.mqtt.failures import Failure, MqttError
from bacpipes.mqtt.message import ReceivedMessage
from bacpipes.mqtt.session import ANSWER_WITHIN, Session

DROPPED = "$SYS/broker/publish/messages/dropped"  # Mosquitto counts there what its full queues had no room for
BRIDGES = "$SYS/broker/connection/+/state"
TOLD_WITHIN = 1.0  # seconds; these are retained messages


@dataclass(frozen=True)
class Step:
    """One step: what was tried, whether it worked, and what was found or what is wrong."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class TestResult:
    """All steps up to the first that failed."""

    __test__ = False  # not a test case, whatever its name

    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        """True when every step worked."""
        return all(step.ok for step in self.steps)

    @property
    def failure(self) -> Step | None:
        """The step that failed."""
        return next((step for step in self.steps if not step.ok), None)


async def test_connection(config: MqttConfig) -> TestResult:
    """Resolve, connect, agree on TLS, log in, subscribe to the command topic; nothing is published.

    It goes by a client id of its own, so a running worker keeps its connection.
    """
    steps: list[Step] = []
    for name, action in _plan(config):
        try:
            steps.append(Step(name, True, await action(config)))
        except (OSError, ValueError, TimeoutError, BacpipesError) as error:
            failure = mqtt_failures.from_exception(error, config)
            detail = await _with_certificate(failure, config) if name == "TLS" else failure.reason
            steps.append(Step(name, False, detail, failure.remedy))
            break
    return TestResult(tuple(steps))


test_connection.__test__ = False  # type: ignore[attr-defined]


@dataclass
class Told:
    """What a Mosquitto tells of itself; another kind of broker, or one whose access list keeps it from us, nothing."""

    dropped: int = 0  # messages that found a full queue since its start
    bridges: dict[str, bool] = field(default_factory=dict)  # name → is it up


async def ask(config: MqttConfig) -> Told:
    """Have the broker tell of itself; raises what a connection raises."""
    found, over = Told(), asyncio.Event()

    def take(message: ReceivedMessage) -> None:
        if message.topic == DROPPED and message.payload.isdigit():
            found.dropped = int(message.payload)
            over.set()  # it was asked for last
        elif message.topic.startswith(BRIDGES[: BRIDGES.index("+")]):
            found.bridges[message.topic.split("/")[3]] = message.payload == b"1"

    session = Session(config, client_id=f"{config.client_id}-test-{secrets.token_hex(3)}", on_message=take)
    await session.open()
    try:
        with suppress(MqttError, TimeoutError):
            await session.subscribe(BRIDGES)
            await session.subscribe(DROPPED)
            await asyncio.wait_for(over.wait(), TOLD_WITHIN)
    finally:
        await session.close()
    return found


def _plan(config: MqttConfig) -> list[tuple[str, Callable[[MqttConfig], Awaitable[str]]]]:
    tls = [("TLS", _agree_on_tls)] if config.tls_enabled else []
    return [("Name", _resolve), ("TCP", _connect), *tls, ("MQTT", _log_in), ("Commands", _subscribe)]


async def _resolve(config: MqttConfig) -> str:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(ANSWER_WITHIN):
        found = await loop.getaddrinfo(config.broker, config.effective_port, type=socket.SOCK_STREAM)
    return f"{config.broker} is {', '.join(dict.fromkeys(str(entry[4][0]) for entry in found))}"


async def _connect(config: MqttConfig) -> str:
    async with asyncio.timeout(CONNECT_WITHIN):
        _, writer = await asyncio.open_connection(config.broker, config.effective_port)
    writer.close()
    return f"port {config.effective_port} is open"


async def _agree_on_tls(config: MqttConfig) -> str:
    connection = await _tls(config, certificates.tls_context(config.identity))
    info = certificates.describe_der(connection.getpeercert(binary_form=True) or b"")
    return f"{connection.version()}; the broker's certificate: {info} ({info.days_left} days)"


async def _tls(config: MqttConfig, context: ssl.SSLContext) -> ssl.SSLObject:
    async with asyncio.timeout(2 * CONNECT_WITHIN):
        _, writer = await asyncio.open_connection(
            config.broker,
            config.effective_port,
            ssl=context,
            server_hostname=config.broker,
            ssl_handshake_timeout=CONNECT_WITHIN,
        )
    connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
    writer.close()
    return connection


async def _with_certificate(failure: Failure, config: MqttConfig) -> str:
    """Add what the broker showed: looked at without trust, over a connection that carries nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        connection = await _tls(config, context)
        shown = certificates.describe_der(connection.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError):
        return failure.reason
    return f"{failure.reason} (it shows: {shown})"


async def _log_in(config: MqttConfig) -> str:
    session = await _open(config)
    await session.close()
    user = f"as {config.username}" if config.username else "without a username"
    return f"logged in {user}, MQTT {config.protocol}"


async def _subscribe(config: MqttConfig) -> str:
    session = await _open(config)
    try:
        await session.subscribe(config.write_command_topic)
    finally:
        await session.close()
    return f"may subscribe to {config.write_command_topic}"


async def _open(config: MqttConfig) -> Session:
    session = Session(config, client_id=f"{config.client_id}-test-{secrets.token_hex(3)}")
    await session.open()
    return session
