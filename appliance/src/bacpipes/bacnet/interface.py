"""Addresses: our own interface's, a BBMD's, a device's."""

import errno
import socket
from functools import lru_cache

from bacpypes3.pdu import Address, IPv4Address

from bacpipes.bacnet.rpm_client import Peer
from bacpipes.errors import UnavailableError


def parse_interface(address: str) -> IPv4Address:
    """``address[/prefix][:port]`` of our interface; raise where it is not one."""
    try:
        parsed = IPv4Address(address)
        if not 0 < parsed.addrTuple[1] < 65536:
            raise ValueError("its port is not 1 to 65535")
        return parsed
    except (ValueError, TypeError, RuntimeError) as error:
        raise UnavailableError(
            f"BACnet interface {address!r} is not an address ({error}).",
            "Set BACPIPES_BACNET_ADDRESS, for example to 10.1.2.3/24:47808.",
        ) from None


def parse_bbmd(address: str) -> IPv4Address:
    try:
        return IPv4Address(address)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UnavailableError(
            f"BBMD {address!r} is not an address ({error}).", "Set BACPIPES_BACNET_BBMD, for example to 10.1.2.3:47808."
        ) from None


def check_bindable(local: IPv4Address) -> None:
    """Raise where the address is not ours or another program has the port.

    bacpypes3 shares a port silently (SO_REUSEPORT), and each of the two would get half of the answers.
    """
    host, port = local.addrTuple
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UnavailableError(
                    f"UDP {host}:{port} is in use by another program.",
                    "Stop it, or give BACPIPES_BACNET_ADDRESS another port.",
                ) from None
            raise UnavailableError(
                f"BACnet interface {host}:{port} can't be opened: {error.strerror}.",
                "Is BACPIPES_BACNET_ADDRESS an address of this machine?",
            ) from None


@lru_cache(maxsize=4096)
def parse_address(address: str) -> Address:
    return Address(address)


@lru_cache(maxsize=4096)
def peer_at(address: str) -> Peer | None:
    """Where to send a datagram to a device on our own network; None for one behind a router."""
    parsed = parse_address(address)
    direct = parsed.addrType == Address.localStationAddr and parsed.addrRoute is None
    peer: Peer | None = getattr(parsed, "addrTuple", None) if direct else None
    return peer


def network_of(address: str) -> str | None:
    """The remote network of ``network:mac``; None for an address that is reached directly."""
    network, colon, _ = address.partition(":")
    return network if colon and network.isdecimal() else None
