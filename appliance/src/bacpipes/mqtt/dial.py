"""What blocks at the beginning of a connection, beside the event loop."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

from bacpipes.mqtt import certificates
from bacpipes.mqtt.config import MqttConfig

CONNECT_WITHIN = 5.0  # seconds for TCP, and again for TLS
ALERT_WITHIN = 2.0  # seconds


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
