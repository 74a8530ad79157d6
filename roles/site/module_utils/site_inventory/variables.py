"""A host's variables, as Ansible hands them over: each is evaluated only when it is asked for, and that may fail."""

from collections.abc import Mapping
from typing import Any

from .report import Report, shown

Variables = Mapping[str, Any]
ABSENT = object()


def read_variable(hostvars: Mapping[str, Variables], host: str, name: str, report: Report) -> Any:
    """A host's variable with everything in it evaluated; what can't be (a template, a vault) is said and left out."""
    try:
        if name not in hostvars[host]:
            return ABSENT
        return _plain(hostvars[host][name], name, report, 0)
    except Exception as error:  # noqa: BLE001 - whatever a template may raise
        _unreadable(name, error, report)
        return ABSENT


def _plain(value: Any, path: str, report: Report, depth: int) -> Any:
    if isinstance(value, Mapping) and depth < 20:
        items = ((key, _inner(value, key, f"{path}.{shown(key)}", report, depth)) for key in list(value))
        return {key: item for key, item in items if item is not ABSENT}
    if isinstance(value, list | tuple) and depth < 20:
        items = ((n, _inner(value, n, f"{path}[{n}]", report, depth)) for n in range(len(value)))
        return [item for _, item in items if item is not ABSENT]
    if value is not None and not isinstance(value, str | int | float):
        str(value)  # what stands for a template or a vault that can't be read raises here
    return value


def _inner(parent: Any, key: Any, path: str, report: Report, depth: int) -> Any:
    try:
        return _plain(parent[key], path, report, depth + 1)
    except Exception as error:  # noqa: BLE001 - whatever a template may raise
        _unreadable(path, error, report)
        return ABSENT


def _unreadable(path: str, error: Exception, report: Report) -> None:
    report.unread.add(path)
    if path.startswith("vault_"):  # nothing of a secret may be in a sentence
        remedy = "Give the one that it was encrypted with: --ask-vault-pass, or --vault-password-file."
        report.error(path, "can't be read: the vault's password is another", remedy)
        return
    reason = " ".join(str(error).split())
    report.error(path, f"can't be read ({reason})", "Correct what it refers to.")


def variable_names(hostvars: Mapping[str, Variables], host: str) -> list[str]:
    try:
        return [str(name) for name in hostvars[host]]
    except Exception:  # noqa: BLE001 - a host without variables
        return []
