"""BACnet objects that behave like those of a real controller.

bacpypes3's local objects accept nearly every write. Here inputs are read-only, values are checked against limits and
states, multi-state values have priority arrays, status flags follow what happens, and each object can be given a fault.
"""

import math
from typing import Any

from bacpypes3.basetypes import (
    BinaryPV,
    EventState,
    LimitEnable,
    PriorityValue,
    Reliability,
    StatusFlags,
)
from bacpypes3.errors import PropertyError
from bacpypes3.local.analog import AnalogInputObject, AnalogOutputObject, AnalogValueObject, AnalogValueObjectCmd
from bacpypes3.local.binary import BinaryInputObject, BinaryOutputObject, BinaryValueObject
from bacpypes3.local.cmd import Commandable
from bacpypes3.local.cov import COVIncrementCriteria, GenericCriteria
from bacpypes3.local.multistate import MultiStateInputObject, MultiStateOutputObject, MultiStateValueObject
from bacpypes3.primitivedata import Null, PropertyIdentifier, Real, Unsigned

from bacpipes.objects import Kind
from bacpipes.simulator.points import Point

LOOP_PRIORITY = 16  # where a device's own control loop commands its outputs
RESERVED_PRIORITY = 6  # minimum on/off time (ASHRAE 135, 19.2.3): refused by binary objects
_WATCHED = ("presentValue", "statusFlags", "reliability", "outOfService", "eventState")


class _FlagsFollow:
    """Status flags are computed, so bacpypes3 never sees them change: watch what they are computed from."""

    obj: Any
    presentValue: Any  # noqa: N815 (BACnet's names)
    statusFlags: Any  # noqa: N815
    reliability: Any = None
    outOfService: Any = None  # noqa: N815
    eventState: Any = None  # noqa: N815

    def send_cov_notifications(self, subscription: Any = None) -> None:
        """Notify with the values of this moment."""
        self.presentValue, self.statusFlags = self.obj.presentValue, self.obj.statusFlags
        super().send_cov_notifications(subscription)  # type: ignore[misc]


class StateCriteria(_FlagsFollow, GenericCriteria):
    """COV of binary and multi-state objects."""

    properties_tracked = _WATCHED


class IncrementCriteria(_FlagsFollow, COVIncrementCriteria):
    """COV of analog objects; a value that becomes NaN, or comes back from it, has changed too."""

    properties_tracked = (*_WATCHED, "covIncrement")

    previously_reported_value: float | None

    def present_value_filter(self, old_value: float, new_value: float) -> bool:
        """Whether the value moved by the increment since the last notification."""
        last = self.previously_reported_value if self.previously_reported_value is not None else old_value
        if math.isnan(last) or math.isnan(new_value):
            return math.isnan(last) != math.isnan(new_value)
        self.previously_reported_value = last
        return bool(abs(new_value - last) >= self.obj.covIncrement)

    present_value_filter._monitor_filter = "presentValue"  # type: ignore[attr-defined]


