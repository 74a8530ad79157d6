"""Our way past bacpypes3's layers: real datagrams, to peers that answer as they are told, and never a wrong value."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacpipes.bacnet import rpm_client
from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import AbortedError, BacnetError, MalformedError, NoAnswerError, RefusedError, RejectedError
from bacpipes.bacnet.rpm_client import IN_THE_AIR, LIBRARY_IDS
from bacpipes.embedded import LOOPBACK

PORT = 47961
PEERS = 3
OBJECT = ("analog-value", 120)
OTHER = ("analog-value", 121)
NAMES = ("present-value", "status-flags")
HEAD = bytes.fromhex("0c00800078 1e".replace(" ", ""))
FLAGS = bytes.fromhex("296f 4e 820400 4f 1f".replace(" ", ""))
# ReadPropertyMultiple-ACK for analog-value 120: present-value 42.0 and status flags (ASHRAE 135, clause 15.7)
GOOD = HEAD + bytes.fromhex("2955 4e 4442280000 4f".replace(" ", "")) + FLAGS
OF_ANOTHER = GOOD.replace(bytes.fromhex("00800078"), bytes.fromhex("00800079"))

Answer = Callable[[int, int], list[bytes]]  # invoke id, service → APDUs


class Peer(asyncio.DatagramProtocol):
    """Notes the requests (APDUs) and answers as it is told."""

    def __init__(self, script: "Script") -> None:
        self.script = script
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        self.script.heard.append(data[6:])
        if data[6] >> 4 == 0:  # a confirmed request
            for apdu in self.script.answer(data[8], data[9]):
                self.transport.sendto(framed(apdu), source)


class Script:
    """What the peers answer, and what they have heard."""

    def __init__(self) -> None:
        self.answer: Answer = ack(GOOD)
        self.heard: list[bytes] = []
        self.transports: list[Any] = []

    @property
    def ids(self) -> list[int]:
        """The invoke ids of the requests."""
        return [apdu[2] for apdu in self.heard if apdu[0] >> 4 == 0]


def framed(apdu: bytes) -> bytes:
    return b"\x81\x0a" + (6 + len(apdu)).to_bytes(2, "big") + b"\x01\x00" + apdu


def ack(data: bytes) -> Answer:
    return lambda invoke_id, service: [bytes([0x30, invoke_id, service]) + data]


@pytest.fixture
async def peers() -> AsyncIterator[Script]:
    script, loop = Script(), asyncio.get_running_loop()
    for number in range(PEERS):
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Peer(script), local_addr=(LOOPBACK, PORT + 1 + number)
        )
        script.transports.append(transport)
    yield script
    for transport in script.transports:
        transport.close()
    await asyncio.sleep(0)


@pytest.fixture
async def client() -> AsyncIterator[BacnetClient]:
    async with BacnetClient(f"{LOOPBACK}:{PORT}", timeout=0.3, retries=0, concurrency=4) as client:
        yield client


def address(number: int = 0) -> str:
    return f"{LOOPBACK}:{PORT + 1 + number}"


async def read(client: BacnetClient, number: int = 0) -> list[Any]:
    rows = await client.read_multiple(address(number), [(OBJECT, NAMES)])
    return [(row.object_id, row.property, row.value) for row in rows]


RIGHT = [(OBJECT, "present-value", 42.0), (OBJECT, "status-flags", (False,) * 4)]


async def test_a_value_comes_by_our_own_way(client: BacnetClient, peers: Script) -> None:
    assert await read(client) == RIGHT
    (request,) = peers.heard
    assert request[0] == 0x00, "no segmented answer is accepted"
    assert request[2] >= LIBRARY_IDS


async def test_one_setting_turns_it_off(peers: Script) -> None:
    async with BacnetClient(f"{LOOPBACK}:{PORT}", timeout=0.3, retries=0, fast=False) as client:
        rows = [(object_id, name) for object_id, name, _ in await read(client)]
    assert rows == [(OBJECT, name) for name in NAMES]
    assert peers.ids[0] < LIBRARY_IDS


async def test_invoke_ids_never_meet_bacpypes3_s(client: BacnetClient, peers: Script) -> None:
    value = bytes.fromhex("0c00800078 1955 3e 4442280000 3f".replace(" ", ""))
    peers.answer = lambda invoke_id, service: ack(GOOD if service == 14 else value)(invoke_id, service)
    for _ in range(300):  # more than there are ids
        await read(client)
        assert await client.read_property(address(), OBJECT, "present-value") == 42.0
    ours = {apdu[2] for apdu in peers.heard if apdu[3] == 14}
    its = {apdu[2] for apdu in peers.heard if apdu[3] == 12}
    assert ours == set(range(LIBRARY_IDS, 256))
    assert its == set(range(LIBRARY_IDS))


async def test_requests_outstanding_to_one_device_have_ids_of_their_own(client: BacnetClient, peers: Script) -> None:
    held: list[tuple[int, int]] = []
    peers.answer = lambda invoke_id, service: held.append((invoke_id, service)) or []  # type: ignore[func-returns-value]
    reads = [asyncio.create_task(read(client)) for _ in range(4)]
    while len(held) < 4:
        await asyncio.sleep(0)
    assert len(set(peers.ids)) == 4
    for invoke_id, service in reversed(held):
        peers.transports[0].sendto(framed(ack(GOOD)(invoke_id, service)[0]), (LOOPBACK, PORT))
    assert await asyncio.gather(*reads) == [RIGHT] * 4


async def test_an_answer_from_where_nobody_was_asked_is_counted_and_ignored(
    client: BacnetClient, peers: Script
) -> None:
    def spoofed(invoke_id: int, service: int) -> list[bytes]:
        wrong = GOOD.replace(bytes.fromhex("42280000"), bytes.fromhex("42c80000"))
        peers.transports[1].sendto(framed(ack(wrong)(invoke_id, service)[0]), (LOOPBACK, PORT))
        return ack(GOOD)(invoke_id, service)

    peers.answer = spoofed
    assert await read(client) == RIGHT
    assert (client.counts.stray, client.counts.damaged) == (1, 0)


async def test_replays_are_counted_and_ignored(client: BacnetClient, peers: Script) -> None:
    peers.answer = lambda invoke_id, service: ack(GOOD)(invoke_id, service) * 50
    assert await read(client) == RIGHT
    old = peers.ids[0]
    wrong = ack(GOOD.replace(bytes.fromhex("42280000"), bytes.fromhex("42c80000")))(old, 14)
    peers.answer = lambda invoke_id, service: wrong + ack(GOOD)(invoke_id, service)
    assert await read(client) == RIGHT
    assert await read(client, 1) == RIGHT
    assert client.counts.stray >= 50


async def test_a_thousand_answers_to_nothing_never_reach_bacpypes3(
    client: BacnetClient, peers: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[bytes] = []
    monkeypatch.setattr(client._rpm, "_pass_on", lambda data, _source: passed.append(data))
    for number in range(1000):
        client._rpm._take(framed(ack(GOOD)(number % 256, 14)[0]), (LOOPBACK, PORT + 1))
    assert (passed, client.counts.stray) == ([], 1000)
    assert await read(client) == RIGHT


async def test_an_answer_for_another_object_is_never_its_value(client: BacnetClient, peers: Script) -> None:
    peers.answer = ack(OF_ANOTHER)
    try:
        rows = await read(client)
    except BacnetError:
        return
    assert OBJECT not in {row[0] for row in rows}


@pytest.mark.parametrize(
    ("apdu", "error", "reason"),
    [
        (lambda i, s: [bytes([0x50, i, s]) + bytes.fromhex("9101 911f")], RefusedError, "object: unknown-object"),
        (lambda i, _: [bytes([0x60, i, 9])], RejectedError, "unrecognized-service"),
        (lambda i, _: [bytes([0x71, i, 9])], AbortedError, "out-of-resources"),
        (lambda i, _: [bytes([0x71, i, 4])], AbortedError, "segmentation-not-supported"),
        (lambda i, _: [bytes([0x30, i, 12]) + GOOD], NoAnswerError, "no answer"),
        (lambda i, s: [bytes([0x50, i, s])], MalformedError, "decoded"),
        (lambda i, s: [bytes([0x30, i, s])], MalformedError, "decoded"),
        (lambda _i, _s: [], NoAnswerError, "no answer"),
    ],
    ids=["error", "reject", "abort", "too long", "other service", "empty error", "empty", "silence"],
)
async def test_what_is_no_value_is_an_error_with_its_reason(
    client: BacnetClient, peers: Script, apdu: Answer, error: type[BacnetError], reason: str
) -> None:
    peers.answer = apdu
    with pytest.raises(error, match=reason):
        await read(client)
    peers.answer = ack(GOOD)
    assert await read(client) == RIGHT
    assert all(not device.waiting for device in client._rpm._devices.values())


async def test_a_retry_is_the_same_request_again(peers: Script) -> None:
    lost: list[int] = []
    peers.answer = lambda i, s: ack(GOOD)(i, s) if lost else lost.append(i) or []  # type: ignore[func-returns-value]
    async with BacnetClient(f"{LOOPBACK}:{PORT}", timeout=0.3, retries=1) as client:
        assert await read(client) == RIGHT
    assert peers.heard[0] == peers.heard[1]


async def test_an_answer_in_segments_is_fetched_by_bacpypes3(client: BacnetClient, peers: Script) -> None:
    """The first request is aborted; bacpypes3 asks again, takes the segments, and is asked at once from then on."""
    halves = GOOD[:10], GOOD[10:]

    def answer(invoke_id: int, service: int) -> list[bytes]:
        if invoke_id >= LIBRARY_IDS:  # a device that sends segments to who does not take them
            return [bytes([0x3C, invoke_id, 0, 2, service]) + halves[0]]
        return [
            bytes([0x3C, invoke_id, 0, 2, service]) + halves[0],
            bytes([0x38, invoke_id, 1, 2, service]) + halves[1],
        ]

    peers.answer = answer
    assert await read(client) == RIGHT
    aborted = [apdu for apdu in peers.heard if apdu[0] == 0x70]
    assert [apdu[1:] for apdu in aborted] == [bytes([peers.ids[0], 4])]
    assert [number >= LIBRARY_IDS for number in peers.ids] == [True, False]
    assert await read(client) == RIGHT
    assert [number >= LIBRARY_IDS for number in peers.ids] == [True, False, False]


async def test_silent_devices_keep_nobody_waiting(peers: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """More devices than there are places in the air do not answer; one that lives is read long before they time out."""
    monkeypatch.setattr(rpm_client, "IN_THE_AIR_FOR", 0.05)
    async with BacnetClient(f"{LOOPBACK}:{PORT}", timeout=60, retries=0) as client:
        dead = [
            asyncio.create_task(client.read_multiple(f"127.0.9.{1 + n}:{PORT + 9}", [(OBJECT, NAMES)]))
            for n in range(IN_THE_AIR + 10)
        ]
        await asyncio.sleep(0)
        assert await read(client) == RIGHT
        assert not any(task.done() for task in dead)
        for task in dead:
            task.cancel()
        await asyncio.gather(*dead, return_exceptions=True)
        assert (client._rpm._in_the_air, list(client._rpm._queue)) == (0, [])


async def test_cancelled_while_waiting_for_a_place(peers: Script) -> None:
    async with BacnetClient(f"{LOOPBACK}:{PORT}", timeout=60, retries=0) as client:
        peers.answer = lambda _id, _service: []
        waiting = [
            asyncio.create_task(client.read_multiple(f"127.0.9.{1 + n % 200}:{PORT + 1}", [(OBJECT, NAMES)]))
            for n in range(IN_THE_AIR * 2)
        ]
        for _ in range(3):
            await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert client._rpm._in_the_air == 0


@pytest.fixture(scope="module")
def taker() -> Callable[[bytes], tuple[list[bytes], int, int]]:
    """What a client makes of one datagram: (passed on to bacpypes3, damaged, stray)."""

    def take(data: bytes) -> tuple[list[bytes], int, int]:
        client, passed = rpm_client.RpmClient(), []
        client._pass_on = lambda data, _source: passed.append(data)
        client._take(data, (LOOPBACK, PORT + 1))
        return passed, client.counts.damaged, client.counts.stray

    return take


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.binary(max_size=40).map(framed))
def test_every_datagram_is_either_passed_on_or_counted(
    taker: Callable[[bytes], tuple[list[bytes], int, int]], data: bytes
) -> None:
    passed, damaged, stray = taker(data)
    assert len(passed) + damaged + stray == 1
    assert passed in ([], [data])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1, max_size=3), st.booleans())
def test_damaged_answers_never_give_a_value_that_was_not_sent(damage: list[tuple[int, int]], cut: bool) -> None:
    """Flip octets of the APDU behind the invoke id, or cut it: a value, an error, or silence, but nobody else's."""

    async def go() -> None:
        client = rpm_client.RpmClient()
        client._pass_on = lambda *_: None
        sent: list[bytes] = []

        class Transport:
            def sendto(self, data: bytes, _peer: Any) -> None:
                sent.append(data)

        client._transport, client._socket = Transport(), None
        client._takes = lambda *_: True  # type: ignore[method-assign]
        async with client.place() as place:
            task = asyncio.create_task(client.ask((LOOPBACK, 1), b"x", 0.01, 0, place))
            await asyncio.sleep(0)
            apdu = bytearray(bytes([0x30, sent[0][8], 14]) + GOOD)
            for at, value in damage:
                if at != 1:
                    apdu[at % len(apdu)] = value if at % len(apdu) != 1 else apdu[1]
            answer = bytes(apdu[: damage[0][0]] if cut else apdu)
            client._take(framed(answer), (LOOPBACK, 1))
            try:
                assert await task == answer
            except (rpm_client.SilenceError, rpm_client.NeedsLibraryError):
                return

    asyncio.run(go())
