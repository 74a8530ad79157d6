"""Executes a validated command on a device: look at the slot, write, read back, and say what is there now."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from bacpypes3.basetypes import BinaryPV
from bacpypes3.primitivedata import Null, Real, Unsigned

from bacpipes.bacnet.answers import to_number
from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import BacnetError, MalformedError, NoAnswerError, RefusedError
from bacpipes.objects import Kind
from bacpipes.points import Point
from bacpipes.writes.command import Command
from bacpipes.writes.validator import Violation, no_priority_array, validate_slot
from bacpipes.writes.values import number_text, same

VALUE, ARRAY, RESOLUTION = "present-value", "priority-array", "resolution"
SINGLE = 1 + 1e-6  # what single precision may add
BELIEVED = 1 / 20  # of the point's range; a Resolution above it would excuse any value
_SLOTS = 16
SECOND_LOOK = 0.5  # seconds after the first, where a device acknowledged and does not show the value


@dataclass(frozen=True, slots=True)
class Slots:
    """What an object holds: the present value, and its priority array (1 to 16, index 0 to 15) where it has one."""

    value: float | None
    array: tuple[float | None, ...] | None

    def at(self, priority: int) -> float | None:
        """The slot's value; None where it is empty or there is no array."""
        return self.array[priority - 1] if self.array else None

    def above(self, priority: int) -> dict[str, Any] | None:
        """The higher level that commands the object, or None: ``{"priority": n, "value": v}``."""
        for level, value in enumerate((self.array or ())[: priority - 1], start=1):
            if value is not None:
                return {"priority": level, "value": value}
        return None


@dataclass(slots=True)
class Outcome:
    """What became of a write. ``slots`` is the last that was seen of the object, None where nothing could be read."""

    success: bool
    error: str | None = None
    violations: list[Violation] = field(default_factory=list)
    before: Slots | None = None
    slots: Slots | None = None
    attempted: bool = False
    acknowledged: bool = False

    def fields(self, priority: int) -> dict[str, Any]:
        """Our additions to the result's payload."""
        held_by = self.slots.above(priority) if self.slots else None
        return {
            "before": self.before.value if self.before else None,
            "after": self.slots.value if self.slots else None,
            **({"heldBy": held_by} if held_by else {}),
        }


async def read_slots(client: BacnetClient, point: Point) -> Slots:
    """Present value and priority array; raise a `BacnetError` where either can't be known."""
    object_id = (point.object_type, point.object_instance)
    address = point.device.address
    try:
        rows = await client.read_multiple(address, [(object_id, (VALUE, ARRAY))])
        found = {row.property: row.value for row in rows if row.object_id == object_id}
    except NoAnswerError:
        raise
    except BacnetError:  # a device without ReadPropertyMultiple, or with a short answer
        found = {}
        for name in (VALUE, ARRAY):
            try:
                found[name] = await client.read_property(address, object_id, name)
            except RefusedError as error:
                found[name] = error
    return _slots(found)


async def execute(
    client: BacnetClient,
    command: Command,
    point: Point,
    number: float | None,
    ours: Callable[[float | None], bool],
    begin: Callable[[Slots], Awaitable[list[Violation]]],
) -> Outcome:
    """Write ``number`` (None: release) at the command's priority. ``ours`` says whether we wrote what a slot holds.

    ``begin`` is awaited, with what was there, just before the first packet that could change something: where it
    raises, or finds a rule that is broken by now, nothing is written.
    """
    try:
        before = await read_slots(client, point)
    except BacnetError as error:
        return Outcome(False, f"Not written: {error}")
    there = before.at(command.priority)
    if violations := _refusals(command, point, before, ours=ours(there)):
        return Outcome(False, violations=violations, before=before, slots=before)
    if number is None and there is None:
        return Outcome(True, before=before, slots=before)  # nothing to release
    if violations := await begin(before):
        return Outcome(False, violations=violations, before=before, slots=before)
    failure = await _write(client, command, point, number)
    try:
        after, rounded = await _read_back(client, command, point, number, failure)
    except BacnetError as error:
        text = f"Whether it was written is not known: {failure or error}"
        return Outcome(False, text, before=before, attempted=True)
    problem = None if rounded else _judge(command, point, number, before, after, failure)
    return Outcome(problem is None, problem, before=before, slots=after, attempted=True, acknowledged=failure is None)


