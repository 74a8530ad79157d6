"""What stands between paho and its socket: every octet reaches whom it is for, however the stream is cut."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.reasoncodes import ReasonCode

from bacpipes.mqtt.wire import FIRST_ID, LAST_ID, Wire


class Cut:
    """A socket that gives and takes the stream in pieces of the sizes asked for."""

    def __init__(self, incoming: bytes = b"", sizes: list[int] | None = None) -> None:
        self.incoming, self.sizes = bytearray(incoming), sizes or [1 << 20]
        self.taken = bytearray()
        self.closed = False

    def _size(self) -> int:
        self.sizes.append(self.sizes.pop(0))
        return self.sizes[-1]

    def recv(self, _size: int) -> bytes:
        if not self.incoming:
            raise BlockingIOError
        size = self._size()
        data = bytes(self.incoming[:size])
        del self.incoming[:size]
        return data

    def send(self, data: bytes) -> int:
        size = self._size()
        self.taken += data[:size]
        return min(size, len(data))

    def close(self) -> None:
        self.closed = True


def wire(cut: Any, version_5: bool = True) -> tuple[Wire, list[tuple[int, ReasonCode | None]]]:
    acknowledged: list[tuple[int, ReasonCode | None]] = []
    return Wire(cut, version_5=version_5, acknowledged=lambda *each: acknowledged.append(each)), acknowledged


def read_all(ours: Wire) -> bytes:
    found = bytearray()
    while True:
        try:
            data = ours.recv(7)
        except BlockingIOError:
            return bytes(found)
        if not data:
            return bytes(found)
        found += data


pubacks = st.integers(1, 65535).map(lambda n: (b"\x40\x02" + n.to_bytes(2, "big"), n))
longer = st.integers(1, 65535).map(lambda n: (b"\x40\x04" + n.to_bytes(2, "big") + b"\x00\x00", n))
bodies = st.binary(max_size=300)
others = st.tuples(st.sampled_from([0x20, 0x30, 0x32, 0x90, 0xD0, 0xE0]), bodies).map(
    lambda each: (bytes([each[0]]) + remaining_length(len(each[1])) + each[1], None)
)


def remaining_length(size: int) -> bytes:
    return bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])


@given(st.lists(pubacks | longer | others, max_size=20), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_acknowledgements_are_ours_and_all_else_is_paho_s(
    packets: list[tuple[bytes, int | None]], sizes: list[int]
) -> None:
    cut = Cut(b"".join(packet for packet, _ in packets), sizes)
    ours, acknowledged = wire(cut)
    heard = bytearray()
    while cut.incoming:
        ours.fill()
        heard += read_all(ours)
    assert bytes(heard) == b"".join(packet for packet, number in packets if number is None)
    assert acknowledged == [(number, None) for _, number in packets if number is not None]


@pytest.mark.parametrize(("code", "refused"), [(0x00, False), (0x10, False), (0x87, True)])
def test_a_refusal_has_its_reason(code: int, refused: bool) -> None:
    ours, acknowledged = wire(Cut(b"\x40\x03\x80\x01" + bytes([code])))
    ours.fill()
    ((number, reason),) = acknowledged
    assert number == 0x8001
    assert (str(reason) == "Not authorized") if refused else reason is None


@pytest.mark.parametrize("damaged", [b"\x40\x01\x00", b"\x30\xff\xff\xff\xff\xff"], ids=["short PUBACK", "length"])
def test_what_is_no_packet_is_an_error(damaged: bytes) -> None:
    ours, _ = wire(Cut(damaged))
    with pytest.raises(ValueError, match=r"PUBACK|length"):
        ours.fill()


@given(
    st.lists(st.tuples(st.text("abc/ü", min_size=1, max_size=20), st.binary(max_size=300)), max_size=8),
    st.lists(st.integers(1, 50), min_size=1, max_size=4),
    st.booleans(),
)
def test_what_is_published_arrives_whole_and_in_order(
    messages: list[tuple[str, bytes]], sizes: list[int], version_5: bool
) -> None:
    cut = Cut(sizes=sizes)
    ours, _ = wire(cut, version_5)
    ours.send(b"\xc0\x00")  # paho's own packets keep their place
    for number, (topic, payload) in enumerate(messages, FIRST_ID):
        ours.publish(number, topic, payload, retain=False)
    while ours.wants_write:
        ours.flush()
    assert bytes(cut.taken[:2]) == b"\xc0\x00"
    assert list(parsed(bytes(cut.taken[2:]), version_5)) == [
        (0x32, topic, number, payload) for number, (topic, payload) in enumerate(messages, FIRST_ID)
    ]


def parsed(data: bytes, version_5: bool) -> Iterator[tuple[int, str, int, bytes]]:
    """PUBLISH packets by the letter of the standard (MQTT 5, 3.3)."""
    at = 0
    while at < len(data):
        first, at = data[at], at + 1
        size = shift = 0
        while True:
            size |= (data[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 0x80:
                break
        body, at = data[at : at + size], at + size
        name = int.from_bytes(body[:2], "big")
        rest = body[4 + name :]
        if version_5:
            assert rest[0] == 0
            rest = rest[1:]
        yield first, body[2 : 2 + name].decode(), int.from_bytes(body[2 + name : 4 + name], "big"), rest


@pytest.mark.parametrize("topic", ["", "a/+/b", "#", "x" * 65536])
def test_what_is_no_topic_is_refused_and_sends_nothing(topic: str) -> None:
    ours, _ = wire(Cut())
    with pytest.raises(ValueError, match="not a topic"):
        ours.publish(FIRST_ID, topic, b"", retain=False)
    assert not ours.wants_write


def test_identifiers_in_use_are_left_out_and_never_paho_s() -> None:
    ours, _ = wire(Cut())
    used = {FIRST_ID, FIRST_ID + 1, LAST_ID}
    found = [ours.next_id(used) for _ in range(LAST_ID - FIRST_ID + 1)]
    assert found[0] == FIRST_ID + 2
    assert not used & set(found)
    assert min(found) >= FIRST_ID


def test_closing_sends_what_is_left() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    ours, _ = wire(near)
    ours.send(b"\xe0\x00")
    ours.close()
    assert far.recv(10) == b"\xe0\x00"
    assert far.recv(10) == b""
    far.close()


def test_after_a_failed_write_what_came_before_is_still_read() -> None:
    cut = Cut(b"\xe0\x01\x8b")
    ours, _ = wire(cut)
    ours.end()
    assert ours.fill()
    assert read_all(ours) == b"\xe0\x01\x8b"
    assert ours.recv(1) == b""
