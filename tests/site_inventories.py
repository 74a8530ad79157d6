"""The example inventory with mistakes in it, as the unit tests of the preflight hand it to the filter."""

import copy
from pathlib import Path
from typing import Any

import yaml

from site_inventory import check_centrals, check_sites

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "inventory" / "example"
NO_SITES = ("lxc1", "central")

Inventory = dict[str, dict[str, Any]]


def example() -> Inventory:
    """The example inventory's variables, as Ansible would hand them over."""
    fleet = yaml.safe_load((EXAMPLE / "group_vars" / "all" / "fleet.yml").read_text())
    shared = fleet | {"inventory_dir": str(EXAMPLE), "vault_pki_ca_passphrase": "x" * 20}
    shared["vault_proxmox_token_secret"] = "token"
    hosts = {
        file.stem: copy.deepcopy(shared) | yaml.safe_load(file.read_text())
        for file in (EXAMPLE / "host_vars").glob("*.yml")
    }
    return hosts | {"lxc1": {"ansible_host": "10.0.61.2"}}


def check(inventory: Inventory, *targets: str, **options: Any) -> dict[str, Any]:
    sites = [host for host in inventory if host not in NO_SITES]
    return check_sites(inventory, sites, list(targets) or sites, **({"centrals": ["central"]} | options))


def errors(inventory: Inventory, host: str = "macau", **options: Any) -> list[str]:
    found: list[str] = check(inventory, **options)[host]["errors"]
    return found


def central_errors(inventory: Inventory, **options: Any) -> list[str]:
    """What is told of central when its own playbook is run."""
    sites = [host for host in inventory if host not in NO_SITES]
    found = check_centrals(inventory, ["central"], ["central"], sites=sites, **options)
    told: list[str] = found["central"]["errors"]
    return told


def put(inventory: Inventory, path: str, value: Any, host: str = "macau") -> None:
    """Write a value at ``site.a.b``."""
    *folders, last = path.split(".")
    place = inventory[host]
    for folder in folders:
        place = place.setdefault(folder, {})
    place[last] = value


def drop(inventory: Inventory, path: str, host: str = "macau") -> None:
    *folders, last = path.split(".")
    place = inventory[host]
    for folder in folders:
        place = place[folder]
    del place[last]
