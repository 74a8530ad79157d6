"""Keeping the book true to what was seen in a device: after a command, and after a later look at its slot."""

from bacpipes.database import Connection
from bacpipes.points import Point
from bacpipes.writes import ledger, pace, writer
from bacpipes.writes.command import Command
from bacpipes.writes.values import same


async def after_command(
    connection: Connection, point: Point, command: Command, slots: writer.Slots, outcome: writer.Outcome
) -> None:
    """What became of a write, for the slots that we hold and for what is to be released."""
    slot = command.priority if slots.array else 0
    there = slots.at(command.priority) if slots.array else slots.value
    written = outcome.acknowledged and not command.release
    if slots.array:
        await ledger.settle_slot(connection, point, command.priority, there, there if written else None)
    if command.release and outcome.before is not None:
        await pace.released(connection, point, outcome.before.value, slots.value)
    stands = outcome.success or (written and there is not None)
    await ledger.settle_releases(connection, point, slot, command.job_id, there, stands=stands)


async def after_look(connection: Connection, point: Point, priority: int, slots: writer.Slots) -> None:
    """The same for a write of which it was not known whether it came through."""
    held = await ledger.held(connection, point.id, priority) if slots.array else None
    if held is None:
        return
    there = slots.at(priority)
    await ledger.settle_slot(connection, point, priority, there)
    stands = same(point.type.kind, there, held.value)
    await ledger.settle_releases(connection, point, priority, held.job_id, there, stands=stands)
