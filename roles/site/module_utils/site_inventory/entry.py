"""An inventory's entry of one site."""

import difflib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .ipv4 import parse_interface
from .report import Report, shown
from .specs import VAULT, role_spec
from .typed import check_complete, merge, typed, typed_top, with_defaults
from .variables import ABSENT, Variables, read_variable, variable_names


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
        return parse_interface(self.get(path))

    @property
    def made_by_us(self) -> bool:
        return self.get("container.backend") in ("lxc", "proxmox")

    def where(self, path: str) -> str:
        """The variable and its value, as messages name them."""
        return f"site.{path} {shown(self.get(path))}"


def read_site(host: str, hostvars: Mapping[str, Variables], report: Report) -> Site | None:
    """A host's entry, its types checked; None where there is none at all."""
    names = ("site", "fleet", "ansible_host", "ansible_port", "ansible_ssh_common_args", "inventory_dir",
             *VAULT)  # fmt: skip
    variables = {name: value for name in names if (value := read_variable(hostvars, host, name, report)) is not ABSENT}
    spec = role_spec("site")["main"]
    fleet_keys = spec["fleet"]["options"]
    fleet = typed_top(variables, "fleet", fleet_keys, report)
    if fleet is None:
        remedy = "inventory/example/group_vars/all/fleet.yml is a pattern for group_vars/all/fleet.yml."
        report.error("fleet", "is missing", remedy)
    fleet = with_defaults(fleet_keys, fleet or {})
    shared = typed(spec["site"]["options"], fleet["site"], "fleet.site", report, complete=False)
    given = typed_top(variables, "site", spec["site"]["options"], report, complete=False)
    if given is None:
        _missing_site(host, variable_names(hostvars, host), report)
        return None
    settings = with_defaults(spec["site"]["options"], merge(shared, given))
    check_complete(spec["site"]["options"], settings, variables["site"], "site", report)
    return Site(host, variables, given, settings, fleet)


def _missing_site(host: str, names: Iterable[str], report: Report) -> None:
    close = difflib.get_close_matches("site", [name for name in names if not name.startswith("ansible_")], 1, 0.7)
    remedy = f"Write it in host_vars/{host}.yml; docs/inventory.md lists its keys."
    report.error("site", "is missing", f"Is {close[0]} misspelt?" if close else remedy)
