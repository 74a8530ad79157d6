"""Publishing with QoS 1: what was sent and is not yet acknowledged, bounded, in order, and to the end."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from paho.mqtt.reasoncodes import ReasonCode

from bacpipes.mqtt import failures as mqtt_failures
from bacpipes.mqtt.failures import NotConnectedError
from bacpipes.mqtt.message import Message, Refused
from bacpipes.mqtt.wire import Wire

# Messages sent and not yet acknowledged; a broker of MQTT 5 may ask for fewer (Mosquitto: 20). More than 20 is a little
# cheaper here, as more acknowledgements come in at once, and a far broker needs it: 20 at 200 ms are 100 messages/s.
IN_FLIGHT = 100
ACKNOWLEDGE_WITHIN = 10.0  # seconds without any PUBACK while some are due; then the connection is given up


@dataclass(slots=True, eq=False)
class Transfer:
    """One call of `publish_all`."""

    messages: Sequence[Message]
    retain: bool
    done: asyncio.Future[None]
    next: int = 0
    unacknowledged: int = 0
    refused: list[Refused] = field(default_factory=list)

    @property
    def exhausted(self) -> bool:
        return self.next >= len(self.messages)

    def finish_if_complete(self) -> None:
        if self.exhausted and self.unacknowledged == 0 and not self.done.done():
            self.done.set_result(None)


class Window:
    """One connection's. Nothing is sent before it is `opened` with the connection's wire."""

    def __init__(self) -> None:
        self.size = IN_FLIGHT
        self.packet_limit: int | None = None  # octets, where the broker names one
        self._transfers: deque[Transfer] = deque()
        self._waiting: dict[int, tuple[Transfer, str]] = {}
        self._progress = 0.0  # monotonic time of the last acknowledgement
        self._wire: Wire | None = None

    def opened(self, wire: Wire) -> None:
        """From now on `pump` sends."""
        self._wire = wire

    def add(self, messages: Sequence[Message], *, retain: bool) -> Transfer:
        """Have messages sent after all that wait already."""
        transfer = Transfer(messages, retain, asyncio.get_running_loop().create_future())
        self._transfers.append(transfer)
        return transfer

    def pump(self) -> None:
        """Fill the window from the transfers, in order."""
        if self._wire is None:
            return
        if not self._waiting:
            self._progress = time.monotonic()
        while self._transfers and len(self._waiting) < self.size:
            transfer = self._transfers[0]
            if transfer.exhausted or transfer.done.done():  # done early: its caller was cancelled
                self._transfers.popleft()
                transfer.finish_if_complete()
                continue
            self._send(transfer, self._wire)

    def _send(self, transfer: Transfer, wire: Wire) -> None:
        topic, payload = transfer.messages[transfer.next]
        transfer.next += 1
        if self.packet_limit is not None and len(payload) + len(topic.encode()) + 16 > self.packet_limit:
            reason = f"larger than the broker's limit of {self.packet_limit} bytes"
            transfer.refused.append(Refused(topic, mqtt_failures.PACKET_TOO_LARGE, reason))
            return
        number = wire.next_id(self._waiting)
        try:
            wire.publish(number, topic, payload, retain=transfer.retain)
        except ValueError as error:
            transfer.refused.append(Refused(topic, mqtt_failures.TOPIC_INVALID, str(error)))
            return
        transfer.unacknowledged += 1
        self._waiting[number] = (transfer, topic)

    def acknowledged(self, number: int, refusal: ReasonCode | None) -> None:
        """The broker has a message, or refuses it for good."""
        transfer, topic = self._waiting.pop(number)
        self._progress = time.monotonic()
        transfer.unacknowledged -= 1
        if refusal is not None:
            transfer.refused.append(Refused(topic, int(refusal.value), str(refusal).lower()))
        transfer.finish_if_complete()

    @property
    def overdue(self) -> str | None:
        """What to say where the broker has stopped acknowledging, else None."""
        if not self._waiting or time.monotonic() - self._progress <= ACKNOWLEDGE_WITHIN:
            return None
        return f"no acknowledgement within {ACKNOWLEDGE_WITHIN:g} s"

    def end(self, error: NotConnectedError) -> None:
        """The connection is gone: who waits is told."""
        self._wire = None
        transfers = {transfer for transfer, _ in self._waiting.values()} | set(self._transfers)
        self._waiting.clear()
        self._transfers.clear()
        for transfer in transfers:
            if not transfer.done.done():
                transfer.done.set_exception(error)
