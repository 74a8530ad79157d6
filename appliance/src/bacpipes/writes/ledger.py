"""The book of writes: claims (one jobId is executed at most once), the slots that we hold, results and audit."""

from datetime import datetime
from typing import Any

from psycopg.types.json import Json, Jsonb

from bacpipes.database import Connection, query


async def claim(connection: Connection, job_id: str, origin: str, command: dict[str, Any]) -> datetime | None:
    """Claim a job: when it was received, or None where somebody has claimed it before."""
    cursor = await connection.execute(
        "INSERT INTO write_claim (job_id, origin, command) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
        " RETURNING received_at",
        [job_id, origin, Jsonb(command)],
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def result_of(connection: Connection, job_id: str) -> dict[str, Any] | None:
    """The stored result of a job, or None where it has none yet."""
    cursor = await connection.execute("SELECT result FROM write_results WHERE job_id = %s", [job_id])
    row = await cursor.fetchone()
    return row[0] if row else None


async def held(connection: Connection, point_id: int, priority: int) -> float | None:
    """The value that we wrote into a slot and have not released, or None."""
    cursor = await connection.execute(
        "SELECT value FROM held_slot WHERE point_id = %s AND priority = %s", [point_id, priority]
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def begin(connection: Connection, job_id: str, point_id: int, priority: int, value: float | None) -> None:
    """Note, before the first packet, that this job may from now on have changed the slot (``value`` None: released)."""
    async with connection.transaction():
        await connection.execute("UPDATE write_claim SET executing_at = clock_timestamp() WHERE job_id = %s", [job_id])
        if value is not None:
            await hold(connection, job_id, point_id, priority, value)


async def hold(connection: Connection, job_id: str, point_id: int, priority: int, value: float) -> None:
    """The slot holds our ``value``."""
    await connection.execute(query("hold_slot"), [point_id, priority, value, job_id])


async def forget(connection: Connection, point_id: int, priority: int) -> None:
    """The slot holds nothing of ours any more."""
    await connection.execute("DELETE FROM held_slot WHERE point_id = %s AND priority = %s", [point_id, priority])


async def settle(
    connection: Connection, result: dict[str, Any], point_id: int | None, executed_at: datetime | None, actor: str
) -> None:
    """Store a job's result and its audit row together; a result that is already there stays."""
    async with connection.transaction():
        await connection.execute(
            query("insert_result"),
            {
                "job": result["jobId"],
                "site": result["siteId"],
                "point": point_id,
                "success": result["success"],
                "executed": executed_at,
                "error": describe(result),
                "result": Json(result),
                "actor": actor,
            },
        )


async def unresolved(connection: Connection) -> list[tuple[dict[str, Any], datetime, datetime | None]]:
    """Jobs that an earlier run claimed and left without a result: command, received, executing since."""
    cursor = await connection.execute(query("unresolved_claims"))
    return [(row[0], row[1], row[2]) async for row in cursor]


async def pending(connection: Connection, site_id: str) -> list[tuple[dict[str, Any], datetime]]:
    """Rows of ``write_commands`` for this site that nobody has claimed: command payload, and when it was queued."""
    cursor = await connection.execute(query("pending_commands"), [site_id])
    return [(row[0], row[1]) async for row in cursor]


def describe(result: dict[str, Any]) -> str | None:
    """A result's error with its reasons, in one line."""
    if result["error"] is None:
        return None
    return ": ".join(filter(None, [result["error"], "; ".join(result["validationErrors"])]))
