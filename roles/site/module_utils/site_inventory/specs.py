"""What the roles' own argument_specs say: which variables there are, and what a key may be."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[4]
VAULT = ("vault_pki_ca_passphrase", "vault_proxmox_token_secret", "vault_page_admin_password")

Spec = Mapping[str, Any]


@cache
def role_specs() -> dict[str, dict[str, dict[str, Any]]]:
    """Role, then entry point, then its options, from the roles' own argument_specs."""
    specs: dict[str, dict[str, dict[str, Any]]] = {}
    for file in sorted(PROJECT.glob("roles/*/meta/argument_specs.y*ml")):
        points = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("argument_specs") or {}
        specs[file.parents[1].name] = {name: (point or {}).get("options") or {} for name, point in points.items()}
    return specs


def role_spec(role: str) -> dict[str, dict[str, Any]]:
    return role_specs()[role]


@cache
def role_variables(role: str) -> frozenset[str]:
    return frozenset(name for options in role_specs()[role].values() for name in options)


@cache
def known_names() -> frozenset[str]:
    """Variables that something reads: the roles', and those that the playbooks bring along."""
    names = {name for role in role_specs() for name in role_variables(role)}
    for file in PROJECT.glob("playbooks/group_vars/**/*.yml"):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        names.update(content if isinstance(content, dict) else ())
    return frozenset(names | {"site", "fleet", *VAULT})
