"""Which address pools docker may use: those that hide no network that the machine talks to.

docker itself looks at the live routes only, and only when it makes a network: a building's network that is not up at
that moment, or a VPN's that comes later, is then out of reach for good.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

try:
    from ansible.errors import AnsibleFilterError
except ImportError:  # the unit tests run without Ansible
    AnsibleFilterError = ValueError  # type: ignore[assignment,misc]

# Never a container's, whatever the machine's routes say at the moment.
ALWAYS_TAKEN = {
    "0.0.0.0/8": "this network",
    "100.64.0.0/10": "carrier NAT and Tailscale",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link local",
    "224.0.0.0/3": "multicast and reserved",
}
# docker's own: the default bridge, and br- with the first twelve digits of the network's id.
OWN_DEVICE = re.compile(r"docker0|docker_gwbridge|br-[0-9a-f]{12}")
# A default route, whole or in the two halves that VPNs use, says nothing of who owns an address.
DEFAULT_ROUTE_PREFIX = 1


def docker_live_networks(routes: list[dict[str, Any]]) -> list[str]:
    """The IPv4 networks of `ip -json route show table all`, without default routes and without docker's own."""
    networks: list[str] = []
    for route in routes:
        if OWN_DEVICE.fullmatch(route.get("dev", "")) or route.get("type") in ("broadcast", "multicast"):
            continue
        destination = route.get("dst", "default")
        if destination == "default" or ":" in destination:
            continue
        network = ipaddress.IPv4Network(destination, strict=False)
        if network.prefixlen > DEFAULT_ROUTE_PREFIX and str(network) not in networks:
            networks.append(str(network))
    return networks


def docker_collisions(network: str, live: Iterable[str] = (), reserved: Iterable[str] = ()) -> list[str]:
    """Everything that this network (or address with prefix) overlaps, each with who says so."""
    taken = [*ALWAYS_TAKEN.items(), *_owned(reserved, "docker_reserved_networks"), *_owned(live, "a live route")]
    return _collisions(_network(network, strict=False), taken)


def docker_pools(
    candidates: list[str],
    live: Iterable[str] = (),
    reserved: Iterable[str] = (),
    chosen: Iterable[str] = (),
    bridge: str = "",
    count: int = 2,
) -> list[str]:
    """The first `count` candidates that overlap nothing. Those chosen earlier come first, while they may stand."""
    taken = [*ALWAYS_TAKEN.items(), *_owned(reserved, "docker_reserved_networks"), *_owned(live, "a live route")]
    if bridge:
        taken.append((bridge, "docker_bridge_address"))
    known = [str(_network(text)) for text in candidates]
    picked: list[str] = []
    refused: list[str] = []
    for text in dict.fromkeys([*(text for text in chosen if text in known), *known]):
        reasons = _collisions(_network(text), [*taken, *_owned(picked, "another pool")])
        if reasons:
            refused.append(f"{text} overlaps {', '.join(reasons)}")
        elif len(picked) < count:
            picked.append(text)
    if len(picked) < count:
        raise AnsibleFilterError(
            f"docker_pool_candidates: {len(picked)} of {count} address pools are left ({'; '.join(refused)}). "
            "Add networks to docker_pool_candidates that nobody here uses, or lower docker_pool_count."
        )
    return picked


def docker_chosen(daemon_json: str) -> list[str]:
    """The pools of an earlier run; none where the file is not there or not to be read."""
    try:
        pools = json.loads(daemon_json).get("default-address-pools", [])
        return [pool["base"] for pool in pools]
    except (ValueError, AttributeError, KeyError, TypeError):
        return []


def _owned(networks: Iterable[str], owner: str) -> list[tuple[str, str]]:
    return [(text, owner) for text in networks]


def _network(text: str, strict: bool = True) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text, strict=strict)
    except ValueError as error:
        raise AnsibleFilterError(f"'{text}' is not an IPv4 network: {error}") from error


def _collisions(own: ipaddress.IPv4Network, taken: Iterable[tuple[str, str]]) -> list[str]:
    # docker's networks are IPv4 only, so what is reserved for IPv6 cannot collide.
    return [
        f"{text} ({owner})" for text, owner in taken if ":" not in text and own.overlaps(_network(text, strict=False))
    ]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "docker_live_networks": docker_live_networks,
            "docker_collisions": docker_collisions,
            "docker_pools": docker_pools,
            "docker_chosen": docker_chosen,
        }
