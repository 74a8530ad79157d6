"""What a site says about the fleet's central server."""

from collections.abc import Mapping, Sequence
from typing import Any

from .entry import Entry
from .ipv4 import HOST, parse_address, parse_network
from .report import Report, did_you_mean
from .variables import Variables, read_variable

LONGEST_AT_CENTRAL = 58  # its database role is site_<id>, and PostgreSQL's names have 63 bytes


def check_lanes(site: Entry, hostvars: Mapping[str, Variables], centrals: Sequence[str], report: Report) -> None:
    """The lanes need a central to lead to, and what names itself there needs a name that it takes."""
    host, site_id = site.get("central.host"), site.get("id")
    if host is not None and host not in centrals:
        what = f"is not in the inventory's group centrals{did_you_mean(host, centrals)}"
        report.error(site.where("central.host"), what, "Add it to that group in hosts.yml, or correct the name.")
        return
    if not centrals:
        live, complete = site.get("central.live"), site.get("central.complete")
        for path, asked in (("central.live", live), ("central.complete", complete not in (None, "none"))):
            if asked:
                what = "leads nowhere: the inventory's group centrals is empty"
                report.error(site.where(path), what, "Add the central server to hosts.yml, or remove the line.")
        return
    if site_id is not None and (
        len(site_id) > LONGEST_AT_CENTRAL or site_id.startswith("bacpipes") or site_id == "central"
    ):
        what = f"is longer than {LONGEST_AT_CENTRAL}, begins with bacpipes or is central: it is a user's name there"
        report.error(site.where("id"), what, "Give a shorter or another one.")
    _check_replication(site, report)
    _check_way(site, hostvars, host or centrals[0], report)


def _check_way(site: Entry, hostvars: Mapping[str, Variables], host: str, report: Report) -> None:
    """Does the site come to central, and central's certificate to the site's broker?"""
    live, lan = site.get("central.live"), site.interface("lan.address")
    central = read_variable(hostvars, host, "central", Report(host))  # what is wrong with it, its own check says
    address = _address_of(central)
    if site.get("broker.engine") == "emqx" and live is not False and parse_address(address) is not None:
        what = "can't check the certificate of a central that is reached by an address"
        remedy = f"Write a name as central.address in host_vars/{host}.yml, or take mosquitto here."
        report.error(site.where("broker.engine"), what, remedy)
    if lan is not None and parse_address(address) == lan.ip:
        report.error(site.where("lan.address"), f"is also the address of {host}", "Give each its own address.")
    networks = [network for text in _networks_of(central) if (network := parse_network(text)) is not None]
    if lan is not None and networks and not any(lan.ip in network for network in networks):
        what = f"is in none of the networks of central.lan.sites at {host}, which lets no other in"
        remedy = "Add its network there, unless a router gives it another address on the way."
        report.warning(site.where("lan.address"), what, remedy)


def _check_replication(site: Entry, report: Report) -> None:
    """Where central dials the site: some log is kept for it, and its address is one."""
    keep, address = site.get("central.keep_gb"), site.get("central.address")
    if keep is not None and keep < 1:
        report.error(site.where("central.keep_gb"), "is too little", "Keep 1 GB or more: central is away now and then.")
    if address is not None and not HOST.fullmatch(address):
        report.error(site.where("central.address"), "is neither a name nor an address", "Write it without a port.")
    if address is not None and site.get("central.complete") != "replication":
        what = "says how central dials the site, which it does with central.complete: replication only"
        report.error(site.where("central.address"), what, "Set that lane, or remove the line.")


def _address_of(central: Any) -> Any:
    """Where sites reach central: its ``address``, else that of its interface; None where its entry is of no use."""
    if not isinstance(central, dict):
        return None
    lan = central.get("lan")
    own = lan.get("address") if isinstance(lan, dict) else None
    return central.get("address", str(own).partition("/")[0])


def _networks_of(central: Any) -> list[Any]:
    lan = central.get("lan") if isinstance(central, dict) else None
    networks = lan.get("sites") if isinstance(lan, dict) else None
    return networks if isinstance(networks, list) else []
