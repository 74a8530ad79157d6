"""What anybody on the network may send us: none of it becomes a reading, none fills the log, and polling goes on."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from bacpypes3.apdu import SubscribeCOVRequest, WritePropertyMultipleRequest
from bacpypes3.basetypes import PropertyIdentifier, PropertyValue, WriteAccessSpecification
from bacpypes3.primitivedata import Atomic, CharacterString, ObjectIdentifier, Unsigned

from accounts import account, lost, settled
from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import BacnetError, MalformedError, RejectedError
from bacpipes.embedded import LOOPBACK, EmbeddedBroker
from bacpipes.points import Device
from bacpipes.settings import Settings
from bacpipes.worker.reader import DeviceReader
from mqtt_parts import until
from point_parts import point
from site_parts import BASE, SENSOR_TOPIC, Site

OURS, PEER = 47985, 47986
ADDRESS = f"{LOOPBACK}:{PEER}"
OBJECT = ("analog-value", 120)
# ComplexAck of ReadProperty for analog-value 120, present-value (ASHRAE 135, clauses 20.1.5 and 21)
HEAD = bytes.fromhex("0c0080007819553e")
VALUE = HEAD + bytes.fromhex("44422800003f")  # Real 42.0
OTHER = HEAD + bytes.fromhex("44c27000003f")  # Real -60.0
TEXT = HEAD + bytes.fromhex("75fe0fa100") + b"x" * 4000 + b"\x3f"  # a character string of 4,000
NAN = HEAD + bytes.fromhex("447fc000003f")


def packet(invoke: int, service: int, data: bytes) -> bytes:
    body = bytes([0x30, invoke, service]) + data
    return bytes.fromhex("810a") + (6 + len(body)).to_bytes(2, "big") + b"\x01\x00" + body


@contextlib.contextmanager
def sender(host: str = LOOPBACK, port: int = 0) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind((host, port))
        made.setblocking(False)
        yield made


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BacnetClient]:
    monkeypatch.setattr("bacpipes.bacnet.client.SEGMENTS_WITHIN", 0.5)
    async with BacnetClient(f"{LOOPBACK}:{OURS}", timeout=0.5, retries=3) as client:
        yield client


async def metrics(site: Site) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{LOOPBACK}:{site.settings.worker_http_port}/metrics")).text


async def request_to(peer: socket.socket) -> tuple[int, int, tuple[str, int]]:
    """The next request: its invoke id, its service, and who asked."""
    data, source = await asyncio.get_running_loop().sock_recvfrom(peer, 2000)
    return data[8], data[9], source


async def test_an_answer_from_elsewhere_is_not_believed(client: BacnetClient) -> None:
    """The right invoke id, the right object, another address."""
    with sender(port=PEER) as peer, sender() as forger:
        reading = asyncio.create_task(client.read_property(ADDRESS, OBJECT, "present-value"))
        invoke, service, source = await request_to(peer)
        for _ in range(20):
            forger.sendto(packet(invoke, service, OTHER), source)
        await asyncio.sleep(0)
        peer.sendto(packet(invoke, service, VALUE), source)
        assert await reading == 42.0


async def test_an_answer_that_is_replayed_is_not_believed(client: BacnetClient) -> None:
    """Yesterday's answers, all of them at once, under every other invoke id."""
    with sender(port=PEER) as peer:
        for _ in range(3):
            reading = asyncio.create_task(client.read_property(ADDRESS, OBJECT, "present-value"))
            invoke, service, source = await request_to(peer)
            for other in range(256):
                if other != invoke:
                    peer.sendto(packet(other, service, OTHER), source)
            peer.sendto(packet(invoke, service, VALUE), source)
            assert await reading == 42.0
        peer.sendto(packet(invoke, service, OTHER), source)  # and once more, when nobody waits
        again = asyncio.create_task(client.read_property(ADDRESS, OBJECT, "present-value"))
        invoke, service, source = await request_to(peer)
        peer.sendto(packet(invoke, service, VALUE), source)
        assert await again == 42.0


