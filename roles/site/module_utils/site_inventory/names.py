"""The names of a host's variables."""

import difflib
from collections.abc import Iterable, Mapping

from .report import Report, did_you_mean
from .specs import known_names, role_specs, role_variables


def check_names(names: Iterable[str], report: Report, old_names: Mapping[str, str]) -> None:
    """Refuse what looks like a role's variable and is none: nothing would read it."""
    known = known_names()
    for name in sorted(names):
        if name in old_names:
            report.error(name, "is an old name", f"Now it is {old_names[name]}.")
        elif name not in known and not name.startswith(("ansible_", "_")):
            _check_name(name, report, known)


def _check_name(name: str, report: Report, known: frozenset[str]) -> None:
    role = max((role for role in role_specs() if name.startswith(f"{role}_")), key=len, default=None)
    if role is not None:
        own = role_variables(role)
        hint = did_you_mean(name, own) or f"; that role has: {', '.join(sorted(own))}"
        report.error(name, f"is no variable of the role {role}{hint}", "Correct or remove it; nothing reads it.")
    elif close := difflib.get_close_matches(name.lower(), known, 1, 0.88):
        report.error(name, f"is not known; did you mean {close[0]}?", "Correct or rename it; nothing reads it.")
