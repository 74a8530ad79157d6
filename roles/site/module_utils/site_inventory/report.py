"""What the operator is told: each sentence names the host, the variable, what is wrong and the remedy."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FIXED_DISK = 8  # GiB: system 1.5, images of two versions during an upgrade 3, WAL and log 1.5, spool 0.5, air 1.5


@dataclass
class Report:
    """What is wrong with one host (``errors``), what is worth saying (``warnings``), and the GiB that it needs."""

    host: str
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    disk: int = FIXED_DISK
    roles: set[str] = field(default_factory=set)  # those that have more to say of what the inventory sets
    unread: set[str] = field(default_factory=set)  # variables of which has been said that they can't be read

    def error(self, where: str, what: str, remedy: str) -> None:
        """``where`` is the variable, with its value if that helps."""
        self.errors.append(_sentence(self.host, where, what, remedy))

    def warning(self, where: str, what: str, remedy: str) -> None:
        self.warnings.append(_sentence(self.host, where, what, remedy))


def _sentence(host: str, where: str, what: str, remedy: str) -> str:
    return _printable(f"{host}: {where} {what}{'' if what.endswith('?') else '.'} {remedy}")


def _printable(text: str) -> str:
    """On one line, whatever stands in a value."""
    return "".join(character if character.isprintable() else " " for character in text)


def shown(value: Any) -> str:
    text = _printable(str(value))
    return text if len(text) <= 80 else f"{text[:77]}…"


def listed(hosts: Sequence[str]) -> str:
    return ", ".join(hosts[:5]) + (f" and {len(hosts) - 5} more" if len(hosts) > 5 else "")


def did_you_mean(text: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(text).lower(), list(known), 1, 0.65)
    return f"; did you mean {close[0]}?" if close else ""


def gathered(found: Mapping[str, Mapping[str, Any]], kind: str) -> list[str]:
    """All hosts' ``errors`` or ``warnings``; what is wrong with many in the same words (as in `fleet`) is said once."""
    hosts: dict[str, list[str]] = {}
    for host, told in found.items():
        for sentence in told[kind]:
            hosts.setdefault(sentence.removeprefix(f"{host}: "), []).append(host)
    return [f"{listed(names)}: {sentence}" for sentence, names in hosts.items()]
