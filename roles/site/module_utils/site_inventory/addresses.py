"""A site's two networks, and who may come from where."""

import ipaddress
import re
from collections.abc import Iterable

from .entry import Entry
from .ipv4 import not_a_machine, parse_address
from .report import Report, shown

INTERFACE = {
    "interface": re.compile(r"[a-z][a-z0-9.-]{0,14}"),  # inside the container, as the role lxc_container makes it
    "bridge": re.compile(r"[A-Za-z0-9_.-]{1,15}"),  # whatever the host's kernel takes
}


def check_interface(site: Entry, part: str, report: Report) -> None:
    path = f"{part}.address"
    for key, pattern in INTERFACE.items():
        name = site.get(f"{part}.{key}")
        if name is not None and not pattern.fullmatch(name):
            report.error(site.where(f"{part}.{key}"), "is no interface's name", "Use at most 15 letters, digits, _ . -")
    if site.get(path) is None:
        return
    address = site.interface(path)
    if address is None:
        report.error(site.where(path), "is no IPv4 address with prefix length", "Write one as 10.0.60.21/24.")
    elif address.network.prefixlen > 30 or address.network.prefixlen < 8:
        report.error(site.where(path), "has a prefix length outside 8 to 30", "Write that of the network's mask.")
    elif role := not_a_machine(address.ip, address.network):
        report.error(site.where(path), f"is {role}, no machine's", "Give a free address of that network.")


def check_gateway(site: Entry, report: Report) -> None:
    text, lan = site.get("lan.gateway"), site.interface("lan.address")
    if text is None:
        if site.made_by_us:
            remedy = f"Give the router of the network of {site.name('lan.address')}."
            report.error(site.name("lan.gateway"), "is missing", remedy)
        return
    gateway = parse_address(text)
    if gateway is None:
        report.error(site.where("lan.gateway"), "is no IPv4 address", "Write one as 10.0.60.1.")
    elif lan is not None and gateway not in lan.network:
        what = f"is not in {lan.network} ({site.name('lan.address')})"
        report.error(site.where("lan.gateway"), what, "Give a gateway of that network.")
    elif lan is not None and gateway == lan.ip:
        report.error(site.where("lan.gateway"), f"is the {site.kind}'s own address", "Give that of the router.")
    elif lan is not None and (role := not_a_machine(gateway, lan.network)):
        report.error(site.where("lan.gateway"), f"is {role}, no machine's", "Give that of the router.")


def check_lists(site: Entry, report: Report) -> None:
    for n, text in enumerate(site.get("lan.nameservers") or []):
        where = f"{site.name('lan.nameservers')}[{n}] {shown(text)}"
        address, lan = parse_address(text), site.interface("lan.address")
        if address is None:
            report.error(where, "is no IPv4 address", "Write one as 10.0.60.1; names can't be looked up yet.")
        elif address.is_loopback or (lan is not None and address == lan.ip):
            report.error(where, "is the machine itself, which answers no names", "Give that of a DNS server.")
    for key in ("lan.clients", "lan.sites"):
        check_network_list(site.name(key), site.get(key) or [], report)


def check_network_list(path: str, networks: Iterable[str], report: Report) -> None:
    seen: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for n, text in enumerate(networks):
        where = f"{path}[{n}] {shown(text)}"
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            report.error(where, "is no network", "Write one as 10.0.60.0/24.")
            continue
        if network.prefixlen == 0:
            report.error(where, "is the whole world", "Name the networks that need it.")
        elif str(network.network_address) != text.partition("/")[0]:
            report.error(where, "is an address, not a network", f"Write {network}, or the address with /32.")
        for other in (other for other in seen if _overlap(other, network)):
            report.error(where, f"overlaps {other} of the same list", "Write the larger one only.")
        seen.append(network)


def _overlap(
    one: ipaddress.IPv4Network | ipaddress.IPv6Network, other: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    return one.network_address in other or other.network_address in one


def check_two_networks(site: Entry, report: Report) -> None:
    lan, bacnet = site.interface("lan.address"), site.interface("bacnet.address")
    if lan is None or bacnet is None:
        return
    if site.get("lan.interface") == site.get("bacnet.interface"):
        if site.made_by_us:
            what = "is also site.lan.interface; the container has two"
            report.error(site.where("bacnet.interface"), what, "Give each its own name.")
        elif lan != bacnet:
            what = f"is on the same interface as site.lan.address {lan}"
            report.error(site.where("bacnet.address"), what, "Write the same address twice, or two interfaces.")
    elif lan.network.overlaps(bacnet.network):
        what = f"overlaps the network of site.lan.address {lan}"
        report.error(site.where("bacnet.address"), what, "Separate them; the machine can't tell them apart.")


def check_ansible_host(site: Entry, report: Report) -> None:
    """Any way by ssh will do; an address of the site's own networks that is not the site's is a mistake."""
    text = site.variables.get("ansible_host")
    address, lan, bacnet = parse_address(text), site.interface("lan.address"), site.interface("bacnet.address")
    if address is None or lan is None or address == lan.ip:
        return
    if address in lan.network:
        what = f"is not the {site.name('lan.address')} {lan}"
        report.error(f"ansible_host {address}", what, f"Write {lan.ip} in both places.")
    elif bacnet is not None and address in bacnet.network:
        what = "is in the controllers' network, from which ssh is not let in"
        report.error(f"ansible_host {address}", what, f"Write {lan.ip} (site.lan.address).")
