"""The preflight: what is wrong with the inventory, in sentences for the person who wrote it.

Nothing here connects to anything. `check_sites` and `check_centrals` take the inventory's variables and give, for each
host, every problem at once; each names the host, the variable, its value and the remedy. What a key may be says
meta/argument_specs.yml.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .addresses import check_ansible_host, check_gateway, check_interface, check_lists, check_two_networks
from .arguments import check_arguments, played
from .between import check_between
from .central import check_central
from .container import check_capacity, check_container
from .entry import Entry, read_central, read_site
from .files import check_files
from .fleet import check_fleet, check_secrets
from .lanes import check_lanes
from .names import check_names
from .points import check_devices, check_points
from .report import Report
from .values import check_identity, check_priority, check_ranges, check_time_zone
from .variables import Variables, read_variable, variable_names
from .verification import check_verify

TWO_GROUPS = ("has it in both groups, sites and centrals", "One machine is one or the other: remove it from one.")


def check_sites(
    hostvars: Mapping[str, Variables],
    sites: Sequence[str],
    targets: Sequence[str],
    secrets: bool = True,
    old_names: Mapping[str, str] | None = None,
    centrals: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """Check ``targets`` against each other and against all ``sites`` of the inventory; see `Report` for the answer.

    ``centrals`` are the hosts of that group: those that these sites report to are checked, too, and are in the answer
    where something is wrong with them. ``secrets`` False does not look for vault variables; ``old_names`` are variables
    that have another name now.
    """
    entries, reports = _read(hostvars, dict.fromkeys([*sites, *targets]), centrals, [*targets, *centrals])
    for host in targets:
        check_names(variable_names(hostvars, host), reports[host], old_names or {})
        check_arguments(host, hostvars, reports[host])
        if host in centrals:
            reports[host].error("hosts.yml", *TWO_GROUPS)
        if (site := entries.get(host)) is not None:
            _check_machine(site, hostvars, [*sites, *centrals], secrets, reports[host])
            _check_site(site, hostvars, centrals, reports[host])
    used = {site.get("central.host") or next(iter(centrals), None) for host in targets if (site := entries.get(host))}
    for host in (host for host in centrals if host in used):
        _check_central(host, entries, hostvars, sites, centrals, False, old_names, reports[host])
    check_between(entries, hostvars, reports)
    also = {host: reports[host] for host in centrals if host in used} | {"inventory": _check_files(hostvars, targets)}
    return _answer({host: reports[host] for host in targets}, entries) | {
        host: told for host, told in _answer(also, entries).items() if told["errors"] or told["warnings"]
    }


def check_centrals(
    hostvars: Mapping[str, Variables],
    centrals: Sequence[str],
    targets: Sequence[str],
    secrets: bool = True,
    old_names: Mapping[str, str] | None = None,
    sites: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """Check ``targets``, hosts of the group ``centrals``, likewise."""
    entries, reports = _read(hostvars, sites, dict.fromkeys([*centrals, *targets]), targets)
    for host in targets:
        _check_central(host, entries, hostvars, sites, centrals, secrets, old_names, reports[host])
    check_between(entries, hostvars, reports)
    return _answer({host: reports[host] for host in targets}, entries)


def _check_central(
    host: str,
    entries: Mapping[str, Entry],
    hostvars: Mapping[str, Variables],
    sites: Sequence[str],
    centrals: Sequence[str],
    secrets: bool,
    old_names: Mapping[str, str] | None,
    report: Report,
) -> None:
    check_names(variable_names(hostvars, host), report, old_names or {})
    check_arguments(host, hostvars, report)
    if host in sites:
        report.error("hosts.yml", *TWO_GROUPS)
    elif (central := entries.get(host)) is not None:
        _check_machine(central, hostvars, [*sites, *centrals], secrets, report)
        check_central(central, report)


def _read(
    hostvars: Mapping[str, Variables], sites: Iterable[str], centrals: Iterable[str], targets: Iterable[str]
) -> tuple[dict[str, Entry], dict[str, Report]]:
    """The entries of all machines, and a report for each of the targets; a host of both groups is read as a site."""
    reports = {host: Report(host) for host in targets}
    read = {host: read_site(host, hostvars, reports.get(host) or Report(host)) for host in sites}
    read |= {
        host: read_central(host, hostvars, reports.get(host) or Report(host)) for host in centrals if host not in read
    }
    return {host: entry for host, entry in read.items() if entry is not None}, reports


def _check_files(hostvars: Mapping[str, Variables], targets: Sequence[str]) -> Report:
    report = Report("inventory")
    folders = {read_variable(hostvars, host, "inventory_dir", report) for host in targets[:1]}
    for folder in (folder for folder in folders if isinstance(folder, str)):
        check_files(Path(folder), list(hostvars), report)
    return report


def _answer(reports: Mapping[str, Report], entries: Mapping[str, Entry]) -> dict[str, dict[str, Any]]:
    return {
        host: {
            "errors": list(dict.fromkeys(report.errors)),
            "warnings": list(dict.fromkeys(report.warnings)),
            "disk": report.disk,
            "roles": played(report, entries[host].kind, entries[host].made_by_us) if host in entries else [],
        }
        for host, report in reports.items()
    }


def _check_machine(
    entry: Entry, hostvars: Mapping[str, Variables], machines: Collection[str], secrets: bool, report: Report
) -> None:
    """What a site and central have in common."""
    check_identity(entry, report)
    check_ranges(entry, report)
    check_container(entry, hostvars, machines, report)
    for part in ("lan", "bacnet"):
        check_interface(entry, part, report)
    check_gateway(entry, report)
    check_lists(entry, report)
    check_two_networks(entry, report)
    check_ansible_host(entry, report)
    check_fleet(entry, report)
    if secrets:
        check_secrets(entry, report)


def _check_site(site: Entry, hostvars: Mapping[str, Variables], centrals: Sequence[str], report: Report) -> None:
    check_time_zone(site, report)
    check_priority(site, report)
    points = check_points(site, report)
    check_capacity(site, points, report)
    check_devices(site, points, report)
    check_verify(site, points, report)
    check_lanes(site, hostvars, centrals, report)
