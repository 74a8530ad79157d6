"""Asks ReadPropertyMultiple over bacpypes3's own socket, past its generic layers: one datagram out, one in.

Only what is simplest goes this way: a request and an answer without segments, to and from a device on our own IP
network (ASHRAE 135, annex J, and clauses 6 and 20). Every datagram that can't be an answer to us goes on to bacpypes3,
which does everything else. Its requests and ours never share an invoke id: it has 0 to 127, we the others.
"""

import asyncio
import random
import socket
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from bacpipes.bacnet import rpm
from bacpipes.log import get_logger

logger = get_logger(__name__)

Peer = tuple[str, int]  # address and port

LIBRARY_IDS: Final = 128  # invoke ids below are bacpypes3's
LONGEST_REQUEST: Final = 1400  # octets that always fit into one datagram
# A poll asks all devices in the same moment, and the answers must fit into the socket's buffer (by default 90 of them).
IN_THE_AIR: Final = 64  # requests whose answers may come any moment
IN_THE_AIR_FOR: Final = 0.25  # seconds; a device that takes longer keeps nobody waiting
RECEIVE_BUFFER: Final = 1 << 20  # octets; the kernel gives what it is allowed to
AT_ONCE: Final = 4  # datagrams taken in one turn of the event loop, which must not be held up
_LONGEST_DATAGRAM: Final = 4096
_BVLL, _UNICAST = 0x81, 0x0A  # annex J.2
_NO_SEGMENTS: Final = b"\x00\x05"  # a confirmed request; no segmented answer, 1476 octets at most (clause 20.1.2)
_EXPECTS_REPLY, _PLAIN = b"\x01\x04", b"\x01\x00"  # NPDU: version 1, no addresses (clause 6.2)
_ACK: Final = 0x30  # ComplexAck without segments (clause 20.1.5)
_ACK_SEGMENTED: Final = 0x08
_SIMPLE_ACK, _COMPLEX_ACK, _SEGMENT_ACK, _ERROR, _REJECT, _ABORT = 2, 3, 4, 5, 6, 7
_FROM_SERVER: Final = 0x01
_ABORT_SEGMENTS: Final = b"\x70%c\x04"  # Abort by the client: segmentation-not-supported
_TOO_LONG: Final = (1, 4, 11)  # reasons of an Abort: buffer-overflow, segmentation-not-supported, apdu-too-long
_REMEMBERED: Final = 10_000  # requests whose answers need segments


class SilenceError(Exception):
    """No answer within time-out and retries."""


class NeedsLibraryError(Exception):
    """This must be asked by bacpypes3: mostly for an answer that does not fit into one datagram."""


@dataclass(slots=True)
class Counts:
    """Datagrams that were of no use: ``damaged`` are no BACnet/IP; ``stray`` answer nothing that was asked (late,
    sent twice, or from where nobody was asked)."""

    damaged: int = 0
    stray: int = 0


