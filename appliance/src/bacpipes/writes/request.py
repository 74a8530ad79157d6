"""Put one command into the queue and wait for what becomes of it."""

import time
from dataclasses import dataclass
from typing import Any

import psycopg

from bacpipes import schema
from bacpipes.database import connect_now, first_line, schema_version_now
from bacpipes.errors import InputError, UnavailableError
from bacpipes.settings import Settings

_INSERT = """
INSERT INTO write_commands (site_id, point_id, command_type, value, priority, created_by, reason,
                            release_after)
SELECT %(site)s, p.id, %(type)s, %(value)s, %(priority)s, %(actor)s, %(reason)s, %(release_after)s
FROM point p JOIN device d ON d.id = p.device
WHERE d.site_id = %(site)s AND d.device_id = %(device)s
  AND p.object_type = %(object_type)s AND p.object_instance = %(instance)s
RETURNING job_id
"""


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """What is asked for; ``value`` None releases the priority."""

    device_id: int
    object_type: str
    object_instance: int
    value: float | None
    priority: int
    reason: str | None
    actor: str
    release_after: float | None = None  # seconds after the write


def request_write(settings: Settings, request: WriteRequest, timeout: float) -> dict[str, Any]:
    """Queue the command and return the result's payload; raise where the point is unknown or nobody answers."""
    try:
        with connect_now(settings.database_url.get_secret_value(), "write") as connection:
            schema.check(schema_version_now(connection))
            connection.execute("LISTEN bacpipes")
            return _wait(connection, _queue(connection, settings.site_id, request), timeout, settings.write_ttl)
    except psycopg.OperationalError as error:
        raise UnavailableError(f"The database went away: {first_line(error)}.") from None


def _queue(connection: psycopg.Connection[Any], site_id: str, request: WriteRequest) -> str:
    row = connection.execute(
        _INSERT,
        {
            "site": site_id,
            "type": "release_priority" if request.value is None else "write_value",
            "value": request.value,
            "priority": request.priority,
            "actor": request.actor,
            "reason": request.reason,
            "release_after": request.release_after,
            "device": request.device_id,
            "object_type": request.object_type,
            "instance": request.object_instance,
        },
    ).fetchone()
    if row is None:
        raise InputError(
            f"Point not found: device={request.device_id}, {request.object_type}:{request.object_instance}.",
            "`bacpipes points export` lists the points.",
        )
    return str(row[0])


def _wait(connection: psycopg.Connection[Any], job_id: str, timeout: float, ttl: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while True:
        row = connection.execute("SELECT result FROM write_results WHERE job_id = %s", [job_id]).fetchone()
        if row is not None:
            result: dict[str, Any] = row[0]
            return result
        left = deadline - time.monotonic()
        if left <= 0:
            raise UnavailableError(
                f"No worker has answered in {timeout:g} s (job {job_id}).",
                f"Is one running? `bacpipes doctor` tells. The command is refused once it is {ttl:g} s old.",
            )
        for _ in connection.notifies(timeout=min(left, 1.0), stop_after=1):
            break
