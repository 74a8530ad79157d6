"""A write command: the payload of docs/writes.md, read strictly."""

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bacpipes.objects import MAX_INSTANCE

MAX_JOB_ID = 200
MAX_TEXT = 500
OF_RELEASE = "#release"  # stands behind a write's jobId in the result of its release
RELEASE_AFTER = (1, 2_678_400)  # seconds: the least and the most (31 days)
YEARS = (2000, 9000)  # of a timestamp or an expiry; beyond, databases and languages disagree


class MalformedCommandError(ValueError):
    """Not a command. ``job_id`` is there where it could be read, so that a result can be sent."""

    def __init__(self, problems: list[str], job_id: str | None = None, fields: dict[str, Any] | None = None) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
        self.job_id = job_id
        self.fields = fields or {}


@dataclass(frozen=True, slots=True)
class Command:
    """``value`` and ``priority`` are as they came: judging them is the validator's work. Times are aware."""

    job_id: str
    device_id: int
    object_type: str
    object_instance: int
    value: Any = None
    priority: Any = 8
    release: bool = False
    timestamp: datetime | None = None
    expires_at: datetime | None = None
    release_after: float | None = None  # seconds after the write
    source: str | None = None
    reason: str | None = None
    site_id: str | None = None
    haystack_name: str | None = None

    @property
    def object(self) -> str:
        """``type:instance``."""
        return f"{self.object_type}:{self.object_instance}"


def parse(payload: bytes) -> Command:
    """Read a command from JSON; raise `MalformedCommandError` naming every field that is wrong."""
    try:
        data = json.loads(payload.decode("utf-8"), parse_constant=float)
    except UnicodeDecodeError:
        raise MalformedCommandError(["the message is not UTF-8"]) from None
    except (ValueError, RecursionError):
        raise MalformedCommandError(["the message is not JSON"]) from None
    if not isinstance(data, dict):
        raise MalformedCommandError(["the message is not a JSON object"])
    return from_fields(data)


def from_fields(data: dict[str, Any]) -> Command:
    """Read a command from the payload's fields; unknown ones are ignored."""
    reader = _Fields(data)
    job_id = reader.text("jobId", MAX_JOB_ID, required=True)
    command = {
        "device_id": reader.integer("deviceId", MAX_INSTANCE),
        "object_type": reader.text("objectType", MAX_TEXT, required=True),
        "object_instance": reader.integer("objectInstance", MAX_INSTANCE),
        "release": reader.boolean("release"),
        "timestamp": reader.time("timestamp"),
        "expires_at": reader.time("expiresAt"),
        "release_after": reader.seconds("releaseAfter", *RELEASE_AFTER),
        "source": reader.text("source", MAX_TEXT),
        "reason": reader.text("reason", MAX_TEXT),
        "site_id": reader.text("siteId", MAX_TEXT),
        "haystack_name": reader.text("haystackName", MAX_TEXT),
    }
    if "value" not in data and not command["release"]:
        reader.problems.append("value is missing")
    if job_id is not None and job_id.endswith(OF_RELEASE):
        reader.problems.append(f"jobId ends with {OF_RELEASE}, which names the release of a write")
    if command["release"] and command["release_after"] is not None:
        reader.problems.append("releaseAfter is given for a release")
    if reader.problems or job_id is None:
        raise MalformedCommandError(reader.problems, job_id, data)
    return Command(job_id=job_id, value=data.get("value"), priority=_priority(data), **command)  # type: ignore[arg-type]


def _priority(data: dict[str, Any]) -> Any:
    priority = data.get("priority")
    return 8 if priority is None else priority


class _Fields:
    """Takes typed fields out of a JSON object and collects what is wrong with them."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data
        self.problems: list[str] = []

    def text(self, name: str, most: int, *, required: bool = False) -> str | None:
        value = self._data.get(name)
        if value is None:
            if required:
                self.problems.append(f"{name} is missing")
            return None
        if not isinstance(value, str) or not 0 < len(value) <= most or _storable(value) != value:
            self.problems.append(f"{name} is not a text of 1 to {most} characters")
            return None
        return value

    def integer(self, name: str, most: int) -> int | None:
        value = self._data.get(name)
        if value is None:
            self.problems.append(f"{name} is missing")
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            self.problems.append(f"{name} is not an integer from 0 to {most}")
            return None
        return value

    def seconds(self, name: str, least: float, most: float) -> float | None:
        value = self._data.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self.problems.append(f"{name} is not a number of seconds from {least} to {most}")
            return None
        return float(value)

    def boolean(self, name: str) -> bool:
        value = self._data.get(name)
        if not isinstance(value, bool | None):
            self.problems.append(f"{name} is not true or false")
        return value is True

    def time(self, name: str) -> datetime | None:
        value = self._data.get(name)
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value)
        except (ValueError, TypeError):
            self.problems.append(f"{name} is not an ISO 8601 time")
            return None
        if not YEARS[0] <= moment.year < YEARS[1]:
            self.problems.append(f"{name} is not between the years {YEARS[0]} and {YEARS[1]}")
            return None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def to_fields(command: Command) -> dict[str, Any]:
    """A command as the payload that `from_fields` reads."""
    fields = {
        "jobId": command.job_id,
        "deviceId": command.device_id,
        "objectType": command.object_type,
        "objectInstance": command.object_instance,
        "value": json_safe(command.value),
        "priority": json_safe(command.priority),
        "release": command.release,
        "timestamp": command.timestamp.isoformat() if command.timestamp else None,
        "expiresAt": command.expires_at.isoformat() if command.expires_at else None,
        "releaseAfter": command.release_after,
        "source": command.source,
        "reason": command.reason,
        "siteId": command.site_id,
        "haystackName": command.haystack_name,
    }
    return {key: value for key, value in fields.items() if value is not None or key == "value"}


JOB_ID = re.compile(rb'"jobId"\s*:\s*"([\x20\x21\x23-\x5b\x5d-\x7e]{1,200})"')


def job_id_in(octets: bytes) -> str | None:
    """The jobId of a message that can't be read as a whole, where it stands plainly in its beginning."""
    match = JOB_ID.search(octets)
    return match.group(1).decode() if match else None


def json_safe(value: Any) -> Any:
    """A value that can stand in a payload and in the database: what JSON or UTF-8 lack becomes text."""
    if isinstance(value, int | bool | None) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _storable(str(value))[:MAX_TEXT]


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\x00", "?")
