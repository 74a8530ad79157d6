"""The complete lane where central can dial the site: logical replication of the log, made and mended.

Everything here can be repeated at any time. A slot that is lost or gone is made anew, and history fills in.
"""

from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from bacpipes.central import audit_head
from bacpipes.central.registry import role_of
from bacpipes.database import Connection, query
from bacpipes.errors import BacpipesError, InputError, SettingsError

PUBLICATION = "bacpipes"


@dataclass(frozen=True, slots=True)
class Subscribed:
    """What was done; ``hole`` says that readings may be missing, which the comparison has to fill in."""

    action: str
    hole: bool


def slot_of(site: str) -> str:
    """The slot's name at the site; a slot takes no hyphen."""
    return role_of(site).replace("-", "_")


async def publish(site: Connection, site_id: str) -> bool:
    """At the site, as the tables' owner: the publication (returns whether it is new), and a row of metadata."""
    row = await (await site.execute("SELECT current_setting('wal_level')")).fetchone()
    if row != ("logical",):
        raise SettingsError(
            f"The site's server has wal_level = {row[0] if row else '?'}; replication needs logical.",
            "Set it (the role timescaledb does, where the lane is 'replication') and restart the server.",
        )
    made = await _one(site, "SELECT 1 FROM pg_publication WHERE pubname = %s", PUBLICATION) is None
    await site.execute(query("replication_publish"))
    await site.execute("SELECT log_metadata(%s)", [site_id])
    return made


async def subscribe(site: Connection, central: Connection, site_id: str, conninfo: str) -> Subscribed:
    """At central: the subscription to a site, made where it is missing, mended where it is broken."""
    if await _one(central, "SELECT 1 FROM site WHERE id = %s", site_id) is None:
        raise InputError(f"Central has no site {site_id!r}.", "`bacpipes central site add` registers it.")
    if await _one(site, "SELECT 1 FROM pg_publication WHERE pubname = %s", PUBLICATION) is None:
        raise BacpipesError("The site publishes nothing yet.", "Run `bacpipes central publish` there.")
    slot = await _one(site, query("replication_slot"), slot_of(site_id))
    subscription = await _one(central, query("replication_subscription"), role_of(site_id))
    if subscription is not None and (slot is None or slot[1] == "lost"):
        await drop(central, site_id)
        subscription = None
    if subscription is None:
        if slot is not None:
            await _drop_slot(site, site_id)
        await _create(central, site_id, conninfo)
        done = Subscribed("made", hole=True)
    else:
        done = await _mend(central, site_id, conninfo, enabled=bool(subscription[0]))
    await _send_metadata(site, central, site_id)
    await audit_head.send(site, central, site_id)
    return done


async def drop(central: Connection, site_id: str) -> bool:
    """Take the subscription away without a word to the site, which may be gone; its slot stays there."""
    name = sql.Identifier(role_of(site_id))
    if await _one(central, query("replication_subscription"), role_of(site_id)) is None:
        return False
    for statement in (
        "ALTER SUBSCRIPTION {} DISABLE",
        "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
        "DROP SUBSCRIPTION {}",
    ):
        await central.execute(sql.SQL(statement).format(name))
    return True


async def _create(central: Connection, site_id: str, conninfo: str) -> None:
    await central.execute(
        sql.SQL(
            "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH "
            "(copy_data = false, origin = none, disable_on_error = true, slot_name = {})"
        ).format(
            sql.Identifier(role_of(site_id)),
            sql.Literal(conninfo),
            sql.Identifier(PUBLICATION),
            sql.Literal(slot_of(site_id)),
        )
    )


async def _mend(central: Connection, site_id: str, conninfo: str, *, enabled: bool) -> Subscribed:
    name = sql.Identifier(role_of(site_id))
    await central.execute(sql.SQL("ALTER SUBSCRIPTION {} CONNECTION {}").format(name, sql.Literal(conninfo)))
    if not enabled:
        await central.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(name))
    await central.execute(sql.SQL("ALTER SUBSCRIPTION {} REFRESH PUBLICATION WITH (copy_data = false)").format(name))
    return Subscribed("there" if enabled else "enabled again", hole=False)


async def _drop_slot(site: Connection, site_id: str) -> None:
    """A slot that nobody of ours follows; one in use is ended first."""
    await site.execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active",
        [slot_of(site_id)],
    )
    await site.execute("SELECT pg_drop_replication_slot(%s)", [slot_of(site_id)])


async def _send_metadata(site: Connection, central: Connection, site_id: str) -> None:
    row = await _one(site, "SELECT digest, devices, points FROM site_snapshot(%s)", site_id)
    if row is not None:
        await central.execute(
            "INSERT INTO site_metadata (site_id, digest, devices, points) VALUES (%s, %s, %s, %s)",
            [site_id, row[0], Jsonb(row[1]), Jsonb(row[2])],
        )


async def _one(connection: Connection, statement: str | bytes, *values: object) -> tuple[Any, ...] | None:
    text = statement if isinstance(statement, bytes) else statement.encode()
    return await (await connection.execute(text, list(values))).fetchone()
