"""Roles say what they take, once: specification, defaults and documentation can't drift apart."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import role_docs

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if (path / "tasks").is_dir())
NOT_PREFIXED = {"site": {"site", "fleet", "central"}}  # the dictionaries that people write: the role checks them


def defaults(role: str) -> dict[str, Any]:
    file = ROOT / "roles" / role / "defaults" / "main.yml"
    content = yaml.safe_load(file.read_text()) if file.exists() else None
    return content or {}


def test_there_are_roles() -> None:
    assert "site" in ROLES


@pytest.mark.parametrize("role", ROLES)
def test_the_specification_names_what_the_defaults_and_the_caller_give(role: str) -> None:
    spec = role_docs.options(role)
    required = {name for name, option in spec.items() if option.get("required")}
    assert set(spec) == set(defaults(role)) | required
    assert not {name for name in required & set(defaults(role)) if defaults(role)[name]}, "required, and has a default"


@pytest.mark.parametrize("role", ROLES)
def test_every_option_is_described(role: str) -> None:
    for name, option in role_docs.options(role).items():
        assert option.get("description"), name
        assert option.get("type"), name


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_begins_with_its_role(role: str) -> None:
    names = set(role_docs.options(role)) | set(defaults(role))
    assert not {name for name in names if not name.startswith(f"{role}_")} - NOT_PREFIXED.get(role, set())
    private = ROOT / "roles" / role / "vars" / "main.yml"
    if private.exists():
        assert all(name.startswith(f"_{role}_") for name in yaml.safe_load(private.read_text()) or {})


@pytest.mark.parametrize("role", ROLES)
def test_every_default_has_a_comment(role: str) -> None:
    """Above it (variables that stand together may share one) or beside it."""
    file = ROOT / "roles" / role / "defaults" / "main.yml"
    commented = False
    for line in file.read_text().splitlines() if file.exists() else []:
        if line.startswith("#"):
            commented = True
        elif match := re.match(r"(\w+):", line):
            assert commented or " # " in line, f"{file}: {match[1]}"
        elif not line.strip():
            commented = False


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_handlers_or_says_why_not(role: str) -> None:
    has = (ROOT / "roles" / role / "handlers" / "main.yml").exists()
    comments = [
        line for line in (ROOT / "roles" / role / "tasks" / "main.yml").read_text().splitlines() if line[:1] == "#"
    ]
    assert has != any("No handlers: " in line for line in comments)


@pytest.mark.parametrize("role", ROLES)
def test_the_tasks_of_a_role_begin_with_a_table_of_contents(role: str) -> None:
    for task in yaml.safe_load((ROOT / "roles" / role / "tasks" / "main.yml").read_text()):
        assert {"ansible.builtin.import_tasks", "ansible.builtin.include_tasks"} & set(task), task["name"]
        assert task["tags"], task["name"]


def test_the_defaults_of_a_site_are_those_of_the_specification() -> None:
    for name, variable in (("site", "site_defaults"), ("fleet", "site_fleet_defaults")):
        written = dict(flat(defaults("site")[variable]))
        wanted = {}
        for key, option in top_keys(role_docs.options("site")[name]):
            if not option.get("required"):
                wanted[key] = option.get("default")
        assert written == wanted


def flat(values: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        found += flat(value, f"{path}{key}.") if isinstance(value, dict) and value else [(f"{path}{key}", value)]
    return found


def top_keys(spec: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """The keys that have a default of their own; one that is empty as a whole (`fleet.proxmox`) counts as one key."""
    found: list[tuple[str, dict[str, Any]]] = []
    for key, option in spec["options"].items():
        nested = option["type"] == "dict" and "options" in option and "default" not in option
        found += top_keys(option, f"{path}{key}.") if nested else [(f"{path}{key}", option)]
    return found


def test_the_page_lists_exactly_the_keys_that_exist() -> None:
    page = role_docs.PAGE.read_text()
    assert {"site", "fleet", "central"} == set(re.findall(r"<!-- keys of (\w+) -->", page))
    assert page == role_docs.fresh(page), "`python tests/role_docs.py` writes the tables anew"


def test_playbooks_set_only_variables_that_their_roles_have() -> None:
    known = {role: set(role_docs.options(role)) for role in ROLES}
    files = [file for file in (ROOT / "playbooks" / "group_vars").rglob("*.yml") if not file.is_symlink()]
    for file in files:
        for name in yaml.safe_load(file.read_text()) or {}:
            role = max((role for role in ROLES if name.startswith(f"{role}_")), key=len, default=None)
            assert role is None or name in known[role], f"{file.name}: {name}"
