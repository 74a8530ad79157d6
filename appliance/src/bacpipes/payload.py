"""The MQTT payloads: the specification's keys in their order, camelCase, UTC ISO 8601 with milliseconds and ``Z``."""

import json
import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from bacpipes.points import Point
from bacpipes.reading import Reading, iso_milliseconds, to_datetime
from bacpipes.writes.command import Command, MalformedCommandError, json_safe
from bacpipes.writes.validator import Violation

VALIDATION_FAILED = "Validation failed"
POINT_NOT_FOUND = "Point not found"
MALFORMED = "Malformed command"


class ReadingPayloads:
    """Readings as JSON: what is the same in each of a point's payloads is put into JSON once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Point, str, str]] = {}

    def encode(self, point: Point, reading: Reading) -> bytes:
        """A reading; one that failed has ``value`` null, ``quality`` bad and a ``reason``."""
        known = self._known.get(point.id)
        if known is None or known[0] is not point:
            known = self._known[point.id] = (point, *_of_point(point))
        value = reading.value
        if value is None:
            text = "null"
        elif math.isfinite(value):
            text = repr(value)
        else:
            raise ValueError(f"{value} is no number in JSON")
        reason = "" if reading.reason is None else f',"reason":{_json(reading.reason)}'
        quality = reading.quality.text
        return f'{{"value":{text},"timestamp":"{_stamp(reading.at)}{known[1]}{quality}{known[2]}{reason}}}'.encode()


def _of_point(point: Point) -> tuple[str, str]:
    """What stands between a reading's time and its quality, and behind the quality."""
    fields = {
        "dis": point.dis,
        "haystackName": point.haystack_name,
        "deviceIp": point.device.ip,
        "deviceId": point.device.device_id,
        "objectType": point.object_type,
        "objectInstance": point.object_instance,
    }
    return _before_quality(point.units), f'",{_json(fields)[1:-1]}'


@lru_cache(maxsize=256)
def _before_quality(units: str) -> str:
    return f'","units":{_json(units)},"quality":"'


@lru_cache(maxsize=4096)
def _stamp(at: int) -> str:
    return iso_milliseconds(to_datetime(at))


def result_payload(
    command: Command,
    site_id: str,
    *,
    success: bool,
    seconds: float,
    error: str | None = None,
    violations: list[Violation] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What became of a command; ``more`` are our additions (before, after, heldBy)."""
    violations = violations or []
    fields = {
        "jobId": command.job_id,
        "success": success,
        "deviceId": command.device_id,
        "objectType": command.object_type,
        "objectInstance": command.object_instance,
        "value": json_safe(command.value),
        "priority": json_safe(command.priority),
        "timestamp": iso_milliseconds(datetime.now(UTC)),
        "processingTime": round(seconds, 3),
        "error": error,
        "validationErrors": [violation.text for violation in violations],
        "siteId": site_id,
        "codes": [violation.code for violation in violations],
        **more,
    }
    safe: dict[str, Any] = _storable(fields)
    return safe


def _storable(thing: Any) -> Any:
    """The same without what the database or JSON can't hold: whatever a device or a sender said, it must be told."""
    if isinstance(thing, dict):
        return {key: _storable(value) for key, value in thing.items()}
    if isinstance(thing, list):
        return [_storable(value) for value in thing]
    if isinstance(thing, str):
        return json_safe(thing)
    return None if isinstance(thing, float) and not math.isfinite(thing) else thing


def refusal(violations: list[Violation]) -> str:
    """The ``error`` of a command that broke these rules."""
    return POINT_NOT_FOUND if violations[0].code == "point-not-found" else VALIDATION_FAILED


def malformed_payload(error: MalformedCommandError, site_id: str) -> dict[str, Any]:
    """The result for a message that is no command but whose ``jobId`` could be read."""
    fields = ("deviceId", "objectType", "objectInstance", "value", "priority")
    result: dict[str, Any] = {
        "jobId": error.job_id,
        "success": False,
        **{name: json_safe(error.fields.get(name)) for name in fields},
        "timestamp": iso_milliseconds(datetime.now(UTC)),
        "processingTime": 0.0,
        "error": MALFORMED,
        "validationErrors": error.problems,
        "siteId": site_id,
        "codes": ["malformed"],
    }
    safe: dict[str, Any] = _storable(result)
    return safe


def encode(fields: dict[str, Any]) -> bytes:
    """Compact UTF-8 JSON; refuses NaN, which JSON lacks."""
    return _json(fields).encode()


def _json(thing: Any) -> str:
    return json.dumps(thing, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
