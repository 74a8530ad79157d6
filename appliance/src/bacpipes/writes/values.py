"""Present values as people and programs give them, and as BACnet takes them (ASHRAE 135, clause 12)."""

import math
import struct
from typing import Any

from bacpipes.objects import Kind
from bacpipes.points import Point

_LARGEST_REAL = 3.4028234663852886e38
_BINARY_WORDS = {"active": 1.0, "inactive": 0.0, "true": 1.0, "false": 0.0}


class BadValueError(ValueError):
    """A value that this point can't take; ``code`` is the stable name of the rule."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def convert(value: Any, point: Point) -> float:
    """The number to write for ``value``; raise `BadValueError` for a wrong type, NaN, infinity or an unknown state."""
    kind = point.type.kind
    if kind is Kind.BINARY:
        return _binary(value)
    number = _number(value)
    if kind is Kind.MULTISTATE:
        return _state(number, value, point.states)
    if abs(number) > _LARGEST_REAL:
        raise BadValueError("value-not-finite", f"Value {value} is larger than a BACnet Real can hold")
    return number


def same(kind: Kind, one: float | None, other: float | None) -> bool:
    """Equal as far as the device can tell: analog values are single-precision reals on the wire."""
    if one is None or other is None:
        return one is other
    return single(one) == single(other) if kind is Kind.ANALOG else one == other


def number_text(number: float) -> str:
    """A number for people, with all digits that a double holds and no needless ones."""
    return f"{number:.15g}"


def single(number: float) -> float:
    """The nearest single-precision real."""
    value: float = struct.unpack("f", struct.pack("f", number))[0]
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadValueError("value-wrong-type", f"Value {value!r} is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadValueError("value-not-finite", f"Value {value} is not a finite number")
    return number


def _binary(value: Any) -> float:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.lower() in _BINARY_WORDS:
        return _BINARY_WORDS[value.lower()]
    if isinstance(value, int | float) and value in (0, 1):
        return float(value)
    raise BadValueError("value-wrong-type", f"Value {value!r} is not binary (0/1, true/false or active/inactive)")


def _state(number: float, value: Any, states: int | None) -> float:
    if not number.is_integer():
        raise BadValueError("value-wrong-type", f"Value {value} is not a state (an integer from 1)")
    if states is None:
        raise BadValueError("limits-missing", "The point's number of states is not known; set `states`")
    if not 1 <= number <= states:
        raise BadValueError("value-out-of-range", f"Value {value} out of range [1, {states}]")
    return number
