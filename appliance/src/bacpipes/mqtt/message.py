"""What goes over a connection to a broker."""

from dataclasses import dataclass

Message = tuple[str, bytes]  # topic, payload

PAYLOAD_LIMIT = 64 * 1024  # bytes of an incoming message that are handed on


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """What came in. An oversized payload is cut at `PAYLOAD_LIMIT`."""

    topic: str
    payload: bytes
    retain: bool = False
    oversized: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that the broker has refused for good (MQTT 5 only: 3.1.1 has no word for it)."""

    topic: str
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Will:
    """A retained message that the broker sends when we vanish."""

    topic: str
    payload: bytes
