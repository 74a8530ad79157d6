"""The book of writes: claims (one jobId is executed at most once), the slots that we hold, results and audit."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Json, Jsonb

from bacpipes.database import Connection, query
from bacpipes.objects import Kind
from bacpipes.points import COLUMNS, Point, from_row
from bacpipes.writes.command import Command
from bacpipes.writes.values import same


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


@dataclass(frozen=True, slots=True)
class Held:
    """What we hold, or may hold, in a slot: until a read-back has settled it, the value before it is ours too."""

    point_id: int
    priority: int
    value: float
    previous: float | None
    job_id: str

    def ours(self, kind: Kind, there: float | None) -> bool:
        """Is what is there something that we wrote?"""
        return there is not None and (same(kind, there, self.value) or same(kind, there, self.previous))


async def held(connection: Connection, point_id: int, priority: int) -> Held | None:
    """What we hold in a slot, or None."""
    cursor = await connection.execute(
        "SELECT point_id, priority, value, previous, job_id FROM held_slot WHERE point_id = %s AND priority = %s",
        [point_id, priority],
    )
    row = await cursor.fetchone()
    return Held(*row) if row else None


async def unsettled(connection: Connection) -> list[tuple[Held, int, str, int]]:
    """Slots whose last write was not read back: what is held, and the device number and object."""
    cursor = await connection.execute(query("unsettled_slots"))
    return [(Held(*row[:5]), row[5], row[6], row[7]) async for row in cursor]


async def begin(
    connection: Connection, command: Command, point: Point, value: float | None, there: float | None, *, array: bool
) -> None:
    """Note, before the first packet, that this job may from now on have changed the slot (``value`` None: released).

    ``there`` is the present value before, ``array`` says whether the object has a priority array.
    """
    async with connection.transaction():
        await connection.execute(
            "UPDATE write_claim SET executing_at = clock_timestamp() WHERE job_id = %s", [command.job_id]
        )
        if value is None:
            await connection.execute(
                "UPDATE held_slot SET settled = false WHERE point_id = %s AND priority = %s",
                [point.id, command.priority],
            )
            return
        if array:
            await connection.execute(query("hold_slot"), [point.id, command.priority, value, command.job_id])
        if command.release_after is not None or not array:  # what was there before is remembered in any case
            values = {"point": point.id, "slot": command.priority if array else 0, "job": command.job_id}
            values |= {"value": value, "there": there, "after": command.release_after}
            await connection.execute(query("note_release"), values)


async def settle_slot(
    connection: Connection, point: Point, priority: int, there: float | None, written: float | None = None
) -> None:
    """Make the book true to what a read-back found in the slot; call it only while holding the device's turn.

    ``written`` is what the device made of a value that it acknowledged (rounded, say): that is ours too.
    """
    row = await held(connection, point.id, priority)
    if row is None:
        return
    kind = point.type.kind
    mine = row.ours(kind, there) or (there is not None and same(kind, there, written))
    key = [point.id, priority]
    if mine:
        await connection.execute(
            "UPDATE held_slot SET value = %s, previous = NULL, settled = true WHERE point_id = %s AND priority = %s",
            [there, *key],
        )
    else:
        await connection.execute("DELETE FROM held_slot WHERE point_id = %s AND priority = %s", key)


async def settle_releases(
    connection: Connection, point: Point, slot: int, job_id: str, there: float | None, *, stands: bool
) -> None:
    """After a write: where it ``stands``, it supersedes what was to be released there; else its own release goes."""
    key = [point.id, slot]
    if not stands:
        await connection.execute(
            "DELETE FROM due_release WHERE point_id = %s AND slot = %s AND job_id = %s", [*key, job_id]
        )
        return
    await connection.execute(
        "DELETE FROM due_release WHERE point_id = %s AND slot = %s AND job_id <> %s", [*key, job_id]
    )
    await connection.execute(
        "UPDATE due_release SET value = coalesce(%s, value), previous = value"
        " WHERE point_id = %s AND slot = %s AND job_id = %s",
        [there, *key, job_id],
    )


@dataclass(frozen=True, slots=True)
class DueRelease:
    """What is to be given back. ``slot`` 0: the object has no priority array, and ``restore`` comes back.

    ``seconds`` are left until then; ``source`` asked for the write.
    """

    point: Point
    slot: int
    job_id: str
    value: float
    previous: float | None
    restore: float | None
    cause: str
    source: str
    seconds: float

    @property
    def key(self) -> tuple[int, int, str]:
        """What names the row."""
        return self.point.id, self.slot, self.job_id


async def due_releases(connection: Connection) -> list[DueRelease]:
    """All releases that are to come, the earliest first."""
    cursor = await connection.execute(query("due_releases"))
    return [DueRelease(from_row(row), *row[COLUMNS:]) async for row in cursor]


async def is_due(connection: Connection, due: DueRelease) -> bool:
    """Is it still to be released?"""
    cursor = await connection.execute(
        "SELECT FROM due_release WHERE point_id = %s AND slot = %s AND job_id = %s", list(due.key)
    )
    return await cursor.fetchone() is not None


async def release_all(connection: Connection) -> None:
    """Make all that we hold due now."""
    await connection.execute(query("release_all"))


async def all_held(connection: Connection) -> list[tuple[int, str, int, float]]:
    """The slots of priority arrays that hold a value of ours: device number, object, priority, value."""
    return await (await connection.execute(query("held_slots"))).fetchall()


@dataclass(frozen=True, slots=True)
class Entry:
    """A result to be stored with its audit row; ``release`` is what was due and is settled with it."""

    result: dict[str, Any]
    point_id: int | None
    executed_at: datetime | None
    actor: str
    action: str | None = None  # default: write.done or write.refused
    release: DueRelease | None = None
    stored: bool = True  # False: what was refused before it was claimed stands in the audit only


async def settle(connection: Connection, entry: Entry) -> None:
    """Store a job's result and its audit row together; a result that is already there stays."""
    result = entry.result
    action = entry.action or ("write.done" if result["success"] else "write.refused")
    if not entry.stored:
        await connection.execute(query("exporter_audit"), [entry.actor, action, result["jobId"], Jsonb(result)])
        return
    async with connection.transaction():
        await connection.execute(
            query("insert_result"),
            {
                "job": result["jobId"],
                "site": result["siteId"],
                "point": entry.point_id,
                "success": result["success"],
                "executed": entry.executed_at,
                "error": describe(result),
                "result": Json(result),
                "actor": entry.actor,
                "action": action,
            },
        )
        if entry.release is not None:
            await _settle_release(connection, entry.release, done=result["success"])


async def _settle_release(connection: Connection, due: DueRelease, *, done: bool) -> None:
    """What was due is ``done``, or is not ours any more: neither is held."""
    await connection.execute("DELETE FROM due_release WHERE point_id = %s AND slot = %s AND job_id = %s", list(due.key))
    await connection.execute(
        "DELETE FROM held_slot WHERE point_id = %s AND priority = %s AND (%s OR value = %s)",
        [due.point.id, due.slot, done, due.value],
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
