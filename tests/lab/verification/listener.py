"""Hears everything that a site publishes, from the first moment of the run on."""

import json
import threading
import time
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import CallbackAPIVersion, Client, MQTTMessage, MQTTv5


@dataclass(frozen=True, slots=True)
class Heard:
    """A message as it came, and its payload where that is JSON."""

    topic: str
    payload: bytes
    fields: dict[str, Any] | None
    at: float


class Listener:
    """A subscription to ``{site}/#``. Retained messages don't count: they say nothing of now."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._heard: dict[str, Heard] = {}
        self._client: Client | None = None
        self._connected = threading.Event()
        self.count = 0
        self.problem = ""

    def connect(self, port: int, user: str, password: str, seconds: float = 20) -> None:
        """Connect and subscribe; ``problem`` says why not."""
        self.close()
        client = self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        client.username_pw_set(user, password)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        self.problem = "the broker did not answer"
        deadline = time.monotonic() + seconds
        while not self._connected.is_set() and time.monotonic() < deadline:
            try:
                client.connect("127.0.0.1", port, keepalive=30)
                client.loop_start()
                self._connected.wait(min(5.0, seconds))
            except OSError as error:
                self.problem = str(error)
                self._connected.wait(0.5)
            if not self._connected.is_set():
                client.loop_stop()

    def close(self) -> None:
        self._connected.clear()
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def forget(self) -> None:
        """Begin anew: what was heard so far counts no more."""
        with self._lock:
            self._heard.clear()

    @property
    def heard(self) -> list[Heard]:
        """The latest message of each topic."""
        with self._lock:
            return list(self._heard.values())

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.problem = str(reason)
        else:
            client.subscribe(f"{self._site}/#", qos=1)

    def _on_subscribe(self, _client: Client, _data: Any, _number: int, reasons: list[Any], _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self.problem = f"subscription to {self._site}/#: {reasons[0]}"
            return
        self.problem = ""
        self._connected.set()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if message.retain:
            return
        try:
            fields = json.loads(message.payload)
        except ValueError:
            fields = None
        fields = fields if isinstance(fields, dict) else None
        with self._lock:
            self.count += 1
            self._heard[message.topic] = Heard(message.topic, message.payload, fields, time.monotonic())
