"""The BACnet object types that we poll and write, and how a value of each looks (ASHRAE 135, clause 12)."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a present value is: a real number, inactive/active, or a state from 1 to n."""

    ANALOG = "analog"
    BINARY = "binary"
    MULTISTATE = "multi-state"


@dataclass(frozen=True, slots=True)
class ObjectType:
    """``name`` is the standard's hyphenated name; ``writable`` is False for inputs, whose present value is measured."""

    name: str
    kind: Kind
    writable: bool
    number: int


def _types() -> dict[str, ObjectType]:
    # The numbers are those of BACnetObjectType (clause 21).
    rows = [
        ("analog-input", Kind.ANALOG, False, 0),
        ("analog-output", Kind.ANALOG, True, 1),
        ("analog-value", Kind.ANALOG, True, 2),
        ("binary-input", Kind.BINARY, False, 3),
        ("binary-output", Kind.BINARY, True, 4),
        ("binary-value", Kind.BINARY, True, 5),
        ("multi-state-input", Kind.MULTISTATE, False, 13),
        ("multi-state-output", Kind.MULTISTATE, True, 14),
        ("multi-state-value", Kind.MULTISTATE, True, 19),
    ]
    return {name: ObjectType(name, kind, writable, number) for name, kind, writable, number in rows}


OBJECT_TYPES = _types()
MAX_INSTANCE = 4194302  # 22 bits; 4194303 is the wildcard
