"""A device's end of the network: one UDP socket, which can fall silent or be late."""

import asyncio
import errno
import socket
from typing import Any

from bacpypes3.comm import bind
from bacpypes3.ipv4 import IPv4DatagramServer
from bacpypes3.ipv4.bvll import BVLLCodec
from bacpypes3.ipv4.service import BIPNormal, UDPMultiplexer
from bacpypes3.pdu import IPv4Address

from bacpipes.errors import UnavailableError


def open_socket(address: str) -> socket.socket:
    """Bind ``ip:port`` for this process alone (bacpypes3's own way shares it, and packets then go astray)."""
    ip, port = address.split(":")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        udp.bind((ip, int(port)))
    except OSError as error:
        udp.close()
        remedy = "Another simulation runs there; choose --base or --port." if error.errno == errno.EADDRINUSE else ""
        raise UnavailableError(f"Can't bind UDP {address}: {error.strerror}.", remedy) from None
    udp.setblocking(False)
    return udp


class Datagrams(IPv4DatagramServer):
    """The datagram layer, with the two faults that concern the network: ``silent``, and ``delay`` in seconds."""

    silent = False
    delay = 0.0

    def __init__(self, address: IPv4Address, udp: socket.socket) -> None:
        super().__init__(address, no_broadcast=True, bind_socket=udp)
        self._late: set[asyncio.Task[None]] = set()

    async def confirmation(self, pdu: Any) -> None:
        """A datagram came in."""
        if not self.silent:
            await super().confirmation(pdu)

    async def indication(self, pdu: Any) -> None:
        """A datagram goes out, perhaps later; a device that is late works at once and answers late."""
        if self.silent:
            return
        if self.delay <= 0:
            await super().indication(pdu)
            return
        task = asyncio.create_task(self._send_late(pdu, self.delay))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _send_late(self, pdu: Any, delay: float) -> None:
        await asyncio.sleep(delay)
        if not self.silent and not self.local_transport.is_closing():
            await super().indication(pdu)

    async def ready(self) -> None:
        """Return when the socket is attached to the event loop."""
        await self._local_transport_ready.wait()

    def close(self) -> None:
        """Close the socket, and forget what was still to be sent."""
        for task in self._late:
            task.cancel()
        super().close()


class Wire(BIPNormal):
    """BACnet/IP above `Datagrams`, without broadcasts: a loopback address has none."""

    def __init__(self, address: str, udp: socket.socket) -> None:
        super().__init__()
        self.address = IPv4Address(f"{address.split(':')[0]}/32:{address.split(':')[1]}")
        self.codec = BVLLCodec()
        self.multiplexer = UDPMultiplexer()
        self.datagrams = Datagrams(self.address, udp)
        bind(self, self.codec, self.multiplexer.annexJ)
        bind(self.multiplexer, self.datagrams)
