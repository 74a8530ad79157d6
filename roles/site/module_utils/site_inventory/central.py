"""What a site says about the fleet's central server."""

from collections.abc import Mapping, Sequence
from typing import Any

from .entry import Site
from .ipv4 import parse_address
from .report import Report, did_you_mean
from .variables import Variables, read_variable

LONGEST_AT_CENTRAL = 58  # its database role is site_<id>, and PostgreSQL's names have 63 bytes


def check_central(site: Site, hostvars: Mapping[str, Variables], centrals: Sequence[str], report: Report) -> None:
    """The lanes need a central to lead to, and what names itself there needs a name that it takes."""
    host, site_id = site.get("central.host"), site.get("id")
    if host is not None and host not in centrals:
        what = f"is not in the inventory's group centrals{did_you_mean(host, centrals)}"
        report.error(site.where("central.host"), what, "Add it to that group in hosts.yml, or correct the name.")
        return
    live, complete = site.get("central.live"), site.get("central.complete")
    if not centrals:
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
    address = _central_address(hostvars, host or centrals[0], report)
    if site.get("broker.engine") == "emqx" and live is not False and parse_address(address) is not None:
        what = "can't check the certificate of a central that is reached by an address"
        remedy = f"Write a name as central.address in host_vars/{host or centrals[0]}.yml, or take mosquitto here."
        report.error(site.where("broker.engine"), what, remedy)


def _check_replication(site: Site, report: Report) -> None:
    """Where central dials the site: some log is kept for it, and its address is one."""
    keep, address = site.get("central.keep_gb"), site.get("central.address")
    if keep is not None and keep < 1:
        report.error(site.where("central.keep_gb"), "is too little", "Keep 1 GB or more: central is away now and then.")
    if address is not None and site.get("central.complete") != "replication":
        what = "says how central dials the site, which it does with central.complete: replication only"
        report.error(site.where("central.address"), what, "Set that lane, or remove the line.")


def _central_address(hostvars: Mapping[str, Variables], host: str, report: Report) -> Any:
    """Where sites reach central: its ``address``, else that of its interface; None where its entry is of no use."""
    central = read_variable(hostvars, host, "central", report)
    if not isinstance(central, dict):
        return None
    lan = central.get("lan")
    own = lan.get("address") if isinstance(lan, dict) else None
    return central.get("address", str(own).partition("/")[0])
