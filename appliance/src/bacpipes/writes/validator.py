"""Is this command allowed? Pure: a command, a point and a policy go in, a list of violations comes out.

The rules, their texts and codes stand in docs/writes.md; other programs match on them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bacpipes.haystack import SETPOINT, function_of
from bacpipes.objects import Kind
from bacpipes.points import Point
from bacpipes.settings import Settings
from bacpipes.writes.command import Command
from bacpipes.writes.stop import Stop
from bacpipes.writes.values import BadValueError, convert, number_text

LOWEST_PRIORITY = 16
# What says something of the point as it is today; the release of what we hold is asked none of it.
NOT_OF_OUR_RELEASE = frozenset(
    {"point-disabled", "not-writable", "not-a-setpoint", "only-setpoints", "haystack-name-missing", "priority-too-high"}
)
MINIMUM_ON_OFF = 6  # ASHRAE 135, clause 19.2.3: reserved for the device's own minimum on/off time


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that a command breaks: a stable machine ``code`` and the text for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A site's own rules. ``clock_synchronised`` is False where the kernel says that the clock is not kept."""

    ttl: timedelta = timedelta(seconds=300)
    clock_skew: timedelta = timedelta(seconds=30)
    priority_floor: int = 8
    without_limits: bool = False
    clock_synchronised: bool = True

    @classmethod
    def from_settings(cls, settings: Settings, *, clock_synchronised: bool) -> "Policy":
        """The policy that the settings' ``write_…`` fields describe."""
        return cls(
            timedelta(seconds=settings.write_ttl),
            timedelta(seconds=settings.write_clock_skew),
            settings.write_priority_floor,
            settings.write_without_limits,
            clock_synchronised,
        )


def validate(
    command: Command, point: Point | None, policy: Policy, now: datetime, received: datetime, *, ours: bool = False
) -> list[Violation]:
    """Every rule that the command breaks, in the specification's order; empty where it may be executed.

    ``received`` is when the command was first seen: one without a timestamp ages from there. ``ours`` says that the
    slot holds what we wrote: that may be released whatever the point has become since, so that nothing is left behind.
    """
    if point is None:
        text = f"Point not found: device={command.device_id}, {command.object}"
        return [Violation("point-not-found", text)]
    found = [
        *_setpoint(command, point),
        *_priority(command, policy),
        *([] if command.release else _value(command, point, policy)),
        *_age(command, policy, now, received),
    ]
    return [one for one in found if not (command.release and ours and one.code in NOT_OF_OUR_RELEASE)]


def validate_slot(command: Command, held: float | None, *, ours: bool) -> list[Violation]:
    """The slot of the priority array at the command's priority: ``held`` is there now, ``ours`` says that we wrote it.

    A value that we did not write is never overwritten nor released.
    """
    if held is None or ours:
        return []
    text = f"Priority {command.priority} holds {number_text(held)}, which BacPipes did not write"
    return [Violation("slot-held", text)]


def validate_stop(command: Command, stop: Stop) -> list[Violation]:
    """While the site is stopped nothing is written; what we hold may be released."""
    if not stop.stopped or command.release:
        return []
    why = f": {stop.reason}" if stop.reason else ""
    text = f"The site was stopped by {stop.actor or 'somebody'} at {stop.since.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}{why}"
    return [Violation("site-stopped", text)]


def no_priority_array(point: Point) -> Violation:
    """A release of an object that has nothing to release."""
    return Violation("no-priority-array", f"{point.object} has no priority array; there is nothing to release")


def _setpoint(command: Command, point: Point) -> Iterator[Violation]:
    if point.haystack_name is None:
        yield Violation("haystack-name-missing", "Point has no haystack name, cannot validate")
    elif (function := function_of(point.haystack_name)) != SETPOINT:
        yield Violation("not-a-setpoint", f"Point is not a setpoint (position 4 is '{function}', not 'sp')")
        yield Violation("only-setpoints", "Only setpoints with 'sp' in position 4 can be written")
    if not point.enabled:
        yield Violation("point-disabled", "Point is disabled")
    if not point.writable or not point.type.writable:
        yield Violation("not-writable", "Point.isWritable = false in database")
    if command.haystack_name is not None and command.haystack_name != point.haystack_name:
        text = f"haystackName '{command.haystack_name}' is not the point's, which is '{point.haystack_name}'"
        yield Violation("haystack-name-differs", text)


def _priority(command: Command, policy: Policy) -> Iterator[Violation]:
    priority = command.priority
    if isinstance(priority, bool) or not isinstance(priority, int) or not 1 <= priority <= LOWEST_PRIORITY:
        yield Violation("priority-invalid", f"Priority {priority} is invalid (must be 1-16)")
    elif priority == MINIMUM_ON_OFF:
        yield Violation("priority-reserved", "Priority 6 is reserved for minimum on/off times")
    elif priority < policy.priority_floor:
        text = f"Priority {priority} is not allowed at this site (must be {policy.priority_floor}-16)"
        yield Violation("priority-too-high", text)


def _value(command: Command, point: Point, policy: Policy) -> Iterator[Violation]:
    try:
        number = convert(command.value, point)
    except BadValueError as error:
        yield Violation(error.code, str(error))
        return
    low, high = point.minimum, point.maximum
    # written so that a bound which is no number refuses everything instead of nothing
    if not ((low is None or low <= number) and (high is None or number <= high)):
        bounds = f"[{'-inf' if low is None else number_text(low)}, {'inf' if high is None else number_text(high)}]"
        yield Violation("value-out-of-range", f"Value {command.value} out of range {bounds}")
    unlimited = point.type.kind is Kind.ANALOG and low is None and high is None
    if unlimited and point.writable and not policy.without_limits:
        yield Violation("limits-missing", "Point has neither minimum nor maximum, and this site requires limits")


def _age(command: Command, policy: Policy, now: datetime, received: datetime) -> Iterator[Violation]:
    if (command.timestamp or command.expires_at) and not policy.clock_synchronised:
        yield Violation("clock-unsynchronised", "The appliance's clock is not synchronised; timed commands are refused")
    age = now - (command.timestamp or received)
    if age > policy.ttl + (policy.clock_skew if command.timestamp else timedelta()):
        limit = policy.ttl.total_seconds()
        yield Violation("command-too-old", f"Command is {age.total_seconds():.0f} s old (at most {limit:g} s)")
    elif -age > policy.clock_skew:
        yield Violation("command-in-future", f"Command's timestamp is {-age.total_seconds():.0f} s in the future")
    if command.expires_at is not None and command.expires_at <= now:
        yield Violation("command-expired", f"Command expired {(now - command.expires_at).total_seconds():.0f} s ago")
