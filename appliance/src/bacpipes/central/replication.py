"""The complete lane where central can dial the site: logical replication of the log, made and mended.

Everything here can be repeated at any time. A slot that is lost or gone is made anew, and history fills in.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from bacpipes.central import audit_head, shipping
from bacpipes.central.registry import role_of
from bacpipes.database import Connection, query
from bacpipes.errors import BacpipesError, InputError, SettingsError

PUBLICATION = "bacpipes"
HOLE = " hole"


@dataclass(frozen=True, slots=True)
class Subscribed:
    """What was done; ``hole`` says that readings may be missing, which the comparison has to fill in."""

    action: str
    hole: bool


@dataclass(frozen=True, slots=True)
class State:
    """A subscription: ``working`` where a worker applies what comes; ``note`` is what `_note` wrote."""

    site: str
    enabled: bool
    working: bool
    note: str

    @property
    def hole(self) -> bool:
        """Readings may be missing."""
        return self.note.endswith(HOLE)

    def as_noted(self, conninfo: str) -> bool:
        """Whether it dials the site so."""
        return self.note.removesuffix(HOLE) == _digest(conninfo)

    def fine(self, conninfo: str) -> bool:
        """Whether there is nothing to do, as far as central can tell without asking the site."""
        return self.enabled and self.working and not self.hole and self.as_noted(conninfo)


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
    """At central: the subscription to a site, made where it is missing, mended where it is broken.

    Where readings may be missing, that stands at the subscription until `filled`: whoever comes next knows it too.
    """
    lock = [f"bacpipes subscription {site_id}"]
    await central.execute("SELECT pg_advisory_lock(hashtext(%s))", lock)
    try:
        return await _subscribe(site, central, site_id, conninfo)
    finally:
        if not central.closed:
            await central.execute("SELECT pg_advisory_unlock(hashtext(%s))", lock)


async def _subscribe(site: Connection, central: Connection, site_id: str, conninfo: str) -> Subscribed:
    if await _one(central, "SELECT 1 FROM site WHERE id = %s", site_id) is None:
        raise InputError(f"Central has no site {site_id!r}.", "`bacpipes central site add` registers it.")
    if await _one(site, "SELECT 1 FROM pg_publication WHERE pubname = %s", PUBLICATION) is None:
        raise BacpipesError("The site publishes nothing yet.", "Run `bacpipes central publish` there.")
    slot = await _one(site, query("replication_slot"), slot_of(site_id))
    present = await state_of(central, site_id)
    if present is not None and (slot is None or slot[1] == "lost"):
        await drop(central, site_id)
        present = None
    if present is None:
        if slot is not None:
            await drop_slot(site, site_id)
        await _create(central, site_id, conninfo)
        done = Subscribed("made", hole=True)
    else:
        done = await _mend(site, central, present, conninfo)
    await shipping.send_metadata(site, central, site_id)
    await audit_head.send(site, central, site_id)
    return done


async def filled(central: Connection, site_id: str, conninfo: str) -> None:
    """Nothing is missing any more: the comparison has brought it."""
    await _note(central, site_id, conninfo, hole=False)


async def states(central: Connection, site_id: str | None = None) -> list[State]:
    """All subscriptions to sites, or that one."""
    name = role_of(site_id) if site_id is not None else None
    cursor = await central.execute(query("replication_subscription"), {"name": name})
    return [State(row[0].removeprefix("site_"), *row[1:]) async for row in cursor]


async def state_of(central: Connection, site_id: str) -> State | None:
    """The subscription to one site."""
    found = await states(central, site_id)
    return found[0] if found else None


async def drop(central: Connection, site_id: str) -> bool:
    """Take the subscription away without a word to the site, which may be gone; its slot stays there."""
    name = sql.Identifier(role_of(site_id))
    if await state_of(central, site_id) is None:
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
    await _note(central, site_id, conninfo, hole=True)


async def _mend(site: Connection, central: Connection, present: State, conninfo: str) -> Subscribed:
    """Only what differs is changed: each change starts the worker that applies anew."""
    name = sql.Identifier(role_of(present.site))
    done = "there"
    if not present.as_noted(conninfo) or not present.working:  # a password may be another without a trace
        await central.execute(sql.SQL("ALTER SUBSCRIPTION {} CONNECTION {}").format(name, sql.Literal(conninfo)))
        await _note(central, present.site, conninfo, hole=present.hole)
    if not present.enabled:
        await central.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(name))
        done = "enabled again"
    published = await _one(site, query("replication_tables"), PUBLICATION)
    if published != await _one(central, query("replication_followed"), role_of(present.site)):
        statement = "ALTER SUBSCRIPTION {} REFRESH PUBLICATION WITH (copy_data = false)"
        await central.execute(sql.SQL(statement).format(name))
    return Subscribed(done, present.hole)


async def _note(central: Connection, site_id: str, conninfo: str, *, hole: bool) -> None:
    await central.execute(
        sql.SQL("COMMENT ON SUBSCRIPTION {} IS {}").format(
            sql.Identifier(role_of(site_id)), sql.Literal(_digest(conninfo) + (HOLE if hole else ""))
        )
    )


def _digest(conninfo: str) -> str:
    """How a site is dialled, without the password: comments are for everybody to read."""
    parts = {name: value for name, value in conninfo_to_dict(conninfo).items() if name != "password"}
    return hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()


async def drop_slot(site: Connection, site_id: str) -> None:
    """A slot that nobody of ours follows; one in use is ended first."""
    await site.execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active",
        [slot_of(site_id)],
    )
    await site.execute("SELECT pg_drop_replication_slot(%s)", [slot_of(site_id)])


async def _one(connection: Connection, statement: str | bytes, *values: object) -> tuple[Any, ...] | None:
    text = statement if isinstance(statement, bytes) else statement.encode()
    return await (await connection.execute(text, list(values))).fetchone()
