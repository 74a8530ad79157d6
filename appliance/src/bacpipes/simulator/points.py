"""A point as declared: its BACnet object, its tags, and the field of the model that is behind it."""

from dataclasses import dataclass, replace

from bacpipes.haystack import SETPOINT, HaystackName
from bacpipes.objects import OBJECT_TYPES, Kind, ObjectType
from bacpipes.simulator import units
from bacpipes.simulator.units import Unit

FAST, NORMAL, SLOW = 10, 15, 60  # polling intervals in seconds: commands and states, measurements, meters


@dataclass(frozen=True, slots=True)
class Point:
    """``tags`` are the last five segments of the haystack name, ``field`` names the model's attribute.

    ``minimum`` and ``maximum`` bound what may be written; ``alarm_low`` and ``alarm_high`` are the limits beyond which
    an analog input is in alarm; a binary point with ``alarm`` is in alarm while active. All in the point's own unit.
    """

    object_type: str
    instance: int
    name: str
    dis: str
    tags: str
    field: str
    unit: Unit = units.NONE
    minimum: float | None = None
    maximum: float | None = None
    states: tuple[str, ...] = ()
    cov_increment: float = 0.5
    interval: int = NORMAL
    alarm: bool = False
    alarm_low: float | None = None
    alarm_high: float | None = None
    equip: str = ""  # where one device serves several pieces of equipment; default: the device's
    equip_ref: str = ""

    @property
    def type(self) -> ObjectType:
        """What the standard says of this object's type."""
        return OBJECT_TYPES[self.object_type]

    @property
    def object(self) -> str:
        """``type:instance``."""
        return f"{self.object_type}:{self.instance}"

    @property
    def function(self) -> str:
        """Position 4 of the haystack name: sp, cmd, sensor or status."""
        return self.tags.split(".")[0]

    @property
    def is_output(self) -> bool:
        """An output follows the device's own control loop at priority 16, until somebody commands it higher up."""
        return self.object_type.endswith("-output")

    @property
    def commandable(self) -> bool:
        """Has a priority array: every output, and the values that people set."""
        return self.is_output or (self.object_type.endswith("-value") and self.function in (SETPOINT, "cmd"))

    @property
    def writable(self) -> bool:
        """May be written through BacPipes: setpoints only."""
        return self.function == SETPOINT and self.commandable

    def haystack(self, site: str, equip: str, equip_ref: str) -> HaystackName:
        """The full name; the point's own equipment goes before the device's."""
        return HaystackName(site, self.equip or equip, self.equip_ref or equip_ref, *self.tags.split("."))

    def of(self, equip: str, equip_ref: str, offset: int, prefix: str, dis: str) -> "Point":
        """The same point for another piece of equipment behind the same device."""
        return replace(
            self,
            instance=self.instance + offset,
            name=prefix + self.name,
            dis=f"{dis} {self.dis}",
            equip=equip,
            equip_ref=equip_ref,
        )


def reading(
    instance: int,
    name: str,
    dis: str,
    tags: str,
    field: str,
    unit: Unit,
    cov: float = 0.5,
    interval: int = NORMAL,
    low: float | None = None,
    high: float | None = None,
) -> Point:
    """An analog input: something measured."""
    return Point(
        "analog-input",
        instance,
        name,
        dis,
        tags,
        field,
        unit,
        cov_increment=cov,
        interval=interval,
        alarm_low=low,
        alarm_high=high,
    )


def computed(
    instance: int, name: str, dis: str, tags: str, field: str, unit: Unit, cov: float = 0.5, interval: int = SLOW
) -> Point:
    """An analog value that the device computes; nobody can write it."""
    return Point("analog-value", instance, name, dis, tags, field, unit, cov_increment=cov, interval=interval)


def setpoint(
    instance: int, name: str, dis: str, tags: str, field: str, unit: Unit, minimum: float, maximum: float
) -> Point:
    """A commandable analog value within limits."""
    return Point(
        "analog-value",
        instance,
        name,
        dis,
        tags,
        field,
        unit,
        minimum=minimum,
        maximum=maximum,
        cov_increment=0.1,
    )


def output(instance: int, name: str, dis: str, tags: str, field: str) -> Point:
    """An analog output in percent: a valve, a damper, a speed."""
    return Point(
        "analog-output",
        instance,
        name,
        dis,
        tags,
        field,
        units.PERCENT,
        minimum=0,
        maximum=100,
        cov_increment=1,
        interval=FAST,
    )


def binary(kind: str, instance: int, name: str, dis: str, tags: str, field: str, alarm: bool = False) -> Point:
    """A binary input, output or value; ``kind`` is one of those words."""
    states = ("normal", "alarm") if alarm else ("off", "on")
    return Point(
        f"binary-{kind}", instance, name, dis, tags, field, states=states, interval=FAST, alarm=alarm, cov_increment=0
    )


def multistate(kind: str, instance: int, name: str, dis: str, tags: str, field: str, states: tuple[str, ...]) -> Point:
    """A multi-state input, output or value; its states count from 1."""
    return Point(f"multi-state-{kind}", instance, name, dis, tags, field, states=states, interval=FAST, cov_increment=0)


def number_of_states(point: Point) -> int | None:
    """How many states a multi-state point has; None for the others."""
    return len(point.states) if point.type.kind is Kind.MULTISTATE else None
