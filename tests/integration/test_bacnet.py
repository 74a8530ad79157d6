"""Our BACnet client against a peer that answers what it should not: it must neither believe it nor wait for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import BacnetError, MalformedError, NoAnswerError
from bacpipes.bacnet.interface import check_bindable, parse_interface
from bacpipes.embedded import LOOPBACK
from bacpipes.errors import UnavailableError
from bacpipes.points import Device
from bacpipes.worker.reader import DeviceReader
from point_parts import point

PORT = 47955
OBJECT = ("analog-value", 120)
# ComplexAck of ReadProperty for analog-value 120, present-value, Real 42.0 (ASHRAE 135, clauses 20.1.5 and 21)
VALUE = bytes.fromhex("0c00800078 1955 3e 4442280000 3f".replace(" ", ""))
OTHER_OBJECT = VALUE.replace(bytes.fromhex("00800078"), bytes.fromhex("00800079"))


class Peer(asyncio.DatagramProtocol):
    """Answers each request with the same service data, under the request's invoke id."""

    def __init__(self, answers: list[Callable[[int, int], bytes]]) -> None:
        self._answers = answers  # the last one is in force
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # asyncio's own class, whatever its base

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        invoke_id, service = data[8], data[9]
        body = self._answers[-1](invoke_id, service)
        assert self.transport is not None
        self.transport.sendto(bytes.fromhex("810a") + (6 + len(body)).to_bytes(2, "big") + b"\x01\x00" + body, source)


@pytest.fixture
async def peer() -> AsyncIterator[Callable[[Callable[[int, int], bytes]], None]]:
    current: list[Callable[[int, int], bytes]] = []
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Peer(current), local_addr=(LOOPBACK, PORT + 1))
    yield current.append
    transport.close()


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BacnetClient]:
    monkeypatch.setattr("bacpipes.bacnet.client.SEGMENTS_WITHIN", 0.5)
    async with BacnetClient(f"{LOOPBACK}:{PORT}", timeout=0.3, retries=0) as client:
        yield client


ADDRESS = f"{LOOPBACK}:{PORT + 1}"


def ack(data: bytes) -> Callable[[int, int], bytes]:
    return lambda invoke_id, service: bytes([0x30, invoke_id, service]) + data


async def test_a_good_answer_is_a_value(client: BacnetClient, peer: Callable[..., None]) -> None:
    peer(ack(VALUE))
    assert await client.read_property(ADDRESS, OBJECT, "present-value") == 42.0


async def test_an_answer_for_another_object_is_not_believed(client: BacnetClient, peer: Callable[..., None]) -> None:
    peer(ack(OTHER_OBJECT))
    with pytest.raises(MalformedError, match="for another object"):
        await client.read_property(ADDRESS, OBJECT, "present-value")


@pytest.mark.parametrize(
    "answer",
    [
        ack(b""),
        ack(VALUE[:7]),
        ack(b"\xff" * 40),
        lambda invoke_id, _service: bytes([0x30, invoke_id, 99]) + VALUE,
        lambda invoke_id, service: bytes([0x50, invoke_id, service]),
        lambda invoke_id, service: bytes([0x50, invoke_id, service]) + b"\xff\xff",
        lambda invoke_id, service: bytes([0xF0, invoke_id, service]),
    ],
    ids=["empty", "short", "garbage", "other service", "empty error", "odd error", "unknown type"],
)
async def test_a_damaged_answer_ends_the_request_and_the_next_one_works(
    client: BacnetClient, peer: Callable[..., None], answer: Callable[[int, int], bytes]
) -> None:
    peer(answer)
    reader = DeviceReader(client, Device(1, 12345, "", ADDRESS, LOOPBACK, 480, False))
    (reading,) = await reader.read([point()])
    assert reading.value is None
    assert reading.reason
    peer(ack(VALUE))
    assert await client.read_property(ADDRESS, OBJECT, "present-value") == 42.0


async def test_silence_is_said(client: BacnetClient) -> None:
    with pytest.raises(NoAnswerError):
        await client.read_property(f"{LOOPBACK}:{PORT + 2}", OBJECT, "present-value")


@pytest.mark.parametrize("address", ["banana", "0.0.0.0:99999", "10.0.0.1/99", ""])
def test_an_interface_that_is_none_is_told(address: str) -> None:
    with pytest.raises((UnavailableError, BacnetError), match="BACPIPES_BACNET_ADDRESS"):
        check_bindable(parse_interface(address))
