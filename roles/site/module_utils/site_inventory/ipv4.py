"""Addresses as texts of an inventory."""

import ipaddress
import re
from typing import Any

HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")  # a name or an address
WITH_PREFIX = re.compile(r"[0-9.]+/[0-9]{1,2}")


def parse_interface(text: Any) -> ipaddress.IPv4Interface | None:
    try:
        return ipaddress.IPv4Interface(text) if isinstance(text, str) and WITH_PREFIX.fullmatch(text) else None
    except ValueError:
        return None


def parse_address(text: Any) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(text) if isinstance(text, str) else None
    except ValueError:
        return None


def parse_network(text: Any) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(text) if isinstance(text, str) else None
    except ValueError:
        return None


def not_a_machine(address: ipaddress.IPv4Address, network: ipaddress.IPv4Network) -> str | None:
    """What an address is instead of a machine's."""
    if address == network.network_address:
        return f"the network address of {network}"
    if address == network.broadcast_address:
        return f"the broadcast address of {network}"
    if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_reserved:
        return "a loopback, multicast or reserved address"
    return None
