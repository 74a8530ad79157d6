"""Variables of the roles that an inventory, or -e, sets by itself: held against the roles' argument_specs.

What the playbooks make of `site` and `fleet` is good where these are. What a value may be beyond its type says each
role's own tasks/variables.yml, which the preflight plays for the roles that are named here.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .report import Report, did_you_mean, shown
from .specs import Spec, known_names, looked_at, playbook_variables, role_of, role_options
from .typed import KINDS, kind, type_name
from .variables import ABSENT, Variables, read_variable, variable_names

BELOW = ("lxc_container", "base", "docker", "pki", "image", "timescaledb", "mqtt_broker")
ROLES = {  # those that a playbook plays on a machine
    "site": (*BELOW, "appliance", "stack", "verify"),
    "central": (*BELOW, "central", "telegraf", "stack"),
}
ALSO = {"float": ("int", "float"), "path": ("str",), "str": ("str", "int", "float")}  # as Ansible itself takes them
TRUTH = ("true", "false", "yes", "no", "on", "off")  # -e name=true is a text
UNDEFINED = re.compile(r"'(\w+)' is undefined")

Complaint = tuple[str, str, str]  # the variable, what is wrong, the remedy


def check_arguments(host: str, hostvars: Mapping[str, Variables], report: Report) -> None:
    """Say what is of another type than its role takes, and note the roles that have more to say of theirs."""
    for name in sorted(_own(hostvars, host)):
        role = role_of(name)
        if role is None or role == "site":
            continue
        if name in looked_at(role):
            report.roles.add(role)
        scratch = Report(host)
        value = read_variable(hostvars, host, name, scratch)
        spec = role_options(role)[name]
        if value is ABSENT:
            _say_unreadable(name, spec, scratch, report)
        else:
            for complaint in _complaints(spec, value, name):
                report.error(*complaint)


def played(report: Report, kind_of_machine: str, made_by_us: bool) -> list[str]:
    """Of the roles that have variables of their own, those that are played on such a machine, in their order."""
    return [role for role in ROLES[kind_of_machine] if role in report.roles and (made_by_us or role != "lxc_container")]


def _own(hostvars: Mapping[str, Variables], host: str) -> Iterator[str]:
    """Names of a host's variables whose value is not the one that the playbooks give."""
    names = variable_names(hostvars, host)
    raw = getattr(hostvars, "raw_get", hostvars.__getitem__)(host) if names else {}
    for name in names:
        given = [group[name] for group in playbook_variables().values() if name in group]
        if not given or raw[name] not in given:
            yield name


def _say_unreadable(name: str, spec: Spec, scratch: Report, report: Report) -> None:
    """A name that nothing sets is a mistake; what a role or a machine's facts bring can't be looked at yet."""
    missing = [found for told in scratch.errors for found in UNDEFINED.findall(told)]
    if any(each not in known_names() and not each.startswith(("ansible_", "_")) for each in missing):
        what = "can't be read" if spec.get("no_log") else f"can't be read ({missing[0]!r} is undefined)"
        report.error(name, what, "Correct what it refers to.")


def _complaints(spec: Spec, value: Any, where: str) -> Iterator[Complaint]:
    if value is None:
        if spec.get("required") or spec.get("default") is not None:
            yield where, "is empty", "Write a value, or leave the line out for the default, if it has one."
    elif not _fits(spec["type"], value):
        yield _named(spec, value, where), f"is {kind(value)}, not {KINDS[spec['type']]}", _remedy(spec, value, where)
    elif isinstance(value, Mapping):
        yield from _keys(spec, value, where)
    elif isinstance(value, list):
        element = {"type": spec.get("elements", "raw"), "required": True}
        element |= {key: spec[key] for key in ("options", "choices") if key in spec}
        for number, item in enumerate(value):
            yield from _complaints(element, item, f"{where}[{number}]")
    elif "choices" in spec and value not in spec["choices"]:
        choices = [str(choice) for choice in spec["choices"]]
        yield _named(spec, value, where), "is not known" + did_you_mean(value, choices), _one_of(choices)


def _keys(spec: Spec, value: Mapping[Any, Any], where: str) -> Iterator[Complaint]:
    options: Mapping[str, Spec] = spec.get("options", {})
    for key, item in value.items() if options else ():
        path = f"{where}.{shown(key)}"
        if key in options:
            yield from _complaints(options[key], item, path)
        else:
            yield path, "is not known" + did_you_mean(key, options), f"{where} knows: {', '.join(options)}."
    for key, inner in options.items():
        if inner.get("required") and key not in value:
            yield f"{where}.{key}", "is missing", str(inner.get("description", "It is required."))


def _fits(wanted: str, value: Any) -> bool:
    if wanted == "bool" and isinstance(value, str):
        return value.lower() in TRUTH
    return wanted == "raw" or type_name(value) in ALSO.get(wanted, (wanted,))


def _named(spec: Spec, value: Any, where: str) -> str:
    return where if spec.get("no_log") else f"{where} {shown(value)}"


def _one_of(choices: list[str]) -> str:
    return f"Write one of: {', '.join(choices)}."


def _remedy(spec: Spec, value: Any, where: str) -> str:
    wanted = spec["type"]
    if wanted in ("str", "path") and isinstance(value, bool):
        return "Put it in quotes."
    if wanted in ("int", "float") and isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value):
        as_json = json.dumps({where: int(value) if value.isdecimal() else float(value)})
        return f"Write the number without quotes; on the command line as -e '{as_json}'."
    return f"Write {KINDS[wanted]}."
