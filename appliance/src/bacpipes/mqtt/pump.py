"""paho's socket on the event loop: what arrives is taken in, what is queued is written, and paho does the rest."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import paho.mqtt.client as paho

from bacpipes.mqtt.config import MqttConfig
from bacpipes.mqtt.failures import Failure
from bacpipes.mqtt.window import Window
from bacpipes.mqtt.wire import Wire


class Pump:
    """``failed`` is told where the broker sends what can't be understood; that the connection is gone, paho tells."""

    def __init__(
        self, client: paho.Client, config: MqttConfig, window: Window, failed: Callable[[Failure], None]
    ) -> None:
        self._paho, self._config, self._window, self._failed = client, config, window, failed
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._handle = -1  # the socket's descriptor while the loop watches it
        self._watching_writes = False
        self._flush_due = False
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write

    @property
    def attached(self) -> bool:
        """True while the loop watches the socket."""
        return self._handle >= 0

    def attach(self) -> None:
        """From now on the loop watches paho's socket, which is connected."""
        sock = cast("socket.socket", self._paho.socket())
        self._handle = sock.fileno()
        # We collect what is written; a result behind an acknowledgement would wait for the broker's, 40 ms.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # From here on paho reads and writes by it; there is no public way to give it another socket.
        self._wire = Wire(sock, version_5=self._config.protocol == "5", acknowledged=self._window.acknowledged)
        self._paho._sock = cast("socket.socket", self._wire)
        self._window.opened(self._wire)
        self._loop.add_reader(self._handle, self._on_readable)
        self.flush()
        self._on_readable()  # TLS may have taken the first bytes in with the handshake

    def detach(self) -> None:
        """The loop watches it no more."""
        if self._handle >= 0:
            self._loop.remove_reader(self._handle)
            self._loop.remove_writer(self._handle)
            self._handle = -1

    def discard_socket(self) -> None:
        """Close it."""
        sock = self._paho.socket()
        if sock is not None:
            sock.close()

    def flush(self) -> None:
        """Write what is queued; the loop is asked to watch the socket only when it would block."""
        self._flush_due = False
        if self._handle < 0:
            return
        if self._paho.want_write():
            self._paho.loop_write()
        if self._handle < 0 or self._wire is None:  # writing found out that the connection is gone
            return
        try:
            self._wire.flush()
        except OSError:
            self._wire.end()
            self._read()  # what came before the end may say why; then paho notices it
            return
        wanted = self._wire.wants_write
        if wanted and not self._watching_writes:
            self._loop.add_writer(self._handle, self.flush)
        elif self._watching_writes and not wanted:
            self._loop.remove_writer(self._handle)
        self._watching_writes = wanted

    def _on_readable(self) -> None:
        self._read()
        self._window.pump()
        self.flush()

    def _read(self) -> None:
        try:
            if self._wire is not None and self._wire.fill():
                while self._handle >= 0 and self._wire.has_for_paho:
                    self._paho.loop_read()
        except Exception as error:  # noqa: BLE001 - paho's decoder must not take the process along
            self._failed(Failure(f"broker {self._config.address}: sent what can't be understood: {error}"))

    # --- what paho asks for

    def _on_register_write(self, _client: paho.Client, _userdata: object, _socket: object) -> None:
        if self._handle >= 0 and not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def _on_socket_close(self, _client: paho.Client, _userdata: object, _socket: object) -> None:
        self.detach()
