"""An inventory's entry of one site, or of central."""

import difflib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .ipv4 import parse_interface
from .report import Report, shown
from .specs import VAULT, known_names, role_spec
from .typed import check_complete, merge, typed, typed_top, with_defaults
from .variables import ABSENT, Variables, read_variable, variable_names

OWN = ("id", "name", "points.file", "container.id", "lan.address", "verify.write_point")  # no two sites have the same


@dataclass
class Entry:
    """A host's entry: ``given`` is what its author wrote, ``settings`` that with defaults; without what is unusable.

    ``kind`` is the variable that it stands in, `site` or `central`.
    """

    host: str
    kind: str
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
        return parse_interface(self.get(path))

    @property
    def made_by_us(self) -> bool:
        return self.get("container.backend") in ("lxc", "proxmox")

    def name(self, path: str) -> str:
        """The variable, as messages name it."""
        return f"{self.kind}.{path}"

    def where(self, path: str) -> str:
        """The variable and its value, as messages name them."""
        return f"{self.name(path)} {shown(self.get(path))}"


def read_site(host: str, hostvars: Mapping[str, Variables], report: Report) -> Entry | None:
    """A site's entry, its types checked; None where there is none at all."""
    variables, fleet = _read(host, "site", hostvars, report)
    options = role_spec("site")["main"]["site"]["options"]
    shared = typed(options, fleet["site"], "fleet.site", report, complete=False)
    given = typed_top(variables, "site", options, report, complete=False)
    if given is None:
        _missing(host, "site", variable_names(hostvars, host), report)
        return None
    _check_own(fleet["site"], report)
    _check_hidden(fleet["site"], variables["site"], "site", report)
    settings = with_defaults(options, merge(shared, given))
    check_complete(options, settings, variables["site"], "site", report)
    return Entry(host, "site", variables, given, settings, fleet)


def read_central(host: str, hostvars: Mapping[str, Variables], report: Report) -> Entry | None:
    """Central's entry, likewise. The playbooks read it as it is written, so that nothing in it may be empty."""
    variables, fleet = _read(host, "central", hostvars, report)
    options = role_spec("site")["central"]["central"]["options"]
    given = typed_top(variables, "central", options, report)
    if given is None:
        _missing(host, "central", variable_names(hostvars, host), report)
        return None
    for path in _empty(variables["central"], "central"):
        if not any(told.startswith(f"{host}: {path} ") for told in report.errors):
            report.error(path, "is empty", "Write a value, or remove the line.")
    return Entry(host, "central", variables, given, with_defaults(options, given), fleet)


def _read(
    host: str, kind: str, hostvars: Mapping[str, Variables], report: Report
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables that are looked at, and ``fleet`` with its defaults."""
    names = (kind, "fleet", "ansible_host", "ansible_port", "ansible_ssh_common_args", "inventory_dir", *VAULT)
    variables = {name: value for name in names if (value := read_variable(hostvars, host, name, report)) is not ABSENT}
    keys = role_spec("site")["main"]["fleet"]["options"]
    fleet = typed_top(variables, "fleet", keys, report)
    if fleet is None:
        remedy = "inventory/example/group_vars/all/fleet.yml is a pattern for group_vars/all/fleet.yml."
        report.error("fleet", "is missing", remedy)
    return variables, with_defaults(keys, fleet or {})


def _missing(host: str, kind: str, names: Iterable[str], report: Report) -> None:
    own = [name for name in names if not name.startswith("ansible_") and name not in known_names()]
    close = difflib.get_close_matches(kind, own, 1, 0.7)
    remedy = f"Write it in host_vars/{host}.yml; docs/inventory.md lists its keys."
    report.error(kind, "is missing", f"Is {close[0]} misspelt?" if close else remedy)


def _check_own(shared: Mapping[str, Any], report: Report) -> None:
    for path in OWN:
        section, _, key = path.rpartition(".")
        there = shared.get(section) if section else shared
        if isinstance(there, Mapping) and key in there:
            report.error(
                f"fleet.site.{path}", "can't be shared", "Every site has its own: write it in the sites' entries."
            )


def _check_hidden(below: Any, above: Any, path: str, report: Report) -> None:
    """An empty key is not what the fleet shares: it takes its place."""
    if isinstance(below, Mapping) and isinstance(above, Mapping):
        for key in below.keys() & above.keys():
            _check_hidden(below[key], above[key], f"{path}.{key}", report)
    elif above is None and below is not None:
        report.error(path, "is empty, and hides what fleet.site says", "Remove the line, or write a value.")


def _empty(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _empty(item, f"{path}.{shown(key)}")
    elif value is None:
        yield path
