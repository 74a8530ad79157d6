"""The preflight of all sites: what is wrong with the inventory, in sentences for the person who wrote it.

Nothing here connects to anything. `check_sites` takes the inventory's variables and gives, for each host, every problem
at once; each names the host, the variable, its value and the remedy. What a key may be says meta/argument_specs.yml.
"""

import difflib
import ipaddress
import re
import zoneinfo
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[3]

BYTES_A_ROW = 153  # uncompressed, indexes counted: docs/benchmarks.md
FIXED_DISK = 8  # GiB: system 1.5, images of two versions during an upgrade 3, WAL and log 1.5, spool 0.5, air 1.5
LEAST_MEMORY = {"mosquitto": 1024, "emqx": 1536}  # MiB
SHORTEST_PASSWORD = 12  # of a user of the page
VAULT = ("vault_pki_ca_passphrase", "vault_proxmox_token_secret", "vault_page_admin_password")
LONGEST_AT_CENTRAL = 58  # its database role is site_<id>, and PostgreSQL's names have 63 bytes
POINT_PROBLEMS = 20  # lines of one points file that are shown; the rest are counted
DAY = 86400

SITE_ID = re.compile(r"[a-z0-9_-]{1,63}")
INTERFACE = {
    "interface": re.compile(r"[a-z][a-z0-9.-]{0,14}"),  # inside the container, as the role lxc_container makes it
    "bridge": re.compile(r"[A-Za-z0-9_.-]{1,15}"),  # whatever the host's kernel takes
}
WITH_PREFIX = re.compile(r"[0-9.]+/[0-9]{1,2}")
RANGES = {
    "container.id": (100, 999_999_999),
    "container.cores": (1, 1024),
    "container.disk": (1, 65536),
    "bacnet.port": (1, 65535),
    "bacnet.device_id": (0, 4_194_302),
    "history.retention_days": (1, 3650),
    "history.compress_after_hours": (1, 87600),
    "writes.priority_floor": (1, 16),
}
PROXMOX_ONLY = ("id", "storage")

Spec = Mapping[str, Any]
Variables = Mapping[str, Any]


@dataclass
class Report:
    """What is wrong with one host (``errors``), what is worth saying (``warnings``), and the GiB that it needs."""

    host: str
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    disk: int = FIXED_DISK

    def error(self, where: str, what: str, remedy: str) -> None:
        """``where`` is the variable, with its value if that helps."""
        self.errors.append(_sentence(self.host, where, what, remedy))

    def warning(self, where: str, what: str, remedy: str) -> None:
        self.warnings.append(_sentence(self.host, where, what, remedy))


@dataclass
class Site:
    """A host's entry: ``given`` is what its author wrote, ``settings`` that with defaults; without what is unusable."""

    host: str
    variables: Variables
    given: dict[str, Any]
    settings: dict[str, Any]
    fleet: dict[str, Any]

    def get(self, path: str) -> Any:
        """The value at ``a.b``, None where it is not there."""
        value: Any = self.settings
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def interface(self, path: str) -> ipaddress.IPv4Interface | None:
        """An address with prefix length, None where it is not a good one (which is said elsewhere)."""
        return _interface(self.get(path))

    @property
    def made_by_us(self) -> bool:
        return self.get("container.backend") in ("lxc", "proxmox")

    def where(self, path: str) -> str:
        """The variable and its value, as messages name them."""
        return f"site.{path} {_shown(self.get(path))}"


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
    read = {host: _site(host, hostvars, reports.get(host) or Report(host)) for host in hosts}
    entries = {host: site for host, site in read.items() if site is not None}
    for host, report in reports.items():
        _check_names(_names(hostvars, host), report, old_names or {})
        if host in entries:
            _check_site(entries[host], hostvars, report)
            _check_central(entries[host], hostvars, centrals, report)
            if secrets:
                _check_secrets(entries[host], report)
    _check_between(entries, hostvars, reports)
    return {
        host: {"errors": list(dict.fromkeys(r.errors)), "warnings": list(dict.fromkeys(r.warnings)), "disk": r.disk}
        for host, r in reports.items()
    }


# --- reading ---------------------------------------------------------------------------------------------------------


