"""What can be broken, and how it is spelt; what it does stands in `bacpipes.simulator.faults`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bacpipes.errors import InputError

Arguments = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault; ``of_point`` is False where it concerns a whole device."""

    name: str
    of_point: bool
    parameters: str
    help: str

    @property
    def usage(self) -> str:
        """As it is typed."""
        return f"{self.name} {self.parameters}"


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("silent", False, "DEVICE", "answers nothing at all"),
        Kind("no-rpm", False, "DEVICE", "rejects ReadPropertyMultiple"),
        Kind("no-cov", False, "DEVICE", "rejects SubscribeCOV, and forgets its subscriptions"),
        Kind("small-apdu", False, "DEVICE [480]", "takes and gives no more octets at a time, without segmentation"),
        Kind("late", False, "DEVICE SECONDS", "does as it is told at once, and answers late"),
        Kind("unreliable", True, "POINT [no-sensor]", "fault flag, reliability as named, value stands still"),
        Kind("deny-write", True, "POINT", "refuses writes"),
        Kind("nan", True, "POINT", "value is not a number"),
        Kind("null", True, "POINT", "answers with Null instead of a value"),
        Kind("missing", True, "POINT", "the object is gone"),
        Kind("hold", True, "POINT PRIORITY VALUE", "somebody else commands this slot"),
        Kind("overridden", True, "POINT [VALUE]", "set by hand at the unit: flag, commands have no effect"),
        Kind("out-of-service", True, "POINT [VALUE]", "flag, and the value no longer follows"),
    )
}


def find_kind(name: str) -> Kind:
    """The kind of that name; raise `InputError` where there is none."""
    if name not in KINDS:
        raise InputError(f"Unknown fault {name!r}.", f"Kinds: {', '.join(KINDS)}.")
    return KINDS[name]


def parse(words: str | Sequence[str]) -> tuple[str, str, Arguments]:
    """``silent:12345``, ``hold 12345:av:120 8 55`` … into kind, target and arguments.

    Blanks and colons both separate; a point is ``device:type:instance`` or a haystack name.
    """
    parts = [p for p in re.split(r"[:,\s]+", words if isinstance(words, str) else " ".join(words)) if p]
    if len(parts) < 2:
        raise InputError("A fault is a kind and a target, for example 'silent 12345'.", f"Kinds: {', '.join(KINDS)}.")
    kind = find_kind(parts[0])
    length = 3 if kind.of_point and "." not in parts[1] else 1
    if len(parts) < 1 + length:
        raise InputError(f"{kind.name}: a point is device:type:instance, for example 12345:analog-input:101.")
    return kind.name, ":".join(parts[1 : 1 + length]), tuple(parts[1 + length :])
