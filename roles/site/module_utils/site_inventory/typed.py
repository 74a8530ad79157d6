"""Dictionaries held against their argument_specs, strictly: Ansible would convert types and take unknown keys."""

from collections.abc import Mapping
from typing import Any

from .report import Report, did_you_mean, shown
from .specs import Spec
from .variables import Variables

KINDS = {
    "str": "a text", "path": "a text", "int": "a whole number", "float": "a number", "bool": "true or false",
    "list": "a list", "dict": "a dictionary",
}  # fmt: skip


def typed_top(
    variables: Variables, name: str, options: Spec, report: Report, complete: bool = True
) -> dict[str, Any] | None:
    """A whole dictionary variable; None where it is absent or no dictionary."""
    if name not in variables:
        return None
    value = variables[name]
    if not isinstance(value, dict):
        what = "is empty" if value is None else f"is {kind(value)}, not a dictionary"
        report.error(f"{name} {shown(value)}".removesuffix(" None"), what, "Indent its keys below it.")
        return {}
    return typed(options, value, name, report, complete)


def typed(options: Spec, value: Mapping[Any, Any], path: str, report: Report, complete: bool = True) -> dict[str, Any]:
    """The usable part of a dictionary; what is unknown, of another type or (``complete``) missing is said."""
    good: dict[str, Any] = {}
    for key, item in value.items():
        where = f"{path}.{shown(key)}"
        if key not in options:
            report.error(where, "is not known" + did_you_mean(key, options), f"{path} knows: {', '.join(options)}.")
        elif (clean := _typed_value(options[key], item, where, report, complete)) is not None:
            good[key] = clean
    if complete:
        _check_required(options, value, path, report)
    return good


def _typed_value(spec: Spec, value: Any, where: str, report: Report, complete: bool) -> Any:
    """The value if it fits, else None and a message."""
    if value is None:
        if "options" in spec:  # the playbooks would find nothing where they look for its keys
            report.error(where, "is empty", "Indent its keys below it, or remove the line.")
        elif spec.get("required") or spec.get("default") is not None:
            report.error(where, "is empty", "Write a value, or leave the line out for the default, if it has one.")
        return None
    if complaint := _complaint(spec, value):
        report.error(where if spec.get("no_log") else f"{where} {shown(value)}".rstrip(), *complaint)
        return None
    if spec["type"] == "dict" and "options" in spec:
        return typed(spec["options"], value, where, report, complete)
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
    if wanted != type_name(value):
        secret = spec.get("no_log") and not isinstance(value, list | dict)
        return f"is {kind(value)}, not {KINDS[wanted]}", _type_remedy(wanted, "…" if secret else value)
    if wanted == "str" and not value.strip():
        return "is blank", "Write a value, or leave the line out."
    if "choices" in spec and value not in spec["choices"]:
        return "is not known" + did_you_mean(value, spec["choices"]), f"Write one of: {', '.join(spec['choices'])}."
    return None


def type_name(value: Any) -> str:
    for name, types in {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}.items():
        if isinstance(value, types):
            return name
    return type(value).__name__


def kind(value: Any) -> str:
    return KINDS.get(type_name(value), f"a {type_name(value)}")


def _type_remedy(wanted: str, value: Any) -> str:
    if wanted == "str" and not isinstance(value, list | dict):
        return f"Put it in quotes: '{shown(value)}'."
    if wanted == "int" and isinstance(value, str) and value.strip().isdecimal():
        return "Write the number without quotes."
    if wanted == "list":
        return f"Write [{shown(value)}]."
    return f"Write {KINDS[wanted]}."


def _check_required(options: Spec, value: Mapping[Any, Any], path: str, report: Report) -> None:
    for key, spec in options.items():
        if spec.get("required") and key not in value:
            report.error(f"{path}.{key}", "is missing", str(spec["description"]))


def check_complete(options: Spec, merged: Mapping[str, Any], written: Any, path: str, report: Report) -> None:
    """Say what is required and stands nowhere; what stands there and is unusable has been said already."""
    written = written if isinstance(written, Mapping) else {}
    for key, spec in options.items():
        if spec.get("required") and key not in merged and key not in written:
            report.error(f"{path}.{key}", "is missing", str(spec["description"]))
        if "options" in spec and isinstance(merged.get(key), dict):
            check_complete(spec["options"], merged[key], written.get(key), f"{path}.{key}", report)


def with_defaults(options: Spec, given: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, spec in options.items():
        if "options" in spec and spec["type"] == "dict" and (key in given or not spec.get("required")):
            # an empty dictionary as default (fleet.proxmox) stays empty: there is nothing, rather than half of it
            inner = given.get(key, {})
            settings[key] = with_defaults(spec["options"], inner) if inner or "default" not in spec else {}
        elif key in given:
            settings[key] = given[key]
        elif spec.get("default") is not None:
            settings[key] = spec["default"]
    return settings


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        inner = both.get(key)
        both[key] = merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return both