def _site(host: str, hostvars: Mapping[str, Variables], report: Report) -> Site | None:
    """A host's entry, its types checked; None where there is none at all."""
    names = ("site", "fleet", "ansible_host", "ansible_port", "ansible_ssh_common_args", "inventory_dir",
             *VAULT)  # fmt: skip
    variables = {name: value for name in names if (value := _read(hostvars, host, name, report)) is not _ABSENT}
    spec = _spec("site")["main"]
    fleet_keys = spec["fleet"]["options"]
    fleet = _typed_top(variables, "fleet", fleet_keys, report)
    if fleet is None:
        remedy = "inventory/example/group_vars/all/fleet.yml is a pattern for group_vars/all/fleet.yml."
        report.error("fleet", "is missing", remedy)
    fleet = _with_defaults(fleet_keys, fleet or {})
    shared = _typed(spec["site"]["options"], fleet["site"], "fleet.site", report, complete=False)
    given = _typed_top(variables, "site", spec["site"]["options"], report, complete=False)
    if given is None:
        _missing_site(host, _names(hostvars, host), report)
        return None
    settings = _with_defaults(spec["site"]["options"], _merge(shared, given))
    _check_complete(spec["site"]["options"], settings, variables["site"], "site", report)
    return Site(host, variables, given, settings, fleet)


_ABSENT = object()


def _read(hostvars: Mapping[str, Variables], host: str, name: str, report: Report) -> Any:
    """A host's variable with everything in it evaluated; what can't be (a template, a vault) is said and left out."""
    try:
        if name not in hostvars[host]:
            return _ABSENT
        return _plain(hostvars[host][name], name, report, 0)
    except Exception as error:  # noqa: BLE001 - whatever a template may raise
        _unreadable(name, error, report)
        return _ABSENT


def _plain(value: Any, path: str, report: Report, depth: int) -> Any:
    if isinstance(value, Mapping) and depth < 20:
        items = ((key, _inner(value, key, f"{path}.{_shown(key)}", report, depth)) for key in list(value))
        return {key: item for key, item in items if item is not _ABSENT}
    if isinstance(value, list | tuple) and depth < 20:
        items = ((n, _inner(value, n, f"{path}[{n}]", report, depth)) for n in range(len(value)))
        return [item for _, item in items if item is not _ABSENT]
    return value


def _inner(parent: Any, key: Any, path: str, report: Report, depth: int) -> Any:
    try:
        return _plain(parent[key], path, report, depth + 1)
    except Exception as error:  # noqa: BLE001 - whatever a template may raise
        _unreadable(path, error, report)
        return _ABSENT


def _unreadable(path: str, error: Exception, report: Report) -> None:
    reason = " ".join(str(error).split()) if not path.startswith("vault_") else "is the vault's password right?"
    report.error(path, f"can't be read ({reason})", "Correct what it refers to.")


def _names(hostvars: Mapping[str, Variables], host: str) -> list[str]:
    try:
        return [str(name) for name in hostvars[host]]
    except Exception:  # noqa: BLE001 - a host without variables
        return []


@cache
def _specs() -> dict[str, dict[str, dict[str, Any]]]:
    """Role, then entry point, then its options, from the roles' own argument_specs."""
    specs: dict[str, dict[str, dict[str, Any]]] = {}
    for file in sorted(PROJECT.glob("roles/*/meta/argument_specs.y*ml")):
        points = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("argument_specs") or {}
        specs[file.parents[1].name] = {name: (point or {}).get("options") or {} for name, point in points.items()}
    return specs


def _spec(role: str) -> dict[str, dict[str, Any]]:
    return _specs()[role]


# --- types -----------------------------------------------------------------------------------------------------------


def _typed_top(
    variables: Variables, name: str, options: Spec, report: Report, complete: bool = True
) -> dict[str, Any] | None:
    """A whole dictionary variable; None where it is absent or no dictionary."""
    if name not in variables:
        return None
    value = variables[name]
    if not isinstance(value, dict):
        report.error(f"{name} {_shown(value)}", f"is {_kind(value)}, not a dictionary", "Indent its keys below it.")
        return {}
    return _typed(options, value, name, report, complete)


def _typed(options: Spec, value: Mapping[Any, Any], path: str, report: Report, complete: bool = True) -> dict[str, Any]:
    """The usable part of a dictionary; what is unknown, of another type or (``complete``) missing is said."""
    good: dict[str, Any] = {}
    for key, item in value.items():
        where = f"{path}.{_shown(key)}"
        if key not in options:
            report.error(where, "is not known" + _did_you_mean(key, options), f"{path} knows: {', '.join(options)}.")
        elif (clean := _typed_value(options[key], item, where, report, complete)) is not None:
            good[key] = clean
    if complete:
        _check_required(options, value, path, report)
    return good


