"""The site's stop: while it is set, nothing is written, and all that the appliance holds is released."""

from dataclasses import dataclass
from datetime import datetime

from bacpipes.database import Connection, query


@dataclass(frozen=True, slots=True)
class Stop:
    """Is the site stopped, since when, by whom and why; ``waiting`` slots are still to be released."""

    stopped: bool
    since: datetime
    actor: str
    reason: str | None
    waiting: int = 0


async def load(connection: Connection) -> Stop:
    """The stop as it is now, with what is still held."""
    row = await (await connection.execute(query("site_stop"))).fetchone()
    return Stop(*row)  # type: ignore[misc] # the schema's one row


async def change(connection: Connection, *, stopped: bool, actor: str, reason: str | None) -> bool:
    """Stop the site or lift the stop; True where that changed anything. The database puts it into the audit."""
    values = {"stopped": stopped, "actor": actor, "reason": reason}
    return (await connection.execute(query("site_stop_change"), values)).rowcount > 0
