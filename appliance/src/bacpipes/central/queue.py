"""A command on its way into central's queue: judged as far as central can, and inserted once."""

from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from bacpipes import clock
from bacpipes.database import Connection, query
from bacpipes.exporter.writes import queue_row
from bacpipes.points import Point
from bacpipes.settings import Settings
from bacpipes.writes.command import Command
from bacpipes.writes.validator import Policy, Violation, validate

SITE_MISSING = Violation("site-missing", "siteId is missing: central has many sites")


def site_unknown(site: str) -> Violation:
    """The rule that a command for a site breaks which central does not have."""
    return Violation("site-unknown", f"Unknown site: {site}")


def judge(command: Command, point: Point | None, settings: Settings) -> list[Violation]:
    """The site's validator with what central knows of the point. Preliminary: the site judges again, and has the last
    word. Only it knows which slots it holds, so the release of one is not refused for the point's sake."""
    now = datetime.now(UTC)
    kept = not settings.clock_check or clock.synchronised()
    policy = Policy.from_settings(settings, clock_synchronised=kept)
    return validate(command, point, policy, now, now, ours=command.release)


async def insert(connection: Connection, command: Command, point: Point, actor: str, ip: str | None) -> dict[str, Any]:
    """Queue it and note it in the audit trail, together; a jobId that is known already changes nothing.

    Returns the row as it was meant.
    """
    row = queue_row(command, point, command.site_id, actor, ip)
    async with connection.transaction():
        if await (await connection.execute(query("central_queue"), row)).fetchone() is not None:
            detail = {"siteId": command.site_id, "deviceId": command.device_id, "object": command.object}
            detail |= {name: row[name] for name in ("type", "value", "priority", "reason", "ip", "release_after")}
            audit = [actor, "write.request", command.job_id, Jsonb(detail)]
            await connection.execute(query("exporter_audit"), audit)
    return row