def _typed_value(spec: Spec, value: Any, where: str, report: Report, complete: bool) -> Any:
    """The value if it fits, else None and a message."""
    if value is None:
        if spec.get("required") or spec.get("default") is not None:
            report.error(where, "is empty", "Write a value, or leave the line out for the default, if it has one.")
        return None
    if complaint := _complaint(spec, value):
        report.error(f"{where} {_shown(value)}", *complaint)
        return None
    if spec["type"] == "dict" and "options" in spec:
        return _typed(spec["options"], value, where, report, complete)
    if spec["type"] == "list":
        return _typed_list(spec, value, where, report)
    return value


def _typed_list(spec: Spec, value: list[Any], where: str, report: Report) -> list[Any]:
    element = {"type": spec["elements"], "required": True} | ({"options": spec["options"]} if "options" in spec else {})
    items = [_typed_value(element, item, f"{where}[{n}]", report, True) for n, item in enumerate(value)]
    return [item for item in items if item is not None]


def _complaint(spec: Spec, value: Any) -> tuple[str, str] | None:
    """Why a value does not fit, and the remedy."""
    wanted = spec["type"]
    if wanted == "raw":
        return None
    if wanted != _type(value):
        return f"is {_kind(value)}, not {KINDS[wanted]}", _type_remedy(wanted, value)
    if wanted == "str" and not value.strip():
        return "is blank", "Write a value, or leave the line out."
    if "choices" in spec and value not in spec["choices"]:
        return "is not known" + _did_you_mean(value, spec["choices"]), f"Write one of: {', '.join(spec['choices'])}."
    return None


KINDS = {"str": "a text", "int": "a whole number", "bool": "true or false", "list": "a list", "dict": "a dictionary"}


def _type(value: Any) -> str:
    for name, types in {"bool": bool, "int": int, "str": str, "list": list, "dict": dict}.items():
        if isinstance(value, types):
            return name
    return type(value).__name__


def _kind(value: Any) -> str:
    return KINDS.get(_type(value), f"a {_type(value)}")


def _type_remedy(wanted: str, value: Any) -> str:
    if wanted == "str" and not isinstance(value, list | dict):
        return f"Put it in quotes: '{_shown(value)}'."
    if wanted == "int" and isinstance(value, str) and value.strip().isdecimal():
        return "Write the number without quotes."
    if wanted == "list":
        return f"Write [{_shown(value)}]."
    return f"Write {KINDS[wanted]}."


def _check_required(options: Spec, value: Mapping[Any, Any], path: str, report: Report) -> None:
    for key, spec in options.items():
        if spec.get("required") and key not in value:
            report.error(f"{path}.{key}", "is missing", str(spec["description"]))


def _check_complete(options: Spec, merged: Mapping[str, Any], written: Any, path: str, report: Report) -> None:
    """Say what is required and stands nowhere; what stands there and is unusable has been said already."""
    written = written if isinstance(written, Mapping) else {}
    for key, spec in options.items():
        if spec.get("required") and key not in merged and key not in written:
            report.error(f"{path}.{key}", "is missing", str(spec["description"]))
        if "options" in spec and isinstance(merged.get(key), dict):
            _check_complete(spec["options"], merged[key], written.get(key), f"{path}.{key}", report)