class Simulated:
    """What every object of the building adds to bacpypes3's; ``forced`` replaces the value that it would have."""

    _point: Point
    _forced: float | None = None
    _overridden = False
    _write_denied = False
    _answers_null = False
    _frozen = False  # the three are kept by monitors: reading a bacpypes3 property takes 20 µs
    _value = math.nan
    _alarm = EventState.normal
    _measured: float | None = None

    def watch(self) -> None:
        """Keep number and state at hand, whoever changes them."""
        me: Any = self
        self._value = float(me.presentValue)
        me._property_monitors["presentValue"].append(self._value_changed)
        for name in ("outOfService", "reliability"):
            me._property_monitors[name].append(self._state_changed)

    def _value_changed(self, _old: Any, new: Any) -> None:
        self._value = float(new)

    def _state_changed(self, _old: Any, _new: Any) -> None:
        me: Any = self
        self._frozen = bool(me.outOfService) or me.reliability != Reliability.noFaultDetected
        self._measured = None

    @property
    def statusFlags(self) -> StatusFlags:  # noqa: N802
        """In alarm, fault, overridden, out of service: from the state of this moment."""
        me: Any = self
        return StatusFlags(
            [
                int(me.eventState != EventState.normal),
                int(me.reliability != Reliability.noFaultDetected),
                int(self._overridden),
                int(bool(me.outOfService)),
            ]
        )

    @statusFlags.setter
    def statusFlags(self, value: Any) -> None:  # noqa: N802
        """Computed: what bacpypes3 sets while it builds the object is ignored."""

    @property
    def value(self) -> float:
        """The present value as a number."""
        return self._value

    def measure(self, value: float) -> None:
        """What the physics say, to two decimals; nothing of it arrives while the value is forced or stands still."""
        rounded = round(value, 2)
        if self._frozen or self._forced is not None or rounded == self._measured:
            return
        self._measured = rounded
        self.set_value(rounded)
        self.check_alarm()

    def set_value(self, value: float) -> None:
        """Set the present value, whoever asks."""
        me: Any = self
        me.presentValue = self.typed(value)

    def check_alarm(self) -> None:
        """Compare the value with the alarm limits."""
        me: Any = self
        state = EventState.normal
        if self._point.alarm and self.value == 1:
            state = EventState.offnormal
        elif self._point.alarm_high is not None and self.value > self._point.alarm_high:
            state = EventState.highLimit
        elif self._point.alarm_low is not None and self.value < self._point.alarm_low:
            state = EventState.lowLimit
        if self._alarm != state:
            self._alarm = me.eventState = state

    def force(self, value: float | None) -> None:
        """Replace the value by another one, or end that."""
        self._forced, self._measured = value, None
        if value is not None:
            self.set_value(value)

    def override(self, on: bool, value: float | None) -> None:
        """Somebody turned the switch on the unit itself: commands no longer reach the value."""
        self._overridden = on
        self.force((self.value if value is None else value) if on else None)
        self.flags_changed()

    def set_reliability(self, reliability: str) -> None:
        """Set the reliability by its name; anything but no-fault-detected raises the fault flag."""
        me: Any = self
        me.reliability = Reliability(reliability)

    def flags_changed(self) -> None:
        """Tell COV subscribers of a change in what has no property of its own."""
        me: Any = self
        detection = me._app._cov_detections.get(me.objectIdentifier) if me._app else None
        if detection:
            detection.send_cov_notifications()

    def typed(self, value: float) -> Any:
        """A number as this object's present value."""
        kind = self._point.type.kind
        if kind is Kind.ANALOG:
            return Real(value)
        return BinaryPV(int(value)) if kind is Kind.BINARY else Unsigned(int(value))

    async def read_property(self, attr: Any, index: int | None = None) -> Any:
        """Read a property; the fault ``null`` answers with Null."""
        if self._answers_null and PropertyIdentifier(attr) == PropertyIdentifier.presentValue:
            return Null(())
        return await super().read_property(attr, index)  # type: ignore[misc]

    async def write_property(
        self, attr: Any, value: Any, index: int | None = None, priority: int | None = None
    ) -> None:
        """Write a property as the network may: present value, out-of-service and COV increment; nothing else."""
        name = PropertyIdentifier(attr)
        if name == PropertyIdentifier.presentValue:
            self._check_present_value(value, index, priority)
        elif name not in (PropertyIdentifier.outOfService, PropertyIdentifier.covIncrement):
            raise PropertyError("writeAccessDenied")
        elif name == PropertyIdentifier.covIncrement and not (float(value) >= 0 and math.isfinite(value)):
            raise PropertyError("valueOutOfRange")
        await super().write_property(attr, value, index, priority)  # type: ignore[misc]

    def _check_present_value(self, value: Any, index: int | None, priority: int | None) -> None:
        me: Any = self
        if index is not None:
            raise PropertyError("propertyIsNotAnArray")
        if self._write_denied or not (self._point.commandable or me.outOfService):
            raise PropertyError("writeAccessDenied")
        if priority == RESERVED_PRIORITY and self._point.type.kind is Kind.BINARY:
            raise PropertyError("writeAccessDenied")
        if isinstance(value, Null):
            if not self._point.commandable:
                raise PropertyError("invalidDataType")
        elif not self._acceptable(float(value)):
            raise PropertyError("valueOutOfRange")

    def _acceptable(self, value: float) -> bool:
        point = self._point
        if point.type.kind is Kind.BINARY:
            return value in (0, 1)
        if point.type.kind is Kind.MULTISTATE:
            return 1 <= value <= len(point.states)
        low = -math.inf if point.minimum is None else point.minimum
        high = math.inf if point.maximum is None else point.maximum
        return math.isfinite(value) and low <= value <= high


class Commanded(Simulated, Commandable):
    """An object with a priority array of 16 slots."""

    def slot(self, priority: int) -> float | None:
        """What stands in one slot, 1 to 16; None where it is free."""
        entry = self.priorityArray[priority - 1]
        return None if entry.null is not None else float(getattr(entry, entry._choice))

    def command(self, priority: int, value: float | None) -> None:
        """Set or free one slot, as the device itself or somebody at its panel does."""
        self.priorityArray[priority - 1] = PriorityValue(Null(()) if value is None else self.typed(value))

    def measure(self, value: float) -> None:
        """The control loop's command; written only where it changed."""
        rounded = round(value, 1)
        if rounded != self._measured:
            self._measured = rounded
            self.command(LOOP_PRIORITY, rounded)

    def set_value(self, value: float) -> None:
        """Set the present value past the priority array."""
        super(Commandable, self).__setattr__("presentValue", self.typed(value))

    def force(self, value: float | None) -> None:
        """Replace the value; afterwards the priority array counts again."""
        super().force(value)
        if value is None:
            self.recalculating()

    def recalculating(self) -> None:
        """The highest command wins, unless the value is forced."""
        super().recalculating()
        if self._forced is not None:
            self.set_value(self._forced)


