"""The fast path beside the library's, over real datagrams: the same answer is the same result, whatever is in it.

All primitive types in every place, right or wrong there; several properties, errors in place, in one datagram or in
segments.
"""

import asyncio
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from bacpypes3.apdu import ReadPropertyMultipleACK
from bacpypes3.basetypes import (
    ErrorType,
    PropertyIdentifier,
    ReadAccessResult,
    ReadAccessResultElement,
    ReadAccessResultElementChoice,
)
from bacpypes3.constructeddata import Any as BacnetAny
from bacpypes3.constructeddata import SequenceOf
from bacpypes3.primitivedata import (
    BitString,
    Boolean,
    CharacterString,
    Date,
    Double,
    Enumerated,
    Integer,
    Null,
    ObjectIdentifier,
    OctetString,
    Real,
    Time,
    Unsigned,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import BacnetError
from bacpipes.bacnet.rpm import ObjectId
from bacpipes.bacnet.rpm_client import LIBRARY_IDS
from bacpipes.embedded import LOOPBACK

PORT = 47991  # of the peer, and the two behind it of the clients
ERRORS = (("object", "unknown-object"), ("property", "unknown-property"), ("device", "operational-problem"))
OBJECTS = ("analog-input", "analog-value", "binary-output", "multi-state-value", "characterstring-value", "date-value")
NAMES = ("present-value", "status-flags", "description", "reliability", "out-of-service", "object-name")
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.just(Null(())),
    "boolean": st.booleans().map(Boolean),
    "unsigned": st.integers(0, 2**32 - 1).map(Unsigned),
    "integer": st.integers(-(2**31), 2**31 - 1).map(Integer),
    "real": st.floats(width=32).map(Real),
    "double": st.floats().map(Double),
    "octets": st.binary(max_size=40).map(OctetString),
    "text": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300).map(CharacterString),
    "bits": st.lists(st.booleans(), max_size=20).map(BitString),
    "enumerated": st.integers(0, 2**20).map(Enumerated),
    "date": st.tuples(*[st.integers(0, n) for n in (255, 14, 34, 7)]).map(Date),
    "time": st.tuples(*[st.integers(0, n) for n in (23, 59, 59, 99)]).map(Time),
    "object": st.tuples(st.sampled_from(OBJECTS), st.integers(0, 4194302)).map(ObjectIdentifier),
}
FOUR_BITS = st.lists(st.booleans(), min_size=4, max_size=4).map(BitString)
Row = tuple[ObjectId, list[tuple[str, Any]]]


@st.composite
def answers(draw: st.DrawFn) -> list[Row]:
    """Objects, and for each some properties: the right type, any primitive value, or an error in its place."""
    strange = st.sampled_from(ERRORS) | st.one_of(*PRIMITIVES.values())
    objects = draw(st.lists(st.tuples(st.sampled_from(OBJECTS), st.integers(0, 4194302)), min_size=1, max_size=8))
    names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)
    usual = names | st.just(list(NAMES[:2]))
    odd = draw(st.sampled_from([0, 0, 1, 5]))  # of ten values
    return [
        (
            one,
            [(name, draw(strange if draw(st.integers(0, 9)) < odd else _right(one[0], name))) for name in draw(usual)],
        )
        for one in objects
    ]


def _right(object_type: str, name: str) -> st.SearchStrategy[Any]:
    """What the standard has in this place (clause 12)."""
    if name == "present-value":
        kind = {
            "analog": "real",
            "binary": "enumerated",
            "multi": "unsigned",
            "characterstring": "text",
            "date": "date",
        }
        return PRIMITIVES[kind[object_type.partition("-")[0]]]
    if name == "status-flags":
        return FOUR_BITS
    return PRIMITIVES[{"reliability": "enumerated", "out-of-service": "boolean"}.get(name, "text")]


