"""Nothing unsafe is written; what may be written is."""

from collections.abc import Callable
from typing import Any

from verification.fleet import Point
from verification.observed import Observed
from verification.outcome import fail, not_verified, wait_for

Observe = Callable[[str], None]

REASON = "verification"


def test_sensor_write_refused(observed: Observed, observe: Observe) -> None:
    sensors = [point for point in observed.points if point.haystack_name and point.function != "sp"]
    if not sensors:
        not_verified("the site has no fully tagged point that is not a setpoint")
    point = min(sensors, key=lambda each: (each.object_type != "analog-input", each.device_id, each.object_instance))
    reached = _attempts(observed, point)
    result = _write(observed, point, {"value": 1, "priority": observed.site.write_priority})
    expected = [
        f"Point is not a setpoint (position 4 is '{point.function}', not 'sp')",
        "Only setpoints with 'sp' in position 4 can be written",
    ]
    remedy = "STOP using this site for writes; look at `docker compose logs worker` and docs/writes.md"
    told = result.get("validationErrors", [])
    if result.get("success") or not set(expected) <= set(told):
        fail(f"{_name(point)} refused with: {' · '.join(expected)}", f"success {result.get('success')}, {told}", remedy)
    if {"before", "after"} & result.keys():
        fail("a refusal before anything is sent to the device", f"the device was asked: {result}", remedy)
    if _held(observed, point):
        fail("no slot held", f"{_name(point)} is marked as held by us", remedy)
    if _attempts(observed, point) != reached:
        fail("no write at the device", f"a write reached {_name(point)}", remedy)
    observe(
        f"{_name(point)}: “{told[0]}”" + ("; no write reached the device" if observed.site.building_command else "")
    )
    # Sensors are safe from us. A setpoint takes until the next poll: the other checks need not wait for it.
    observed.trial = observed.begin(_try_setpoint, observed)


def test_setpoint_write(observed: Observed, observe: Observe) -> None:
    trial = observed.trial or observed.begin(_try_setpoint, observed)
    observe(trial.result())


def _try_setpoint(observed: Observed) -> str:
    """Write, wait until a poll has seen it, release; what was seen."""
    site = observed.site
    if not site.write_point or site.write_value is None:
        not_verified("no write point is declared (site.verify.write_point and value)")
    point = next((each for each in observed.points if each.haystack_name == site.write_point), None)
    if point is None:
        fail(
            f"{site.write_point} among the site's points",
            "no point has this haystack name",
            "correct site.verify.write_point",
        )
    reached = _attempts(observed, point)
    released: dict[str, Any] = {}
    try:
        written = _write(observed, point, {"value": site.write_value, "priority": site.write_priority})
        told = written.get("validationErrors") or written.get("error")
        if not written.get("success"):
            fail(
                f"{_name(point)} takes {site.write_value:g}", f"refused: {told}", "docs/writes.md explains each refusal"
            )
        if not written.get("heldBy") and written.get("after") != site.write_value:
            fail(f"{site.write_value:g} read back", f"{written.get('after')}", "somebody else may command this point")
        in_history = (
            _wait_for_value(observed, point, float(written["after"])) if written.get("after") is not None else ""
        )
    finally:
        # Also where the answer was lost: what we wrote must not be left behind.
        released = _write(observed, point, {"release": True, "priority": site.write_priority})
    if not released.get("success") or _held(observed, point):
        seen = f"{released.get('validationErrors') or released.get('error') or 'the slot is still marked as held'}"
        remedy = f"on the machine: bacpipes write {point.device_id} {point.object} --release --reason verification"
        fail(f"{_name(point)} released", seen, remedy)
    attempts = _attempts(observed, point)[len(reached) :]
    if site.building_command and not (
        any(f"= {site.write_value:g}" in each or f"= {site.write_value}" in each for each in attempts)
        and any("= release" in each for each in attempts)
    ):
        fail(
            "the device itself saw the write and the release",
            f"{attempts}",
            "is verify_building_command that of this building?",
        )
    change = f"{written.get('before')} → {written.get('after')} → {released.get('after')}"
    held = f", overridden by priority {written['heldBy']}" if written.get("heldBy") else ""
    device = "; the device saw both" if site.building_command else ""
    return f"{_name(point)}: {change} (written, read back, released){held}{in_history}{device}"


def _write(observed: Observed, point: Point, more: dict[str, Any]) -> dict[str, Any]:
    if observed.services_down:
        fail("all services up, so that a write is answered", observed.services_down, "see the check of the services")
    target = {
        "deviceId": point.device_id, "objectType": point.object_type, "objectInstance": point.object_instance,
        "siteId": observed.site.site, "source": REASON, "reason": REASON,
    }  # fmt: skip
    answer = observed.http("POST", "/api/bacnet/write", observed.token, target | more)
    if answer.status != 200:
        words = answer.body.decode(errors="replace")[:300]
        fail(
            "an answer to the write",
            f"HTTP {answer.status}: {words}",
            "is the worker running? /readyz says what is missing",
        )
    result: dict[str, Any] = answer.json
    return result


def _held(observed: Observed, point: Point) -> bool:
    rows = observed.admin(
        "SELECT 1 AS held FROM held_slot h JOIN point p ON p.id = h.point_id JOIN device d ON d.id = p.device "
        "WHERE d.device_id = {device} AND p.object_instance = {instance} AND p.object_type = {type}",
        device=point.device_id,
        instance=point.object_instance,
        type=point.object_type,
    )
    return bool(rows)


def _wait_for_value(observed: Observed, point: Point, value: float) -> str:
    """Whether a regular poll saw it, too."""
    if point.interval > 60:
        return ""

    def seen() -> bool:
        rows = observed.sql(
            "SELECT value FROM sensor_readings WHERE device_id = %s AND object_type = %s AND object_instance = %s "
            "AND time > now() - interval '5 minutes' ORDER BY time DESC LIMIT 1",
            [point.device_id, point.object_type, point.object_instance],
        )
        return (
            bool(rows) and rows[0]["value"] is not None and abs(rows[0]["value"] - value) < 1e-3 * max(1.0, abs(value))
        )

    if not wait_for(seen, 2 * point.interval + 10, every=1.0):
        fail(
            f"{value:g} in the history of {_name(point)}", "polls show another value", "does something else command it?"
        )
    return ", seen by the next poll"


def _attempts(observed: Observed, point: Point) -> list[str]:
    if not observed.site.building_command:
        return []
    return [line for line in observed.building() if line.startswith(f"{point.device_id}:{point.object} ")]


def _name(point: Point) -> str:
    return f"{point.device_id} {point.object}"
