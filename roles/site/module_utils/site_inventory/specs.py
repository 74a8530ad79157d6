"""What the roles' own argument_specs say: which variables there are, and what a key may be."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[4]
VAULT = ("vault_pki_ca_passphrase", "vault_proxmox_token_secret", "vault_page_admin_password")

TAGS = re.compile(r"\btags: *(\[[^\]]*\]|\w+)")

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
def role_options(role: str) -> dict[str, Spec]:
    """Variable, then what it may be; of all the role's entry points."""
    return {name: spec for options in role_specs()[role].values() for name, spec in options.items()}


@cache
def looked_at(role: str) -> frozenset[str]:
    """The variables about which a role has more to say than their type, in its tasks/variables.yml."""
    files = (PROJECT / "roles" / role / place for place in ("tasks/variables.yml", "vars/main.yml"))
    words = (re.findall(r"\w+", file.read_text(encoding="utf-8")) for file in files if file.exists())
    return role_variables(role) & {word for found in words for word in found}


@cache
def role_of(name: str) -> str | None:
    """The role that a variable is of; of two roles whose names begin alike it is the longer."""
    return max((role for role in role_specs() if name in role_variables(role)), key=len, default=None)


@cache
def known_names() -> frozenset[str]:
    """Variables that something reads: the roles', and those that the playbooks bring along."""
    names = {name for role in role_specs() for name in role_variables(role)}
    return frozenset(names.union(*playbook_names().values()) | {*VAULT})


@cache
def playbook_variables() -> dict[str, dict[str, Any]]:
    """Group, then the variables that the playbooks set for its hosts, as they stand in the files."""
    variables: dict[str, dict[str, Any]] = {}
    for file in sorted(PROJECT.glob("playbooks/group_vars/*/*.yml")):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        variables.setdefault(file.parent.name, {}).update(content if isinstance(content, dict) else {})
    return variables


@cache
def playbook_names() -> dict[str, frozenset[str]]:
    """Group, then the names of those variables."""
    return {group: frozenset(variables) for group, variables in playbook_variables().items()}


@cache
def known_tags() -> frozenset[str]:
    """Every tag of the playbooks and of the roles' tasks."""
    files = [*PROJECT.glob("playbooks/**/*.yml"), *PROJECT.glob("roles/*/tasks/*.yml")]
    found = (TAGS.findall(file.read_text(encoding="utf-8")) for file in files)
    return frozenset(tag for texts in found for text in texts for tag in re.findall(r"\w+", text))
