"""Which ports of a site answer, seen from the controller."""

import itertools
import resource
import selectors
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from verification.fleet import Site

AT_ONCE = 12000  # what a firewall drops costs SECONDS each
BURST = 250  # new ones in one turn: a network card's queue takes 1,000
PAUSE = 0.02  # seconds of a turn in which nobody answers
SECONDS = 1.5  # long enough for a second SYN
# What a machine of this kind could offer by mistake.
WELL_KNOWN = (
    21, 22, 23, 25, 53, 80, 110, 111, 135, 139, 143, 389, 443, 445, 465, 514, 587, 631, 873, 993, 995, 1080, 1433,
    1521, 1880, 1881, 1883, 2049, 2375, 2376, 2377, 3000, 3001, 3128, 3306, 3389, 4000, 4222, 4369, 4370, 5000,
    5010, 5355, 5369, 5370, 5432, 5433, 5434, 5435, 5601, 5672, 5900, 6379, 6432, 7000, 7946, 8000, 8006, 8080,
    8081, 8083, 8084, 8086, 8087, 8123, 8443, 8883, 8888, 9000, 9090, 9091, 9093, 9100, 9109, 9200, 9323, 9443,
    9999, 10000, 11211, 15672, 18083, 18084, 27017, 47808,
)  # fmt: skip
SILENCE = 3.0  # seconds after which nobody answers any more
# ReadProperty of the device object (wildcard instance), property object-name: every BACnet/IP device answers it.
READ_DEVICE_NAME = bytes.fromhex("810a001101040005010c0c023fffff194d")


@dataclass(frozen=True)
class Scan:
    """The open ports of each address."""

    looked: int
    open: dict[str, list[int]] = field(default_factory=dict)


def scan(site: Site) -> Scan:
    """Try the ports of all the site's addresses that we know (blocking)."""
    wanted = range(1, 65536) if site.scan == "all" else sorted({*WELL_KNOWN, *site.ports, site.connection.port})
    names = {site.connection.address, site.http_address} - {"", "127.0.0.1", "localhost"}
    return Scan(len(wanted), {name: open_ports(socket.gethostbyname(name), wanted) for name in sorted(names)})


def opens(address: str, port: int) -> bool:
    """Whether a TCP port takes a connection (blocking)."""
    try:
        with socket.create_connection((address, port), SILENCE):
            return True
    except OSError:
        return False


def bacnet_answer(address: str, port: int) -> bytes | None:
    """What comes back to a BACnet question (blocking): None is silence, and ConnectionRefusedError a closed port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(SILENCE)
        link.connect((address, port))
        try:
            link.send(READ_DEVICE_NAME)
            return link.recv(1500)
        except TimeoutError:
            return None


def open_ports(address: str, wanted: Iterable[int]) -> list[int]:
    """The ports that take a connection. Plain sockets: a task for each of 65,535 would take minutes."""
    at_once = _room()
    found: set[int] = set()
    left = iter(wanted)
    waiting: dict[int, tuple[float, socket.socket, int]] = {}  # by descriptor, the one that has waited longest first
    with selectors.DefaultSelector() as selector:

        def end(descriptor: int) -> None:
            _, link, port = waiting.pop(descriptor)
            if link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and _connected(link):
                found.add(port)
            selector.unregister(link)
            link.close()

        while True:
            for port in itertools.islice(left, min(BURST, at_once - len(waiting))):
                link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                link.setblocking(False)
                link.connect_ex((address, port))
                selector.register(link, selectors.EVENT_WRITE)
                waiting[link.fileno()] = (time.monotonic() + SECONDS, link, port)
            if not waiting:
                return sorted(found)
            for key, _ in selector.select(PAUSE):
                end(key.fd)
            now = time.monotonic()
            for descriptor in [each for each, (deadline, *_) in waiting.items() if deadline <= now]:
                end(descriptor)


def _connected(link: socket.socket) -> bool:
    try:
        link.getpeername()
    except OSError:
        return False
    return True


def _room() -> int:
    """How many sockets may be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < AT_ONCE + 1000:
        soft = AT_ONCE + 1000 if hard == resource.RLIM_INFINITY else min(hard, AT_ONCE + 1000)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(100, min(AT_ONCE, soft - 1000))