async def test_a_thousand_answers_are_one(client: BacnetClient) -> None:
    with sender(port=PEER) as peer:
        reading = asyncio.create_task(client.read_property(ADDRESS, OBJECT, "present-value"))
        invoke, service, source = await request_to(peer)
        for number in range(1000):
            with contextlib.suppress(BlockingIOError):
                peer.sendto(packet(invoke, service, VALUE if number == 0 else OTHER), source)
        assert await reading == 42.0
        again = asyncio.create_task(client.read_property(ADDRESS, OBJECT, "present-value"))
        while not again.done():  # what came before may have left no room for the answer: then it is asked again
            asked = asyncio.create_task(request_to(peer))
            await asyncio.wait([asked, again], return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                invoke, service, source = asked.result()
                peer.sendto(packet(invoke, service, VALUE), source)
            asked.cancel()
        assert await again == 42.0


@pytest.mark.parametrize(("answer", "reason"), [(TEXT[:1400], "decoded"), (NAN, "nan"), (HEAD + b"\x3f", "decoded")])
async def test_what_is_no_number_is_a_bad_reading(client: BacnetClient, answer: bytes, reason: str) -> None:
    with sender(port=PEER) as peer:
        reader = DeviceReader(client, Device(1, 12345, "", ADDRESS, LOOPBACK, 480, True))
        reading = asyncio.create_task(reader.read([point()]))
        with contextlib.suppress(asyncio.CancelledError):
            for _ in range(2):  # value and flags
                invoke, service, source = await request_to(peer)
                peer.sendto(packet(invoke, service, answer), source)
                if reading.done() or answer is not NAN:
                    break
        (found,) = await reading
        assert (found.value, found.quality.text) == (None, "bad")
        assert reason in (found.reason or ""), found.reason


async def test_a_text_of_four_thousand_characters_in_segments(client: BacnetClient) -> None:
    """It does not fit one packet: it comes in segments, is taken whole, and is no number."""
    with sender(port=PEER) as peer:
        reading = asyncio.create_task(client.read_property(ADDRESS, OBJECT, "present-value"))
        invoke, service, source = await request_to(peer)
        parts = [TEXT[first : first + 1000] for first in range(0, len(TEXT), 1000)]
        for number, part in enumerate(parts):
            more = 0x04 if number < len(parts) - 1 else 0
            body = bytes([0x38 | more, invoke, number, 1, service]) + part
            peer.sendto(bytes.fromhex("810a") + (6 + len(body)).to_bytes(2, "big") + b"\x01\x00" + body, source)
            await asyncio.get_running_loop().sock_recvfrom(peer, 2000)  # the segment's acknowledgement
        with pytest.raises((MalformedError, BacnetError)):
            await reading
        assert client.malformed == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("apdu-timeout", Unsigned(1)), ("number-of-apdu-retries", Unsigned(200)), ("object-name", CharacterString("x"))],
    ids=["time-out", "retries", "name"],
)
async def test_nobody_writes_to_us(client: BacnetClient, name: str, value: Atomic) -> None:
    """How long we wait for all our devices stands in our own device object."""
    ours = ("device", client._device_id)
    async with BacnetClient(ADDRESS, 4194001, timeout=2.0, retries=1) as other:
        before = await other.read_property(client.address, ours, name)
        assert before != value
        with pytest.raises(RejectedError, match="unrecognized-service"):
            await other.write_property(client.address, ours, name, value)
        several = WritePropertyMultipleRequest(
            listOfWriteAccessSpecs=[
                WriteAccessSpecification(
                    objectIdentifier=ObjectIdentifier(ours),
                    listOfProperties=[PropertyValue(propertyIdentifier=PropertyIdentifier(name), value=value)],
                )
            ]
        )
        subscription = SubscribeCOVRequest(subscriberProcessIdentifier=1, monitoredObjectIdentifier=ours, lifetime=600)
        for request in (several, subscription):
            with pytest.raises(RejectedError, match="unrecognized-service"):
                await other.request(client.address, request)
        assert await other.read_property(client.address, ours, name) == before
        supported = await other.read_property(client.address, ours, "protocol-services-supported")
        assert [supported[bit] for bit in (12, 14, 15, 16)] == [1, 1, 0, 0], "reading, and no writing"


async def test_garbage_to_the_worker_s_port(settings: Settings, broker: EmbeddedBroker) -> None:
    """Damaged, truncated, random: of everything that a network may carry. The log has room for what matters."""
    async with Site(settings, broker) as site:
        worker = site.spawn_worker()
        await site.readings(2, 30)
        host, port = site.settings.bacnet_address.split(":")
        chance = random.Random(7)  # noqa: S311 - the same garbage each time
        whole = [packet(n, service, VALUE) for n in range(8) for service in (12, 14, 15, 99)]
        headers = ("810a", "810b", "8104", "8105", "8100", "8109", "810c", "0400", "")
        with sender(BASE.rsplit(".", 1)[0] + ".201") as hostile:
            for number in range(4000):
                octets = bytearray(chance.choice(whole))
                match number % 4:
                    case 0:
                        octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
                    case 1:
                        octets = octets[: chance.randrange(len(octets))]
                    case 2:
                        octets = bytearray(
                            bytes.fromhex(chance.choice(headers)) + chance.randbytes(chance.randrange(60))
                        )
                    case _:  # any PDU type and service, behind a sound header
                        body = bytes([chance.randrange(256)]) + chance.randbytes(chance.randrange(1, 40))
                        octets = bytearray(
                            bytes.fromhex("810a") + (6 + len(body)).to_bytes(2, "big") + b"\x01\x00" + body
                        )
                with contextlib.suppress(BlockingIOError):
                    hostile.sendto(bytes(octets), (host, int(port)))
                if number % 40 == 0:
                    await asyncio.sleep(0.02)
        heard = len(site.published(SENSOR_TOPIC))
        await until(lambda: len(site.published(SENSOR_TOPIC)) > heard + 2, "polling goes on")
        told = await metrics(site)
        moment = await settled(site)
        found = account(site, moment)
        assert (found.lost, found.twice) == (0, 0), lost(site, moment)
        odd = "SELECT count(*) FROM reading WHERE quality <> 0 AND reason !~ '^(no answer|silent device)'"
        assert site.one(odd) == (0,), "an answer may have had no room beside all that; nothing else may be"
        assert site.building.writes == []
        worker.terminate()
        _, log = await asyncio.to_thread(worker.communicate)
        assert worker.returncode == 0
        assert len(log.splitlines()) < 30, log[-6000:]
        (damaged,) = [line for line in told.splitlines() if line.startswith("bacpipes_packets_damaged ")]
        assert float(damaged.split()[1]) > 500
        assert log.count("a BACnet packet could not be processed") == 1, "it is said once"