def _with_defaults(options: Spec, given: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, spec in options.items():
        if "options" in spec and spec["type"] == "dict" and (key in given or not spec.get("required")):
            # an empty dictionary as default (fleet.proxmox) stays empty: there is nothing, rather than half of it
            inner = given.get(key, {})
            settings[key] = _with_defaults(spec["options"], inner) if inner or "default" not in spec else {}
        elif key in given:
            settings[key] = given[key]
        elif spec.get("default") is not None:
            settings[key] = spec["default"]
    return settings


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        inner = both.get(key)
        both[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return both


# --- names of variables ----------------------------------------------------------------------------------------------


def _missing_site(host: str, names: Iterable[str], report: Report) -> None:
    close = difflib.get_close_matches("site", [name for name in names if not name.startswith("ansible_")], 1, 0.7)
    remedy = f"Write it in host_vars/{host}.yml; docs/inventory.md lists its keys."
    report.error("site", "is missing", f"Is {close[0]} misspelt?" if close else remedy)


def _check_names(names: Iterable[str], report: Report, old_names: Mapping[str, str]) -> None:
    """Refuse what looks like a role's variable and is none: nothing would read it."""
    known = _known_names()
    for name in sorted(names):
        if name in old_names:
            report.error(name, "is an old name", f"Now it is {old_names[name]}.")
        elif name not in known and not name.startswith(("ansible_", "_")):
            _check_name(name, report, known)


def _check_name(name: str, report: Report, known: frozenset[str]) -> None:
    role = max((role for role in _specs() if name.startswith(f"{role}_")), key=len, default=None)
    if role is not None:
        own = _role_variables(role)
        hint = _did_you_mean(name, own) or f"; that role has: {', '.join(sorted(own))}"
        report.error(name, f"is no variable of the role {role}{hint}", "Correct or remove it; nothing reads it.")
    elif close := difflib.get_close_matches(name.lower(), known, 1, 0.88):
        report.error(name, f"is not known; did you mean {close[0]}?", "Correct or rename it; nothing reads it.")


@cache
def _role_variables(role: str) -> frozenset[str]:
    return frozenset(name for options in _specs()[role].values() for name in options)


@cache
def _known_names() -> frozenset[str]:
    """Variables that something reads: the roles', and those that the playbooks bring along."""
    names = {name for role in _specs() for name in _role_variables(role)}
    for file in PROJECT.glob("playbooks/group_vars/**/*.yml"):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        names.update(content if isinstance(content, dict) else ())
    return frozenset(names | {"site", "fleet", *VAULT})


def _did_you_mean(text: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(text).lower(), list(known), 1, 0.65)
    return f"; did you mean {close[0]}?" if close else ""


# --- one site --------------------------------------------------------------------------------------------------------


def _check_site(site: Site, hostvars: Mapping[str, Variables], report: Report) -> None:
    _check_identity(site, report)
    _check_ranges(site, report)
    _check_container(site, hostvars, report)
    for part in ("lan", "bacnet"):
        _check_interface(site, part, report)
    _check_gateway(site, report)
    _check_lists(site, report)
    _check_two_networks(site, report)
    _check_ansible_host(site, report)
    _check_fleet(site, report)
    points = _check_points(site, report)
    _check_capacity(site, points, report)
    _check_devices(site, points, report)
    _check_verify(site, points, report)


def _check_identity(site: Site, report: Report) -> None:
    site_id, zone = site.get("id"), site.get("time_zone")
    if site_id is not None and not SITE_ID.fullmatch(site_id):
        report.error(site.where("id"), "is no slug", "Use 1 to 63 of a-z, 0-9, _ and -.")
    elif site_id is not None and site.made_by_us and site_id != site_id.strip("-_"):
        what = "begins or ends with - or _, and the container's name is made from it"
        report.error(site.where("id"), what, "Begin and end with a letter or digit.")
    if site_id == "bacnet":
        report.error(site.where("id"), "is reserved", "Its topics would be those of the commands; give another id.")
    zones = _time_zones()
    if zone is not None and zones and zone not in zones:
        close = {name.lower(): name for name in sorted(zones)}
        city = [name for name in close if name.endswith(f"/{zone.lower()}")]
        near = city or difflib.get_close_matches(zone.lower(), close, 1, 0.8)
        hint = f"; did you mean {close[near[0]]}?" if near else ""
        report.error(site.where("time_zone"), f"is no IANA time zone{hint}", "Write one as Asia/Macau.")


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())  # empty where the controller has no time zone data


def _check_ranges(site: Site, report: Report) -> None:
    for path, (low, high) in RANGES.items():
        value = site.get(path)
        if value is not None and not low <= value <= high:
            report.error(site.where(path), f"is not from {low} to {high}", "Correct the number.")
    days, hours = site.get("history.retention_days"), site.get("history.compress_after_hours")
    if days and hours and hours >= days * 24:
        what = f"hours are not less than the {days} days of site.history.retention_days"
        report.error(site.where("history.compress_after_hours"), what, "Compress earlier, or keep more days.")


def _check_container(site: Site, hostvars: Mapping[str, Variables], report: Report) -> None:
    backend, host = site.get("container.backend"), site.get("container.host")
    given = site.given.get("container", {})
    if backend == "none":
        for key in (key for key in given if key not in ("backend", "memory", "disk")):
            report.error(f"site.container.{key}", "contradicts backend none, which makes no container", "Remove it.")
        return
    if backend in ("lxc", "proxmox") and host is None:
        hosts = "the inventory host that runs LXC" if backend == "lxc" else "the name of the Proxmox node"
        report.error("site.container.host", f"is missing, and backend {backend} needs it", f"Write {hosts}.")
    if backend == "lxc" and host is not None and host not in [*hostvars, "localhost"]:
        what = f"is no host of the inventory{_did_you_mean(host, hostvars)}"
        report.error(site.where("container.host"), what, "Add it to hosts.yml, outside the group sites.")
    if backend == "lxc":
        for key in (key for key in PROXMOX_ONLY if key in given):
            report.error(f"site.container.{key}", "says nothing to backend lxc", "Remove it, or write backend proxmox.")
    if backend in ("lxc", "proxmox") and site.get("container.template") is None:
        what = "is missing: the container is made from it"
        report.error("site.container.template", what, "Write it here, or for the whole fleet in fleet.site.")
    if backend == "proxmox" and "id" not in given:
        report.error("site.container.id", "is missing, and backend proxmox needs it", "Write a free number.")


def _interface(text: Any) -> ipaddress.IPv4Interface | None:
    try:
        return ipaddress.IPv4Interface(text) if isinstance(text, str) and WITH_PREFIX.fullmatch(text) else None
    except ValueError:
        return None


def _check_interface(site: Site, part: str, report: Report) -> None:
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
    elif role := _not_a_machine(address.ip, address.network):
        report.error(site.where(path), f"is {role}, no machine's", "Give a free address of that network.")


def _not_a_machine(address: ipaddress.IPv4Address, network: ipaddress.IPv4Network) -> str | None:
    """What an address is instead of a machine's."""
    if address == network.network_address:
        return f"the network address of {network}"
    if address == network.broadcast_address:
        return f"the broadcast address of {network}"
    if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_reserved:
        return "a loopback, multicast or reserved address"
    return None


def _check_gateway(site: Site, report: Report) -> None:
    text, lan = site.get("lan.gateway"), site.interface("lan.address")
    if text is None:
        if site.made_by_us:
            report.error("site.lan.gateway", "is missing", "Give the router of the network of site.lan.address.")
        return
    gateway = _address(text)
    if gateway is None:
        report.error(site.where("lan.gateway"), "is no IPv4 address", "Write one as 10.0.60.1.")
    elif lan is not None and gateway not in lan.network:
        what = f"is not in {lan.network} (site.lan.address)"
        report.error(site.where("lan.gateway"), what, "Give a gateway of that network.")
    elif lan is not None and gateway == lan.ip:
        report.error(site.where("lan.gateway"), "is the site's own address", "Give that of the router.")
    elif lan is not None and (role := _not_a_machine(gateway, lan.network)):
        report.error(site.where("lan.gateway"), f"is {role}, no machine's", "Give that of the router.")


def _address(text: Any) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _check_lists(site: Site, report: Report) -> None:
    for n, text in enumerate(site.get("lan.nameservers") or []):
        if _address(text) is None:
            where = f"site.lan.nameservers[{n}] {_shown(text)}"
            report.error(where, "is no IPv4 address", "Write one as 10.0.60.1; names can't be looked up yet.")
    _check_network_list("site.lan.clients", site.get("lan.clients") or [], report)


def _check_network_list(path: str, networks: Iterable[str], report: Report) -> None:
    for n, text in enumerate(networks):
        where = f"{path}[{n}] {_shown(text)}"
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            report.error(where, "is no network", "Write one as 10.0.60.0/24.")
            continue
        if network.prefixlen == 0:
            report.error(where, "is the whole world", "Name the networks that need it.")
        elif str(network.network_address) != text.partition("/")[0]:
            report.error(where, "is an address, not a network", f"Write {network}, or the address with /32.")


def _check_central(site: Site, hostvars: Mapping[str, Variables], centrals: Sequence[str], report: Report) -> None:
    """The lanes need a central to lead to, and what names itself there needs a name that it takes."""
    host, site_id = site.get("central.host"), site.get("id")
    if host is not None and host not in centrals:
        what = f"is not in the inventory's group centrals{_did_you_mean(host, centrals)}"
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
    if site.get("broker.engine") == "emqx" and live is not False and _address(address) is not None:
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
    central = _read(hostvars, host, "central", report)
    if not isinstance(central, dict):
        return None
    lan = central.get("lan")
    own = lan.get("address") if isinstance(lan, dict) else None
    return central.get("address", str(own).partition("/")[0])


def _check_two_networks(site: Site, report: Report) -> None:
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


def _check_ansible_host(site: Site, report: Report) -> None:
    """Any way by ssh will do; an address of the site's own networks that is not the site's is a mistake."""
    text = site.variables.get("ansible_host")
    address, lan, bacnet = _address(text), site.interface("lan.address"), site.interface("bacnet.address")
    if address is None or lan is None or address == lan.ip:
        return
    if address in lan.network:
        report.error(f"ansible_host {address}", f"is not the site.lan.address {lan}", f"Write {lan.ip} in both places.")
    elif bacnet is not None and address in bacnet.network:
        what = "is in the controllers' network, from which ssh is not let in"
        report.error(f"ansible_host {address}", what, f"Write {lan.ip} (site.lan.address).")


def _check_fleet(site: Site, report: Report) -> None:
    networks = site.fleet.get("admin_networks")
    _check_network_list("fleet.admin_networks", networks or [], report)
    remedy = "Without it nobody could log in after the first run."
    for key in ("admin_networks", "ssh_keys"):
        if site.fleet.get(key) == []:
            report.error(f"fleet.{key}", "is an empty list", remedy)
    for n, key in enumerate(site.fleet.get("ssh_keys") or []):
        if "PRIVATE KEY" in key or not re.match(r"(ssh|ecdsa|sk)-\S+ +[A-Za-z0-9+/=]{40,}", key):
            where = f"fleet.ssh_keys[{n}]"
            report.error(where, "is no public ssh key", "Copy the one line of the file that ends in .pub.")
    if site.get("container.backend") == "proxmox" and not site.fleet.get("proxmox"):
        report.error("fleet.proxmox", "is missing, and backend proxmox needs it", "Write its api_host and so on.")


def _check_secrets(site: Site, report: Report) -> None:
    wanted = {"vault_pki_ca_passphrase": "the certificate authority"}
    if site.get("container.backend") == "proxmox":
        wanted["vault_proxmox_token_secret"] = "backend proxmox"  # noqa: S105 - what needs it, not the secret
    for name, use in wanted.items():
        value = site.variables.get(name)
        if not isinstance(value, str) or not value.strip():
            remedy = "`ansible-vault edit group_vars/all/vault.yml` in the inventory; docs/onboarding.md shows how."
            report.error(name, f"is missing, and {use} needs it", remedy)
    page = site.variables.get("vault_page_admin_password", _ABSENT)
    if page is not _ABSENT and (not isinstance(page, str) or len(page) < SHORTEST_PASSWORD or len(set(page)) < 5):
        what = f"is too short or too simple: {SHORTEST_PASSWORD} characters, 5 of them different, are the least"
        report.error("vault_page_admin_password", what, "Give a longer one, or remove the line.")


# --- points ----------------------------------------------------------------------------------------------------------


def _check_points(site: Site, report: Report) -> Any:
    """The points file, read by the appliance's own reader; None where there is none that can be used."""
    text, folder = site.get("points.file"), site.variables.get("inventory_dir")
    if text is None or not isinstance(folder, str) or site.get("id") is None:
        return None
    where = site.where("points.file")
    relative = Path(text)
    if relative.is_absolute() or "\0" in text or relative.suffix != ".csv":
        report.error(where, "is not a .csv file relative to the inventory folder", "Write it as points/macau.csv.")
        return None
    path, page = Path(folder) / relative, site.get("points.owner") == "page"
    if not _is_file(path):
        if not page:  # else it is fetched back into the inventory
            remedy = f"`bacpipes discover --output {relative}` writes a first one; it belongs into {folder}."
            report.error(where, "does not exist", remedy)
        return None
    return _read_points(site, path, report.warning if page else report.error, report)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _read_points(site: Site, path: Path, say: Callable[[str, str, str], None], report: Report) -> Any:
    try:
        from bacpipes.errors import InputError
        from bacpipes.points.csv_file import read_points
    except ImportError:
        remedy = "Run the ansible-playbook that `make controller` installs (docs/onboarding.md)."
        report.error("site.points.file", "can't be checked, because the package bacpipes is not installed", remedy)
        return None
    where = site.where("points.file")
    try:
        with path.open("rb") as stream:
            file = read_points(stream, site.get("points.file"), site.get("id"))
    except (InputError, OSError) as error:
        say(where, f"can't be used: {' '.join(str(error).split())}", "Correct the file.")
        return None
    for problem in [p for p in file.problems.kept if not p.warning][:POINT_PROBLEMS]:
        where_line = f"site.points.file {file.where(problem.line)}"
        say(where_line, f"{problem.column}: {problem.message}", "Correct that line.")
    if (more := file.problems.errors - POINT_PROBLEMS) > 0:
        command = f"bacpipes points check --full --site {site.get('id')} {site.get('points.file')}"
        say(where, f"has {more} more errors", f"`{command}` shows all.")
    for problem in [p for p in file.problems.kept if p.warning][:POINT_PROBLEMS]:
        where_line = f"site.points.file {file.where(problem.line)}"
        report.warning(where_line, f"{problem.column}: {problem.message}", "Such writes are refused or less checked.")
    return None if file.problems.errors else file


def _polled(file: Any) -> Iterator[Any]:
    return (row for row in file.rows if row.equipment and row.enabled is not False)


def _check_capacity(site: Site, file: Any, report: Report) -> None:
    """Does the disk hold the retention uncompressed, and the memory what runs?"""
    days, disk = site.get("history.retention_days"), site.get("container.disk")
    rows = 0.0
    if file is not None and days is not None and days <= RANGES["history.retention_days"][1]:
        rows = sum(DAY / row.interval for row in _polled(file)) * days
    history = rows * BYTES_A_ROW / 2**30
    report.disk = ceil(FIXED_DISK + history)
    said = "disk" in site.given.get("container", {}) or site.made_by_us
    if said and isinstance(disk, int) and disk < report.disk:
        count = sum(1 for _ in _polled(file)) if file is not None else 0
        what = (
            f"GiB are too few: {count} points make {rows / 1e6:.1f} million rows in {days} days"
            f" (site.history.retention_days), {history:.1f} GiB at {BYTES_A_ROW} bytes, and {FIXED_DISK} GiB are"
            " needed for system, images and logs"
        )
        report.error(site.where("container.disk"), what, f"Give at least {report.disk}, or keep fewer days.")
    memory, least = site.get("container.memory"), LEAST_MEMORY.get(site.get("broker.engine"), 1024)
    if memory is not None and memory < least and ("memory" in site.given.get("container", {}) or site.made_by_us):
        engine = site.get("broker.engine")
        what = f"MiB are too few for a site with {engine}"
        report.error(site.where("container.memory"), what, f"Give at least {least}.")


def _check_devices(site: Site, file: Any, report: Report) -> None:
    """We are a device among those of the points file: neither our number nor our address may be there."""
    bacnet = site.interface("bacnet.address")
    if file is None:
        return
    outside = {}
    for row in file.rows:
        where = f"site.points.file {file.where(row.line)}"
        if row.device_id == site.get("bacnet.device_id"):
            what = f"device_id: {row.device_id} is site.bacnet.device_id, the appliance's own"
            report.error(where, what, "Give site.bacnet.device_id a number that no controller has.")
            return
        host, _, port = row.address.partition(":")
        address = _address(host)
        if bacnet is None or address is None:
            continue
        if address == bacnet.ip and int(port or 47808) == site.get("bacnet.port"):
            what = f"address: {row.address} is site.bacnet.address, the appliance's own"
            report.error(where, what, "Give site.bacnet.address a free address.")
            return
        if address not in bacnet.network:
            outside.setdefault(row.device_id, f"{row.address}")
    for device, address in list(outside.items())[:POINT_PROBLEMS]:
        what = f"has device {device} at {address}, outside the network of site.bacnet.address {bacnet}"
        report.warning(site.where("points.file"), what, "It is reached only if a router leads there.")


def _check_verify(site: Site, file: Any, report: Report) -> None:
    name, value = site.get("verify.write_point"), site.get("verify.value")
    if name is None:
        if value is not None:
            report.error(site.where("verify.value"), "has no site.verify.write_point", "Write both or none.")
        else:
            remedy = "Name a harmless setpoint there, if the building has one."
            report.warning("site.verify.write_point", "is not set: verification tries no write", remedy)
        return
    if value is None:
        report.error("site.verify.value", "is missing beside site.verify.write_point", "Write both or none.")
    if file is None:
        return
    site_id = site.get("id")
    row = next((row for row in file.rows if row.haystack_name(site_id) == name), None)
    if row is None:
        names = [known for row in file.rows if row.writable and (known := row.haystack_name(site_id))]
        what = f"is no point of {site.get('points.file')}{_did_you_mean(name, names)}"
        report.error(site.where("verify.write_point"), what, "Write the haystack name of a writable setpoint.")
        return
    _check_write(site, row, value, report)


def _check_write(site: Site, row: Any, value: Any, report: Report) -> None:
    where = site.where("verify.write_point")
    if not row.writable or row.tags[2] != "sp" or row.enabled is False:
        what = f"is no writable, enabled setpoint (line {row.line} of {site.get('points.file')})"
        report.error(where, what, "Choose one whose function is sp and whose column writable is true.")
    if value is None:
        return
    low, high = row.minimum, row.maximum
    if row.object_type.startswith("binary"):
        low, high = 0, 1
    elif row.object_type.startswith("multi-state"):
        low, high = 1, row.states
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (_type(value) == "float" and not isfinite(value))
    ):
        report.error(site.where("verify.value"), f"is {_kind(value)}, no number", "Write a number; 0 or 1 for binary.")
    elif (low is not None and value < low) or (high is not None and value > high):
        what = f"is outside {low} to {high} of {row.haystack_name(site.get('id'))}"
        report.error(site.where("verify.value"), what, "Write a value within the point's limits.")


