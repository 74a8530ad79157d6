"""Between paho and its socket: what is written is collected and sent at once, and PUBLISH and PUBACK pass paho by.

paho makes a system call for each packet that it writes and three for each that it reads, and builds a dozen objects for
every message; with QoS 1 that was nine tenths of a published reading. Here a message is a line of bytes, and its
acknowledgement four octets. Everything else (CONNECT, SUBSCRIBE, PING, what comes in) is paho's, in the same stream.
"""

import ssl
from collections.abc import Callable
from typing import Any, Final

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

# Packet identifiers of ours; paho's, for SUBSCRIBE, count from 1.
FIRST_ID, LAST_ID = 0x8000, 0xFFFF
_CHUNK: Final = 256 * 1024
_PUBLISH_QOS1, _RETAIN, _PUBACK = 0x32, 0x01, 0x40
_FAILURE: Final = 0x80  # reason codes from here on (MQTT 5, 2.4)
_LONGEST_TOPIC: Final = 65535  # octets

Acknowledged = Callable[[int, ReasonCode | None], None]


class Wire:
    """Takes the socket's place in paho. ``acknowledged`` gets each PUBACK: identifier, and the reason of a refusal."""

    def __init__(self, sock: Any, *, version_5: bool, acknowledged: Acknowledged) -> None:
        self._socket = sock
        self._acknowledged = acknowledged
        self._publish_properties = b"\0" if version_5 else b""
        self._arrived = bytearray()  # the beginning of a packet
        self._for_paho = bytearray()
        self._outgoing = bytearray()
        self._ended = self._broken = False
        self._id = LAST_ID

    # --- what paho calls

    def recv(self, size: int) -> bytes:
        """Some of what is for paho; empty when the broker has closed the connection."""
        if self._for_paho:
            data = bytes(self._for_paho[:size])
            del self._for_paho[:size]
            return data
        if self._ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | bytearray) -> int:
        """Collect; `flush` sends."""
        self._outgoing += data
        return len(data)

    def fileno(self) -> int:
        """The socket's descriptor; -1 once closed."""
        number: int = self._socket.fileno()
        return number

    def close(self) -> None:
        """Send what is left, as far as that is possible without waiting, and close."""
        try:
            self.flush()
        except OSError:
            pass
        finally:
            self._socket.close()

    # --- what the session calls

    def next_id(self, used: Any) -> int:
        """A packet identifier that is not in ``used``."""
        while True:
            self._id = FIRST_ID if self._id == LAST_ID else self._id + 1
            if self._id not in used:
                return self._id

    def publish(self, number: int, topic: str, payload: bytes, *, retain: bool) -> None:
        """Collect a PUBLISH with QoS 1; raise ValueError for what is no topic."""
        name = topic.encode()
        if not 0 < len(name) <= _LONGEST_TOPIC or "+" in topic or "#" in topic:
            raise ValueError("not a topic: empty, too long, or with wildcards")
        properties = self._publish_properties
        self._outgoing.append(_PUBLISH_QOS1 | _RETAIN if retain else _PUBLISH_QOS1)
        self._outgoing += _length(4 + len(name) + len(properties) + len(payload))
        self._outgoing += len(name).to_bytes(2, "big") + name + number.to_bytes(2, "big") + properties
        self._outgoing += payload

    def flush(self) -> None:
        """Send as much as the socket takes; raise OSError where the connection is gone."""
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return

    @property
    def wants_write(self) -> bool:
        """Is there something that the socket did not take yet?"""
        return bool(self._outgoing)

    def end(self) -> None:
        """Writing has failed: what has arrived is read, and then it is the end."""
        self._broken = True
        self._outgoing.clear()

    def fill(self) -> bool:
        """Take in what has arrived and sort it; True where paho has something to read (also that it is the end)."""
        try:
            while True:
                data = self._socket.recv(_CHUNK)
                if not data:
                    self._ended = True
                    break
                self._arrived += data
                if not self._broken and not _pending(self._socket):  # the loop calls again for what the kernel holds
                    break
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._ended = self._broken
        except OSError:
            self._ended = True
        self._sort()
        return self.has_for_paho

    @property
    def has_for_paho(self) -> bool:
        """Is there something that paho should read?"""
        return bool(self._for_paho) or self._ended

    def _sort(self) -> None:
        """Whole packets, each to whom it is for."""
        arrived, at = self._arrived, 0
        while (found := _packet(arrived, at)) is not None:
            start, end = found
            if arrived[at] == _PUBACK:
                self._puback(arrived[start:end])
            else:
                self._for_paho += arrived[at:end]
            at = end
        del arrived[:at]

    def _puback(self, body: bytearray) -> None:
        if len(body) < 2:
            raise ValueError("a PUBACK without packet identifier")
        code = body[2] if len(body) > 2 else 0
        reason = ReasonCode(PacketTypes.PUBACK, identifier=code) if code >= _FAILURE else None
        self._acknowledged(body[0] << 8 | body[1], reason)


def _packet(data: bytearray, at: int) -> tuple[int, int] | None:
    """Where the body of the packet at ``at`` begins and ends; None where it is not all there yet."""
    length = shift = 0
    for start in range(at + 1, min(at + 5, len(data))):
        length |= (data[start] & 0x7F) << shift
        shift += 7
        if data[start] < 0x80:
            end = start + 1 + length
            return (start + 1, end) if end <= len(data) else None
    if len(data) >= at + 5:
        raise ValueError("a packet's length of more than four octets")
    return None


def _length(size: int) -> bytes:
    """A remaining length (MQTT 5, 1.5.5)."""
    octets = bytearray()
    while True:
        size, low = size >> 7, size & 0x7F
        octets.append(low | 0x80 if size else low)
        if not size:
            return bytes(octets)


def _pending(sock: Any) -> bool:
    """True when TLS holds bytes that the loop can't see on the socket."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
