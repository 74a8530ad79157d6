"""What blocks at the beginning of a connection, beside the event loop."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bacpipes.mqtt import certificates
from bacpipes.mqtt.config import MqttConfig
from bacpipes.mqtt.message import Will

CONNECT_WITHIN = 5.0  # seconds for TCP, and again for TLS
ALERT_WITHIN = 2.0  # seconds
KEEPALIVE = 30  # seconds; a peer that vanished is noticed within twice that, or sooner by a missing acknowledgement
PACKET_LIMIT = 16 * 1024 * 1024  # MQTT 5: the broker keeps back what is larger, as it would have to fit our memory


def new_client(config: MqttConfig, client_id: str, will: Will | None) -> paho.Client:
    """A client of paho's for one connection; its callbacks are the caller's."""
    version = MQTTProtocolVersion.MQTTv5 if config.protocol == "5" else MQTTProtocolVersion.MQTTv311
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, reconnect_on_failure=False)
    client.connect_timeout = CONNECT_WITHIN
    if config.username is not None:
        client.username_pw_set(config.username, config.password.get_secret_value() if config.password else None)
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=True)
    return client


def connect(client: paho.Client, config: MqttConfig) -> None:
    """Blocks: resolve, connect, agree on TLS, queue CONNECT.

    Always a clean start. A persistent session would make the broker keep commands for us while we are away, and a
    command is dead after its time to live anyway; it is the sender's part to repeat it until a result comes. What
    we send is kept by us until it is acknowledged, so nothing is lost, and the broker's memory is spared.
    """
    if config.tls_enabled:
        client.tls_set_context(certificates.tls_context(config.identity))
    properties = None
    if config.protocol == "5":
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = PACKET_LIMIT
    client.connect(
        config.broker,
        config.effective_port,
        keepalive=KEEPALIVE,
        clean_start=config.protocol == "5" or paho.MQTT_CLEAN_START_FIRST_ONLY,
        properties=properties,
    )


def alert(config: MqttConfig) -> str:
    """What the broker says by TLS when we only listen after the handshake; blocks."""
    context = certificates.tls_context(config.identity)
    try:
        with (
            socket.create_connection((config.broker, config.effective_port), CONNECT_WITHIN) as plain,
            context.wrap_socket(plain, server_hostname=config.broker) as connection,
        ):
            connection.settimeout(ALERT_WITHIN)
            connection.recv(1)
    except OSError as error:
        return str(error) if "ALERT" in str(error) else ""
    return ""


async def in_thread(function: Callable[[], None]) -> None:
    """Run what blocks in a thread of its own, which nobody waits for at exit (a name server may take its time)."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            function()
        except BaseException as caught:  # noqa: BLE001 - handed to the waiting side, whatever it is
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="mqtt-connect", daemon=True).start()
    await done
