"""One connection to a broker: paho-mqtt driven by asyncio.

Why not paho's own network thread: every acknowledgement would hop between two threads that share one interpreter lock
(figures in docs/mqtt.md), and paho's `select` fails on descriptors above 1023. Here paho's socket is watched by the
event loop, so all of paho runs on the loop's thread and needs no locking of ours. Only the part of paho that blocks
(name, TCP, TLS) runs in a thread, before the loop gets the socket.

A session is used once. Its paho client goes with it, so nothing of a lost connection is sent again behind our back:
whoever was waiting in `publish_all` gets a `NotConnectedError`, and sends again.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bacpipes.errors import BacpipesError
from bacpipes.mqtt import dial
from bacpipes.mqtt import failures as mqtt_failures
from bacpipes.mqtt.config import MqttConfig
from bacpipes.mqtt.failures import Failure, MqttError, NotConnectedError
from bacpipes.mqtt.message import PAYLOAD_LIMIT, Message, ReceivedMessage, Refused, Will
from bacpipes.mqtt.pump import Pump
from bacpipes.mqtt.window import Window

ANSWER_WITHIN = 10.0  # seconds for CONNACK and SUBACK
KEEPALIVE_TIMEOUT = 0x8D  # reason code
TICK = 1.0  # seconds between looks at the keep-alive and at overdue acknowledgements


class Session:
    """One connection, from the resolved name to its end."""

    def __init__(
        self,
        config: MqttConfig,
        *,
        client_id: str | None = None,
        will: Will | None = None,
        on_message: Callable[[ReceivedMessage], None] | None = None,
    ) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._on_received = on_message
        self._ended: asyncio.Future[Failure] = self._loop.create_future()
        self._connack: asyncio.Future[None] = self._loop.create_future()
        self._subacks: dict[int, asyncio.Future[ReasonCode]] = {}
        self._window = Window()
        self._leaving = False
        self._ticker: asyncio.TimerHandle | None = None
        self._closed_early = False
        self._paho = self._client(client_id or config.client_id, will)
        self._pump = Pump(self._paho, config, self._window, self._end)

    def _client(self, client_id: str, will: Will | None) -> paho.Client:
        client = dial.new_client(self._config, client_id, will)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    # --- life ---

    async def open(self) -> None:
        """Connect and wait for the broker's word; raise `MqttError` with the reason where it does not come to that."""
        try:
            await self._open()
        except BaseException:
            self.abort()
            raise

    async def _open(self) -> None:
        try:
            await dial.in_thread(self._dial)
        except (OSError, ValueError, BacpipesError) as error:
            raise MqttError(mqtt_failures.from_exception(error, self._config)) from None
        self._attach()
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self._connack
        except MqttError:
            await self._look_for_an_alert()
            raise
        except TimeoutError:
            reason = f"broker {self._config.address}: no answer to CONNECT"
            raise MqttError(Failure(reason, "Is it an MQTT broker?")) from None

    def _dial(self) -> None:
        dial.connect(self._paho, self._config)
        if self._ended.done():  # given up meanwhile
            self._pump.discard_socket()

    def _attach(self) -> None:
        if self._ended.done() or self._paho.socket() is None:
            self.abort()
            return
        self._ticker = self._loop.call_later(TICK, self._tick)
        self._pump.attach()

    async def _look_for_an_alert(self) -> None:
        """In TLS 1.3 a broker refuses our certificate after the handshake, and its word often perishes because our
        CONNECT is already under way. So ask once more, and say nothing."""
        if not (self._closed_early and self._config.tls_enabled):
            return
        text: list[str] = []
        await dial.in_thread(lambda: text.append(dial.alert(self._config)))
        if text[0]:
            raise MqttError(mqtt_failures.from_tls_text(text[0], self._config))

    async def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 1; raise `MqttError` where the broker refuses."""
        result, mid = self._paho.subscribe(topic, qos=1)
        if result != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise MqttError(self._failure())
        answer = self._subacks[mid] = self._loop.create_future()
        self._pump.flush()
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                code = await answer
        except TimeoutError:
            raise MqttError(Failure(f"broker {self._config.address}: no answer to SUBSCRIBE")) from None
        finally:
            self._subacks.pop(mid, None)
        if code.is_failure:
            reason = f"broker {self._config.address}: may not subscribe to {topic}: {str(code).lower()}"
            raise MqttError(Failure(reason, "Allow it in the broker's access list.", patient=True))

    @property
    def over(self) -> bool:
        """True from the moment at which the connection is lost or given up."""
        return self._ended.done()

    async def ended(self) -> Failure:
        """Wait for the end of the connection, and say why it ended."""
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Say goodbye: the broker then keeps the last will to itself."""
        self._leaving = True
        if self._pump.attached:
            self._paho.disconnect()
            self._pump.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self.ended()
        self.abort()

    def abort(self) -> None:
        """End the connection without a word (the last will is sent)."""
        self._end(mqtt_failures.lost(self._config))

    # --- sending ---

    async def publish_all(self, messages: Sequence[Message], *, retain: bool = False) -> list[Refused]:
        """Send with QoS 1 and return when the broker has acknowledged all: those that it refused are returned.

        Raise `NotConnectedError` when the connection ends first.
        """
        if not messages:
            return []
        if self._ended.done() or self._leaving:
            raise NotConnectedError(f"{self._failure().reason}.", self._failure().remedy)
        transfer = self._window.add(messages, retain=retain)
        self._window.pump()
        self._pump.flush()
        await transfer.done
        return transfer.refused

    # --- what paho reports; all on the loop's thread once the socket is attached ---

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.ConnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if code.is_failure:
            self._end(mqtt_failures.from_code(code, self._config))
            return
        self._window.size = min(self._window.size, getattr(properties, "ReceiveMaximum", self._window.size))
        self._window.packet_limit = getattr(properties, "MaximumPacketSize", None)
        if not self._connack.done():
            self._connack.set_result(None)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        flags: paho.DisconnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(mqtt_failures.from_code(code, self._config))
        elif int(code.value) == KEEPALIVE_TIMEOUT:
            self._end(Failure(f"broker {self._config.address}: no answer to the keep-alive", "Is the link broken?"))
        elif self._connack.done():
            self._end(mqtt_failures.lost(self._config))
        else:
            self._closed_early = True
            self._end(mqtt_failures.closed_early(self._config))

    def _on_subscribe(
        self, _client: paho.Client, _userdata: object, mid: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        answer = self._subacks.get(mid)
        if answer is not None and not answer.done():
            answer.set_result(codes[0])

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        if self._on_received is None:
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # not a topic that we subscribed to
        oversized = len(message.payload) > PAYLOAD_LIMIT
        payload = bytes(message.payload[:PAYLOAD_LIMIT])
        self._on_received(ReceivedMessage(topic, payload, bool(message.retain), oversized))

    # --- the end ---

    def _tick(self) -> None:
        if not self._pump.attached:
            return
        self._ticker = self._loop.call_later(TICK, self._tick)
        self._paho.loop_misc()
        if overdue := self._window.overdue:
            reason = f"broker {self._config.address}: {overdue}"
            self._end(Failure(reason, "Is the broker overloaded, or the link broken?"))

    def _failure(self) -> Failure:
        return self._ended.result() if self._ended.done() else mqtt_failures.lost(self._config)

    def _end(self, failure: Failure) -> None:
        """The one way out: safe to call again, from any of paho's callbacks, and before the socket is attached."""
        if self._ended.done():
            return
        self._ended.set_result(failure)
        if self._ticker is not None:
            self._ticker.cancel()
        self._pump.detach()
        self._loop.call_soon(self._pump.discard_socket)  # not here: paho may be in the midst of reading from it
        error = NotConnectedError(f"{failure.reason}.", failure.remedy)
        if not self._connack.done():
            self._connack.set_exception(MqttError(failure))
            self._connack.exception()  # looked at: nobody may be waiting
        for answer in self._subacks.values():
            if not answer.done():
                answer.set_exception(MqttError(failure))
        self._window.end(error)
