"""Faults on command: what each kind does to a device or a point, and how that is put right."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bacpypes3.basetypes import Reliability

from bacpipes.errors import InputError
from bacpipes.simulator.device import Device, object_id
from bacpipes.simulator.kinds import Arguments, find_kind
from bacpipes.simulator.objects import Commanded, Simulated

if TYPE_CHECKING:
    from bacpipes.simulator.building import Building

SMALLEST_APDU, SMALL_APDU = 50, 480  # octets: the least that the standard allows, and what MS/TP devices usually have


@dataclass(frozen=True, slots=True)
class Fault:
    """An active fault. ``target`` is a device number, or ``device:type:instance``."""

    kind: str
    target: str
    arguments: Arguments = ()

    def __str__(self) -> str:
        return " ".join((self.kind, self.target, *self.arguments))


@dataclass(frozen=True, slots=True)
class Target:
    """What a fault works on; ``point`` is None where that is a whole device."""

    device: Device
    point: Simulated | None

    @property
    def name(self) -> str:
        """As it is shown and typed."""
        number = str(self.device.device_id)
        return number if self.point is None else f"{number}:{self.point._point.object}"


def begin(building: "Building", kind_name: str, target_name: str, arguments: Arguments) -> Fault:
    """Break something; raise `InputError` where that makes no sense, and then nothing has changed."""
    kind = find_kind(kind_name)
    target = find_target(building, target_name)
    if kind.of_point != (target.point is not None):
        raise InputError(f"{kind.name} concerns a {'point' if kind.of_point else 'device'}; usage: {kind.usage}.")
    _ACTIONS[kind.name][0](target, arguments)
    return Fault(kind.name, target.name, arguments)


def end(building: "Building", fault: Fault) -> None:
    """Put one fault right."""
    _ACTIONS[fault.kind][1](find_target(building, fault.target), fault.arguments)


def find_target(building: "Building", name: str) -> Target:
    """A device by its number; a point by ``device:type:instance`` (also short: ``ai``, ``av`` …) or haystack name."""
    if "." in name:
        return Target(*building.find(name))
    number, *rest = name.split(":")
    if not number.isdigit() or int(number) not in building.devices:
        raise InputError(f"No device {number!r}; there are {', '.join(map(str, building.devices))}.")
    device = building.devices[int(number)]
    if not rest:
        return Target(device, None)
    if len(rest) != 2:
        raise InputError(f"{name!r}: a point is device:type:instance, for example 12345:analog-input:101.")
    found = device.points.get(f"{_SHORT.get(rest[0], rest[0])}:{rest[1]}")
    if found is None:
        raise InputError(f"Device {number} has no {':'.join(rest)}.")
    return Target(device, found)


_SHORT = {
    "ai": "analog-input",
    "ao": "analog-output",
    "av": "analog-value",
    "bi": "binary-input",
    "bo": "binary-output",
    "bv": "binary-value",
    "msi": "multi-state-input",
    "mso": "multi-state-output",
    "msv": "multi-state-value",
}


# --- arguments ---


def _none(kind: str, arguments: Arguments) -> None:
    if arguments:
        raise InputError(f"{kind} takes nothing after its target, not {' '.join(arguments)!r}.")


def _one(kind: str, arguments: Arguments, what: str) -> str:
    if len(arguments) != 1:
        raise InputError(f"{kind} takes {what} after its target, not {' '.join(arguments)!r}.")
    return arguments[0]


def _number(text: str, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{what}: {text!r} is not a number.") from None
    if not (math.isfinite(value) and low <= value <= high):
        raise InputError(f"{what}: {text} is not within {low:g} and {high:g}.")
    return value


def _value(point: Simulated, text: str) -> float:
    value = _number(text, "value")
    if point._point.type.kind.value != "analog" and not point._acceptable(value):
        raise InputError(f"value: {text} is not a state of {point._point.object}.")
    return value


def _optional_value(kind: str, target: Target, arguments: Arguments) -> float | None:
    return _value(_point(target), _one(kind, arguments, "at most one value")) if arguments else None


def _point(target: Target) -> Simulated:
    assert target.point is not None  # noqa: S101 (checked in begin)
    return target.point


# --- of a device ---


def _silent(on: bool) -> Callable[[Target, Arguments], None]:
    def act(target: Target, arguments: Arguments) -> None:
        _none("silent", arguments)
        target.device.wire.datagrams.silent = on

    return act


def _no_rpm(on: bool) -> Callable[[Target, Arguments], None]:
    def act(target: Target, arguments: Arguments) -> None:
        _none("no-rpm", arguments)
        target.device.faults.no_rpm = on

    return act


def _no_cov(on: bool) -> Callable[[Target, Arguments], None]:
    def act(target: Target, arguments: Arguments) -> None:
        _none("no-cov", arguments)
        target.device.faults.no_cov = on
        if on:
            target.device.forget_subscriptions()

    return act


def _small_apdu(target: Target, arguments: Arguments) -> None:
    size = _one("small-apdu", arguments, "at most one size in octets") if arguments else str(SMALL_APDU)
    target.device.limit_apdu(int(_number(size, "size", SMALLEST_APDU, 1476)))


def _late(target: Target, arguments: Arguments) -> None:
    target.device.wire.datagrams.delay = _number(_one("late", arguments, "seconds"), "seconds", 0, 600)


def _prompt(target: Target, _arguments: Arguments) -> None:
    target.device.wire.datagrams.delay = 0.0


# --- of a point ---


def _unreliable(target: Target, arguments: Arguments) -> None:
    name = _one("unreliable", arguments, "at most one reliability") if arguments else "no-sensor"
    known = {attr: number for attr, number in vars(Reliability).items() if isinstance(number, int) and attr[0] != "_"}
    camel = re.sub(r"-(\w)", lambda match: match.group(1).upper(), name)
    if known.get(camel, 0) == 0:
        raise InputError(f"{name!r} is not a reliability that means a fault.", "For example no-sensor or over-range.")
    _point(target).set_reliability(camel)


def _reliable(target: Target, _arguments: Arguments) -> None:
    _point(target).set_reliability("noFaultDetected")


def _deny_write(on: bool) -> Callable[[Target, Arguments], None]:
    def act(target: Target, arguments: Arguments) -> None:
        _none("deny-write", arguments)
        _point(target)._write_denied = on

    return act


def _nan(target: Target, arguments: Arguments) -> None:
    _none("nan", arguments)
    if _point(target)._point.type.kind.value != "analog":
        raise InputError("nan concerns an analog point.")
    _point(target).force(math.nan)


def _not_forced(target: Target, _arguments: Arguments) -> None:
    _point(target).force(None)


def _null(on: bool) -> Callable[[Target, Arguments], None]:
    def act(target: Target, arguments: Arguments) -> None:
        _none("null", arguments)
        _point(target)._answers_null = on

    return act


def _missing(target: Target, arguments: Arguments) -> None:
    _none("missing", arguments)
    target.device.faults.missing.add(object_id(_point(target)._point.object))


def _there(target: Target, _arguments: Arguments) -> None:
    target.device.faults.missing.discard(object_id(_point(target)._point.object))


def _commanded(target: Target) -> Commanded:
    point = _point(target)
    if not isinstance(point, Commanded):
        raise InputError(f"{target.name} has no priority array.")
    return point


def _hold(target: Target, arguments: Arguments) -> None:
    if len(arguments) != 2:
        raise InputError(f"hold takes a priority and a value after its target, not {' '.join(arguments)!r}.")
    point = _commanded(target)
    priority = int(_number(arguments[0], "priority", 1, 16))
    point.command(priority, _value(point, arguments[1]))


def _let_go(target: Target, arguments: Arguments) -> None:
    _commanded(target).command(int(arguments[0]), None)


def _overridden(target: Target, arguments: Arguments) -> None:
    _point(target).override(True, _optional_value("overridden", target, arguments))


def _automatic(target: Target, _arguments: Arguments) -> None:
    _point(target).override(False, None)


def _out_of_service(target: Target, arguments: Arguments) -> None:
    value = _optional_value("out-of-service", target, arguments)
    point: Any = _point(target)
    point.outOfService = True
    if value is not None:
        point.force(value)


def _in_service(target: Target, _arguments: Arguments) -> None:
    point: Any = _point(target)
    point.outOfService = False
    point.force(None)


def _any_size(target: Target, _arguments: Arguments) -> None:
    target.device.limit_apdu(None)


Action = Callable[[Target, Arguments], None]

# Of each kind: what begins it (and checks its arguments first), and what ends it.
_ACTIONS: dict[str, tuple[Action, Action]] = {
    "silent": (_silent(True), _silent(False)),
    "no-rpm": (_no_rpm(True), _no_rpm(False)),
    "no-cov": (_no_cov(True), _no_cov(False)),
    "small-apdu": (_small_apdu, _any_size),
    "late": (_late, _prompt),
    "unreliable": (_unreliable, _reliable),
    "deny-write": (_deny_write(True), _deny_write(False)),
    "nan": (_nan, _not_forced),
    "null": (_null(True), _null(False)),
    "missing": (_missing, _there),
    "hold": (_hold, _let_go),
    "overridden": (_overridden, _automatic),
    "out-of-service": (_out_of_service, _in_service),
}