class Place:
    """A place among the requests in the air, first come, first served: ``async with client.place() as place``."""

    __slots__ = ("_client", "held")

    def __init__(self, client: "RpmClient") -> None:
        self._client = client
        self.held = False

    async def __aenter__(self) -> Self:
        await self._client.take_off()
        self.held = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Let the next one have it; at the latest when the block ends."""
        if self.held:
            self.held = False
            self._client.land()


@dataclass(slots=True)
class _Waiting:
    future: "asyncio.Future[bytes]"
    packet: bytes
    timeout: float
    retries: int
    place: Place
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Device:
    """Requests outstanding at one address, by invoke id. The first id is a random one: an answer to an earlier run of
    ours should not meet a request of this one."""

    waiting: dict[int, _Waiting] = field(default_factory=dict)
    latest: int = field(default_factory=lambda: random.randrange(LIBRARY_IDS))  # noqa: S311 - no secret

    def next_id(self) -> int:
        for _ in range(256 - LIBRARY_IDS):
            self.latest = (self.latest + 1) % (256 - LIBRARY_IDS)
            if self.latest + LIBRARY_IDS not in self.waiting:
                return self.latest + LIBRARY_IDS
        raise RuntimeError("128 requests are outstanding to one device")


class LibraryIds:
    """Keeps ``next_invoke_id`` of a bacpypes3 application below `LIBRARY_IDS`; a base class before `Application`."""

    _next_invoke_id = 0

    @property
    def next_invoke_id(self) -> int:
        """What bacpypes3 takes for its next request."""
        return self._next_invoke_id

    @next_invoke_id.setter
    def next_invoke_id(self, value: int) -> None:
        self._next_invoke_id = value % LIBRARY_IDS


class RpmClient:
    """Hooked into the application's datagram endpoint from `attach` until `close`."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._told: set[str] = set()
        self._devices: dict[Peer, _Device] = {}
        self._too_long: set[tuple[Peer, bytes]] = set()
        self._protocol: Any = None
        self._transport: Any = None
        self._transactions: list[Any] = []
        self._socket: socket.socket | None = None
        self._local: Peer = ("", 0)
        self._in_the_air = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    async def attach(self, application: Any) -> None:
        """Take part in what the application's (only) IPv4 endpoint receives."""
        (link,) = application.link_layers.values()
        await asyncio.gather(*link.server._transport_tasks)
        await link.server._local_transport_ready.wait()
        self._protocol, self._transport = link.server.local_protocol, link.server.local_transport
        self._local = link.server.local_address
        self._transactions = application.asap.clientTransactions
        self._socket = socket.socket(fileno=socket.dup(self._transport.get_extra_info("socket").fileno()))
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._pass_on = self._protocol.datagram_received
        self._protocol.datagram_received = self._received

    def close(self) -> None:
        """Take no more part."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            del self._protocol.datagram_received

    def _takes(self, peer: Peer, request: bytes) -> bool:
        """Can this be asked here? Not where the answer was too long before, nor of ourselves."""
        if self._socket is None or len(request) > LONGEST_REQUEST or (peer, request) in self._too_long:
            return False
        ourselves = peer == self._local or (peer[1] == self._local[1] and peer[0].startswith("127."))
        return not ourselves

    def place(self) -> Place:
        """What a request takes before it is even put together: so a thousand of them do not hold the loop up."""
        return Place(self)

    async def ask(self, peer: Peer, request: bytes, timeout: float, retries: int, place: Place) -> bytes:
        """The APDU that a device answers to the service data of a request: an acknowledgement, Error, Reject or Abort.

        ``timeout`` is seconds for one try. Raise `SilenceError`, or `NeedsLibraryError`.
        """
        if not self._takes(peer, request):
            raise NeedsLibraryError
        device = self._devices.get(peer)
        if device is None:
            device = self._devices[peer] = _Device()
        invoke_id = device.next_id()
        loop = asyncio.get_running_loop()
        length = (len(request) + 10).to_bytes(2, "big")
        head = b"\x81\x0a" + length + _EXPECTS_REPLY + _NO_SEGMENTS + bytes((invoke_id, rpm.SERVICE))
        waiting = _Waiting(loop.create_future(), head + request, timeout, retries, place)
        device.waiting[invoke_id] = waiting
        waiting.timer = loop.call_later(min(timeout, IN_THE_AIR_FOR), self._late, peer, waiting)
        try:
            self._transport.sendto(waiting.packet, peer)
            packet = await waiting.future
        finally:
            waiting.timer.cancel()
            device.waiting.pop(invoke_id, None)
        if packet[6] != _ACK:
            self._look_at(peer, request, packet)
        return packet[6:]

    async def take_off(self) -> None:
        """Wait for a place in the air."""
        if self._in_the_air < IN_THE_AIR:
            self._in_the_air += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn  # whoever lands hands its place over
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.land()
            raise

    def land(self) -> None:
        """Hand a place over to who has waited longest."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._in_the_air -= 1

    def _late(self, peer: Peer, waiting: _Waiting) -> None:
        if waiting.future.done():
            return
        loop = asyncio.get_running_loop()
        if waiting.place.held and waiting.timeout > IN_THE_AIR_FOR:
            waiting.place.leave()
            waiting.timer = loop.call_later(waiting.timeout - IN_THE_AIR_FOR, self._late, peer, waiting)
        elif waiting.retries > 0:
            waiting.retries -= 1
            waiting.timer = loop.call_later(waiting.timeout, self._late, peer, waiting)
            self._transport.sendto(waiting.packet, peer)
        else:
            waiting.future.set_exception(SilenceError())

    def _look_at(self, peer: Peer, request: bytes, packet: bytes) -> None:
        """Not a plain acknowledgement: is it for its length?"""
        kind = packet[6] >> 4
        segmented = kind == _COMPLEX_ACK and packet[6] & _ACK_SEGMENTED
        if segmented:
            body = _PLAIN + _ABORT_SEGMENTS % packet[7]
            self._transport.sendto(b"\x81\x0a" + (len(body) + 4).to_bytes(2, "big") + body, peer)
        if segmented or (kind == _ABORT and packet[8] in _TOO_LONG):
            if len(self._too_long) >= _REMEMBERED:
                self._too_long.clear()
            self._too_long.add((peer, request))
            raise NeedsLibraryError

    # --- what comes in

    def _received(self, data: bytes, source: Peer) -> None:
        """What the endpoint received; and at once some more of what waits: a turn of the loop costs more than it."""
        self._take(data, source)
        with suppress(OSError):  # BlockingIOError: that was all
            for _ in range(AT_ONCE):
                if self._socket is None:
                    return
                self._take(*self._socket.recvfrom(_LONGEST_DATAGRAM))

    def _take(self, data: bytes, source: Peer) -> None:
        if len(data) < 6 or data[0] != _BVLL or data[2] << 8 | data[3] != len(data):
            self.counts.damaged += 1
            self._tell("a datagram is no BACnet/IP", source)
            return
        # Only an original unicast whose NPDU has no addresses can be an answer to us, or to a device's neighbour.
        if data[1] != _UNICAST or data[4:6] != _PLAIN or len(data) < 9 or not _is_answer(data[6]):
            self._pass_on(data, source)
            return
        invoke_id = data[7]
        if invoke_id < LIBRARY_IDS:
            if any(transaction.invokeID == invoke_id for transaction in self._transactions):
                self._pass_on(data, source)
            else:
                self._note_stray(source)
            return
        device = self._devices.get(source)
        waiting = device.waiting.get(invoke_id) if device else None
        if waiting is None or waiting.future.done() or not _fits(data):
            self._note_stray(source)
            return
        waiting.future.set_result(data)

    def _note_stray(self, source: Peer) -> None:
        self.counts.stray += 1
        self._tell("an answer to nothing that was asked", source)

    def _tell(self, what: str, source: Peer) -> None:
        """Log the first of its kind; the counts have the others."""
        if what not in self._told:
            self._told.add(what)
            logger.warning(f"{what}; it is ignored, and so are those that follow", source=f"{source[0]}:{source[1]}")


def _is_answer(first: int) -> bool:
    """Is it an APDU that a server sends to its client, by the APDU's first octet?"""
    kind = first >> 4
    if kind in (_SEGMENT_ACK, _ABORT):
        return bool(first & _FROM_SERVER)
    return kind in (_SIMPLE_ACK, _COMPLEX_ACK, _ERROR, _REJECT)


def _fits(data: bytes) -> bool:
    """Can it answer a ReadPropertyMultiple?"""
    kind = data[6] >> 4
    if kind == _COMPLEX_ACK:
        service = data[10] if data[6] & _ACK_SEGMENTED and len(data) > 10 else data[8]
        return service == rpm.SERVICE
    return kind in (_REJECT, _ABORT) or (kind == _ERROR and data[8] == rpm.SERVICE)