# --- between sites ---------------------------------------------------------------------------------------------------


def _check_between(sites: Mapping[str, Site], hostvars: Mapping[str, Variables], reports: Mapping[str, Report]) -> None:
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
                reports[host].error(sites[host].where(path), f"is also that of {_list(others)}", remedy)
    ways = {host: _way(hostvars, host) for host in hostvars}
    for host, others in _shared(ways):
        if host in reports and host in sites:
            where = f"ansible_host {_shown(sites[host].variables.get('ansible_host'))}"
            reports[host].error(where, f"is also that of {_list(others)}", "Two hosts can't be one machine.")


def _shared(keys: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Each host whose key others have too, with those others; a key None is nobody's."""
    hosts = defaultdict(list)
    for host, key in keys.items():
        if key is not None:
            hosts[key].append(host)
    for group in hosts.values():
        for host in group if len(group) > 1 else ():
            yield host, [other for other in group if other != host]


def _container_key(site: Site) -> Any:
    return site.get("container.id") if site.get("container.backend") == "proxmox" else None


def _container_name(site: Site) -> Any:
    """The role lxc_container knows it by its host name, which has no underscores."""
    name, host = site.get("id"), site.get("container.host")
    return (host, name.replace("_", "-")) if site.made_by_us and name else None


def _lan_key(site: Site) -> Any:
    """Two buildings may use the same numbers as long as neither site is reached by them."""
    lan = site.interface("lan.address")
    if lan is None:
        return None
    reached = site.variables.get("ansible_host")
    return str(lan.ip) if reached is None or reached == str(lan.ip) else None


def _wire_key(path: str) -> Callable[[Site], Any]:
    """Two sites share a wire where one host has both on the same bridge."""

    def key(site: Site) -> Any:
        value, host, bridge = site.get(path), site.get("container.host"), site.get(path.partition(".")[0] + ".bridge")
        if not site.made_by_us or None in (value, host, bridge):
            return None
        return host, bridge, str(value).partition("/")[0]

    return key


def _way(hostvars: Mapping[str, Variables], host: str) -> Any:
    """How a host is reached; None where the inventory does not say."""
    silent = Report(host)
    names = ("ansible_host", "ansible_port", "ansible_ssh_common_args")
    way = [_read(hostvars, host, name, silent) for name in names]
    return tuple(str(part) for part in way) if isinstance(way[0], str) else None


# --- words -----------------------------------------------------------------------------------------------------------


def _sentence(host: str, where: str, what: str, remedy: str) -> str:
    return f"{host}: {where} {what}{'' if what.endswith('?') else '.'} {remedy}"


def _shown(value: Any) -> str:
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text if len(text) <= 80 else f"{text[:77]}…"


def _list(hosts: Sequence[str]) -> str:
    return ", ".join(hosts[:5]) + (f" and {len(hosts) - 5} more" if len(hosts) > 5 else "")


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"site_preflight": check_sites}
