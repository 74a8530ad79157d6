"""Networks in CIDR notation: what is wrong with a list of them, and whether an address lies within."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def base_network_problems(networks: list[str]) -> list[str]:
    """One sentence for each entry that nftables would refuse or that cannot be meant."""
    problems: list[str] = []
    seen: list[Network] = []
    for text in networks:
        try:
            network = ipaddress.ip_network(str(text))
        except ValueError as error:
            problems.append(f"'{text}' is not a network: {error}")
            continue
        if network.prefixlen == 0:
            problems.append(f"'{text}' lets in everybody")
        problems += [f"'{text}' overlaps '{other}'" for other in seen if _overlap(network, other)]
        seen.append(network)
    return problems


def base_within(address: str, networks: list[str]) -> bool:
    """Does the address lie in one of the networks? An IPv4 address mapped into IPv6 counts as IPv4."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    return any(mapped in ipaddress.ip_network(network) for network in networks)


def base_sources(networks: list[str]) -> list[str]:
    """The matches of nftables for these sources: one for IPv4, one for IPv6, where there are any."""
    parsed = [ipaddress.ip_network(network) for network in networks]
    matches = []
    for word, version in (("ip", 4), ("ip6", 6)):
        of_version = ", ".join(str(network) for network in parsed if network.version == version)
        if of_version:
            matches.append(f"{word} saddr {{ {of_version} }}")
    return matches


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)  # type: ignore[arg-type]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "base_network_problems": base_network_problems,
            "base_within": base_within,
            "base_sources": base_sources,
        }
