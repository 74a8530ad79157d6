"""What two sites, or a site and central, must not share."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .entry import Entry
from .report import Report, listed, shown
from .variables import Variables, read_variable


def check_between(sites: Mapping[str, Entry], hostvars: Mapping[str, Variables], reports: Mapping[str, Report]) -> None:
    """What two sites must not share; told to those hosts that are being worked on."""
    for path, key, remedy in (
        ("id", lambda site: site.get("id"), "Every site has its own."),
        ("id", _container_name, "Their containers would have one name."),
        ("points.file", lambda site: site.get("points.file"), "Every site has its own file."),
        ("container.id", _container_key, "Give a number that is free."),
        ("lan.address", _lan_key, "Give each its own address."),
        ("lan.address", _wire_key("lan.address"), "Give each its own address."),
        ("bacnet.address", _wire_key("bacnet.address"), "Both are on the same bridge; give each its own address."),
        ("bacnet.device_id", _wire_key("bacnet.device_id"), "Both are on the same bridge; give each its own number."),
    ):
        for host, others in _shared({host: key(site) for host, site in sites.items()}):
            if host in reports:
                reports[host].error(sites[host].where(path), f"is also that of {listed(others)}", remedy)
    ways = {host: _way(hostvars, host) for host in hostvars}
    for host, others in _shared(ways):
        if host in reports and host in sites:
            where = f"ansible_host {shown(sites[host].variables.get('ansible_host'))}"
            reports[host].error(where, f"is also that of {listed(others)}", "Two hosts can't be one machine.")


def _shared(keys: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Each host whose key others have too, with those others; a key None is nobody's."""
    hosts = defaultdict(list)
    for host, key in keys.items():
        if key is not None:
            hosts[key].append(host)
    for group in hosts.values():
        for host in group if len(group) > 1 else ():
            yield host, [other for other in group if other != host]


def _container_key(site: Entry) -> Any:
    return site.get("container.id") if site.get("container.backend") == "proxmox" else None


def _container_name(site: Entry) -> Any:
    """The role lxc_container knows it by its host name, which has no underscores."""
    name, host = site.get("id"), site.get("container.host")
    return (host, name.replace("_", "-")) if site.made_by_us and name else None


def _lan_key(site: Entry) -> Any:
    """Two buildings may use the same numbers as long as neither site is reached by them."""
    lan = site.interface("lan.address")
    if lan is None:
        return None
    reached = site.variables.get("ansible_host")
    return str(lan.ip) if reached is None or reached == str(lan.ip) else None


def _wire_key(path: str) -> Callable[[Entry], Any]:
    """Two sites share a wire where one host has both on the same bridge."""

    def key(site: Entry) -> Any:
        value, host, bridge = site.get(path), site.get("container.host"), site.get(path.partition(".")[0] + ".bridge")
        if not site.made_by_us or None in (value, host, bridge):
            return None
        return host, bridge, str(value).partition("/")[0]

    return key


def _way(hostvars: Mapping[str, Variables], host: str) -> Any:
    """How a host is reached; None where the inventory does not say."""
    silent = Report(host)
    names = ("ansible_host", "ansible_port", "ansible_ssh_common_args")
    way = [read_variable(hostvars, host, name, silent) for name in names]
    return tuple(str(part) for part in way) if isinstance(way[0], str) else None