class AnalogInput(Simulated, AnalogInputObject):
    """Something measured."""

    _cov_criteria = IncrementCriteria


class AnalogOutput(Commanded, AnalogOutputObject):
    """A position or speed."""

    _cov_criteria = IncrementCriteria


class AnalogSetpoint(Commanded, AnalogValueObjectCmd):
    """A setpoint."""

    _cov_criteria = IncrementCriteria


class AnalogComputed(Simulated, AnalogValueObject):
    """A number that the device computes."""

    _cov_criteria = IncrementCriteria


class BinaryInput(Simulated, BinaryInputObject):
    """A contact."""

    _cov_criteria = StateCriteria


class BinaryOutput(Commanded, BinaryOutputObject):
    """A relay."""

    _cov_criteria = StateCriteria


class BinarySetting(Commanded, BinaryValueObject):
    """A switch that people set."""

    _cov_criteria = StateCriteria


class BinaryComputed(Simulated, BinaryValueObject):
    """A state that the device computes."""

    _cov_criteria = StateCriteria


class MultiStateInput(Simulated, MultiStateInputObject):
    """A state of several."""

    _cov_criteria = StateCriteria


class MultiStateOutput(Commanded, MultiStateOutputObject):
    """A stage."""

    _cov_criteria = StateCriteria


class MultiStateSetting(Commanded, MultiStateValueObject):
    """A mode that people set."""

    _cov_criteria = StateCriteria


class MultiStateComputed(Simulated, MultiStateValueObject):
    """A state that the device computes."""

    _cov_criteria = StateCriteria


_CLASSES: dict[tuple[str, bool], type[Simulated]] = {
    ("analog-input", False): AnalogInput,
    ("analog-output", True): AnalogOutput,
    ("analog-value", True): AnalogSetpoint,
    ("analog-value", False): AnalogComputed,
    ("binary-input", False): BinaryInput,
    ("binary-output", True): BinaryOutput,
    ("binary-value", True): BinarySetting,
    ("binary-value", False): BinaryComputed,
    ("multi-state-input", False): MultiStateInput,
    ("multi-state-output", True): MultiStateOutput,
    ("multi-state-value", True): MultiStateSetting,
    ("multi-state-value", False): MultiStateComputed,
}


def make_object(point: Point, value: float) -> Simulated:
    """The BACnet object of one point, with its first value."""
    cls: Any = _CLASSES[point.object_type, point.commandable]
    properties: dict[str, Any] = {
        "objectIdentifier": f"{point.object_type},{point.instance}",
        "objectName": point.name,
        "description": point.dis,
        "presentValue": _first_value(point, value),
        "eventState": EventState.normal,
        "reliability": Reliability.noFaultDetected,
        "outOfService": False,
    }
    made: Simulated = cls(**properties, **_of_kind(point))
    made._point = point
    made.watch()
    return made


def _first_value(point: Point, value: float) -> float | int:
    return value if point.type.kind is Kind.ANALOG else int(value)


def _of_kind(point: Point) -> dict[str, Any]:
    if point.type.kind is Kind.ANALOG:
        return _of_analog(point)
    if point.type.kind is Kind.BINARY:
        texts: dict[str, Any] = {"inactiveText": point.states[0], "activeText": point.states[1]}
        if not point.object_type.endswith("-value"):
            texts["polarity"] = 0
        return texts | ({"alarmValue": 1} if point.alarm else {})
    return {"numberOfStates": len(point.states), "stateText": list(point.states)}


def _of_analog(point: Point) -> dict[str, Any]:
    properties: dict[str, Any] = {"units": point.unit.bacnet, "covIncrement": point.cov_increment}
    if point.minimum is not None and point.maximum is not None:
        properties |= {"minPresValue": point.minimum, "maxPresValue": point.maximum}
    limits = (point.alarm_low, point.alarm_high)
    if limits != (None, None):
        properties["limitEnable"] = LimitEnable([int(limit is not None) for limit in limits])
        properties |= {
            name: limit for name, limit in zip(("lowLimit", "highLimit"), limits, strict=True) if limit is not None
        }
    return properties
