"""The preflight of all sites: what is wrong with the inventory, in sentences for the person who wrote it.

Nothing here connects to anything. `check_sites` takes the inventory's variables and gives, for each host, every problem
at once; each names the host, the variable, its value and the remedy. What a key may be says meta/argument_specs.yml.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .addresses import check_ansible_host, check_gateway, check_interface, check_lists, check_two_networks
from .between import check_between
from .central import check_central
from .container import check_capacity, check_container
from .entry import Site, read_site
from .fleet import check_fleet, check_secrets
from .names import check_names
from .points import check_devices, check_points
from .report import Report
from .values import check_identity, check_ranges
from .variables import Variables, variable_names
from .verification import check_verify


def check_sites(
    hostvars: Mapping[str, Variables],
    sites: Sequence[str],
    targets: Sequence[str],
    secrets: bool = True,
    old_names: Mapping[str, str] | None = None,
    centrals: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """Check ``targets`` against each other and against all ``sites`` of the inventory; see `Report` for the answer.

    ``centrals`` are the hosts of that group; ``secrets`` False does not look for vault variables; ``old_names`` are
    variables that have another name now.
    """
    reports = {host: Report(host) for host in targets}
    hosts = dict.fromkeys([*sites, *targets])
    read = {host: read_site(host, hostvars, reports.get(host) or Report(host)) for host in hosts}
    entries = {host: site for host, site in read.items() if site is not None}
    for host, report in reports.items():
        check_names(variable_names(hostvars, host), report, old_names or {})
        if host in entries:
            _check_site(entries[host], hostvars, report)
            check_central(entries[host], hostvars, centrals, report)
            if secrets:
                check_secrets(entries[host], report)
    check_between(entries, hostvars, reports)
    return {
        host: {"errors": list(dict.fromkeys(r.errors)), "warnings": list(dict.fromkeys(r.warnings)), "disk": r.disk}
        for host, r in reports.items()
    }


def _check_site(site: Site, hostvars: Mapping[str, Variables], report: Report) -> None:
    check_identity(site, report)
    check_ranges(site, report)
    check_container(site, hostvars, report)
    for part in ("lan", "bacnet"):
        check_interface(site, part, report)
    check_gateway(site, report)
    check_lists(site, report)
    check_two_networks(site, report)
    check_ansible_host(site, report)
    check_fleet(site, report)
    points = check_points(site, report)
    check_capacity(site, points, report)
    check_devices(site, points, report)
    check_verify(site, points, report)
