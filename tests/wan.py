"""The way between a site and central: relays that can be cut, and a slow and lossy link that they can lead over.

`SlowLink` is a pair of TUN devices, one in this network namespace and one in another; whatever goes in at one end a
thread of ours hands out at the other, packet by packet. Imitated are: a constant delay of half the round trip in each
direction, the loss of each packet by itself with the same probability, and a rate with a queue of one second before
it, which drops what finds it full. Retransmission, congestion control and head-of-line blocking are not imitated: the
TCP at both ends is the kernel's own.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bacpipes.embedded import LOOPBACK

Target = tuple[str, int] | Path  # a TCP port, or a Unix socket
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000  # linux/if_tun.h
CLONE_NEWNET = 0x40000000
NETWORK = f"10.77.{os.getpid() // 64 % 256}.{{}}"  # so that two runs on one machine do not meet
HERE, THERE = (NETWORK.format(os.getpid() % 64 * 4 + host) for host in (1, 2))
QUEUE = 1.0  # seconds that the link's queue holds


class NoLinkError(Exception):
    """This host can't have a slow link; the text says what is missing."""


class Relay:
    """Hands TCP connections on, on loopback; a thread of its own does the work.

    While it is cut, what is open is reset and what is new is refused. (Silence can't be imitated so: our kernel would
    go on acknowledging what the far end never hears.)
    """

    def __init__(self, target: Target, listener: socket.socket | None = None) -> None:
        self.target = target
        self._listener: socket.socket | None = listener or socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self.octets = 0  # in both directions
        self.knocks: list[float] = []  # when somebody connected; monotonic
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._serve)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        """Nothing passes any more."""
        self._call(self._close)

    def mend(self) -> None:
        """New connections pass."""
        self._call(self._serve)

    def lead(self, target: Target) -> None:
        """From now on to another place."""
        self.target = target
        self._call(self._abort)

    def _call(self, function: Callable[[], Awaitable[None]]) -> None:
        asyncio.run_coroutine_threadsafe(_awaited(function), self._loop).result(10)

    async def _serve(self) -> None:
        listener = self._listener or socket.create_server((LOOPBACK, self.port))
        self._listener, self._server = None, await asyncio.start_server(self._relay, sock=listener)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._abort()

    async def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.knocks.append(time.monotonic())
        try:
            far_reader, far_writer = await _dial(self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(16384):
                self.octets += len(data)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
        self._writers.discard(writer)


async def _awaited(function: Callable[[], Awaitable[None]]) -> None:
    await function()


async def _dial(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(target, Path):
        return await asyncio.open_unix_connection(target)
    return await asyncio.open_connection(*target)


@dataclass(frozen=True)
class Quality:
    """``loss``: part of the packets, in each direction; ``round_trip`` in seconds; ``rate`` in bits per second."""

    loss: float
    round_trip: float
    rate: float


class SlowLink:
    """Two network namespaces and what lies between them; `listen` gives a socket at its far end."""

    def __init__(self, quality: Quality, seed: int = 4) -> None:
        if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
            raise NoLinkError("a slow link needs root and /dev/net/tun")
        self.quality = quality
        self.carried = self.lost = 0  # packets
        self._chance = random.Random(seed)  # noqa: S311 - the same losses each time
        self._name = f"bpt{os.getpid()}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Self:
        _ip("netns", "add", self._name)
        self._ends = [_tun(f"{self._name}a"), _tun(f"{self._name}b")]
        _ip("link", "set", f"{self._name}b", "netns", self._name)
        for prefix, end, address in (((), "a", HERE), (("-n", self._name), "b", THERE)):
            _ip(*prefix, "address", "add", f"{address}/30", "dev", f"{self._name}{end}")
            _ip(*prefix, "link", "set", f"{self._name}{end}", "up")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        for end in self._ends:
            os.close(end)
        _ip("netns", "delete", self._name)

    def listen(self) -> socket.socket:
        """A listening socket in the far namespace; who accepts there may dial from here."""
        made: list[socket.socket] = []

        def there() -> None:  # a thread's namespace is its own
            libc = ctypes.CDLL(None, use_errno=True)
            with (Path("/run/netns") / self._name).open() as namespace:
                if libc.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
                made.append(socket.create_server((THERE, 0)))

        thread = threading.Thread(target=there)
        thread.start()
        thread.join()
        return made[0]

    def _carry(self) -> None:
        """Until the end: take packets in, and hand each out when it is due."""
        waiting: list[tuple[float, int, int, bytes]] = []
        free = dict.fromkeys(self._ends, 0.0)  # when each direction's sender is done with what it has
        number = 0
        while not self._over.is_set():
            until_due = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 0.1
            ready, _, _ = select.select(self._ends, [], [], min(until_due, 0.1))
            for end in ready:
                packet, now = os.read(end, 65535), time.monotonic()
                other = self._ends[1 - self._ends.index(end)]
                begins = max(free[end], now)
                if begins - now > QUEUE or self._chance.random() < self.quality.loss:
                    self.lost += 1
                    continue
                free[end] = begins + len(packet) * 8 / self.quality.rate
                number += 1
                heapq.heappush(waiting, (free[end] + self.quality.round_trip / 2, number, other, packet))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(waiting)
                self.carried += 1
                os.write(end, packet)


def _tun(name: str) -> int:
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return end


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
