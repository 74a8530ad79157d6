"""A fast BACnet/IP responder for the benchmarks: many devices on loopback addresses, raw bytes, a process of its own.

Run: python tests/bench/responder.py [port]. Device n (from 1) has the address that `address(n)` gives. Every object of
the types that we poll exists in every device; an analog one's present value is `value(n, instance)`, so that a value
that was taken for another object's, or another device's, shows. It answers ReadProperty, ReadPropertyMultiple and
Who-Is, and nothing else. Who asks from another machine is not answered.
"""

import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

PORT = 47820
FIRST = 0x7F140001  # 127.20.0.1
ANALOG, BINARY = (0, 1, 2), (3, 4, 5)  # object types; the rest are multi-state
DEVICE, PRESENT_VALUE, STATUS_FLAGS = 8, 85, 111
IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
UNKNOWN_PROPERTY = bytes.fromhex("9102 9120".replace(" ", ""))
SERVICES = bytes.fromhex("8506 00 000b 020000".replace(" ", ""))  # a bit string; services 12 and 14, and Who-Is


def address(device: int, port: int = PORT) -> str:
    """Where device ``n`` is, as bacpypes3 reads it."""
    return f"{socket.inet_ntoa(struct.pack('!I', FIRST + device - 1))}:{port}"


def value(device: int, instance: int) -> float:
    """What an analog object reads; exact in single precision."""
    return float(device * 4096 + instance)


def number_of(destination: bytes) -> int:
    """The device number of an IPv4 address."""
    return int(struct.unpack("!I", destination)[0]) - FIRST + 1


@lru_cache(maxsize=100_000)
def read_multiple(device: int, request: bytes) -> bytes:
    """The service data of an answer to ReadPropertyMultiple."""
    answer, at = bytearray(), 0
    while at < len(request):
        object_id = request[at + 1 : at + 5]
        answer += request[at : at + 5] + b"\x1e"
        at += 6
        while request[at] != 0x1F:
            size = request[at] & 7
            tag = request[at + 1 : at + 1 + size]
            content = _property(device, object_id, int.from_bytes(tag, "big"))
            answer += bytes([0x28 | size]) + tag
            answer += b"\x4e" + content + b"\x4f" if content else b"\x5e" + UNKNOWN_PROPERTY + b"\x5f"
            at += 1 + size
        answer += b"\x1f"
        at += 1
    return bytes(answer)


@lru_cache(maxsize=100_000)
def read_property(device: int, request: bytes) -> bytes | None:
    """The service data of an answer to ReadProperty; None where there is no such property."""
    size = request[5] & 7
    content = _property(device, request[1:5], int.from_bytes(request[6 : 6 + size], "big"))
    return request + b"\x3e" + content + b"\x3f" if content else None


def _property(device: int, object_id: bytes, number: int) -> bytes:
    kind, instance = divmod(int.from_bytes(object_id, "big"), 1 << 22)
    if kind == DEVICE:
        return _of_device(device, number)
    if number == STATUS_FLAGS:
        return b"\x82\x04\x00"
    if number == 77:
        return _text(f"object {kind}-{instance}")
    if number != PRESENT_VALUE:
        return b""
    if kind in ANALOG:
        return b"\x44" + struct.pack("!f", value(device, instance))
    return b"\x91\x01" if kind in BINARY else b"\x21\x02"


def _of_device(device: int, number: int) -> bytes:
    identifier = b"\xc4" + (DEVICE << 22 | device).to_bytes(4, "big")
    return {
        62: b"\x22" + (1476).to_bytes(2, "big"),  # max-apdu-length-accepted
        70: _text("responder"),
        75: identifier,
        76: identifier,
        77: _text(f"device {device}"),
        97: SERVICES,
        107: b"\x91\x03",  # no segmentation
        121: _text("none"),
    }.get(number, b"")


def _text(text: str) -> bytes:
    raw = b"\x00" + text.encode()
    return b"\x75" + bytes([len(raw)]) + raw


def answer_to(device: int, packet: bytes) -> bytes | None:
    """The APDU that answers a packet (BVLL, NPDU without addresses, APDU)."""
    if packet[6] & 0xF0 == 0x00:  # a confirmed request
        invoke_id, service, data = packet[8], packet[9], packet[10:]
        if service == 14:
            return bytes([0x30, invoke_id, 14]) + read_multiple(device, data)
        if service == 12:
            found = read_property(device, data)
            return bytes([0x30, invoke_id, 12]) + found if found else bytes([0x50, invoke_id, 12]) + UNKNOWN_PROPERTY
        return bytes([0x60, invoke_id, 9])  # Reject: unrecognized-service
    if packet[6] == 0x10 and packet[7] == 8:  # Who-Is
        identifier = b"\xc4" + (DEVICE << 22 | device).to_bytes(4, "big")
        return b"\x10\x00" + identifier + b"\x22\x05\xc4\x91\x03\x21\x0f"
    return None


def serve(port: int = PORT) -> None:
    """For ever, on all loopback addresses by one socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        udp.bind(("0.0.0.0", port))  # noqa: S104 - all of 127/8; others are not answered
        print("ready", flush=True)
        while True:
            packet, ancillary, _, source = udp.recvmsg(2048, 64)
            here = ancillary[0][2][8:12]
            if source[0][:4] != "127." or len(packet) < 8:
                continue
            body = answer_to(number_of(here), packet)
            if body is not None:
                head = b"\x81\x0a" + (len(body) + 6).to_bytes(2, "big") + b"\x01\x00"
                back = [(socket.IPPROTO_IP, IP_PKTINFO, b"\0\0\0\0" + here + b"\0\0\0\0")]
                udp.sendmsg((head, body), back, 0, source)


@contextmanager
def running(port: int = PORT) -> Iterator["subprocess.Popen[bytes]"]:
    """A responder in a process of its own while the block lasts."""
    process = subprocess.Popen([sys.executable, __file__, str(port)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", "the responder did not start"
        yield process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
