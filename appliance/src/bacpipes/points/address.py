"""A device's address as a person writes it down."""

import ipaddress
import re
from functools import lru_cache

BACNET_PORT = 47808

_IP = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_PORT = re.compile(r"[0-9]{1,5}")
_ROUTED = re.compile(r"([0-9]{1,5}):([0-9]{1,3}|0x(?:[0-9a-fA-F]{2}){1,7}|[0-9.]+(?::[0-9]{1,5})?)")


class CellError(ValueError):
    """A cell that can't be read; the text says why."""


@lru_cache(maxsize=65536)
def canonical_address(text: str) -> str:
    """A device's address as bacpypes3 writes it (without BACnet's own port); raise `CellError` where it is none.

    ``ip``, ``ip:port`` or, behind a router, ``network:mac``. Host names are refused, so that nothing is looked up.
    """
    if _IP.fullmatch(text.partition(":")[0]):
        return _ip_address(text, text)
    if not (match := _ROUTED.fullmatch(text)):
        raise CellError(f"{text!r} is not ip, ip:port or network:mac (as 10.0.0.5, 10.0.0.5:47809 or 2001:12)")
    if not 1 <= int(match[1]) <= 65534:
        raise CellError(f"{text!r}: a BACnet network is a number from 1 to 65534")
    from bacpypes3.pdu import Address  # slow to import, and most files have no routed device

    mac = match[2]
    if "." in mac:
        _ip_address(text, mac)
    try:
        return str(Address(text))
    except ValueError as error:
        raise CellError(f"{text!r} is not a network:mac address ({error})") from None


def _ip_address(text: str, part: str) -> str:
    host, colon, port = part.partition(":")
    try:
        ip = ipaddress.IPv4Address(host)
    except ValueError as error:
        raise CellError(f"{text!r} is not an IPv4 address ({error})") from None
    if ip.is_unspecified or ip.is_multicast or ip == ipaddress.IPv4Address("255.255.255.255"):
        raise CellError(f"{text!r} is not the address of one device")
    if colon and (not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535):
        raise CellError(f"{text!r}: a port is a number from 1 to 65535")
    return f"{ip}:{int(port)}" if port and int(port) != BACNET_PORT else str(ip)