async def _read_back(
    client: BacnetClient, command: Command, point: Point, number: float | None, failure: BacnetError | None
) -> tuple[Slots, bool]:
    """What is there now, and is it what the device's rounding has made of it? Looked at twice where a device has
    acknowledged and does not show it yet, as gateways do."""
    after = await read_slots(client, point)
    if failure is not None or holds(point, after, command.priority, number):
        return after, False
    if await _rounded(client, point, number, after, command.priority):
        return after, True
    await asyncio.sleep(SECOND_LOOK)
    after = await read_slots(client, point)
    missed = not holds(point, after, command.priority, number)
    return after, missed and await _rounded(client, point, number, after, command.priority)


async def _rounded(client: BacnetClient, point: Point, number: float | None, slots: Slots, priority: int) -> bool:
    """Is what is there as near as the object's own Resolution (clause 12.4), and allowed?"""
    there = slots.at(priority) if slots.array else slots.value
    if number is None or there is None or point.type.kind is not Kind.ANALOG:
        return False
    low = -math.inf if point.minimum is None else point.minimum
    high = math.inf if point.maximum is None else point.maximum
    if not low <= there <= high:
        return False
    try:
        object_id = (point.object_type, point.object_instance)
        resolution = to_number(await client.read_property(point.device.address, object_id, RESOLUTION))
    except BacnetError:  # it need not have one
        return False
    if resolution is None or resolution > (high - low) * BELIEVED:
        return False
    return abs(there - number) <= resolution * SINGLE


def _judge(
    command: Command, point: Point, number: float | None, before: Slots, after: Slots, failure: BacnetError | None
) -> str | None:
    """What is wrong, or None: what is there counts, whatever the device answered."""
    if failure is None or isinstance(failure, NoAnswerError):  # an answer that was lost says nothing of the write
        return _mismatch(point, after, command.priority, number)
    changed = not holds(point, before, command.priority, number) and holds(point, after, command.priority, number)
    return None if changed else f"The device did not accept the write: {failure}"


def holds(point: Point, slots: Slots, priority: int, number: float | None) -> bool:
    """Does the object hold what was to be written (None: nothing in the slot)?"""
    return same(point.type.kind, slots.at(priority) if slots.array else slots.value, number)


def encode(point: Point, number: float | None) -> Any:
    """The BACnet value of this object's type (clause 12); None is Null, which releases."""
    if number is None:
        return Null(())
    if point.type.kind is Kind.ANALOG:
        return Real(number)
    return BinaryPV(int(number)) if point.type.kind is Kind.BINARY else Unsigned(int(number))


def _refusals(command: Command, point: Point, slots: Slots, *, ours: bool) -> list[Violation]:
    if slots.array is None:
        return [no_priority_array(point)] if command.release else []
    return validate_slot(command, slots.at(command.priority), ours=ours)


async def _write(client: BacnetClient, command: Command, point: Point, number: float | None) -> BacnetError | None:
    object_id = (point.object_type, point.object_instance)
    try:
        await client.write_property(point.device.address, object_id, VALUE, encode(point, number), command.priority)
    except BacnetError as error:
        return error
    return None


def _mismatch(point: Point, after: Slots, priority: int, number: float | None) -> str | None:
    if holds(point, after, priority, number):
        return None
    where = f"priority {priority}" if after.array else "the present value"
    found = after.at(priority) if after.array else after.value
    return f"After the write {where} holds {'nothing' if found is None else number_text(found)}"


def _slots(found: dict[str, Any]) -> Slots:
    value, array = found.get(VALUE, MalformedError("no present value in the answer")), found.get(ARRAY)
    if isinstance(value, BacnetError):
        raise value
    if isinstance(array, RefusedError) and array.error_code == "unknown-property":
        return Slots(to_number(value), None)
    if isinstance(array, BacnetError):
        raise array
    if array is None or len(array) != _SLOTS:
        raise MalformedError("the priority array in the answer is not one of 16 levels")
    return Slots(to_number(value), tuple(_level(level) for level in array))


def _level(level: Any) -> float | None:
    """One element of BACnetPriorityArray: Null, or the value in the object's type."""
    choice = level._choice  # bacpypes3 has no public way to ask a Choice what it holds
    if choice is None or choice == "null":
        return None
    return to_number(getattr(level, choice))
