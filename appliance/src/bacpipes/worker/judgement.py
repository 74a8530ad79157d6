"""What a device's answer is worth: value and quality of a point, or the reason why there is none."""

import math
import time
from collections.abc import Sequence
from typing import Any

from bacpipes.bacnet.answers import to_number
from bacpipes.bacnet.errors import BacnetError, MalformedError
from bacpipes.bacnet.rpm import ObjectId
from bacpipes.points import Point
from bacpipes.reading import Quality, Reading

VALUE, FLAGS, RELIABILITY = "present-value", "status-flags", "reliability"
NO_FLAGS = (False, False, False, False)
_MISSING: Any = object()

Properties = dict[tuple[ObjectId, str], Any]


def judge(point: Point, at: int, answers: Properties) -> Reading:
    """Value and quality of one point from what the device said of it.

    fault → bad, with the reliability as reason; out of service or overridden → uncertain: the value no longer follows
    the field; in alarm → good: the value is true (ASHRAE 135, Status_Flags, clause 12).
    """
    object_id = object_id_of(point)
    value = answers.get((object_id, VALUE), _MISSING)
    if type(value) is float and answers.get((object_id, FLAGS)) == NO_FLAGS and math.isfinite(value):
        return Reading(point.id, at, value)  # as nearly always
    if value is _MISSING:
        value = MalformedError("the answer does not name this object")
    if isinstance(value, BacnetError):
        return Reading(point.id, at, None, Quality.BAD, str(value))
    try:
        number = to_number(value)
    except MalformedError as error:
        return Reading(point.id, at, None, Quality.BAD, str(error))
    if number is None or not math.isfinite(number):
        return Reading(
            point.id, at, None, Quality.BAD, "device sent Null" if number is None else f"device sent {number}"
        )
    flags = flag_names(answers.get((object_id, FLAGS)))
    if "fault" in flags:
        return Reading(point.id, at, number, Quality.BAD, _fault(answers.get((object_id, RELIABILITY))))
    if doubts := [name for name in ("out-of-service", "overridden") if name in flags]:
        return Reading(point.id, at, number, Quality.UNCERTAIN, ", ".join(doubts))
    return Reading(point.id, at, number)


def is_faulty(flags: Any) -> bool:
    return flags is not None and flags != NO_FLAGS and "fault" in flag_names(flags)


def flag_names(flags: Any) -> set[str]:
    """The status flags that are set; empty where the device did not send them."""
    names = ("in-alarm", "fault", "overridden", "out-of-service")
    if flags is None or isinstance(flags, BacnetError):
        return set()
    try:
        return {name for name, flag in zip(names, flags, strict=False) if flag}
    except TypeError:
        return set()


def failures(points: Sequence[Point], error: BacnetError) -> list[Reading]:
    """A failed reading for each point, now."""
    return [bad(point.id, str(error)) for point in points]


def bad(point_id: int, reason: str) -> Reading:
    return Reading(point_id, time.time_ns() // 1_000_000, None, Quality.BAD, reason)


def object_id_of(point: Point) -> ObjectId:
    """As requests and answers name it."""
    return (point.object_type, point.object_instance)


def _fault(reliability: Any) -> str:
    if reliability is None or isinstance(reliability, BacnetError) or str(reliability) == "no-fault-detected":
        return "fault"
    return f"fault: {reliability}"