class Device(asyncio.DatagramProtocol):
    """Answers every request with the same bytes: whole, or in so many segments."""

    def __init__(self) -> None:
        self.data, self.segments = b"", 1
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, packet: bytes, source: tuple[str, int]) -> None:
        if packet[6] >> 4 != 0:
            return
        invoke_id, service = packet[8], packet[9]
        for apdu in self.apdus(invoke_id, service):
            self.transport.sendto(b"\x81\x0a" + (6 + len(apdu)).to_bytes(2, "big") + b"\x01\x00" + apdu, source)

    def apdus(self, invoke_id: int, service: int) -> list[bytes]:
        """Clause 20.1.5. Who does not take segments gets the first one, as from a careless device."""
        if self.segments == 1:
            return [bytes([0x30, invoke_id, service]) + self.data]
        size = math.ceil(len(self.data) / self.segments)
        parts = [self.data[at : at + size] for at in range(0, len(self.data), size)]
        heads = [0x3C if number < len(parts) - 1 else 0x38 for number in range(len(parts))]
        found = [
            bytes([head, invoke_id, number, len(parts), service]) + part
            for number, (head, part) in enumerate(zip(heads, parts, strict=True))
        ]
        return found if invoke_id < LIBRARY_IDS else found[:1]


class Pair:
    """A device, our client with the fast path, and one without."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.device = loop, Device()
        self.fast = BacnetClient(f"{LOOPBACK}:{PORT + 1}", timeout=2.0, retries=0)
        self.slow = BacnetClient(f"{LOOPBACK}:{PORT + 2}", timeout=2.0, retries=0, fast=False)

    async def open(self) -> None:
        place = (LOOPBACK, PORT)
        self.transport, _ = await self.loop.create_datagram_endpoint(lambda: self.device, local_addr=place)
        await self.fast.__aenter__()
        await self.slow.__aenter__()

    async def close(self) -> None:
        await self.fast.__aexit__()
        await self.slow.__aexit__()
        self.transport.close()

    def results(self, client: BacnetClient, rows: Sequence[Row]) -> Any:
        """What the client makes of the answer; the reason, where it can't be used."""
        wanted = [(object_id, tuple(name for name, _ in properties)) for object_id, properties in rows]
        try:
            found = self.loop.run_until_complete(client.read_multiple(f"{LOOPBACK}:{PORT}", wanted))
        except BacnetError as error:
            return type(error)
        return [(row.object_id, row.property, plain(row.value)) for row in found]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    loop = asyncio.new_event_loop()
    pair = Pair(loop)
    loop.run_until_complete(pair.open())
    yield pair
    loop.run_until_complete(pair.close())
    loop.close()


def plain(value: Any) -> Any:
    if isinstance(value, BacnetError):
        return type(value), str(value)
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, BitString | tuple) and len(value) == 4:  # status flags
        return tuple(map(bool, value))
    return str(value)


def encoded(rows: Sequence[Row]) -> bytes:
    """The service data of the answer, by the library."""
    results = []
    for object_id, properties in rows:
        elements = []
        for name, content in properties:
            if isinstance(content, tuple) and content in ERRORS:
                error = ErrorType(errorClass=content[0], errorCode=content[1])
                choice = ReadAccessResultElementChoice(propertyAccessError=error)
            else:
                choice = ReadAccessResultElementChoice(propertyValue=BacnetAny(content))
            elements.append(ReadAccessResultElement(propertyIdentifier=PropertyIdentifier(name), readResult=choice))
        results.append(ReadAccessResult(objectIdentifier=ObjectIdentifier(object_id), listOfResults=elements))
    return bytes(
        ReadPropertyMultipleACK(listOfReadAccessResults=SequenceOf(ReadAccessResult)(results)).encode().pduData
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=answers(), segments=st.integers(1, 6))
def test_the_same_answer_is_the_same_result(pair: Pair, rows: list[Row], segments: int) -> None:
    pair.device.data = encoded(rows)
    pair.device.segments = min(segments, len(pair.device.data))
    assert pair.results(pair.fast, rows) == pair.results(pair.slow, rows)


@pytest.mark.parametrize("kind", PRIMITIVES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_each_primitive_type_as_a_present_value(pair: Pair, kind: str, data: st.DataObject) -> None:
    value = data.draw(PRIMITIVES[kind])
    for object_type in OBJECTS:
        rows: list[Row] = [((object_type, 1), [("present-value", value), ("status-flags", data.draw(FOUR_BITS))])]
        pair.device.data, pair.device.segments = encoded(rows), 1
        assert pair.results(pair.fast, rows) == pair.results(pair.slow, rows)
