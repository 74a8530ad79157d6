"""The validator's rules, texts and codes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacpipes.points import Point
from bacpipes.writes.command import Command
from bacpipes.writes.validator import Policy, validate, validate_slot
from point_parts import NAME, point

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def command(value: Any = 65.0, **changes: Any) -> Command:
    return Command(**({"job_id": "j", "device_id": 12345, "object_type": "analog-value", "object_instance": 120,
                       "value": value} | changes))  # fmt: skip


def told(command: Command, point: Point | None, **policy: Any) -> list[tuple[str, str]]:
    return [(v.code, v.text) for v in validate(command, point, Policy(**policy), NOW, NOW)]


def codes(command: Command, point: Point | None, **policy: Any) -> list[str]:
    return [code for code, _ in told(command, point, **policy)]


def test_a_good_command_breaks_no_rule() -> None:
    assert told(command(), point()) == []


def test_the_texts_that_other_programs_match_on() -> None:
    assert told(command(), None) == [("point-not-found", "Point not found: device=12345, analog-value:120")]
    unnamed = point(haystack_name=None)
    assert ("haystack-name-missing", "Point has no haystack name, cannot validate") in told(command(), unnamed)
    sensor = point(haystack_name=NAME.replace(".sp.", ".sensor."))
    assert told(command(), sensor) == [
        ("not-a-setpoint", "Point is not a setpoint (position 4 is 'sensor', not 'sp')"),
        ("only-setpoints", "Only setpoints with 'sp' in position 4 can be written"),
    ]
    assert told(command(), point(writable=False)) == [("not-writable", "Point.isWritable = false in database")]
    assert told(command(priority=17), point()) == [("priority-invalid", "Priority 17 is invalid (must be 1-16)")]
    assert told(command(150.0), point()) == [("value-out-of-range", "Value 150.0 out of range [0, 100]")]


@pytest.mark.parametrize(
    ("low", "high", "value", "bounds"), [(5.0, None, 4.9, "[5, inf]"), (None, 5.0, 5.1, "[-inf, 5]")]
)
def test_one_bound_alone_is_still_a_bound(low: float, high: float, value: float, bounds: str) -> None:
    limited = point(minimum=low, maximum=high)
    assert told(command(value), limited) == [("value-out-of-range", f"Value {value} out of range {bounds}")]
    assert told(command(5.0), limited) == []


@pytest.mark.parametrize("priority", [0, 17, -1, True, None, "8", 8.0, float("nan")])
def test_a_priority_is_an_integer_from_1_to_16(priority: Any) -> None:
    assert codes(command(priority=priority), point(), priority_floor=1) == ["priority-invalid"]


def test_the_sites_priority_floor_and_the_reserved_priority() -> None:
    assert codes(command(priority=7), point()) == ["priority-too-high"]
    assert codes(command(priority=7), point(), priority_floor=5) == []
    assert codes(command(priority=6), point(), priority_floor=1) == ["priority-reserved"]


@pytest.mark.parametrize("value", ["65", None, True, [], {}, float("nan"), float("inf"), 1e39, 10**400])
def test_what_is_no_analog_value_is_refused_not_skipped(value: Any) -> None:
    assert codes(command(value), point())[0] in ("value-wrong-type", "value-not-finite")


@pytest.mark.parametrize("value", [0, 1, True, False, 1.0, "active", "Inactive", "TRUE"])
def test_binary_values(value: Any) -> None:
    assert told(command(value), point("binary-value", minimum=None, maximum=None)) == []


@pytest.mark.parametrize("value", [2, -1, 0.5, "on", None, float("nan")])
def test_no_binary_values(value: Any) -> None:
    assert codes(command(value), point("binary-value", minimum=None, maximum=None)) == ["value-wrong-type"]


def test_multi_state_values() -> None:
    three = point("multi-state-value", states=3, minimum=None, maximum=None)
    assert [codes(command(value), three) for value in (1, 3, 2.0)] == [[], [], []]
    assert codes(command(0), three) == codes(command(4), three) == ["value-out-of-range"]
    assert codes(command(1.5), three) == codes(command(True), three) == ["value-wrong-type"]
    assert codes(command(1), replace(three, states=None)) == ["limits-missing"]


def test_an_analog_point_without_limits_needs_the_sites_permission() -> None:
    unlimited = point(minimum=None, maximum=None)
    assert codes(command(), unlimited) == ["limits-missing"]
    assert codes(command(), unlimited, without_limits=True) == []


def test_a_release_needs_no_value_but_all_else() -> None:
    assert told(command(None, release=True), point()) == []
    assert codes(command(None, release=True, priority=3), point(writable=False)) == [
        "not-writable",
        "priority-too-high",
    ]


def test_a_point_that_is_no_longer_polled_is_not_written() -> None:
    assert told(command(), point(enabled=False)) == [("point-disabled", "Point is disabled")]


def test_an_input_is_never_writable() -> None:
    assert codes(command(), point("analog-input")) == ["not-writable"]


def test_age() -> None:
    def at(seconds: float) -> Command:
        return command(timestamp=NOW - timedelta(seconds=seconds))

    assert codes(at(329), point()) == []  # 300 s and the tolerated skew
    assert codes(at(331), point()) == ["command-too-old"]
    assert codes(at(-29), point()) == []
    assert codes(at(-31), point()) == ["command-in-future"]
    assert codes(command(expires_at=NOW), point()) == ["command-expired"]
    assert codes(command(expires_at=NOW + timedelta(seconds=1)), point()) == []


def test_without_a_timestamp_a_command_ages_from_its_first_receipt() -> None:
    received = NOW - timedelta(seconds=301)
    assert [v.code for v in validate(command(), point(), Policy(), NOW, received)] == ["command-too-old"]


def test_an_unsynchronised_clock_refuses_timed_commands_only() -> None:
    assert codes(command(timestamp=NOW), point(), clock_synchronised=False) == ["clock-unsynchronised"]
    assert codes(command(expires_at=NOW + timedelta(days=1)), point(), clock_synchronised=False) == [
        "clock-unsynchronised"
    ]
    assert codes(command(), point(), clock_synchronised=False) == []


def test_a_slot_that_we_did_not_write() -> None:
    assert validate_slot(command(), None, ours=False) == []
    assert validate_slot(command(), 65.0, ours=True) == []
    assert [v.code for v in validate_slot(command(), 65.0, ours=False)] == ["slot-held"]


def test_what_we_hold_may_be_released_whatever_the_point_has_become() -> None:
    gone = point(enabled=False, writable=False, haystack_name=None)
    release = command(None, release=True, priority=5)
    now = {"policy": Policy(), "now": NOW, "received": NOW}
    assert validate(release, gone, ours=True, **now) == []
    assert len(validate(release, gone, ours=False, **now)) == 4
    written = replace(release, release=False, value=1.0)
    assert "point-disabled" in [v.code for v in validate(written, gone, ours=True, **now)]


def test_a_limit_that_is_no_number_refuses_everything() -> None:
    assert codes(command(50.0), point(maximum=float("nan"))) == ["value-out-of-range"]


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3)


@given(value=json_values, priority=json_values)
def test_whatever_is_allowed_is_in_range(value: Any, priority: Any) -> None:
    if not codes(command(value, priority=priority), point()):
        assert 0 <= float(value) <= 100
        assert priority in range(8, 17)
